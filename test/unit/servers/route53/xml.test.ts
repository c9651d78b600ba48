import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { childOf, childrenOf, element, optional, parseXml, xmlDocument } from '../../../servers/route53/xml.js'

describe('XML', () => {
  test('text goes through unchanged, whatever is in it', () => {
    // XML 1.0 knows no other control characters than these.
    const text = fc.string({ unit: fc.constantFrom(...'<>&"\'\r\n\t ;#x\\aé😀') })
    fc.assert(
      fc.property(text, (value) => {
        const root = parseXml(xmlDocument('Root', 'urn:test', element('Value', value)))
        expect(childOf(root, 'Value')?.text).toBe(value)
      }),
    )
  })

  test('the document names its namespace once', () => {
    expect(xmlDocument('Root', 'urn:test', element('Root', 1), optional('No', undefined))).toBe(
      '<?xml version="1.0"?>\n<Root xmlns="urn:test"><Root>1</Root></Root>',
    )
  })

  test('elements, repeated, nested and empty', () => {
    const root = parseXml('<?xml version="1.0"?><a xmlns="urn:x"><!-- no --><b>1</b><b/><c><b>3</b></c></a>')
    expect(childrenOf(root, 'b').map(({ text }) => text)).toEqual(['1', ''])
    expect(childOf(childOf(root, 'c'), 'b')?.text).toBe('3')
  })

  test('decimal, hexadecimal and named references', () => {
    expect(parseXml('<a>&#65;&#x42;&quot;</a>')?.text).toBe('AB"')
  })

  test.each(['', 'text', '<a>', '</a>', '<a></b>', '<a/><b/>', '<a><b></a></b>', '<a/>text', '<a <b/>', '<a><</a>'])(
    '%j is not well formed',
    (source) => {
      expect(parseXml(source)).toBeUndefined()
    },
  )
})
