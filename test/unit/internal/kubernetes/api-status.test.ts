import { describe, expect, it } from 'vitest'
import type { HttpResponse } from '../../../../src/internal/http.js'
import { readStatus, withoutSecrets } from '../../../../src/internal/kubernetes/api-status.js'

describe('readStatus', () => {
  it('shows nothing that is secret, in whatever part of the answer it comes back', () => {
    const secret = 'hunter22'
    const causes = [{ reason: 'FieldManagerConflict', message: `conflict with "${secret}"`, field: `.${secret}` }]
    const text = JSON.stringify({ kind: 'Status', reason: secret, message: `denied: ${secret}`, details: { causes } })
    const response: HttpResponse = { status: 409, headers: {}, body: Buffer.from(text), text: () => text, url: '' }
    expect(JSON.stringify(readStatus(response, [secret]))).not.toContain(secret)
    expect(readStatus(response, [])).toMatchObject({ reason: secret, conflicts: [{ manager: secret }] })
  })
})

describe('withoutSecrets', () => {
  const key = '-----BEGIN PRIVATE KEY-----\nAAAA\nshort==\n-----END PRIVATE KEY-----'
  it.each([
    ['a key', `denied: ${key} is bad`],
    ['a key in JSON', `denied: ${JSON.stringify(key)} is bad`],
    ['a key that was cut off', `denied: ${key.slice(0, 40)}`],
    ['base64', `denied: ${Buffer.from(key).toString('base64')} is bad`],
    ['bytes as Go prints them', `denied: [${[...Buffer.from(key)].join(' ')}] is bad`],
    [
      'bytes as Go prints them with %#v',
      `denied: []uint8{${[...Buffer.from(key)].map((byte) => `0x${byte.toString(16)}`).join(', ')}} is bad`,
    ],
    ['base64 in a URL', `denied: ${encodeURIComponent(`${'QUFB'.repeat(9)}/${'QUFB'.repeat(9)}+`)} is bad`],
    ['a password', 'denied: hunter22 is bad'],
  ])('takes out %s', (_, text) => {
    const safe = withoutSecrets(text, ['hunter22'])
    expect(safe).toMatch(/^denied: .*\[removed\]/)
    for (const secret of ['AAAA', 'short==', 'hunter22', '65 65 65', '0x41, 0x41', 'QUFB', 'LS0tLS1C'])
      expect(safe).not.toContain(secret)
  })

  it('takes a megabyte of dashes in its stride', () => {
    const text = '-----BEGIN '.repeat(20_000) + '-'.repeat(200_000)
    const start = performance.now()
    withoutSecrets(text, [])
    expect(performance.now() - start).toBeLessThan(2_000)
  })
})
