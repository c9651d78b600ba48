/**
 * Names as Kubernetes has them.
 *
 * @module
 * @see [Object names and IDs](https://kubernetes.io/docs/concepts/overview/working-with-objects/names/)
 */
const dnsLabel = String.raw`[a-z0-9](?:[-a-z0-9]*[a-z0-9])?`
const dnsLabelPattern = new RegExp(`^(?=.{1,63}$)${dnsLabel}$`)
const dnsSubdomainPattern = new RegExp(String.raw`^(?=.{1,253}$)${dnsLabel}(?:\.${dnsLabel})*$`)
const qualifiedName = String.raw`(?=.{1,63}$)[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?`

/** Of a label or an annotation. */
export const labelKeyPattern: RegExp = new RegExp(
  String.raw`^(?:(?=[^/]{1,253}/)${dnsLabel}(?:\.${dnsLabel})*/)?${qualifiedName}$`,
)
export const labelValuePattern: RegExp = new RegExp(`^(?:${qualifiedName})?$`)

/** Whether this is the name of a namespace, which is a DNS label. */
export function isNamespace(value: unknown): value is string {
  return typeof value === 'string' && dnsLabelPattern.test(value)
}

/** Checks the name of a namespace. */
export function assertNamespace(value: unknown, option: string): asserts value is string {
  if (!isNamespace(value)) {
    throw new TypeError(`"${option}" option must be the name of a namespace, got ${JSON.stringify(value)}`)
  }
}

/** Checks the name of a ServiceAccount or a Secret. */
export function assertObjectName(value: unknown, option: string): asserts value is string {
  if (typeof value !== 'string' || !dnsSubdomainPattern.test(value)) {
    throw new TypeError(`"${option}" option must be a name as Kubernetes has them, got ${JSON.stringify(value)}`)
  }
}
