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
 * The certificate of this request: the stored one, or one that `sign` makes and that is stored before anybody gets it.
 *
 * @param particulars - what it depends on besides the request
 */
export async function issueOnce(
  issuerId: string,
  request: IssueRequest,
  particulars: readonly string[],
  sign: () => Promise<string>,
  context: RecordContext,
): Promise<string> {
  const key: StoreKey = storeKey('orders', issuerId, request.certificate)
  const { idempotencyKey } = request
  const requestDigest = createHash('sha256').update(request.csr).update(JSON.stringify(particulars)).digest('base64url')
  for (let conflicts = 0; ; conflicts += 1) {
    const { value, revision } = await readSound(key, codec, context)
    const same = value?.idempotencyKey === idempotencyKey && value.requestDigest === requestDigest
    if (same && isValid(value.certificatePem, context)) return value.certificatePem
    const certificatePem = await sign()
    try {
      context.signal.throwIfAborted()
      await writeRecord(key, codec, { idempotencyKey, requestDigest, certificatePem }, revision, context)
      return certificatePem
    } catch (error) {
      if (!isConflict(error) || conflicts === maxConflicts) throw error
    }
  }
}

function isValid(certificatePem: string, { clock }: RecordContext): boolean {
  return readCertificates(certificatePem).every(({ notAfter }) => notAfter.getTime() > clock.now())
}
