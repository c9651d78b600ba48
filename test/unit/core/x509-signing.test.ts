import { describe, expect, it } from 'vitest'
import * as x509 from '@peculiar/x509'
import { createRevocationList } from '../../../src/core/x509-signing.js'
import { createRoot, readRoot } from '../../../src/issuers/private-ca/root.js'

const now = Date.UTC(2026, 10, 25, 12, 0, 0, 123)

describe('createRevocationList', () => {
  const template = {
    commonName: 'test',
    keyAlgorithm: 'ecdsa-p256',
    lifetimeMs: 9e9,
    nameConstraints: undefined,
  } as const
  const list = async (revoked: Parameters<typeof createRevocationList>[0]['revoked']) => {
    const signWith = readRoot(await createRoot(template, now))
    const [thisUpdate, nextUpdate] = [new Date(now), new Date(now + 1e9)]
    return new x509.X509Crl(
      (await createRevocationList({ number: 200, thisUpdate, nextUpdate, revoked, signWith })).slice(),
    )
  }

  it('has no empty list of extensions in an entry without a reason: RFC 5280 wants one at least', async () => {
    const revokedAt = new Date(now)
    const { entries } = await list([
      { serialNumber: '00ff11', revokedAt, reason: 0 },
      { serialNumber: '1111', revokedAt, reason: 1 },
    ])
    const [unspecified, compromised] = entries.map((entry) => Buffer.from(entry.rawData).toString('hex'))
    // The serial number keeps the octet that makes it positive.
    expect(unspecified).toMatch(/^30..020300ff11170d/)
    expect(unspecified).not.toMatch(/3000$/)
    // invalidityDate, a GeneralizedTime without fractions of a second.
    const date = Buffer.from('20261125120000Z').toString('hex')
    expect(unspecified).toMatch(new RegExp(`0603551d180411180f${date}$`))
    expect(compromised).toMatch(/0603551d1504030a0101$/)
  })

  it('has no list of entries while there are none', async () => {
    const { rawData } = await list([])
    expect(Buffer.from(rawData).toString('hex')).toMatch(/170d[0-9a-f]{26}170d[0-9a-f]{26}a0/)
  })
})
