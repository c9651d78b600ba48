/**
 * One order from its creation to its certificate, resumable after a crash at any point. RFC 8555 section 7.4.
 *
 * @module
 */
import { createHash } from 'node:crypto'
import { checkIssuedChain } from '../../core/certificate-bundle.js'
import { sameIdentifiers } from '../../core/identifier.js'
import { csrPublicKeyInfo } from '../../core/x509.js'
import { AcmeError, StoreError } from '../../errors.js'
import { withDeadline } from '../../internal/deadline.js'
import type { AnyChallengeSolver } from '../../solvers/challenge-solver.js'
import type { Preflight } from '../../solvers/preflight.js'
import type { IssuedChain, IssueRequest, IssuerContext } from '../issuer.js'
import type { AccountSession } from './account.js'
import type { AcmeReply, AcmeTransport } from './acme-transport.js'
import { authorize } from './authorize.js'
import { downloadChain } from './certificate-chain.js'
import { orderCalls, type OrderReply, type PlacedOrder } from './order-calls.js'
import { DeadEnd, invalidOrder, isGone, isLost, isTimeout, orderTimeout, refusesReplaces } from './order-errors.js'
import { openOrderJournal, type OrderJournal, type OrderRecord } from './order-journal.js'
import { createPresentations, type Presentations } from './presentations.js'
import { isProblem, protocolError } from './problem.js'
import { chooseProfile, type ProfileChoice } from './profile.js'
import type { AcmeOrder } from './resources.js'
import type { ValidationGuard } from './validation-guard.js'

/** What the flow needs of its issuer. */
export interface OrderServices {
  readonly issuerId: string
  readonly transport: AcmeTransport
  readonly guard: ValidationGuard
  readonly solvers: readonly AnyChallengeSolver[]
  readonly preflight: Preflight
  readonly profile: ProfileChoice | undefined
  readonly preferredChain: string | undefined
  readonly trustedRoots: string | undefined
  readonly orderTimeoutMs: number
  readonly observe: (step: string) => Promise<void>
}

interface OrderRun {
  readonly request: IssueRequest
  readonly session: AccountSession
  readonly services: OrderServices
  readonly journal: OrderJournal
  readonly presentations: Presentations
  /** `order for www.example.com`, for messages. */
  readonly what: string
  /** Epoch milliseconds. */
  readonly deadlineAt: number
  readonly context: IssuerContext
  /** Lets the caller of an order that is aborted wait for the end of this. */
  unbroken<T>(work: Promise<T>): Promise<T>
}

/** For a new order to get into the journal after an abort; longer than the time-out of a request. */
const placingGraceMs = 60_000

/** Obtains a certificate with this account. */
export async function obtainCertificate(
  request: IssueRequest,
  session: AccountSession,
  services: OrderServices,
  context: IssuerContext,
): Promise<IssuedChain> {
  const { clock, signal } = context
  const { orderTimeoutMs: ms, observe, solvers, preflight } = services
  const what = `order for ${listNames(request)}`
  const journal = await openOrderJournal(services.issuerId, request.certificate, context)
  const presentations = createPresentations(
    journal,
    solvers,
    () => observe('challenge.presented'),
    (challenge, checking) => preflight.check(challenge, checking),
  )
  const deadlineAt = clock.now() + ms
  let placing: Promise<unknown> | undefined
  const unbroken = <T>(work: Promise<T>): Promise<T> => {
    placing = work
    return work
  }
  const onTimeout = (): Error => orderTimeout(what, ms, journal.record?.orderUrl, new Date(clock.now() + 10_000))
  try {
    return await withDeadline({ clock, signal, ms, onTimeout }, (inner) => {
      const running = { ...context, signal: inner }
      const parts = { request, session, services, journal, presentations, what, deadlineAt, unbroken }
      return orderFlow({ ...parts, context: running })
    })
  } catch (error) {
    if (!(error instanceof DeadEnd)) throw error
    await abandon(journal, context)
    throw error.error
  } finally {
    // The next attempt must find what this one has ordered.
    if (placing !== undefined) await withGrace(placing, context)
    await presentations.cleanUp(context)
  }
}

