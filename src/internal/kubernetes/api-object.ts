/**
 * Objects as the API server returns them, read with suspicion.
 *
 * @module
 */

/** The object a JSON text holds, if it does. */
export function parseObject(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined
  } catch {
    return undefined
  }
}

/** The members of something that should be an object; none of anything else. */
export function asObject(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
}

/** The members that are strings. */
export function strings(value: unknown): Readonly<Record<string, string>> {
  const entries = Object.entries(asObject(value)).flatMap(([key, text]) =>
    typeof text === 'string' ? [[key, text] as const] : [],
  )
  return Object.fromEntries(entries)
}

/** Opaque, and sent back in bodies and queries. `undefined` for what is none. */
export function resourceVersionOf(metadata: Readonly<Record<string, unknown>>): string | undefined {
  const { resourceVersion } = metadata
  return typeof resourceVersion === 'string' && /^[\x21-\x7e]{1,100}$/.test(resourceVersion)
    ? resourceVersion
    : undefined
}
