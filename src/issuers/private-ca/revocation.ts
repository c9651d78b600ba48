/**
 * What was revoked, and the signed lists that say so: one record, so that a number never names two lists.
 *
 * @module
 */
import { readCertificates } from '../../core/certificate-bundle.js'
import { encodePem } from '../../core/pem.js'
import { recordCodec, type RecordCodec } from '../../core/record.js'
import type { ParsedCertificate } from '../../core/x509.js'
import { createRevocationList } from '../../core/x509-signing.js'
import { CertError, CertificateError, StoreError } from '../../errors.js'
import { storeKey, type StoreKey } from '../../stores/cert-store.js'
import type { RevocationReason } from '../issuer.js'
import { revocationReasonCodes } from '../revocation-reason-codes.js'
import { isConflict, readRecord, writeRecord, type RecordContext, type Stored } from '../stored-record.js'
import { hasRevoked, markRevoked, revocationMarkKey } from './revocation-mark.js'
import { backdateMs, type Root } from './root.js'

/** A signed revocation list of one root. RFC 5280 section 5. */
export interface RevocationList {
  readonly der: Uint8Array
  readonly pem: string
  /** Subject of the root that signed it. */
  readonly root: string
  readonly number: number
  readonly thisUpdate: Date
  /** Verifiers refuse the list, and with it every certificate, from then on. */
  readonly nextUpdate: Date
}

/** Keeps what was revoked. */
export interface RevocationKeeper {
  /** One list for each root, in their order; signed anew when half of its time has passed. */
  lists(roots: readonly Root[], context: RecordContext): Promise<readonly RevocationList[]>
  revoke(
    certificatePem: string,
    reason: RevocationReason,
    roots: readonly Root[],
    context: RecordContext,
  ): Promise<void>
}

interface Entry {
  /** Fingerprint of the root. */
  readonly root: string
  readonly serialNumber: string
  readonly revokedAt: number
  readonly reason: number
  readonly notAfter: number
}

interface SignedList {
  /** Fingerprint of the root. */
  readonly root: string
  readonly der: string
  readonly thisUpdate: number
  readonly nextUpdate: number
}

interface RevocationRecord {
  readonly number: number
  readonly entries: readonly Entry[]
  readonly lists: readonly SignedList[]
}

const codec: RecordCodec<RevocationRecord> = recordCodec('private-ca-revocations', (fields) => ({
  number: fields.number('number'),
  entries: fields.objects('entries', (entry) => ({
    root: entry.text('root'),
    serialNumber: entry.text('serialNumber'),
    revokedAt: entry.number('revokedAt'),
    reason: entry.number('reason'),
    notAfter: entry.number('notAfter'),
  })),
  lists: fields.objects('lists', (list) => ({
    root: list.text('root'),
    der: list.text('der'),
    thisUpdate: list.number('thisUpdate'),
    nextUpdate: list.number('nextUpdate'),
  })),
}))

const nothingRevoked: RevocationRecord = { number: 0, entries: [], lists: [] }
const maxConflicts = 20

