import { generateKeyPairSync } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { harmlessText, serverMessage } from '../../../../src/deployers/marathon/server-message.js'
import { createTestBundle } from '../../../../src/testing/test-bundle.js'

describe('what a server says', () => {
  it.each<[unknown, string | undefined]>([
    [{ message: "App '/lb' does not exist" }, "App '/lb' does not exist"],
    [
      { message: 'Object is not valid', details: [{ path: '/env', errors: ['is too long'] }] },
      'Object is not valid; /env; is too long',
    ],
    [{ message: 'Invalid JSON', details: 'Unexpected character' }, 'Invalid JSON; Unexpected character'],
    [
      { message: "View details at '/v2/deployments/97c136bf-5a28-4821-9d94-480d9fbb01c8'." },
      "View details at '/v2/deployments/97c136bf-5a28-4821-9d94-480d9fbb01c8'.",
    ],
    [{ message: 7, details: [{ path: 1, errors: 'no' }, null, 'text'] }, undefined],
    [{ message: 'a\u0007b\u001b[31m\nc' }, 'a b [31m c'],
    [undefined, undefined],
    ['<html>', undefined],
    [['x'], undefined],
  ])('%j is %j', (data, shown) => {
    expect(serverMessage(data, [])).toBe(shown)
  })

  it('is short', () => {
    expect(serverMessage({ message: 'no '.repeat(2000) }, [])?.length).toBeLessThan(310)
  })

  it('is not shown with PEM in it, in any spelling', async () => {
    const bundle = await createTestBundle()
    const pem = bundle.privateKey.exportPem()
    for (const text of [pem, JSON.stringify(pem), `bad value ${pem}`, '-----begin private key-----', 'PRIVATE KEY x']) {
      expect(serverMessage({ message: text }, [])).toBeUndefined()
    }
  })

  it('shows nothing of a key that is known, and of others at most the last line', () => {
    for (let round = 0; round < 16; round += 1) {
      const { privateKey } =
        round % 8 === 0
          ? generateKeyPairSync('rsa', { modulusLength: 2048 })
          : generateKeyPairSync('ec', { namedCurve: 'P-256' })
      const lines = privateKey
        .export({ type: 'pkcs8', format: 'pem' })
        .toString()
        .split('\n')
        .filter((line) => line.length > 3 && !line.startsWith('-----'))
      for (const line of lines) {
        // Told what is secret nothing of it is left; and even a key of somebody else only when its line is short.
        const known = harmlessText(`value ${line} is wrong`, [lines.join('\n')])
        expect(known).toBe('value [hidden] is wrong')
        if (line.length >= 24) expect(harmlessText(`value ${line} is wrong`, [])).toBe('value [hidden] is wrong')
      }
    }
  })

  it.each<[string, (line: string) => string]>([
    ['broken by blanks', (line) => line.match(/.{1,10}/g)!.join(' ')],
    ['broken by escapes', (line) => line.match(/.{1,20}/g)!.join(String.raw`\/`)],
    [
      'percent-encoded',
      (line) =>
        line
          .match(/.{1,20}/g)!
          .map(encodeURIComponent)
          .join('%0A'),
    ],
    ['cut short', (line) => line.slice(5, 25)],
  ])('is not shown with a piece of a known key that is %s', async (_, spelling) => {
    const pem = (await createTestBundle()).privateKey.exportPem()
    const line = pem.split('\n')[2]!
    expect(harmlessText(`bad near ${spelling(line)} of it`, [pem])).toBeUndefined()
    expect(harmlessText('nothing of it is in this longer text about certificates', [pem])).toBeDefined()
  })

  it.each([
    ['password hunter22 is wrong', ['hunter22'], 'password [hidden] is wrong'],
    ['env A=b\\nsecond line x', ['first\nsecond line'], 'env A=b\\n[hidden] x'],
    ['quoted a\\"bcd', ['a"bcd'], 'quoted [hidden]'],
    ['part postgres-pw', ['user:postgres-pw&x'], 'part [hidden]'],
    ['token eyJhbGciOiJSUzI1NiJ9.eyJ1aWQiOiJib290In0.c2ln', [], 'token [hidden]'],
    ['digest 0123456789abcdef0123456789abcdef', [], 'digest [hidden]'],
    ['short 80 is kept', ['80'], 'short 80 is kept'],
  ])('%s', (text, secrets, shown) => {
    expect(harmlessText(text, secrets)).toBe(shown)
  })
})
