/**
 * The roots of one issuer: in the store, made at first use and in time before the last one ends; or the caller's own.
 *
 * A root is stored before anything is signed with it, and written by compare-and-set: however many processes begin at once,
 * one root comes of it, and no certificate is ever signed by a key that is not kept.
 *
 * @module
 */
import { recordCodec, type RecordCodec } from '../../core/record.js'
import { CertError, StoreError } from '../../errors.js'
import { storeKey, type StoreKey } from '../../stores/cert-store.js'
import { changeRecord, readRecord, type RecordContext, type Stored } from '../stored-record.js'
import {
  newestGeneration,
  nextRootAt,
  signingGeneration,
  signsFrom,
  trustedGenerations,
  type Generation,
  type RollOverTimes,
} from './roll-over.js'
import { createRoot, readRoot, type Root, type RootPair } from './root.js'

/** The roots at one moment. */
export interface Roots {
  readonly signing: Root
  /** Newest first, the signing one among them. */
  readonly trusted: readonly Root[]
}

/** Keeps the roots of one issuer. */
export interface Authority {
  /** The roots as they are now; makes the first one, or the next one, when it is time. @throws {@link CertError} */
  roots(context: RecordContext): Promise<Roots>
}

/** Options of {@link storedAuthority}. */
export interface StoredAuthorityOptions extends RollOverTimes {
  readonly issuerId: string
  readonly commonName: string
  /** @defaultValue as the root before, `ecdsa-p256` for the first */
  readonly keyAlgorithm: Root['key']['algorithm'] | undefined
  readonly rootLifetimeMs: number
  /** DER value of the extension. @defaultValue as the root before, none for the first */
  readonly nameConstraints: Uint8Array | undefined
  /** The first root, when it is not to be made. */
  readonly imported: Root | undefined
}

type StoredRoot = Root & Generation

/** How many roots stay in the record although they have ended: the clock that says so may be wrong. */
const keptRoots = 4

interface AuthorityRecord {
  /** Oldest first. */
  readonly roots: readonly (RootPair & { readonly signsFrom: number })[]
  /** Fingerprint of the root that was imported, if the first one was. */
  readonly imported: string | undefined
}

const codec: RecordCodec<AuthorityRecord> = recordCodec('private-ca', (fields) => {
  const roots = fields.objects('roots', (entry) => ({
    certificatePem: entry.text('certificatePem'),
    privateKeyPem: entry.text('privateKeyPem'),
    signsFrom: entry.number('signsFrom'),
  }))
  if (roots.length === 0) throw new TypeError('"roots" is empty')
  return { roots, imported: fields.optional('imported', (name) => fields.text(name)) }
})

