/**
 * Locks, kept in Lease objects. What counts is a value in an annotation, changed by compare-and-set like any other lease of
 * evercert; `spec` is what `kubectl get leases` shows people. A person who edits that means something by it: the revision
 * covers both, so that a holder whose Lease was edited lets go of it.
 *
 * @module
 */
import { createHash } from 'node:crypto'
import type { Revision, StoredValue } from '../cert-store.js'
import { decodeEntry, encodeEntry, newRevision } from '../entry-format.js'
import { leaseCodec, type Lease } from '../lease.js'
import type { KubernetesObject, ObjectContent } from './kubernetes-objects.js'
import type { ObjectNames } from './object-names.js'

const leaseAnnotation = 'evercert.dev/lease'

/** What Kubernetes can count. */
const largestInteger = 2_147_483_647

/** Of one version of the object, as far as it is about the lock. */
export function leaseRevision({ annotations, spec }: KubernetesObject): Revision {
  const seen = JSON.stringify([annotations[leaseAnnotation] ?? null, Object.entries(spec).sort()])
  return createHash('sha256').update(seen).digest('hex') as Revision
}

/** The value of a cell. What cannot be read is empty. */
export function leaseValue(lock: string, object: KubernetesObject): StoredValue {
  const entry = decodeEntry(Buffer.from(object.annotations[leaseAnnotation] ?? '', 'base64'), lock)
  return { value: 'damage' in entry ? new Uint8Array() : entry.value, revision: leaseRevision(object) }
}

/** Who writes what, and when, for an object that was read or is not there yet. */
export interface LeaseWrite {
  readonly lock: string
  readonly value: Uint8Array
  readonly names: ObjectNames
  /** For people. */
  readonly holder: string
  /** Milliseconds since the epoch. Nobody compares it with a clock: it is for people. */
  readonly now: number
}

/** The object for a value. */
export function leaseContent(write: LeaseWrite, current: KubernetesObject | undefined): ObjectContent {
  const { lock, value, names, holder, now } = write
  const { labels, annotations } = names.metadataOf(lock)
  const encoded = Buffer.from(encodeEntry(lock, newRevision(), value)).toString('base64')
  const lease = decoded(lock, value)
  const before = current && decoded(lock, leaseValue(lock, current).value)
  const taken = lease?.held === true && before?.token !== lease.token
  const transitions = Number(current?.spec['leaseTransitions'] ?? 0)
  const instant = `${new Date(now).toISOString().slice(0, -1)}000Z`
  return {
    metadata: { labels, annotations: { ...annotations, [leaseAnnotation]: encoded } },
    spec: {
      holderIdentity: lease?.held === true ? holder : null,
      leaseDurationSeconds: Math.min(largestInteger, Math.ceil((lease?.ttlMs ?? 1) / 1000)),
      renewTime: instant,
      ...(taken && { acquireTime: instant }),
      leaseTransitions: Math.min(largestInteger, transitions + (taken && current !== undefined ? 1 : 0)),
    },
  }
}

function decoded(lock: string, value: Uint8Array): Lease | undefined {
  try {
    return leaseCodec.decode(value, { store: 'kubernetes', key: lock })
  } catch {
    return undefined
  }
}
