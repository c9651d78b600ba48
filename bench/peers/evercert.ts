/**
 * evercert as it is published (`dist`): the ACME issuer alone, or under its scheduler.
 */
import { randomUUID } from 'node:crypto'
import {
  parseIdentifier,
  RenewalScheduler,
  systemClock,
  type ChallengeSolver,
  type IssuerContext,
  type Logger,
} from 'evercert'
import { acmeIssuer, type AcmeIssuer, type AcmeIssuerOptions } from 'evercert/issuers/acme'
import { memoryStore } from 'evercert/stores/memory'
import { atMost, type Challenges, type MakePeer, type PeerWorld } from './peer.js'

const silent: Logger = { debug() {}, info() {}, warn() {}, error() {} }

/** Preflight off. */
export const makeIssuerPeer: MakePeer = (world, challenges) => issuerPeer(world, challenges, false)

/** Preflight on, as it is by default. The name look-up is not measured: the names exist nowhere. */
export const makePreflightPeer: MakePeer = (world, challenges) =>
  issuerPeer(world, challenges, { httpPort: world.httpPort, resolve: () => Promise.resolve(['127.0.0.1']) })

/** Keys, CSRs, checks and records included. Preflight off. */
export const makeSchedulerPeer: MakePeer = async (world, challenges) => {
  const store = memoryStore()
  const open = (): AcmeIssuer => openIssuer(world, challenges, false)
  let issuer = open()
  await issuer.account(contextOf(store))
  return {
    async obtain({ orders, concurrency, key }) {
      const certificates = orders.map(({ names }) => ({
        name: randomUUID(),
        identifiers: names,
        issuers: [issuer] as const,
        key: key === 'ready' ? 'ecdsa-p256' : key,
      }))
      const scheduler = new RenewalScheduler({ store, certificates, concurrency })
      const { outcomes } = await scheduler.reconcile()
      const failed = outcomes.find(({ status }) => status !== 'renewed')
      if (failed !== undefined) throw failed.error
      // It has checked the chains itself.
      return []
    },
    async forget() {
      await issuer.close()
      issuer = open()
    },
  }
}

async function issuerPeer(
  world: PeerWorld,
  challenges: Challenges,
  preflight: AcmeIssuerOptions['preflight'],
): ReturnType<MakePeer> {
  const context = contextOf(memoryStore())
  const open = (): AcmeIssuer => openIssuer(world, challenges, preflight)
  let issuer = open()
  await issuer.account(context)
  return {
    obtain: ({ orders, concurrency }) =>
      atMost(concurrency, orders, async ({ name, names, csr }) => {
        const identifiers = names.map(parseIdentifier)
        const request = {
          certificate: name,
          idempotencyKey: randomUUID(),
          identifiers,
          csr: Buffer.from(csr, 'base64'),
        }
        return (await issuer.issue(request, context)).chainPem
      }),
    async forget() {
      await issuer.close()
      issuer = open()
    },
  }
}

function openIssuer(world: PeerWorld, challenges: Challenges, preflight: AcmeIssuerOptions['preflight']): AcmeIssuer {
  const solver: ChallengeSolver<'http-01'> = {
    name: 'http-01/bench',
    type: 'http-01',
    async present({ token, keyAuthorization }) {
      challenges.set(token, keyAuthorization)
    },
    async cleanUp({ token }) {
      challenges.delete(token)
    },
  }
  return acmeIssuer({
    directory: world.directoryUrl,
    ca: world.caPem,
    termsOfServiceAgreed: true,
    solvers: [solver],
    preflight,
  })
}

function contextOf(store: IssuerContext['store']): IssuerContext {
  return { signal: new AbortController().signal, clock: systemClock, logger: silent, store, random: Math.random }
}
