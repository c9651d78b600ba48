/**
 * The account at the CA: found or created once, shared by all processes through the store. RFC 8555 section 7.3.
 *
 * The key is stored before the CA hears of it, so that no crash and no race can leave an account whose key is lost.
 *
 * @module
 */
import { createHash } from 'node:crypto'
import { generatePrivateKey, importPrivateKey, type KeyAlgorithm } from '../../core/private-key.js'
import { recordCodec, type RecordCodec, type RecordFields } from '../../core/record.js'
import { AcmeError } from '../../errors.js'
import { anySignal } from '../../internal/any-signal.js'
import { singleFlight } from '../../internal/single-flight.js'
import { storeKey, type StoreKey } from '../../stores/cert-store.js'
import type { IssuerContext } from '../issuer.js'
import { accountKey, type AccountKey } from './account-key.js'
import type { AcmeSigner, AcmeTransport } from './acme-transport.js'
import { isProblem, printable, protocolError } from './problem.js'
import { changeRecord, readRecord, readSound } from '../stored-record.js'

/** An account as seen from outside. */
export interface AcmeAccount {
  /** Identifies the account towards the CA, in CAA records (`accounturi`, RFC 8657) and in its support forms. */
  readonly url: string
  /** RFC 7638 thumbprint of the account's public key: what follows the dot in a key authorization. */
  readonly thumbprint: string
}

/** An account that requests can be signed for. */
export interface AccountSession extends AcmeAccount {
  readonly signer: AcmeSigner
}

/** Options of {@link accountKeeper}. */
export interface AccountKeeperOptions {
  readonly issuerId: string
  readonly directoryUrl: string
  readonly contact: readonly string[]
  readonly bindExternalAccount: boolean
  readonly keyAlgorithm: KeyAlgorithm
  /** The caller's own key: used, never stored. */
  readonly ownKey: AccountKey | undefined
  readonly observe: (step: string) => Promise<void>
}

/** Keeps the account of one issuer. */
export interface AccountKeeper {
  /** The account; created when there is none. */
  session(context: IssuerContext): Promise<AccountSession>
  /** Runs something with the account. When the CA has forgotten the account, registers again and runs it once more. */
  use<T>(context: IssuerContext, run: (session: AccountSession) => Promise<T>): Promise<T>
  /** Replaces the account's key. RFC 8555 section 7.3.5. */
  rollOver(context: IssuerContext): Promise<AccountSession>
}

interface AccountRecord {
  readonly directoryUrl: string
  /** `undefined` when the key is the caller's own. */
  readonly keyPem: string | undefined
  /** Which key the account URL is for. */
  readonly thumbprint: string
  readonly accountUrl: string | undefined
  /** A roll-over to this key has begun, at that time. Which of the two the CA knows has to be asked. */
  readonly nextKeyPem: string | undefined
  readonly nextKeyAt: number | undefined
  readonly createdAt: number
}

interface Signing {
  readonly key: AccountKey
  readonly signer: AcmeSigner
}

const codec: RecordCodec<AccountRecord> = recordCodec('acme-account', (fields) => ({
  directoryUrl: fields.text('directoryUrl'),
  keyPem: fields.optional('keyPem', (name) => readKey(fields, name)),
  thumbprint: fields.text('thumbprint'),
  accountUrl: fields.optional('accountUrl', (name) => fields.text(name)),
  nextKeyPem: fields.optional('nextKeyPem', (name) => readKey(fields, name)),
  nextKeyAt: fields.optional('nextKeyAt', (name) => fields.number(name)),
  createdAt: fields.number('createdAt'),
}))

const lockTtlMs = 60_000
/**
 * Longest wait for another process that makes the account. Its lock spares the CA some requests and no more: with or without
 * it everybody uses the stored key, for which the CA keeps one account. A holder that died must not hold up its successor.
 */
const lockWaitMs = 3_000
const lockPollMs = 500
/** Longer than any process can still be about to send a key change. */
const rollOverGraceMs = 3_600_000

