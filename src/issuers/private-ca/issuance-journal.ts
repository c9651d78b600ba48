/**
 * The last certificate of each name: whoever asks again with the same idempotency key gets the same one.
 *
 * @module
 */
import { createHash } from 'node:crypto'
import { readCertificates } from '../../core/certificate-bundle.js'
import { recordCodec, type RecordCodec } from '../../core/record.js'
import { storeKey, type StoreKey } from '../../stores/cert-store.js'
import type { IssueRequest } from '../issuer.js'
import { isConflict, readSound, writeRecord, type RecordContext } from '../stored-record.js'

interface IssuanceRecord {
  readonly idempotencyKey: string
  /** SHA-256 over all that the certificate was made from, base64url. */
  readonly requestDigest: string
  readonly certificatePem: string
}

const codec: RecordCodec<IssuanceRecord> = recordCodec('private-ca-issuance', (fields) => {
  const certificatePem = fields.text('certificatePem')
  readCertificates(certificatePem, '"certificatePem"')
  return { idempotencyKey: fields.text('idempotencyKey'), requestDigest: fields.text('requestDigest'), certificatePem }
})

const maxConflicts = 20

/**
 * The certificate of this request: the stored one while it passes `check`, else one that `sign` makes and that is stored
 * before anybody gets it.
 *
 * @param particulars - what it depends on besides the request
 * @param check - throws when a certificate is not, or no longer, what was asked for
 * @throws what `check` has against a new certificate
 */
export async function issueOnce(
  issuerId: string,
  request: IssueRequest,
  particulars: readonly string[],
  { sign, check }: { readonly sign: () => Promise<string>; readonly check: (certificatePem: string) => void },
  context: RecordContext,
): Promise<string> {
  const key: StoreKey = storeKey('orders', issuerId, request.certificate)
  const { idempotencyKey } = request
  const requestDigest = createHash('sha256').update(request.csr).update(JSON.stringify(particulars)).digest('base64url')
  for (let conflicts = 0; ; conflicts += 1) {
    const { value, revision } = await readSound(key, codec, context)
    const same = value?.idempotencyKey === idempotencyKey && value.requestDigest === requestDigest
    if (same && passes(value.certificatePem)) return value.certificatePem
    const certificatePem = await sign()
    check(certificatePem)
    try {
      context.signal.throwIfAborted()
      await writeRecord(key, codec, { idempotencyKey, requestDigest, certificatePem }, revision, context)
      return certificatePem
    } catch (error) {
      if (!isConflict(error) || conflicts === maxConflicts) throw error
    }
  }

  /** A stored one may have been signed by a clock that was wrong, or by a root that is trusted no longer. */
  function passes(certificatePem: string): boolean {
    try {
      check(certificatePem)
      return true
    } catch {
      return false
    }
  }
}
