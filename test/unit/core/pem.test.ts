import { generateKeyPairSync } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { encodePem, parsePem } from '../../../src/core/pem.js'

const der = Buffer.from('der, as far as PEM is concerned: forty-nine octets')
const block = encodePem('CERTIFICATE', der)

/** What a message may not show of the input. */
const secret = 'c2VjcmV0LXNlY3JldC1zZWNyZXQ'

describe('encodePem', () => {
  it('writes lines of 64 characters and exactly one newline at the end', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 400 }), (bytes) => {
        const text = encodePem('CERTIFICATE', bytes)
        const lines = text.split('\n')
        expect(lines.pop()).toBe('')
        expect(lines.shift()).toBe('-----BEGIN CERTIFICATE-----')
        expect(lines.pop()).toBe('-----END CERTIFICATE-----')
        const last = lines.pop()
        expect(last).toMatch(/^[A-Za-z0-9+/=]{1,64}$/)
        for (const line of lines) expect(line).toMatch(/^[A-Za-z0-9+/]{64}$/)
      }),
    )
  })

  it('writes the part of a larger buffer that it was given', () => {
    const large = Buffer.concat([Buffer.from('before'), der, Buffer.from('after')])
    expect(encodePem('CERTIFICATE', new Uint8Array(large.buffer, large.byteOffset + 6, der.length))).toBe(block)
  })
})

