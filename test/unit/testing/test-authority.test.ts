import { createPrivateKey, X509Certificate } from 'node:crypto'
import { createServer, connect } from 'node:tls'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { describe, expect, it, onTestFinished } from 'vitest'
import type { Identifier } from '../../../src/core/identifier.js'
import { fakeClock } from '../../../src/testing/fake-clock.js'
import { createTestAuthority } from '../../../src/testing/test-ca/index.js'
import { csrFor } from './raw-acme-client.js'

const day = 86_400_000
const hour = 3_600_000
const now = Date.UTC(2026, 0, 1)
const dns = (value: string): Identifier => ({ type: 'dns', value })

describe('createTestAuthority()', () => {
  it('issues what an Issuer would', async () => {
    const authority = createTestAuthority({ clock: fakeClock({ now }) })
    const identifiers = [dns('a.example'), { type: 'ip', value: '2001:db8::1' } as const]
    const csr = await csrFor(identifiers.map(({ value }) => value))
    const replaces = { value: 'AAAA.BBBB' }
    const { certificatePem, chainPem } = await authority.issue({ csr, identifiers, replaces })
    const leaf = new X509Certificate(certificatePem)
    expect(leaf.subjectAltName).toBe('DNS:a.example, IP Address:2001:DB8:0:0:0:0:0:1')
    expect(leaf.keyUsage).toEqual(['1.3.6.1.5.5.7.3.1'])
    expect(leaf.subject).toBeFalsy()
    expect(leaf.verify(new X509Certificate(chainPem).publicKey)).toBe(true)
    expect(new X509Certificate(chainPem).verify(new X509Certificate(authority.rootPem).publicKey)).toBe(true)
    expect(authority.certificates).toMatchObject([{ pem: certificatePem, replaces: 'AAAA.BBBB', identifiers }])
  })

  it('refuses a bad request, other names, and an unknown profile', async () => {
    const authority = createTestAuthority()
    const csr = await csrFor(['a.example'])
    await expect(authority.issue({ csr: csr.subarray(1) })).rejects.toThrow('malformed')
    await expect(authority.issue({ csr, identifiers: [dns('b.example')] })).rejects.toThrow('identifiers')
    await expect(authority.issue({ csr, profile: 'x' })).rejects.toThrow('unknown profile')
    expect(authority.certificates).toEqual([])
    expect(() => createTestAuthority({ lifetime: 1 } as object)).toThrow('"lifetime" is not an option')
  })

  it('backdates less when lives are short', async () => {
    const backdate = async (lifetimeMs: number, backdateMs?: number): Promise<number> => {
      const authority = createTestAuthority({ clock: fakeClock({ now }), lifetimeMs, backdateMs })
      await authority.issueWithNewKey({ identifiers: [dns('a.example')] })
      const { notBefore, notAfter } = authority.certificates[0]!
      expect(notAfter.getTime() - notBefore.getTime()).toBe(lifetimeMs - 1000)
      return now - notBefore.getTime()
    }
    expect(await backdate(90 * day)).toBe(hour)
    expect(await backdate(20 * hour)).toBe(hour)
    expect(await backdate(hour)).toBe(hour / 20)
    expect(await backdate(hour, 0)).toBe(0)
  })

  it.each([
    [3, 2],
    [0, 1],
  ])('makes chains of %d intermediates with %d alternates', async (intermediates, alternateChains) => {
    const authority = createTestAuthority({ intermediates, alternateChains })
    await authority.issueWithNewKey({ identifiers: [dns('a.example')] })
    const { pem, chainPem, alternateChainPems } = authority.certificates[0]!
    const roots = [authority.rootPem, ...authority.alternateRootPems]
    const chains = [chainPem, ...alternateChainPems].map((chain) => [
      pem,
      ...(chain.match(/-----BEGIN[^-]+-----[^-]+-----END[^-]+-----\n/g) ?? []),
    ])
    expect(chains).toHaveLength(1 + alternateChains)
    for (const [index, chain] of chains.entries()) {
      expect(chain).toHaveLength(1 + intermediates)
      // Without intermediates there is nothing that another root could certify.
      const root = intermediates === 0 ? roots[0]! : roots[index]!
      const certificates = [...chain, root].map((text) => new X509Certificate(text))
      for (const [position, certificate] of certificates.entries()) {
        const issuer = certificates[position + 1] ?? certificate
        expect(certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey)).toBe(true)
      }
    }
  })

  it.each(['ecdsa-p256', 'ecdsa-p384', 'rsa-2048'] as const)('makes a %s pair that TLS accepts', async (key) => {
    const authority = createTestAuthority()
    const pair = await authority.issueWithNewKey({ identifiers: [dns('a.example'), dns('*.b.example')], key })
    expect(new X509Certificate(pair.certificatePem).checkPrivateKey(createPrivateKey(pair.privateKeyPem))).toBe(true)
    const server = createServer({ cert: pair.certificatePem + pair.chainPem, key: pair.privateKeyPem }).listen(
      0,
      '127.0.0.1',
    )
    await once(server, 'listening')
    onTestFinished(() => void server.close())
    for (const servername of ['a.example', 'x.b.example']) {
      const { port } = server.address() as AddressInfo
      const socket = connect({ port, host: '127.0.0.1', servername, ca: authority.rootPem })
      await once(socket, 'secureConnect')
      expect(socket.authorized).toBe(true)
      socket.destroy()
    }
  })

  it('makes self-signed pairs, which it does not remember', async () => {
    const authority = createTestAuthority({ clock: fakeClock({ now }) })
    const validity = { notBefore: new Date(now - day), notAfter: new Date(now) }
    const pair = await authority.selfSigned({ identifiers: [dns('a.example')], validity })
    const certificate = new X509Certificate(pair.certificatePem)
    expect(certificate.verify(certificate.publicKey)).toBe(true)
    expect(certificate.checkPrivateKey(createPrivateKey(pair.privateKeyPem))).toBe(true)
    expect([new Date(certificate.validFrom), new Date(certificate.validTo)]).toEqual([
      validity.notBefore,
      validity.notAfter,
    ])
    expect(authority.certificates).toEqual([])
    expect(authority.renewalInfo(pair.certificatePem)).toBeUndefined()
  })

  it('suggests when to renew', async () => {
    const clock = fakeClock({ now })
    const authority = createTestAuthority({ clock, backdateMs: 0, lifetimeMs: 90 * day })
    const { certificatePem } = await authority.issueWithNewKey({ identifiers: [dns('a.example')] })
    const { start, end } = authority.renewalInfo(certificatePem)!
    expect(end.getTime() - start.getTime()).toBeCloseTo(1.8 * day, -4)
    expect(start.getTime()).toBeCloseTo(now + 59.1 * day, -4)
    expect(authority.renewalInfo(authority.certificates[0]!.certificateId)).toEqual({ start, end })
    const override = { start: new Date(now), end: new Date(now + 1) }
    authority.setRenewalWindow(certificatePem, override)
    expect(authority.renewalInfo(certificatePem)).toEqual(override)
    authority.revokeCertificate(certificatePem, 1)
    expect(authority.renewalInfo(certificatePem)!.end.getTime()).toBeLessThan(now)
    expect(authority.certificates[0]!.revoked).toEqual({ at: new Date(now), reason: 1 })
  })

  it.each([Date.UTC(1970, 0, 2), Date.UTC(2049, 11, 31), Date.UTC(2075, 0, 1)])('works at %d', async (instant) => {
    const authority = createTestAuthority({ clock: fakeClock({ now: instant }), backdateMs: 0 })
    const { certificatePem } = await authority.issueWithNewKey({ identifiers: [dns('a.example')] })
    const { validFrom, validTo } = new X509Certificate(certificatePem)
    expect(Date.parse(validFrom)).toBe(instant)
    expect(Date.parse(validTo)).toBe(instant + 90 * day - 1000)
  })

  it('is fast enough for a simulated year', async () => {
    const authority = createTestAuthority()
    const csr = await csrFor(['a.example', 'b.example'])
    const batches: number[] = []
    for (let batch = 0; batch < 5; batch += 1) {
      const begun = performance.now()
      for (let count = 0; count < 40; count += 1) await authority.issue({ csr })
      batches.push((performance.now() - begun) / 40)
    }
    // Measured: 0.3 ms. The bound only says that nobody has added a slow step, even on a busy machine.
    expect(Math.min(...batches)).toBeLessThan(3)
  })
})