async function orderFlow(run: OrderRun): Promise<IssuedChain> {
  const { request, session, services, journal, presentations, what, deadlineAt, context } = run
  const { transport, guard, solvers, observe } = services
  const { clock, logger, signal } = context
  const publicKeyInfo = requestKey(request)
  const csrKeyHash = createHash('sha256').update(publicKeyInfo).digest('base64url')
  const calls = orderCalls({ transport, session, what, limitMs: services.orderTimeoutMs, deadlineAt, context })

  const directory = await transport.directory(context)
  const choice = request.profile === undefined ? services.profile : { require: request.profile }
  const profile = chooseProfile(choice, directory.profiles)

  const resumed = await resume()
  if (resumed !== undefined && isFinalized(resumed.order)) {
    const chain = await collect(resumed.url, resumed.order, undefined)
    if (isWanted(chain)) return chain
    logger.info('finished order is for another request, ordering anew', { orderUrl: resumed.url })
  }
  const { url, order } = resumed !== undefined && !isFinalized(resumed.order) ? resumed : await run.unbroken(place())
  signal.throwIfAborted()
  const { identifiers } = request
  const { thumbprint } = session
  const authorizing = { calls, presentations, guard, solvers, identifiers, thumbprint, what, observe, context }
  const ready = order.status === 'pending' ? await authorize(authorizing, url, order) : order
  await observe('order.ready')
  const finalized = await finalize(url, ready)
  return collect(url, finalized.order, finalized.reply)

  /** The journalled order, when it is still of use. */
  async function resume(): Promise<PlacedOrder | undefined> {
    const { record } = journal
    if (record === undefined || !isForUs(record)) return undefined
    const sameRequest = record.idempotencyKey === request.idempotencyKey
    // Somebody else's certificate, or on the way to it: no need to look.
    if (!sameRequest && record.phase === 'finalizing') return undefined
    let found: AcmeOrder
    try {
      found = (await calls.read(record.orderUrl)).order
    } catch (error) {
      if (isGone(error) && !isProblem(error, 'accountDoesNotExist')) return undefined
      throw error
    }
    if (found.status === 'invalid' || (!sameRequest && isFinalized(found))) return undefined
    logger.info('order is resumed', { orderUrl: record.orderUrl, status: found.status })
    if (!sameRequest) {
      const { idempotencyKey } = request
      await journal.update((known) => ({ ...known, idempotencyKey, csrKeyHash }), context)
    }
    return { url: record.orderUrl, order: found }
  }

  function isForUs(record: OrderRecord): boolean {
    return (
      record.phase !== 'abandoned' &&
      record.accountUrl === session.url &&
      record.profile === profile &&
      sameIdentifiers(record.identifiers, request.identifiers)
    )
  }

  /** A new order, journalled before anything else happens to it. */
  async function place(): Promise<PlacedOrder> {
    const created = await newOrder(request.replaces?.value)
    await observe('order.created')
    const begun = await journal.begin(
      {
        idempotencyKey: request.idempotencyKey,
        accountUrl: session.url,
        orderUrl: created.url,
        phase: 'created',
        identifiers: request.identifiers,
        profile,
        replaces: request.replaces?.value,
        csrKeyHash,
        createdAt: clock.now(),
        presented: journal.record?.presented ?? [],
      },
      // The order exists: an abort must not make us forget it.
      unaborted(context),
    )
    if (!begun) {
      const theirs = await resume()
      if (theirs !== undefined && !isFinalized(theirs.order)) return theirs
      throw new StoreError({
        code: 'ERR_STORE_CONFLICT',
        message: `another process is ordering certificate ${request.certificate} at this moment`,
        store: context.store.name,
      })
    }
    await observe('order.persisted')
    return created
  }

  async function newOrder(predecessor: string | undefined): Promise<PlacedOrder> {
    const replaces = directory.renewalInfo === undefined ? undefined : predecessor
    const create = (): Promise<PlacedOrder> =>
      calls.create(directory.newOrder, {
        identifiers: request.identifiers.map(({ type, value }) => ({ type, value })),
        ...(profile === undefined ? {} : { profile }),
        ...(replaces === undefined ? {} : { replaces }),
      })
    try {
      return await create().catch(async (error: unknown) => {
        if (!isLost(error)) throw error
        // Nobody can tell us whether there is an order now. A second one costs little, and some CAs return the first.
        await calls.pause()
        return create()
      })
    } catch (error) {
      if (replaces === undefined || !refusesReplaces(error)) throw error
      logger.info('the CA does not accept the predecessor, ordering without it', { error })
      return newOrder(undefined)
    }
  }

  async function finalize(orderUrl: string, readyOrder: AcmeOrder): Promise<OrderReply> {
    await journal.update((known) => ({ ...known, phase: 'finalizing', csrKeyHash }), context)
    await observe('finalize.journalled')
    const finish = (): Promise<OrderReply> => calls.finalize(orderUrl, readyOrder, request.csr)
    const done = await finish().catch(async (error: unknown) => {
      if (signal.aborted || !(isLost(error) || isTimeout(error) || isProblem(error, 'orderNotReady'))) throw error
      // It may have been done all the same, now or by an earlier run: only the order knows.
      const known = await calls.read(orderUrl)
      if (isFinalized(known.order) || known.order.status === 'invalid') return known
      if (known.order.status !== 'ready' || isTimeout(error)) throw error
      await calls.pause()
      return finish()
    })
    await observe('finalize.sent')
    return done
  }

  /** Waits for the certificate and downloads it. */
  async function collect(orderUrl: string, known: AcmeOrder, reply: AcmeReply | undefined): Promise<IssuedChain> {
    const firstWaitMs = calls.firstWait(reply === undefined ? [] : [reply])
    const settled = isDone(known) ? known : await calls.poll(orderUrl, firstWaitMs, isDone)
    if (settled.status === 'invalid') throw invalidOrder(what, orderUrl, settled, clock.now())
    const { certificate } = settled
    if (certificate === undefined) throw protocolError(what, 'the order is valid but has no certificate URL')
    const { preferredChain, trustedRoots } = services
    const download = { url: certificate, what: `certificate of ${what}`, orderUrl, preferredChain }
    const chainPem = await downloadChain(download, session, transport.read, context)
    await observe('certificate.downloaded')
    return { chainPem, trustedRoots, profile: settled.profile ?? profile }
  }

  /** Whether the certificate of an earlier run's order is what is asked for now. */
  function isWanted({ chainPem, trustedRoots }: IssuedChain): boolean {
    try {
      checkIssuedChain(chainPem, { publicKeyInfo, identifiers: request.identifiers, now: clock.now(), trustedRoots })
      return true
    } catch {
      return false
    }
  }
}

