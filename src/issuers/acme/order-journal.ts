/**
 * What must survive a crash in the middle of an order: which order it is, how far it went, what was put up for validation.
 *
 * The record stays after success too: whoever issues again with the same idempotency key gets the same certificate.
 *
 * @module
 */
import type { Identifier } from '../../core/identifier.js'
import { parseIdentifier } from '../../core/identifier.js'
import { recordCodec, type RecordCodec, type RecordFields } from '../../core/record.js'
import { StoreError } from '../../errors.js'
import type { ChallengeType } from '../../solvers/challenge-solver.js'
import { storeKey, type StoreKey } from '../../stores/cert-store.js'
import type { IssuerContext } from '../issuer.js'
import type { ChallengeSeed } from './challenge.js'
import { isConflict, readSound, writeRecord } from '../stored-record.js'

/** A challenge that may be visible to the CA, and who made it so. */
export interface PresentedChallenge extends ChallengeSeed {
  /** Name of the solver. */
  readonly solver: string
}

/** The last order of one certificate. */
export interface OrderRecord {
  readonly idempotencyKey: string
  readonly accountUrl: string
  readonly orderUrl: string
  /** `abandoned`: it has failed, or is not what was asked for. */
  readonly phase: 'created' | 'finalizing' | 'abandoned'
  readonly identifiers: readonly Identifier[]
  /** As asked for. */
  readonly profile: string | undefined
  readonly replaces: string | undefined
  /** SHA-256 of the request's public key, base64url. */
  readonly csrKeyHash: string
  readonly createdAt: number
  /** To be cleaned up; also what earlier orders have left. */
  readonly presented: readonly PresentedChallenge[]
}

/** The journal of one certificate's orders. */
export interface OrderJournal {
  readonly record: OrderRecord | undefined
  /** Begins a new order. `false` when another process has begun one meanwhile; then {@link record} is that one. */
  begin(record: OrderRecord, context: IssuerContext): Promise<boolean>
  /**
   * Changes the record of the present order.
   *
   * @throws {@link StoreError} `ERR_STORE_CONFLICT` when another process has begun a different order meanwhile
   */
  update(change: (record: OrderRecord) => OrderRecord, context: IssuerContext): Promise<void>
}

const challengeTypes: readonly ChallengeType[] = ['http-01', 'dns-01', 'tls-alpn-01']
const phases: readonly OrderRecord['phase'][] = ['created', 'finalizing', 'abandoned']

const codec: RecordCodec<OrderRecord> = recordCodec('acme-order', (fields) => ({
  idempotencyKey: fields.text('idempotencyKey'),
  accountUrl: fields.text('accountUrl'),
  orderUrl: fields.text('orderUrl'),
  phase: oneOf(phases, fields, 'phase'),
  identifiers: fields.objects('identifiers', readIdentifier),
  profile: fields.optional('profile', (name) => fields.text(name)),
  replaces: fields.optional('replaces', (name) => fields.text(name)),
  csrKeyHash: fields.text('csrKeyHash'),
  createdAt: fields.number('createdAt'),
  presented: fields.objects('presented', (entry) => ({
    type: oneOf(challengeTypes, entry, 'type'),
    identifier: entry.object('identifier', readIdentifier),
    wildcard: entry.boolean('wildcard'),
    token: entry.text('token'),
    thumbprint: entry.text('thumbprint'),
    solver: entry.text('solver'),
  })),
}))

/** Reads the journal of a certificate. A damaged one is put aside. */
export async function openOrderJournal(
  issuerId: string,
  certificate: string,
  context: IssuerContext,
): Promise<OrderJournal> {
  const key: StoreKey = storeKey('orders', issuerId, certificate)
  let stored = await readSound(key, codec, context)

  return {
    get record() {
      return stored.value
    },
    async begin(record, writing) {
      return (await tryWrite(record, writing)) || (await sameOrder(record.orderUrl, writing))
    },
    async update(change, writing) {
      for (;;) {
        const record = stored.value
        if (record !== undefined && (await tryWrite(change(record), writing))) return
        if (record !== undefined && (await sameOrder(record.orderUrl, writing))) continue
        throw new StoreError({
          code: 'ERR_STORE_CONFLICT',
          message: `another process has begun a different order for certificate ${certificate}; this one is given up`,
          store: writing.store.name,
          key,
        })
      }
    },
  }

  async function tryWrite(record: OrderRecord, writing: IssuerContext): Promise<boolean> {
    try {
      stored = await writeRecord(key, codec, record, stored.revision, writing)
      return true
    } catch (error) {
      if (!isConflict(error)) throw error
      return false
    }
  }

  async function sameOrder(orderUrl: string, reading: IssuerContext): Promise<boolean> {
    stored = await readSound(key, codec, reading)
    return stored.value?.orderUrl === orderUrl
  }
}

function readIdentifier(fields: RecordFields): Identifier {
  return parseIdentifier(fields.text('value'))
}

function oneOf<Value extends string>(values: readonly Value[], fields: RecordFields, name: string): Value {
  const text = fields.text(name)
  const value = values.find((known) => known === text)
  if (value === undefined) throw new TypeError(`"${name}" is none of ${values.join(', ')}`)
  return value
}
