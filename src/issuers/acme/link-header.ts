/**
 * `Link` headers, read in linear time. RFC 8288.
 *
 * @module
 */

/** One link. */
export interface HeaderLink {
  /** As sent: absolute or relative. */
  readonly target: string
  /** Lower case. */
  readonly relations: readonly string[]
}

/** A header longer than this is not read at all. */
const maxLength = 8192
const maxLinks = 50

/** Reads one header, or several joined with commas. What is malformed is passed over. */
export function parseLinkHeader(header: string | undefined): readonly HeaderLink[] {
  if (header === undefined || header.length > maxLength) return []
  const links: HeaderLink[] = []
  let position = 0
  while (links.length < maxLinks) {
    const start = header.indexOf('<', position)
    const end = start === -1 ? -1 : header.indexOf('>', start)
    if (end === -1) break
    const parametersEnd = endOfParameters(header, end + 1)
    links.push({ target: header.slice(start + 1, end), relations: relationsOf(header.slice(end + 1, parametersEnd)) })
    position = parametersEnd + 1
  }
  return links
}

/** Targets of one relation, made absolute. */
export function linkTargets(header: string | undefined, relation: string, base: string): readonly string[] {
  return parseLinkHeader(header)
    .filter(({ relations }) => relations.includes(relation))
    .flatMap(({ target }) => (URL.canParse(target, base) ? [new URL(target, base).href] : []))
}

/** Position of the comma that ends a link; commas within quotes do not. */
function endOfParameters(header: string, from: number): number {
  let quoted = false
  for (let at = from; at < header.length; at += 1) {
    if (header[at] === '"') quoted = !quoted
    else if (header[at] === ',' && !quoted) return at
  }
  return header.length
}

function relationsOf(parameters: string): readonly string[] {
  for (const parameter of parameters.split(';')) {
    const [name = '', value = ''] = parameter.split('=', 2)
    if (name.trim().toLowerCase() === 'rel') return value.replaceAll('"', '').trim().toLowerCase().split(/\s+/)
  }
  return []
}
