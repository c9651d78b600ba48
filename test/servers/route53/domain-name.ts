/**
 * Domain names as Route 53 keeps them: absolute, in lower case, every octet other than a-z, 0-9, `-` and `_` escaped.
 *
 * @see https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/DomainNameFormat.html
 */

/** `*.Example.com` and `\052.example.com.` are both kept as `\052.example.com.`. */
export function storedName(name: string): string {
  const labels = labelsOf(name.toLowerCase())
  return labels.length === 0 ? '.' : labels.map((label) => `${escapeLabel(label)}.`).join('')
}

/** Without escapes and final dot, as DNS libraries write names. */
export function wireName(stored: string): string {
  return unescape(stored).replace(/\.$/, '')
}

/** Names compare by their labels from the right; the final dot counts. */
export function sortKey(stored: string): string {
  return stored.split('.').slice(0, -1).reverse().join('.') + '.'
}

export function isWithin(stored: string, zoneName: string): boolean {
  return stored === zoneName || stored.endsWith(`.${zoneName}`)
}

/** What is wrong with a name, in the words of the service. */
export function nameProblem(stored: string): string | undefined {
  const labels = labelsOf(stored)
  if (labels.length === 0) return fatal('DomainNameEmpty', 'Domain name is empty', stored)
  if (labels.includes('')) return fatal('DomainLabelEmpty', 'Domain label is empty', stored)
  if (labels.some((label) => label.length > 63)) return fatal('DomainLabelTooLong', 'Domain label is too long', stored)
  if (labels.join('.').length > 253) return fatal('DomainNameTooLong', 'Domain name is too long', stored)
  return undefined
}

/** The form of the problems that Route 53 finds in names and values. */
export function fatal(problem: string, explanation: string, value: string): string {
  return `FATAL problem: ${problem} (${explanation}) encountered with '${value}'`
}

function labelsOf(name: string): string[] {
  // An escaped dot belongs to its label: split first, unescape then.
  const labels = name.replace(/\.$/, '').split('.')
  return labels.length === 1 && labels[0] === '' ? [] : labels.map(unescape)
}

function unescape(text: string): string {
  return text.replace(/\\([0-3][0-7]{2})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8)))
}

function escapeLabel(label: string): string {
  return label.replace(/[^a-z0-9_-]/g, (character) => `\\${character.charCodeAt(0).toString(8).padStart(3, '0')}`)
}
