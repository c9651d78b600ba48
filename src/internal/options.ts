/**
 * Checks of options at construction. All of them throw a `TypeError` that names the option; none of them quotes secrets.
 *
 * @module
 */

/** Refuses anything but an object with known properties: a typing error must not turn a safety option off. */
export function assertOptions(options: unknown, known: readonly string[], of: string): void {
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    throw new TypeError(`${of} takes an options object`)
  }
  const unknownOption = Object.keys(options).find((name) => !known.includes(name))
  if (unknownOption !== undefined) {
    throw new TypeError(`${of}: unknown option "${unknownOption}"; known are ${known.join(', ')}`)
  }
}

// eslint-disable-next-line no-control-regex -- control characters are exactly what is refused
const unprintable = /[\u0000-\u001f\u007f]|\p{Surrogate}/u

/** A non-empty string of well-formed Unicode without control characters. */
export function assertText(value: unknown, option: string, maxLength = 4096): asserts value is string {
  if (typeof value !== 'string' || value === '' || value.length > maxLength || unprintable.test(value)) {
    throw new TypeError(`"${option}" option must be a non-empty string without control characters`)
  }
}

/** An absolute path. */
export function assertPath(value: unknown, option: string): asserts value is string {
  assertText(value, option)
  if (!value.startsWith('/') && !/^[A-Za-z]:[\\/]/.test(value)) {
    throw new TypeError(`"${option}" option must be an absolute path, got ${JSON.stringify(value)}`)
  }
}

/** A finite number within limits, both included. */
export function assertNumber(
  value: unknown,
  option: string,
  limits: { readonly min: number; readonly max: number; readonly integer?: boolean },
): asserts value is number {
  const { min, max, integer = false } = limits
  const wrong =
    typeof value !== 'number' ||
    !Number.isFinite(value) ||
    value < min ||
    value > max ||
    (integer && !Number.isInteger(value))
  if (wrong) {
    throw new TypeError(
      `"${option}" option must be ${integer ? 'an integer' : 'a number'} from ${String(min)} to ${String(max)}`,
    )
  }
}

/** A duration in milliseconds: above zero, at most 400 days. */
export function assertDuration(value: unknown, option: string): asserts value is number {
  assertNumber(value, option, { min: 1, max: 400 * 86_400_000 })
}

/** `true` or `false`. */
export function assertBoolean(value: unknown, option: string): asserts value is boolean {
  if (typeof value !== 'boolean') throw new TypeError(`"${option}" option must be true or false`)
}

/** A function. */
export function assertFunction(value: unknown, option: string): void {
  if (typeof value !== 'function') throw new TypeError(`"${option}" option must be a function`)
}

/** No type guard: `Array.isArray` would turn a typed list into `any[]`. */
export function assertArray(value: unknown, option: string): void {
  if (!Array.isArray(value)) throw new TypeError(`"${option}" option must be an array`)
}

/** A plug-in has this method. */
export function assertMethod(plugIn: object, method: string, option: string): void {
  // Callers without types may have given nothing at all.
  const members = plugIn as Readonly<Record<string, unknown>> | null | undefined
  assertFunction(members?.[method], `${option}.${method}`)
}

/** One of a few words. */
export function assertOneOf<Value extends string>(
  value: unknown,
  option: string,
  values: readonly Value[],
): asserts value is Value {
  if (!values.includes(value as Value)) {
    throw new TypeError(`"${option}" option must be one of ${values.join(', ')}`)
  }
}

/**
 * An https URL without credentials or fragment.
 *
 * @param plainHttp - `true` also accepts http to a loopback address, `'anywhere'` to any
 */
export function assertHttpsUrl(value: unknown, option: string, plainHttp: boolean | 'anywhere' = false): URL {
  let url: URL
  try {
    url = new URL(String(value))
  } catch {
    throw new TypeError(`"${option}" option must be an absolute ${plainHttp === 'anywhere' ? 'http or ' : ''}https URL`)
  }
  const loopback = /^(?:127\.\d+\.\d+\.\d+|\[::1\]|localhost)$/.test(url.hostname)
  const plain = plainHttp === 'anywhere' || (plainHttp && loopback)
  const secure = url.protocol === 'https:' || (url.protocol === 'http:' && plain)
  if (!secure || url.username !== '' || url.password !== '' || url.hash !== '') {
    throw new TypeError(`"${option}" option must be an https URL without credentials and fragment`)
  }
  return url
}
