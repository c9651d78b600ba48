/**
 * A Secret as the API server returns it, read with suspicion.
 *
 * @module
 */

/** What is used of a Secret. */
export interface SecretResource {
  readonly resourceVersion: string
  readonly type: string
  readonly immutable: boolean
  /** Entries in base64. */
  readonly data: Readonly<Record<string, string>>
  readonly labels: Readonly<Record<string, string>>
  readonly annotations: Readonly<Record<string, string>>
  readonly managers: readonly FieldManager[]
}

/** Who has written what. */
export interface FieldManager {
  readonly name: string
  /** `Apply` for server-side apply. */
  readonly operation: string
  readonly dataKeys: readonly string[]
  readonly labelKeys: readonly string[]
  readonly annotationKeys: readonly string[]
}

/** Reads the body of an answer. `undefined` when it is no Secret of this name. */
export function readSecret(text: string, name: string, namespace: string): SecretResource | undefined {
  const secret = parseObject(text)
  const metadata = asObject(secret?.['metadata'])
  const resourceVersion = metadata['resourceVersion']
  if (secret?.['kind'] !== 'Secret' || metadata['name'] !== name || metadata['namespace'] !== namespace)
    return undefined
  if (typeof resourceVersion !== 'string' || !/^[\x21-\x7e]{1,100}$/.test(resourceVersion)) return undefined
  const { type, immutable, data } = secret
  const managedFields: unknown[] = Array.isArray(metadata['managedFields']) ? metadata['managedFields'] : []
  return {
    resourceVersion,
    type: typeof type === 'string' ? type : 'Opaque',
    immutable: immutable === true,
    data: strings(data),
    labels: strings(metadata['labels']),
    annotations: strings(metadata['annotations']),
    managers: managedFields.map(readManager),
  }
}

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

function strings(value: unknown): Readonly<Record<string, string>> {
  const entries = Object.entries(asObject(value)).flatMap(([key, text]) =>
    typeof text === 'string' ? [[key, text] as const] : [],
  )
  return Object.fromEntries(entries)
}

function readManager(value: unknown): FieldManager {
  const { manager, operation, fieldsV1 } = asObject(value)
  const fields = asObject(fieldsV1)
  const metadata = asObject(fields['f:metadata'])
  return {
    name: typeof manager === 'string' ? manager : '',
    operation: typeof operation === 'string' ? operation : '',
    dataKeys: fieldKeys(fields['f:data']),
    labelKeys: fieldKeys(metadata['f:labels']),
    annotationKeys: fieldKeys(metadata['f:annotations']),
  }
}

function fieldKeys(fields: unknown): readonly string[] {
  return Object.keys(asObject(fields)).flatMap((key) => (key.startsWith('f:') ? [key.slice(2)] : []))
}