/** Makes an {@link AccountKeeper}. */
export function accountKeeper(options: AccountKeeperOptions, transport: AcmeTransport): AccountKeeper {
  const { issuerId, directoryUrl, observe } = options
  const recordKey: StoreKey = storeKey('accounts', issuerId)
  const opening = singleFlight<AccountSession>()
  const rollingOver = singleFlight<AccountSession>()
  const own: Signing | undefined = options.ownKey && { key: options.ownKey, signer: transport.signer(options.ownKey) }
  // Parsing a key and making a client is spared for as long as the key stays the same.
  let remembered: (Signing & { readonly digest: string }) | undefined

  const keeper: AccountKeeper = {
    session: (context) => opening(context.signal, (signal) => open({ ...context, signal })),
    async use(context, run) {
      const session = await keeper.session(context)
      try {
        return await run(session)
      } catch (error) {
        if (!isProblem(error, 'accountDoesNotExist')) throw error
        context.logger.warn('the CA does not know the account any more, registering again', { account: session.url })
        await forget(session, context)
        return run(await keeper.session(context))
      }
    },
    async rollOver(context) {
      if (own !== undefined) {
        throw new TypeError('the account key was passed as the "accountKey" option: pass a new one there instead')
      }
      const session = await keeper.session(context)
      return rollingOver(context.signal, (signal) => rollOver(session, { ...context, signal }))
    },
  }
  return keeper

  async function open(context: IssuerContext): Promise<AccountSession> {
    const stored = await readOrCreate(context)
    const record = await settleRollOver(stored.record, context)
    const { key, signer } = signingOf(record)
    if (isRegistered(record, key)) return { url: record.accountUrl, thumbprint: key.thumbprint, signer }
    return underLock(context, (locked) => register(stored.created, locked))
  }

  /** The record, with a key unless the caller has one. Whoever creates it first wins; everybody uses that key. */
  async function readOrCreate(context: IssuerContext): Promise<{ record: AccountRecord; created: boolean }> {
    const stored = await readSound(recordKey, codec, context)
    const usable = (value: AccountRecord | undefined): value is AccountRecord =>
      value !== undefined && (own !== undefined || value.keyPem !== undefined)
    if (usable(stored.value)) return { record: stored.value, created: false }
    const keyPem = own === undefined ? (await generatePrivateKey(options.keyAlgorithm)).exportPem() : undefined
    const fresh: AccountRecord = {
      directoryUrl,
      keyPem,
      thumbprint: (own?.key ?? accountKey(keyPem ?? '')).thumbprint,
      accountUrl: undefined,
      nextKeyPem: undefined,
      nextKeyAt: undefined,
      createdAt: context.clock.now(),
    }
    const change = (value: AccountRecord | undefined): AccountRecord => (usable(value) ? value : fresh)
    const { value: record = fresh } = await changeRecord(recordKey, codec, change, context, stored)
    await observe('account.stored')
    // The caller's own key may be registered already.
    return { record, created: own === undefined && record === fresh }
  }

  /** Finds or creates the account of the stored key, and stores its URL. */
  async function register(created: boolean, context: IssuerContext): Promise<AccountSession> {
    const { value: record } = await readRecord(recordKey, codec, context)
    if (record === undefined) throw vanished()
    const { key, signer } = signingOf(record)
    // While we waited for the lock, its holder may have done it.
    if (isRegistered(record, key)) return { url: record.accountUrl, thumbprint: key.thumbprint, signer }
    // Binding keys of some CAs work only once: an account that exists is found without them.
    const known = options.bindExternalAccount && !created ? await lookUp(signer, context) : undefined
    const url = known ?? (await createAccount(signer, context))
    const change = (value: AccountRecord | undefined): AccountRecord => {
      if (value === undefined || value.keyPem !== record.keyPem) throw vanished()
      return { ...value, directoryUrl, thumbprint: key.thumbprint, accountUrl: url }
    }
    await changeRecord(recordKey, codec, change, context)
    context.logger.info('acme account is ready', { account: url, created: known === undefined })
    return { url, thumbprint: key.thumbprint, signer }
  }

  async function createAccount(signer: AcmeSigner, context: IssuerContext): Promise<string> {
    const payload = {
      termsOfServiceAgreed: true,
      ...(options.contact.length === 0 ? {} : { contact: options.contact }),
    }
    // With a binding, a failure is followed by a look-up: the binding may be used up, by us or by another process.
    const repeatable = !options.bindExternalAccount
    try {
      return await newAccount(
        signer,
        payload,
        { repeatable, bindExternalAccount: options.bindExternalAccount },
        context,
      )
    } catch (error) {
      if (repeatable) throw error
      const found = await lookUp(signer, context).catch(() => undefined)
      if (found === undefined) throw error
      return found
    }
  }

  /** The URL of the signer's account, if the CA has one. RFC 8555 section 7.3.1. */
  async function lookUp(signer: AcmeSigner, context: IssuerContext): Promise<string | undefined> {
    try {
      return await newAccount(signer, { onlyReturnExisting: true }, { repeatable: true }, context)
    } catch (error) {
      if (isProblem(error, 'accountDoesNotExist')) return undefined
      throw error
    }
  }

  async function newAccount(
    signer: AcmeSigner,
    payload: Readonly<Record<string, unknown>>,
    how: { readonly repeatable: boolean; readonly bindExternalAccount?: boolean },
    context: IssuerContext,
  ): Promise<string> {
    const what = `account at ${directoryUrl}`
    const { newAccount: url } = await transport.directory(context)
    const reply = await signer.send({ url, what, payload, account: undefined, ...how }, context)
    const location = reply.headers['location']
    if (location === undefined) throw protocolError(what, 'the answer has no Location header')
    const accountUrl = transport.read.url(location, what)
    const status = transport.read.accountStatus(reply.data, what)
    if (status !== 'valid') {
      throw new AcmeError({
        code: 'ERR_ACME_PROBLEM',
        message:
          `${what}: account ${accountUrl} is ${printable(status, 40)} at the CA and cannot be used again; ` +
          `delete ${recordKey} from the store to have a new one made`,
        retryable: false,
      })
    }
    return accountUrl
  }

  /** Drops an account URL that the CA does not know, unless somebody has done so already. */
  async function forget(session: AccountSession, context: IssuerContext): Promise<void> {
    const change = (value: AccountRecord | undefined): AccountRecord | undefined =>
      value?.accountUrl === session.url ? { ...value, accountUrl: undefined } : value
    await changeRecord(recordKey, codec, change, context)
  }

  /**
   * New key stored, CA told, new key made the active one: in that order, so that after a crash anywhere in between one of
   * the two stored keys is the account's.
   */
  async function rollOver(session: AccountSession, context: IssuerContext): Promise<AccountSession> {
    const what = `key change of account ${session.url}`
    const { keyChange } = await transport.directory(context)
    if (keyChange === undefined) throw protocolError(what, 'the CA offers no key change')
    const nextKeyPem = (await generatePrivateKey(options.keyAlgorithm)).exportPem()
    const { value: record } = await changeRecord(
      recordKey,
      codec,
      (value) => value && { ...value, nextKeyPem: value.nextKeyPem ?? nextKeyPem, nextKeyAt: context.clock.now() },
      context,
    )
    if (record?.keyPem === undefined || record.nextKeyPem === undefined) throw vanished()
    await observe('account.next-key-stored')
    const next = parse(record.nextKeyPem)
    const payload = { account: session.url, oldKey: accountKey(record.keyPem).jwk }
    const inner = next.signer.sign(keyChange, payload)
    try {
      const request = { url: keyChange, what, payload: { ...inner }, account: session.url, repeatable: false }
      await session.signer.send({ ...request, answer: 'any' }, context)
    } catch (error) {
      // The answer may be lost, or another process was quicker: only the CA knows which key is the account's.
      if (context.signal.aborted || (await lookUp(next.signer, context)) !== session.url) throw error
    }
    await observe('account.key-changed')
    return promote(record, session.url, context)
  }

  /** Ends a roll-over that a crash has interrupted: the new key if the CA knows it, else the old one. */
  async function settleRollOver(record: AccountRecord, context: IssuerContext): Promise<AccountRecord> {
    const { nextKeyPem, nextKeyAt = 0, accountUrl } = record
    if (nextKeyPem === undefined || own !== undefined) return record
    const next = parse(nextKeyPem)
    if (accountUrl !== undefined && (await lookUp(next.signer, context)) === accountUrl) {
      await promote(record, accountUrl, context)
      return { ...record, keyPem: nextKeyPem, nextKeyPem: undefined, thumbprint: next.key.thumbprint }
    }
    // Another process may be about to send the change: its key is kept for a while.
    if (context.clock.now() - nextKeyAt < rollOverGraceMs) return record
    const change = (value: AccountRecord | undefined): AccountRecord | undefined =>
      value?.nextKeyPem === nextKeyPem ? { ...value, nextKeyPem: undefined, nextKeyAt: undefined } : value
    const { value } = await changeRecord(recordKey, codec, change, context)
    return value ?? record
  }

  async function promote(record: AccountRecord, url: string, context: IssuerContext): Promise<AccountSession> {
    const promoted = { ...record, keyPem: record.nextKeyPem, nextKeyPem: undefined, nextKeyAt: undefined }
    const { key, signer } = signingOf(promoted)
    const change = (value: AccountRecord | undefined): AccountRecord | undefined =>
      value === undefined || value.keyPem === promoted.keyPem ? value : { ...promoted, thumbprint: key.thumbprint }
    await changeRecord(recordKey, codec, change, context)
    context.logger.info('acme account has a new key', { account: url })
    return { url, thumbprint: key.thumbprint, signer }
  }

  function isRegistered(
    record: AccountRecord,
    key: AccountKey,
  ): record is AccountRecord & { readonly accountUrl: string } {
    return (
      record.accountUrl !== undefined && record.directoryUrl === directoryUrl && record.thumbprint === key.thumbprint
    )
  }

  function signingOf({ keyPem }: AccountRecord): Signing {
    if (own !== undefined) return own
    if (keyPem === undefined) throw vanished()
    const digest = digestOf(keyPem)
    if (remembered?.digest !== digest) remembered = { digest, ...parse(keyPem) }
    return remembered
  }

  function parse(pem: string): Signing {
    const key = accountKey(pem)
    return { key, signer: transport.signer(key) }
  }

  function vanished(): AcmeError {
    return new AcmeError({
      code: 'ERR_ACME_PROBLEM',
      message: `account at ${directoryUrl}: ${recordKey} was removed or replaced in the store while it was in use`,
      retryable: true,
    })
  }

  /** One process at a time, where the store offers locks. After a short wait for one, the key alone must do. */
  async function underLock<T>(context: IssuerContext, run: (context: IssuerContext) => Promise<T>): Promise<T> {
    const { store, clock, signal } = context
    if (store.lock === undefined) return run(context)
    const giveUpAt = clock.now() + lockWaitMs
    for (;;) {
      const lock = await store.lock(recordKey, context, { ttlMs: lockTtlMs })
      if (lock !== undefined) {
        const held = anySignal(signal, lock.signal)
        try {
          return await run({ ...context, signal: held.signal })
        } finally {
          held.end()
          await lock.release().catch((error: unknown) => {
            context.logger.warn('lock could not be released, it ends by itself', { lock: recordKey, error })
          })
        }
      }
      const { value } = await readRecord(recordKey, codec, context)
      if (value?.accountUrl !== undefined || clock.now() >= giveUpAt) return run(context)
      await clock.sleep(lockPollMs, { signal })
    }
  }
}

/** A key that cannot be used is damage like any other. */
function readKey(fields: RecordFields, name: string): string {
  const pem = fields.text(name)
  importPrivateKey(pem)
  return pem
}

/** To recognise a key without keeping its text. */
function digestOf(pem: string): string {
  return createHash('sha256').update(pem).digest('base64')
}