/** Makes a {@link RevocationKeeper}. */
export function revocationKeeper(options: {
  readonly issuerId: string
  readonly listLifetimeMs: number
}): RevocationKeeper {
  const { issuerId, listLifetimeMs } = options
  const key: StoreKey = storeKey('accounts', issuerId, 'revocations')

  return {
    async lists(roots, context) {
      const { number, lists } = await update(roots, [], context)
      return roots.map(({ certificate }) => {
        const list = listOf({ lists }, certificate.fingerprintSha256)
        const der = Buffer.from(list?.der ?? '', 'base64')
        return {
          der,
          pem: encodePem('X509 CRL', der),
          root: certificate.subject,
          number,
          thisUpdate: new Date(list?.thisUpdate ?? 0),
          nextUpdate: new Date(list?.nextUpdate ?? 0),
        }
      })
    },
    async revoke(certificatePem, reason, roots, context) {
      const [certificate] = readCertificates(certificatePem, 'the certificate to be revoked')
      if (certificate === undefined) return
      const now = context.clock.now()
      // What has ended is refused by everybody already.
      if (certificate.notAfter.getTime() <= now) return
      const serialNumber = certificate.serialNumber.toString('hex')
      const entries = issuersOf(certificate, roots).map(({ certificate: root }) => ({
        root: root.fingerprintSha256,
        serialNumber,
        revokedAt: now,
        reason: revocationReasonCodes[reason],
        notAfter: certificate.notAfter.getTime(),
      }))
      await update(roots, entries, context)
      context.logger.info('certificate revoked', { root: certificate.issuerName, serialNumber })
    },
  }

  /** The record with a list for every root, written anew when there is something to change. */
  async function update(
    roots: readonly Root[],
    added: readonly Entry[],
    context: RecordContext,
  ): Promise<RevocationRecord> {
    for (let conflicts = 0; ; conflicts += 1) {
      const { value = nothingRevoked, revision } = await read(context)
      const fresh = added.filter((one) => !value.entries.some((entry) => isSame(entry, one)))
      const now = context.clock.now()
      const signed = roots.map(({ certificate }) => listOf(value, certificate.fingerprintSha256))
      if (fresh.length === 0 && signed.every((list) => isFresh(list, now))) {
        // Asked again, perhaps because the first time did not come as far as the mark.
        if (added.length > 0) await markRevoked(issuerId, context)
        return value
      }
      const entries = [...value.entries.filter((entry) => !isOver(entry, value, now)), ...fresh]
      const next: RevocationRecord = {
        // Seconds at least: should the record be lost, the numbers go on where they have been.
        number: Math.max(value.number + 1, Math.floor(now / 1000)),
        entries,
        lists: [],
      }
      const lists = await Promise.all(roots.map((root) => sign(root, next, now)))
      try {
        context.signal.throwIfAborted()
        await writeRecord(key, codec, { ...next, lists }, revision, context)
        // After it: a process that ends in between leaves no mark without a record, which would be taken for a loss.
        if (entries.length > 0) await markRevoked(issuerId, context)
        return { ...next, lists }
      } catch (error) {
        if (!isConflict(error) || conflicts === maxConflicts) throw error
      }
    }
  }

  async function sign(root: Root, { number, entries }: RevocationRecord, now: number): Promise<SignedList> {
    const thisUpdate = Math.max(now - backdateMs, root.certificate.notBefore.getTime())
    const nextUpdate = now + listLifetimeMs
    const fingerprint = root.certificate.fingerprintSha256
    const der = await createRevocationList({
      number,
      thisUpdate: new Date(thisUpdate),
      nextUpdate: new Date(nextUpdate),
      revoked: entries
        .filter((entry) => entry.root === fingerprint)
        .map(({ serialNumber, revokedAt, reason }) => ({ serialNumber, revokedAt: new Date(revokedAt), reason })),
      signWith: root,
    })
    return { root: fingerprint, der: Buffer.from(der).toString('base64'), thisUpdate, nextUpdate }
  }

  async function read(context: RecordContext): Promise<Stored<RevocationRecord>> {
    const stored = await readWhole(context)
    if (stored.value !== undefined || !(await hasRevoked(issuerId, context))) return stored
    // Unless another process has just begun, the record was lost: a list made anew would take every revocation back.
    const again = await readWhole(context)
    if (again.value === undefined) throw lost(context)
    return again
  }

  async function readWhole(context: RecordContext): Promise<Stored<RevocationRecord>> {
    try {
      return await readRecord(key, codec, context)
    } catch (error) {
      if (!CertError.isInstance(error) || error.code !== 'ERR_STORE_CORRUPT') throw error
      throw new StoreError({
        code: 'ERR_STORE_CORRUPT',
        message: `${error.message}; it says what issuer ${issuerId} has revoked: restore it from a backup (without it everything is valid again)`,
        store: context.store.name,
        key,
        cause: error.cause,
      })
    }
  }

  function lost({ store }: RecordContext): StoreError {
    return new StoreError({
      code: 'ERR_STORE_CORRUPT',
      message:
        `${store.name}: record ${key} is missing, although issuer ${issuerId} has revoked certificates: restore it from a ` +
        `backup (or delete ${revocationMarkKey(issuerId)}: everything that was revoked is valid again then)`,
      store: store.name,
      key,
    })
  }

  /** More than one when a root was renewed with the same key: a verifier may look into the list of either. */
  function issuersOf(certificate: ParsedCertificate, roots: readonly Root[]): readonly Root[] {
    const issuers = roots.filter((candidate) => certificate.issuedBy(candidate.certificate))
    if (issuers.length > 0) return issuers
    throw new CertificateError('ERR_CERT_INVALID', `certificate ${certificate.subject} is not by issuer ${issuerId}`)
  }
}

function isSame(one: Entry, other: Entry): boolean {
  return one.root === other.root && one.serialNumber === other.serialNumber
}

function listOf({ lists }: Pick<RevocationRecord, 'lists'>, fingerprint: string): SignedList | undefined {
  return lists.find(({ root }) => root === fingerprint)
}

/** Whether an entry may go: it must have been in a list that was signed after the certificate's end. RFC 5280 section 3.3. */
function isOver({ root, notAfter }: Entry, record: RevocationRecord, now: number): boolean {
  const last = listOf(record, root)
  return notAfter <= now && (last === undefined || last.thisUpdate > notAfter)
}

function isFresh(list: SignedList | undefined, now: number): boolean {
  return list !== undefined && now >= list.thisUpdate && now < (list.thisUpdate + list.nextUpdate) / 2
}
