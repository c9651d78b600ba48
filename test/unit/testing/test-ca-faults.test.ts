import { createPrivateKey, createPublicKey, X509Certificate } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { fakeClock } from '../../../src/testing/fake-clock.js'
import {
  createTestAuthority,
  type Fault,
  type FaultAction,
  type TestCa,
  type WrongCertificate,
} from '../../../src/testing/test-ca/index.js'
import { csrFor, rawClient, startCa, type Answer, type RawClient } from './raw-acme-client.js'

const day = 86_400_000

async function start(): Promise<{ ca: TestCa; client: RawClient; order: () => Promise<Answer> }> {
  const ca = await startCa()
  const client = await rawClient(ca)
  await client.register()
  return { ca, client, order: () => client.order(['a.example']) }
}

describe('a fault', () => {
  it('hits the first matching request, or those it is told to', async () => {
    const { ca, client, order } = await start()
    const action: FaultAction = { type: 'problem', problemType: 'serverInternal', status: 500 }
    const first = ca.faults.add({ match: { kind: 'newOrder' }, action })
    expect(first.fired).toBe(0)
    expect([(await order()).status, (await order()).status, first.fired]).toEqual([500, 201, 1])

    const later = ca.faults.add({ match: { kind: 'newOrder', nth: 2, times: 2 }, action })
    const statuses = []
    for (let count = 0; count < 4; count += 1) statuses.push((await order()).status)
    expect(statuses).toEqual([201, 500, 500, 201])
    expect(later.fired).toBe(2)

    const heads = ca.faults.add({ match: { method: 'HEAD', times: Infinity }, action: { type: 'status', status: 503 } })
    await expect(client.nonce()).resolves.toBeUndefined()
    await expect(client.nonce()).resolves.toBeUndefined()
    heads.remove()
    expect(heads.fired).toBe(2)
    expect(await client.nonce()).toEqual(expect.any(String))
  })

  it('waits for the next request when an earlier one acts', async () => {
    const { ca, order } = await start()
    for (const status of [429, 503]) {
      ca.faults.add({ match: { kind: 'newOrder' }, action: { type: 'problem', problemType: 'rateLimited', status } })
    }
    expect([(await order()).status, (await order()).status, (await order()).status]).toEqual([429, 503, 201])
  })

  it.each([
    [{ action: { type: 'bad-nonce' }, match: { nth: 0 } }, '"match.nth"'],
    [{ action: { type: 'bad-nonce' }, match: { times: 0 } }, '"match.times"'],
    [{ action: { type: 'bad-nonce' }, match: { path: '/' } }, '"path"'],
    [{ action: { type: 'slow', bytesPerSecond: 0 } }, '"action.bytesPerSecond"'],
  ])('is refused when it is %j', async (fault, message) => {
    const { ca } = await start()
    expect(() => ca.faults.add(fault as Fault)).toThrow(message)
    expect(() => ca.faults.rejectNonces(101)).toThrow('"percent"')
  })
})

