import { createPublicKey, generateKeyPairSync, verify } from 'node:crypto'
import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'
import { Client } from 'acme-client'
import { describe, expect, it } from 'vitest'
import { accountKey } from '../../../../src/issuers/acme/account-key.js'
import { version } from '../../../../src/internal/version.js'

const require = createRequire(import.meta.url)

interface Http {
  accountKey: unknown
  jwk: unknown
  maxBadNonceRetries: number
  getNonce: () => Promise<string>
  request: (url: string, method: string, options: { data: Record<string, string> }) => Promise<unknown>
  signedRequest: (url: string, payload: object | null, options: object) => Promise<unknown>
  createSignedBody: (url: string, payload: object) => Record<string, string>
}

function decode(text: string | undefined): Record<string, unknown> {
  return JSON.parse(Buffer.from(text ?? '', 'base64url').toString()) as Record<string, unknown>
}

function httpOf(pem: string, externalAccountBinding?: { kid: string; hmacKey: string }): Http {
  const key = accountKey(pem)
  const client = new Client({
    directoryUrl: 'https://ca.example/dir',
    accountKey: Buffer.alloc(0),
    ...(externalAccountBinding === undefined ? {} : { externalAccountBinding }),
  })
  const { http } = client as unknown as { http: Http }
  http.accountKey = key.privateKey
  http.jwk = key.jwk
  return http
}

const pems = {
  'ecdsa-p256': generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  'ecdsa-p384': generateKeyPairSync('ec', { namedCurve: 'P-384' }),
  'rsa-2048': generateKeyPairSync('rsa', { modulusLength: 2048 }),
}

/** What the transport relies on; none of it is in the types of the package. */
describe('acme-client', () => {
  it('is the version that was read', () => {
    const installed = require('acme-client/package.json') as { version: string }
    const own = JSON.parse(readFileSync('package.json', 'utf8')) as {
      version: string
      dependencies: Record<string, string>
    }
    expect(own.dependencies['acme-client']).toBe(installed.version)
    expect(version).toBe(own.version)
  })

  it.each(Object.keys(pems) as (keyof typeof pems)[])('signs with a key object of type %s', async (type) => {
    const pem = pems[type].privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
    const http = httpOf(pem)
    const sent: Record<string, string>[] = []
    const bound = Object.assign(Object.create(http) as Http, {
      getNonce: () => Promise.resolve('nonce-1'),
      request: (_url: string, _method: string, { data }: { data: Record<string, string> }) => {
        sent.push(data)
        return Promise.resolve({ status: 200, headers: {}, data: {} })
      },
    })
    await bound.signedRequest('https://ca.example/x', { a: 1 }, { kid: 'https://ca.example/account/1' })
    await bound.signedRequest('https://ca.example/x', null, { kid: null })
    const [first, second] = sent
    expect(decode(first?.['protected'])).toMatchObject({
      alg: { 'ecdsa-p256': 'ES256', 'ecdsa-p384': 'ES384', 'rsa-2048': 'RS256' }[type],
      url: 'https://ca.example/x',
      nonce: 'nonce-1',
      kid: 'https://ca.example/account/1',
    })
    expect(decode(first?.['payload'])).toEqual({ a: 1 })
    expect(second?.['payload']).toBe('')
    expect(decode(second?.['protected'])).toMatchObject({ jwk: accountKey(pem).jwk })
    const signed = Buffer.from(`${first?.['protected'] ?? ''}.${first?.['payload'] ?? ''}`)
    const hash = type === 'ecdsa-p384' ? 'sha384' : 'sha256'
    const key = { key: createPublicKey(pem), dsaEncoding: 'ieee-p1363' as const }
    expect(verify(hash, signed, key, Buffer.from(first?.['signature'] ?? '', 'base64url'))).toBe(true)
  })

  it('repeats a request whose nonce was refused, with the nonce of the refusal', async () => {
    const http = httpOf(pems['ecdsa-p256'].privateKey.export({ type: 'pkcs8', format: 'pem' }).toString())
    http.maxBadNonceRetries = 2
    const nonces: unknown[] = []
    let asked = 0
    const bound = Object.assign(Object.create(http) as Http, {
      getNonce: () => {
        asked += 1
        return Promise.resolve('first')
      },
      request: (_url: string, _method: string, { data }: { data: Record<string, string> }) => {
        nonces.push(decode(data['protected'])['nonce'])
        const problem = { type: 'urn:ietf:params:acme:error:badNonce' }
        return Promise.resolve({
          status: 400,
          headers: { 'replay-nonce': `after-${String(nonces.length)}` },
          data: problem,
        })
      },
    })
    await bound.signedRequest('https://ca.example/x', {}, { kid: 'k' })
    expect(nonces).toEqual(['first', 'after-1', 'after-2'])
    expect(asked).toBe(1)
  })

  it('binds an external account, and makes the inner JWS of a key change', () => {
    const http = httpOf(pems['ecdsa-p256'].privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(), {
      kid: 'kid-1',
      hmacKey: Buffer.alloc(32, 1).toString('base64url'),
    })
    const inner = http.createSignedBody('https://ca.example/key-change', { account: 'x' })
    expect(Object.keys(inner).sort()).toEqual(['payload', 'protected', 'signature'])
    expect(Object.keys(decode(inner['protected'])).sort()).toEqual(['alg', 'jwk', 'url'])
  })
})
