import { generateKeyPairSync } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { assertNoSecrets, recordingLogger } from '../../../src/testing/recording-logger.js'

const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
const secret = 'hunter2-canary'

describe('recordingLogger', () => {
  it('remembers every message, in order', () => {
    const logger = recordingLogger()
    logger.debug('one', { a: 1 })
    logger.error('two')
    logger.info('three')
    logger.warn('four', { deep: { down: { there: { is: { a: 'thing' } } } } })
    expect(logger.entries.map(({ level, message }) => `${level} ${message}`)).toEqual([
      'debug one',
      'error two',
      'info three',
      'warn four',
    ])
    expect(logger.entries[1]?.fields).toEqual({})
    expect(logger.text()).toContain('thing')
  })

  it('shows all of it, as the reader of a log would see it', () => {
    const logger = recordingLogger()
    for (let at = 0; at < 150; at += 1) logger.info('step', { at })
    logger.info('list', { list: Array.from({ length: 150 }, (_, at) => `item ${String(at)}`) })
    logger.info('long', { text: `${'x'.repeat(20_000)}the end` })
    expect(logger.text()).toContain('at: 149')
    expect(logger.text()).toContain('item 149')
    expect(logger.text()).toContain('the end')
  })
})

describe('assertNoSecrets', () => {
  const cyclic: Record<string, unknown> = { secret }
  cyclic['self'] = cyclic
  const hidden = Object.defineProperty(new Error('x'), 'body', { value: secret, enumerable: false })
  const many = (value: unknown): unknown[] => [...Array.from({ length: 150 }, () => 'harmless'), value]

  it.each([
    ['a text', secret],
    ['a message', new Error(`could not log in with ${secret}`)],
    ['a cause', new Error('x', { cause: new Error('y', { cause: { password: secret } }) })],
    ['an aggregate', new AggregateError([new Error(secret)])],
    ['a hidden property', hidden],
    ['a nested object', { a: { b: { c: { d: { e: { f: secret } } } } } }],
    ['a map', new Map([['k', new Map([[secret, 1]])]])],
    ['a set', new Set([secret])],
    ['a key', { [secret]: 1 }],
    ['a symbol', { [Symbol(secret)]: 1 }],
    ['a URL', { url: new URL(`https://ca.example/?token=${secret}`) }],
    ['something that turns itself into JSON', { toJSON: () => secret }],
    ['something cyclic', cyclic],
    ['something with a bigint', { n: 1n, secret }],
    ['the 151st entry', many({ secret })],
    ['the end of a long text', { text: 'x'.repeat(20_000) + secret }],
    ['a buffer', { body: Buffer.from(`password=${secret}&more=${'x'.repeat(100)}`) }],
    ['the end of a buffer', { body: Buffer.from('x'.repeat(100) + secret) }],
  ])('finds a secret in %s, and does not repeat it', (_, value) => {
    expect(() => {
      assertNoSecrets(value, ['another', secret])
    }).toThrow(new Error('secret number 2 is shown'))
  })

  it.each(['with "quotes" in it', 'with\\backslash', 'tab\there', 'first line of it\nsecond line of it', "it's"])(
    'finds %j although it is escaped',
    (odd) => {
      for (const value of [{ odd }, [new Map([['a', { odd }]])], new Error('x', { cause: { odd } })]) {
        expect(() => {
          assertNoSecrets(value, [odd])
        }).toThrow('is shown')
      }
    },
  )

  it.each([
    ['a text', pem],
    ['an object', { a: [{ pem }] }],
    ['an error', new Error(`could not read ${pem}`)],
    ['SEC1', { pem: privateKey.export({ type: 'sec1', format: 'pem' }) }],
    ['an encrypted key', { pem: '-----BEGIN ENCRYPTED PRIVATE KEY-----' }],
  ])('finds a private key in %s without being told', (_, value) => {
    expect(() => {
      assertNoSecrets(value)
    }).toThrow('a private key is shown')
  })

  it('finds a line of a key that lost its armour', () => {
    const body = pem.split('\n')[1] ?? ''
    expect(() => {
      assertNoSecrets({ body }, [pem])
    }).toThrow('is shown')
  })

  it('finds what was logged', () => {
    const logger = recordingLogger()
    logger.info('stored', { options: { password: secret } })
    expect(() => {
      assertNoSecrets(logger.entries, [secret])
    }).toThrow('is shown')
  })

  it.each([
    undefined,
    null,
    '',
    7,
    {},
    [],
    new Error('x'),
    { key: '[PrivateKey]' },
    { pem: '-----BEGIN CERTIFICATE-----' },
    Symbol('x'),
  ])('finds nothing in %s', (value) => {
    expect(() => {
      assertNoSecrets(value, [secret, '', 'ab'])
    }).not.toThrow()
  })
})