describe('the fault', () => {
  it('problem: authenticated, refused, nonce spent', async () => {
    const { ca, client } = await start()
    ca.faults.add({
      match: { kind: 'newOrder' },
      action: {
        type: 'problem',
        problemType: 'rateLimited',
        status: 429,
        detail: 'too many',
        retryAfter: 3600,
        headers: { Link: '<https://example.com/limits>;rel="help"' },
        subproblems: [{ type: 'urn:x', detail: 'y', identifier: { type: 'dns', value: 'a.example' } }],
      },
    })
    const nonce = await client.nonce()
    const payload = { identifiers: [{ type: 'dns', value: 'a.example' }] }
    const answer = await client.post(client.directory.newOrder, payload, { header: { nonce } })
    expect(answer).toMatchObject({ status: 429, headers: { 'retry-after': '3600' } })
    expect(answer.headers['content-type']).toBe('application/problem+json')
    expect(answer.headers['link']).toContain('rel="help"')
    expect(answer.headers['replay-nonce']).toBeDefined()
    expect(answer.json).toEqual({
      type: 'urn:ietf:params:acme:error:rateLimited',
      detail: 'too many',
      status: 429,
      subproblems: [{ type: 'urn:x', detail: 'y', identifier: { type: 'dns', value: 'a.example' } }],
    })
    expect(ca.orders).toEqual([])
    const again = await client.post(client.directory.newOrder, payload, { header: { nonce } })
    expect(again.json.type).toMatch(/badNonce$/)
  })

  it('bad-nonce: with a fresh one', async () => {
    const { ca, order } = await start()
    ca.faults.add({ action: { type: 'bad-nonce' } })
    const answer = await order()
    expect(answer).toMatchObject({ status: 400, json: { type: 'urn:ietf:params:acme:error:badNonce' } })
    expect(answer.headers['replay-nonce']).toBeDefined()
    expect((await order()).status).toBe(201)
  })

  it('rejectNonces: a share of all POSTs', async () => {
    const { ca, order } = await start()
    ca.faults.rejectNonces(100)
    expect((await order()).json.type).toMatch(/badNonce$/)
    ca.faults.rejectNonces(50)
    const statuses = new Set<number>()
    for (let count = 0; count < 60 && statuses.size < 2; count += 1) statuses.add((await order()).status)
    expect(statuses.size).toBe(2)
    ca.faults.rejectNonces(0)
    expect((await order()).status).toBe(201)
  })

  it('status: from before the CA, nonce unspent', async () => {
    const { ca, client } = await start()
    ca.faults.add({
      match: { kind: 'newOrder' },
      action: { type: 'status', status: 503, headers: { 'Retry-After': '7' }, body: '<h1>busy</h1>' },
    })
    const nonce = await client.nonce()
    const payload = { identifiers: [{ type: 'dns', value: 'a.example' }] }
    const answer = await client.post(client.directory.newOrder, payload, { header: { nonce } })
    expect(answer).toMatchObject({ status: 503, text: '<h1>busy</h1>', headers: { 'retry-after': '7' } })
    expect(answer.headers['replay-nonce']).toBeUndefined()
    expect((await client.post(client.directory.newOrder, payload, { header: { nonce } })).status).toBe(201)
  })

  it('delay: in real time, together with another', async () => {
    const { ca, order } = await start()
    ca.faults.add({ match: { kind: 'newOrder' }, action: { type: 'delay', ms: 60 } })
    ca.faults.add({ match: { kind: 'newOrder' }, action: { type: 'problem', problemType: 'x', status: 400 } })
    const begun = performance.now()
    expect((await order()).status).toBe(400)
    expect(performance.now() - begun).toBeGreaterThan(55)
  })

  it('drop-before: nothing happened', async () => {
    const { ca, order } = await start()
    ca.faults.add({ match: { kind: 'newOrder' }, action: { type: 'drop-before' } })
    await expect(order()).rejects.toThrow()
    expect(ca.orders).toEqual([])
    expect(ca.requests.at(-1)).toMatchObject({ kind: 'newOrder', status: undefined })
  })

  it('drop-after: only the reply is lost', async () => {
    const { ca, order } = await start()
    ca.faults.add({ match: { kind: 'newOrder' }, action: { type: 'drop-after' } })
    await expect(order()).rejects.toThrow()
    expect(ca.orders).toHaveLength(1)
    expect(ca.requests.at(-1)).toMatchObject({ kind: 'newOrder', status: undefined })
  })

  it('truncate: half a body', async () => {
    const { ca, client } = await start()
    ca.faults.add({ match: { kind: 'directory' }, action: { type: 'truncate', bytes: 20 } })
    await expect(client.send('GET', ca.directoryUrl)).rejects.toThrow('aborted')
  })

  it('slow: all of it, in time', async () => {
    const { ca, client } = await start()
    const whole = await client.send('GET', ca.directoryUrl)
    const bytesPerSecond = Math.ceil(whole.text.length / 0.2)
    ca.faults.add({ match: { kind: 'directory' }, action: { type: 'slow', bytesPerSecond } })
    const begun = performance.now()
    expect((await client.send('GET', ca.directoryUrl)).json['newOrder']).toBe(whole.json['newOrder'])
    expect(performance.now() - begun).toBeGreaterThan(150)
  })

  it('replace-body: headers stay', async () => {
    const { ca, client } = await start()
    ca.faults.add({ match: { kind: 'directory' }, action: { type: 'replace-body', body: '{"newNonce":1}' } })
    expect(await client.send('GET', ca.directoryUrl)).toMatchObject({ status: 200, json: { newNonce: 1 } })
    const html: FaultAction = { type: 'replace-body', body: '<p>', contentType: 'text/html' }
    ca.faults.add({ match: { kind: 'directory' }, action: html })
    expect((await client.send('GET', ca.directoryUrl)).headers['content-type']).toBe('text/html')
  })

  it('wrong-certificate: at the download only', async () => {
    const { ca, client } = await start()
    const { order } = await client.obtain(['a.example'])
    const { json } = await client.post(order.url, '')
    const fault = ca.faults.add({ action: { type: 'wrong-certificate', variant: 'html' } })
    expect(await client.post(json.certificate!, '')).toMatchObject({
      status: 200,
      headers: { 'content-type': 'text/html' },
      text: expect.stringContaining('<h1>') as string,
    })
    expect(fault.fired).toBe(1)
    expect((await client.post(json.certificate!, '')).text).toBe(ca.certificates[0]!.pem + ca.certificates[0]!.chainPem)
  })
})