describe('parsePem', () => {
  it('reads back what was written, whatever stands between the blocks', () => {
    const text = fc.string({ unit: 'binary-ascii', maxLength: 40 }).filter((between) => !between.includes('-----'))
    const labels = fc.constantFrom('CERTIFICATE', 'PRIVATE KEY', 'TRUSTED CERTIFICATE', 'X509 CRL', 'x')
    const blocks = fc.array(fc.tuple(text, labels, fc.uint8Array({ minLength: 1, maxLength: 200 })), { maxLength: 5 })
    fc.assert(
      fc.property(blocks, text, (parts, end) => {
        const whole = parts.map(([before, label, bytes]) => `${before}\n${encodePem(label, bytes)}`).join('') + end
        expect(parsePem(whole)).toEqual(parts.map(([, label, bytes]) => ({ label, der: Buffer.from(bytes) })))
      }),
      { numRuns: 2000 },
    )
  })

  it.each([
    ['CRLF', block.replaceAll('\n', '\r\n')],
    ['no final newline', block.trimEnd()],
    ['blank lines', block.replaceAll('\n', '\n\n')],
    ['one long line', block.replace(/(?<=[A-Za-z0-9+/])\n(?=[A-Za-z0-9+/])/g, '')],
    ['indented lines', block.replaceAll('\n', '\n  ')],
    ['comments around', `subject=CN = a\n${block}issuer=CN = b\n`],
    ['a byte order mark', `\ufeff${block}`],
    ['NUL octets around', `\0\0${block}\0`],
  ])('accepts %s', (_, text) => {
    expect(parsePem(text)).toEqual([{ label: 'CERTIFICATE', der }])
  })

  it.each(['', 'no PEM', '<!doctype html><h1>502 Bad Gateway</h1>', '----BEGIN CERTIFICATE----', '\0'])(
    'finds no block in %j',
    (text) => {
      expect(parsePem(text)).toEqual([])
    },
  )

  const begin = '-----BEGIN CERTIFICATE-----\n'
  const end = '-----END CERTIFICATE-----\n'
  it.each([
    ['a header that does not end', '-----BEGIN CERTIFICATE'],
    ['an empty label', `-----BEGIN -----\n${secret}\n-----END -----`],
    ['a label over two lines', `-----BEGIN CERT\nIFICATE-----\n${secret}\n-----END CERT\nIFICATE-----`],
    ['a label with terminal codes', `-----BEGIN \u001b[31m-----\n${secret}\n-----END \u001b[31m-----`],
    ['a label of 65 characters', `-----BEGIN ${'A'.repeat(65)}-----\n${secret}\n-----END ${'A'.repeat(65)}-----`],
    ['a block that does not end', `${begin}${secret}\n`],
    ['another footer', `${begin}${secret}\n-----END PRIVATE KEY-----\n`],
    ['a block inside a block', `${begin}${block}${end}`],
    ['nothing in the block', `${begin}${end}`],
    ['blank lines only', `${begin}\n\n${end}`],
    ['a comment in the block', `${begin}# ${secret}\n${end}`],
    ['base64url', `${begin}${Buffer.from([0xfb, 0xff, 0xfe]).toString('base64url')}\n${end}`],
    ['no padding', `${begin}YQ\n${end}`],
    ['padding in the middle', `${begin}YQ==YQ==\n${end}`],
    ['a cut last group', `${begin}${secret}AA\n${end}`],
    ['stray bits in the last group', `${begin}YR==\n${end}`],
    ['NUL in the block', `${begin}YWFh\0YWFh\n${end}`],
    [
      'an encrypted key',
      `-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\n${secret}\n-----END RSA PRIVATE KEY-----`,
    ],
  ])('refuses %s and does not quote it', (_, text) => {
    expect(() => parsePem(text)).toThrow(SyntaxError)
    expect(() => parsePem(text)).not.toThrow(new RegExp(`${secret}|YWFh|YQ`))
  })

  it('never throws anything but a SyntaxError', () => {
    const pieces = fc.constantFrom(
      '-----',
      'BEGIN ',
      'END ',
      '-----BEGIN CERTIFICATE-----',
      end,
      'YQ==',
      '\n',
      '\r',
      'A',
      '=',
      '\0',
    )
    const noise = fc.array(fc.oneof({ weight: 5, arbitrary: pieces }, fc.string({ unit: 'binary', maxLength: 20 })), {
      maxLength: 30,
    })
    fc.assert(
      fc.property(noise, (parts) => {
        try {
          for (const { label, der } of parsePem(parts.join(''))) {
            expect(parsePem(encodePem(label, der))).toEqual([{ label, der }])
          }
        } catch (error) {
          expect(error).toBeInstanceOf(SyntaxError)
        }
      }),
      { numRuns: 20_000 },
    )
  })

  it('reads a private key as node writes it', () => {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    const [key] = parsePem(privateKey.export({ type: 'sec1', format: 'pem' }).toString())
    expect(key?.label).toBe('EC PRIVATE KEY')
    expect(key?.der.equals(privateKey.export({ type: 'sec1', format: 'der' }))).toBe(true)
  })

  // Time is not measured: on a busy machine it would be noise. What a scan costs is how far it reads.
  it.each([
    ['many blocks', (size: number) => block.repeat(size)],
    ['many beginnings', (size: number) => '-----BEGIN CERTIFICATE-----'.repeat(size)],
    ['many dashes', (size: number) => '-----'.repeat(size)],
    ['many headers', (size: number) => '-----BEGIN A-----\n'.repeat(size)],
    ['a wide body', (size: number) => `${begin}${' \n'.repeat(size)}YQ==${end}`],
    ['text only', (size: number) => 'A'.repeat(size)],
  ])('looks at each character a bounded number of times: %s', (_, make) => {
    const cost = (size: number): number => scanned(make(size)) / make(size).length
    for (const size of [200, 400, 800, 1600]) expect(cost(size)).toBeLessThan(6)
  })
})

/** How many characters parsePem searches or copies of a text. */
function scanned(text: string): number {
  let read = 0
  const counting = {
    indexOf(search: string, from: number): number {
      const found = text.indexOf(search, from)
      read += (found === -1 ? text.length : found + search.length) - from
      return found
    },
    slice(start: number, stop: number): string {
      read += stop - start
      return text.slice(start, stop)
    },
  }
  try {
    parsePem(counting as string)
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error
  }
  return read
}