/** Waits for work to end, however it does, but not for ever. */
async function withGrace(work: Promise<unknown>, { clock }: IssuerContext): Promise<void> {
  const { signal } = new AbortController()
  const onTimeout = (): Error => new Error('the order was not placed in time')
  await withDeadline({ clock, signal, ms: placingGraceMs, onTimeout }, () => work).catch(() => undefined)
}

async function abandon(journal: OrderJournal, context: IssuerContext): Promise<void> {
  try {
    await journal.update((known) => ({ ...known, phase: 'abandoned' }), unaborted(context))
  } catch (error) {
    context.logger.warn('order journal could not be written', { error })
  }
}

function unaborted(context: IssuerContext): IssuerContext {
  return { ...context, signal: new AbortController().signal }
}

function requestKey({ csr, certificate }: IssueRequest): Buffer {
  try {
    return csrPublicKeyInfo(csr)
  } catch (cause) {
    throw new AcmeError({
      code: 'ERR_ACME_PROBLEM',
      message: `the request for certificate ${certificate} is no PKCS#10 request`,
      problem: { type: 'urn:ietf:params:acme:error:badCSR' },
      retryable: false,
      cause,
    })
  }
}

function listNames({ identifiers }: IssueRequest): string {
  const names = identifiers.slice(0, 3).map(({ value }) => value)
  const more = identifiers.length - names.length
  return `${names.join(', ')}${more === 0 ? '' : ` and ${String(more)} more`}`
}

function isFinalized({ status }: AcmeOrder): boolean {
  return status === 'processing' || status === 'valid'
}

/** A replica of the CA that lags behind may say `ready` after finalization. */
function isDone({ status }: AcmeOrder): boolean {
  return status === 'valid' || status === 'invalid'
}