/** Roots that live in the store. */
export function storedAuthority(options: StoredAuthorityOptions): Authority {
  const { issuerId, imported } = options
  const key: StoreKey = storeKey('accounts', issuerId)
  /** Reading a root, its key, and whether they belong together, costs milliseconds: spared while they stay the same. */
  let known: ReadonlyMap<string, Root> = new Map()

  return {
    async roots(context) {
      const now = context.clock.now()
      const record = await upToDate(await readOrCreate(context), context)
      const generations = generationsOf(record)
      const signing = signingGeneration(generations, now)
      if (signing === undefined) throw ended(issuerId, generations.at(-1)?.certificate.notAfter)
      return { signing, trusted: trustedGenerations(generations, now) }
    },
  }

  async function readOrCreate(context: RecordContext): Promise<Stored<AuthorityRecord>> {
    let stored = await read(context)
    if (stored.value === undefined && (await hasIssued(context))) {
      // Unless another process has just begun, the record was lost: nobody would trust what a new root signs.
      stored = await read(context)
      if (stored.value === undefined) throw lost(context)
    }
    if (stored.value === undefined) stored = await create(stored, context)
    if (imported !== undefined && stored.value?.imported !== imported.certificate.fingerprintSha256) {
      throw refusal(`the store holds another CA at ${key} than the one to be imported; use another "id" for this one`)
    }
    return stored
  }

  async function create(absent: Stored<AuthorityRecord>, context: RecordContext): Promise<Stored<AuthorityRecord>> {
    const now = context.clock.now()
    const { commonName, keyAlgorithm = 'ecdsa-p256', rootLifetimeMs: lifetimeMs, nameConstraints } = options
    const pair =
      imported === undefined
        ? await createRoot({ commonName, keyAlgorithm, lifetimeMs, nameConstraints }, now)
        : { certificatePem: imported.certificatePem, privateKeyPem: imported.key.exportPem() }
    if (imported !== undefined) assertValid(imported, now)
    const fresh: AuthorityRecord = {
      roots: [{ ...pair, signsFrom: now }],
      imported: imported?.certificate.fingerprintSha256,
    }
    const stored = await changeRecord(key, codec, (value) => value ?? fresh, context, absent)
    if (stored.value === fresh) report('private ca has its first root', fresh, context)
    return stored
  }

  /** Adds the next root when it is time, and lets go of those that ended long ago. */
  async function upToDate(stored: Stored<AuthorityRecord>, context: RecordContext): Promise<AuthorityRecord> {
    const { value: record } = stored
    if (record === undefined) throw lost(context)
    const now = context.clock.now()
    const newest = newestGeneration(generationsOf(record), now)
    if (newest === undefined || now < nextRootAt(newest, options)) return record
    const pair = await createRoot(
      {
        commonName: options.commonName,
        keyAlgorithm: options.keyAlgorithm ?? newest.key.algorithm,
        lifetimeMs: options.rootLifetimeMs,
        nameConstraints: options.nameConstraints ?? newest.certificate.nameConstraints,
      },
      now,
    )
    const next = { ...pair, signsFrom: signsFrom(now, newest, options) }
    const changed = await changeRecord(
      key,
      codec,
      (value) => {
        if (value === undefined) return value
        const generations = generationsOf(value)
        // Another process may have been faster.
        if (newestGeneration(generations, now)?.certificatePem !== newest.certificatePem) return value
        const recent = generations.length + 1 - keptRoots
        const kept = value.roots.filter((_, index) => index >= recent || (generations[index]?.notAfter ?? 0) > now)
        return { ...value, roots: [...kept, next] }
      },
      context,
      stored,
    )
    if (changed.value === undefined) throw lost(context)
    if (changed.value.roots.includes(next)) report('private ca has its next root', changed.value, context)
    return changed.value
  }

  function report(message: string, { roots }: AuthorityRecord, context: RecordContext): void {
    const newest = roots.at(-1)
    if (newest === undefined) return
    const { certificate } = readRoot(newest)
    const { subject, fingerprintSha256, notAfter } = certificate
    const from = new Date(newest.signsFrom)
    context.logger.info(message, { root: subject, fingerprintSha256, notAfter, signsFrom: from })
    if (newest.signsFrom < context.clock.now() + options.overlapMs && roots.length > 1) {
      context.logger.warn('private ca rolls over late, clients have less time to learn of the next root', {
        root: subject,
        signsFrom: from,
      })
    }
  }

  async function read(context: RecordContext): Promise<Stored<AuthorityRecord>> {
    try {
      const stored = await readRecord(key, codec, context)
      if (stored.value !== undefined) generationsOf(stored.value)
      return stored
    } catch (error) {
      if (!(error instanceof UnreadableRoot)) {
        if (!CertError.isInstance(error) || error.code !== 'ERR_STORE_CORRUPT') throw error
      }
      // Without the damaged bytes, so that nobody puts the record aside: everything signed so far hangs on it.
      throw new StoreError({
        code: 'ERR_STORE_CORRUPT',
        message: `${error.message}; it holds the keys of issuer ${issuerId}: restore it from a backup (deleting it means that all clients have to trust a new root)`,
        store: context.store.name,
        key,
        cause: error.cause,
      })
    }
  }

  function generationsOf({ roots }: AuthorityRecord): readonly StoredRoot[] {
    const read = new Map<string, Root>()
    const generations = roots.map((pair) => {
      const text = pair.certificatePem + pair.privateKeyPem
      const root = known.get(text) ?? readStoredRoot(pair)
      read.set(text, root)
      const [notBefore, notAfter] = [root.certificate.notBefore.getTime(), root.certificate.notAfter.getTime()]
      return { ...root, notBefore, notAfter, signsFrom: pair.signsFrom }
    })
    known = read
    return generations
  }

  function readStoredRoot(pair: RootPair): Root {
    try {
      return readRoot(pair)
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : 'unreadable'
      throw new UnreadableRoot(`record ${key} is damaged: ${why}`, { cause })
    }
  }

  async function hasIssued(context: RecordContext): Promise<boolean> {
    const issued = context.store.list(`${storeKey('orders', issuerId)}/`, context)[Symbol.asyncIterator]()
    const { done } = await issued.next()
    await issued.return?.()
    return done !== true
  }

  function lost({ store }: RecordContext): StoreError {
    return new StoreError({
      code: 'ERR_STORE_CORRUPT',
      message:
        `${store.name}: record ${key} is missing, although issuer ${issuerId} has issued certificates: restore it from a ` +
        `backup, or delete everything below ${storeKey('orders', issuerId)}/ to begin with a new root`,
      store: store.name,
      key,
    })
  }

  function assertValid({ certificate }: Root, now: number): void {
    if (certificate.notBefore.getTime() > now) throw refusal('the root to be imported is not valid yet')
    if (certificate.notAfter.getTime() <= now) throw ended(issuerId, certificate.notAfter)
  }

  function refusal(why: string): CertError {
    return new CertError({ code: 'ERR_PLUGIN_FAILED', message: `issuer ${issuerId}: ${why}`, retryable: false })
  }
}

/** Roots that the caller keeps: the first one signs, and the roll-over is the caller's. */
export function ownAuthority(issuerId: string, roots: readonly Root[]): Authority {
  return {
    async roots({ clock }) {
      const trusted = roots.filter(({ certificate }) => certificate.notAfter.getTime() > clock.now())
      const [signing] = roots
      if (signing === undefined || !trusted.includes(signing)) throw ended(issuerId, signing?.certificate.notAfter)
      return { signing, trusted }
    },
  }
}

/** A root of a record that is not what it has to be. */
class UnreadableRoot extends Error {}

function ended(issuerId: string, notAfter: Date | undefined): CertError {
  return new CertError({
    code: 'ERR_PLUGIN_FAILED',
    message: `issuer ${issuerId}: its root has ended${notAfter === undefined ? '' : ` at ${notAfter.toISOString()}`}; give it a new one`,
    retryable: false,
  })
}
