/**
 * Removes the ledgers of nodes that are gone: names of Pods change with every roll-out, and each would leave one behind.
 *
 * @module
 */
import type { OperationContext } from '../core/context.js'
import { CertError, StoreError } from '../errors.js'
import { withDeadline } from '../internal/deadline.js'
import type { StoreKey } from '../stores/cert-store.js'
import { clusterHolder, ledgerKey } from './deploy-certificate.js'
import { operationContext, type Environment } from './environment.js'
import type { CertificateSpec } from './managed-certificate.js'
import { deploymentRecord, type CertificateRecord, type DeploymentRecord, type RenewalRecord } from './records.js'
import { peekRecord } from './stored-records.js'

const dayMs = 86_400_000
/** Every scheduler looks at each certificate once a day at least; a pass that fails may make it late. */
const noticedWithinMs = 2 * dayMs
/** For clocks that differ, and for machines that were off for a while: what is removed too late does no harm. */
const graceMs = 30 * dayMs
/** Read one after the other. What is left has its turn in the next pass. */
const mostPerPass = 1_000
/** The pass holds a place that another certificate may wait for. */
const limitMs = 30_000

/** A look through the ledgers of one certificate that is not at its end. Lives in memory: what a restart loses is found again. */
export interface LedgerPruning {
  /** A node whose last sign of life is older is gone. Epoch milliseconds. */
  readonly aliveSince: number
  /** Ledgers to look at yet; `undefined` before they were listed. */
  readonly left: readonly StoreKey[] | undefined
}

/**
 * What a newly stored certificate gives reason to: `undefined` when no earlier one is known that every node must have noticed.
 * Pure.
 *
 * A node that lives brings each certificate to its targets or fails to, and its ledger says when. So it has given a sign since
 * the last issuance that it has had time to notice, however long certificates live and however late they were renewed.
 */
export function ledgerPruning(
  { notBefore, notAfter }: Pick<CertificateRecord, 'notBefore' | 'notAfter'>,
  { recentIssuances }: Pick<RenewalRecord, 'recentIssuances'>,
  now: number,
): LedgerPruning | undefined {
  // Within its life, where that is shorter: who lives does not let a certificate end unseen.
  const noticedBy = now - Math.min(noticedWithinMs, notAfter - notBefore)
  const noticed = recentIssuances.filter((at) => at <= noticedBy)
  return noticed.length === 0 ? undefined : { aliveSince: Math.max(...noticed) - graceMs, left: undefined }
}

/** The newest instant that a ledger tells of, epoch milliseconds; `-Infinity` for an empty one. Pure. */
export function lastSignOfLife({ targets, endpoints }: DeploymentRecord): number {
  const signs = [...targets.values(), ...endpoints.values()].map(({ at, failure }) => Math.max(at, failure?.at ?? at))
  return Math.max(...signs)
}

/**
 * Looks at ledgers of other nodes and deletes those of nodes that are gone. A node that comes back all the same finds no
 * ledger, as a new one does, and deploys. What cannot be read is left alone, and so is the ledger of the cluster.
 *
 * @returns what is left for the next pass. Never throws for a failure of the store, which is logged.
 * @throws The abort reason.
 */
export async function pruneLedgers(
  spec: Pick<CertificateSpec, 'name'>,
  { aliveSince, left: leftBefore }: LedgerPruning,
  environment: Environment,
  signal: AbortSignal,
): Promise<LedgerPruning | undefined> {
  const context = operationContext(environment, signal, { certificate: spec.name })
  const { store } = environment
  const onTimeout = (): StoreError =>
    new StoreError({
      code: 'ERR_STORE_UNAVAILABLE',
      message: `store ${store.name}: looking through the ledgers of ${spec.name} took more than ${String(limitMs)} ms`,
      store: store.name,
    })
  let left = leftBefore === undefined ? undefined : [...leftBefore]
  let removed = 0
  try {
    await withDeadline({ ...context, ms: limitMs, onTimeout }, async (inner) => {
      const current = { ...context, signal: inner }
      left ??= await ledgersOfOthers(spec, environment, current)
      for (let looked = 0; looked < mostPerPass; looked += 1) {
        inner.throwIfAborted()
        const key = left.pop()
        if (key === undefined) return
        if (await removeIfGone(key, aliveSince, spec, environment, current)) removed += 1
        // A store in memory never waits: the host must have its turn in between.
        await new Promise((resolve) => setImmediate(resolve))
      }
    })
  } catch (error) {
    signal.throwIfAborted()
    context.logger.warn('cannot look through the ledgers of other nodes', { left: left?.length, error })
  }
  if (removed > 0) context.logger.info('ledgers of nodes that are gone removed', { removed })
  return left === undefined || left.length === 0 ? undefined : { aliveSince, left }
}

async function ledgersOfOthers(
  { name }: Pick<CertificateSpec, 'name'>,
  { store, node }: Environment,
  context: OperationContext,
): Promise<StoreKey[]> {
  const kept = new Set([ledgerKey(name, node), ledgerKey(name, clusterHolder)])
  const keys: StoreKey[] = []
  // With the slash at its end, so that no longer name begins with it.
  for await (const key of store.list(ledgerKey(name, ''), context)) if (!kept.has(key)) keys.push(key)
  return keys
}

async function removeIfGone(
  key: StoreKey,
  aliveSince: number,
  { name }: Pick<CertificateSpec, 'name'>,
  environment: Environment,
  context: OperationContext,
): Promise<boolean> {
  try {
    const ledger = await peekRecord(deploymentRecord, key, name, environment, context)
    if (ledger === undefined || ledger === 'corrupt' || lastSignOfLife(ledger.value) >= aliveSince) return false
    await environment.store.delete(key, context, { ifRevision: ledger.revision })
    return true
  } catch (error) {
    // Its node has written meanwhile, or is a newer evercert.
    const lives =
      CertError.isInstance(error) && (error.code === 'ERR_STORE_CONFLICT' || error.code === 'ERR_STORE_SCHEMA')
    if (lives) return false
    throw error
  }
}