describe('a wrong certificate', () => {
  const now = Date.UTC(2026, 0, 1)
  const names = ['a.example', 'b.example']

  async function download(wrong: WrongCertificate) {
    const authority = createTestAuthority({ clock: fakeClock({ now }) })
    const csr = await csrFor(names)
    const { certificatePem, chainPem } = await authority.issue({ csr, wrong })
    const [record] = authority.certificates as [(typeof authority.certificates)[0]]
    const body = certificatePem + chainPem
    const leafKey = new X509Certificate(record.pem).publicKey.export({ type: 'spki', format: 'der' })
    const blocks = body.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []
    return {
      body,
      record,
      leafKey,
      rootPem: authority.rootPem,
      list: blocks.map((block) => new X509Certificate(block)),
    }
  }
  const keyOf = (certificate: X509Certificate): Buffer => certificate.publicKey.export({ type: 'spki', format: 'der' })

  it.each([
    ['other-names', 'DNS:other.invalid'],
    ['extra-name', 'DNS:a.example, DNS:b.example, DNS:extra.invalid'],
    ['missing-name', 'DNS:b.example'],
    ['expired', 'DNS:a.example, DNS:b.example'],
    ['not-yet-valid', 'DNS:a.example, DNS:b.example'],
    ['ca-true', 'DNS:a.example, DNS:b.example'],
  ] as const)('%s is signed for the right key', async (variant, subjectAltName) => {
    const { list, leafKey } = await download(variant)
    const [leaf, intermediate] = list as [X509Certificate, X509Certificate]
    expect(list).toHaveLength(2)
    expect(leaf.subjectAltName).toBe(subjectAltName)
    expect(leaf.verify(intermediate.publicKey)).toBe(true)
    expect(keyOf(leaf)).toEqual(leafKey)
    expect(leaf.ca).toBe(variant === 'ca-true')
    expect(Date.parse(leaf.validTo) < now).toBe(variant === 'expired')
    expect(Date.parse(leaf.validFrom) > now).toBe(variant === 'not-yet-valid')
    expect(Date.parse(leaf.validTo) - Date.parse(leaf.validFrom)).toBe(90 * day - 1000)
  })

  it('other-key is signed for another', async () => {
    const { list, leafKey } = await download('other-key')
    expect(list[0]!.subjectAltName).toBe('DNS:a.example, DNS:b.example')
    expect(keyOf(list[0]!)).not.toEqual(leafKey)
  })

  it('missing-name of one name has none', async () => {
    const authority = createTestAuthority()
    const { certificatePem } = await authority.issue({ csr: await csrFor(['a.example']), wrong: 'missing-name' })
    expect(new X509Certificate(certificatePem).subjectAltName).toBeUndefined()
  })

  it('can be a chain in disorder', async () => {
    const shape = async (variant: WrongCertificate): Promise<string[]> => {
      const { list, record, rootPem } = await download(variant)
      const kinds = new Map([
        [record.pem, 'leaf'],
        [record.chainPem, 'intermediate'],
        [rootPem, 'root'],
      ])
      return list.map((certificate) => kinds.get(certificate.toString()) ?? '?')
    }
    expect(await shape('no-intermediate')).toEqual(['leaf'])
    expect(await shape('wrong-order')).toEqual(['intermediate', 'leaf'])
    expect(await shape('duplicate-leaf')).toEqual(['leaf', 'leaf', 'intermediate'])
    expect(await shape('root-appended')).toEqual(['leaf', 'intermediate', 'root'])
    expect(await shape('private-key-inside')).toEqual(['leaf', 'intermediate'])
    expect(await shape('comments-and-crlf')).toEqual(['leaf', 'intermediate'])
    expect(await shape('html')).toEqual([])
    expect((await download('empty')).body).toBe('')
  })

  it('can hold a private key, which is not that of the certificate', async () => {
    const { body, leafKey } = await download('private-key-inside')
    const pem = /-----BEGIN PRIVATE KEY-----[^-]+-----END PRIVATE KEY-----/.exec(body)![0]
    const publicKey = createPublicKey(createPrivateKey(pem)).export({ type: 'spki', format: 'der' })
    expect(publicKey).not.toEqual(leafKey)
  })

  it('can have comments and CRLF', async () => {
    const { body } = await download('comments-and-crlf')
    expect(body).toMatch(/^# the leaf\r\n\r\n-----BEGIN/)
    expect(body.replaceAll('\r\n', '')).not.toContain('\n')
  })
})
