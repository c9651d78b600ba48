/**
 * As much XML as the Route 53 API needs.
 */

/** Markup that is ready to be sent, as opposed to text that has still to be escaped. */
export interface Markup {
  readonly markup: string
}

type Content = Markup | string | number | boolean | undefined

/** An element; `undefined` content leaves nothing behind. */
export function element(name: string, ...content: Content[]): Markup {
  return { markup: `<${name}>${content.map(rendered).join('')}</${name}>` }
}

/** An element only where there is a value. */
export function optional(name: string, value: string | number | boolean | undefined): Markup {
  return value === undefined ? { markup: '' } : element(name, value)
}

export function xmlDocument(rootName: string, namespace: string, ...content: Content[]): string {
  const { markup } = element(rootName, ...content)
  return `<?xml version="1.0"?>\n${markup.replace(`<${rootName}>`, `<${rootName} xmlns="${namespace}">`)}`
}

function rendered(content: Content): string {
  if (content === undefined) return ''
  return typeof content === 'object' ? content.markup : escapeText(String(content))
}

const entities = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&apos;', '\r': '&#xD;' }

function escapeText(text: string): string {
  return text.replace(/[&<>"'\r]/g, (character) => entities[character as keyof typeof entities])
}

export interface XmlElement {
  readonly name: string
  readonly children: XmlElement[]
  /** Of the element itself, not of its children. */
  text: string
}

/** The root element; `undefined` for text that is not well formed. Attributes and comments are passed over. */
export function parseXml(source: string): XmlElement | undefined {
  const top: XmlElement = { name: '', children: [], text: '' }
  const open = [top]
  let end = 0
  for (const match of source.matchAll(/<\?.*?\?>|<!--.*?-->|<(\/?)([\w:.-]+)[^<>]*?(\/?)>|[^<]+/gs)) {
    if (match.index !== end) return undefined
    end = match.index + match[0].length
    const current = open.at(-1)!
    const [whole, closing, name, empty] = match
    if (name === undefined) {
      if (!whole.startsWith('<')) current.text += unescapeText(whole)
    } else if (closing === '/') {
      if (current.name !== name || open.length === 1) return undefined
      open.pop()
    } else {
      const child: XmlElement = { name, children: [], text: '' }
      current.children.push(child)
      if (empty === '') open.push(child)
    }
  }
  const balanced = end === source.length && open.length === 1 && top.children.length === 1 && top.text.trim() === ''
  return balanced ? top.children[0] : undefined
}

/** The first child of that name. */
export function childOf(parent: XmlElement | undefined, name: string): XmlElement | undefined {
  return parent?.children.find((child) => child.name === name)
}

export function childrenOf(parent: XmlElement | undefined, name: string): XmlElement[] {
  return parent?.children.filter((child) => child.name === name) ?? []
}

function unescapeText(text: string): string {
  return text.replace(/&(?:#x([0-9a-f]+)|#([0-9]+)|(amp|lt|gt|quot|apos));/gi, (_, hex, decimal, named) => {
    if (hex !== undefined) return String.fromCodePoint(parseInt(hex as string, 16))
    if (decimal !== undefined) return String.fromCodePoint(Number(decimal))
    return Object.entries(entities).find(([, entity]) => entity === `&${named as string};`)?.[0] ?? ''
  })
}
