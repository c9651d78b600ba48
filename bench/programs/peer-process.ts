/**
 * The process around a peer: does the jobs it is sent and measures them.
 */
import { X509Certificate } from 'node:crypto'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Challenges, Job, MakePeer, Measurement, Peer, PeerWorld } from '../peers/peer.js'
import { serveChallenges } from '../peers/responder.js'

export type PeerName = 'bare' | 'issuer' | 'preflight' | 'scheduler' | 'auto' | 'tuned-auto' | 'idle'

export type ToPeer =
  | { readonly kind: 'world'; readonly world: PeerWorld }
  | { readonly kind: 'job'; readonly job: Job }
  /** Nothing but the event-loop delay of a process that does nothing, until `watched`. */
  | { readonly kind: 'watch' }
  | { readonly kind: 'watched' }

export type FromPeer =
  | { readonly kind: 'ready' }
  | { readonly kind: 'done'; readonly measurement: Measurement }
  | { readonly kind: 'failed'; readonly reason: string }

// Only what a peer needs is loaded into its process.
const makers: Record<PeerName, () => Promise<MakePeer>> = {
  bare: async () => (await import('../peers/bare.js')).makeBarePeer,
  issuer: async () => (await import('../peers/evercert.js')).makeIssuerPeer,
  preflight: async () => (await import('../peers/evercert.js')).makePreflightPeer,
  scheduler: async () => (await import('../peers/evercert.js')).makeSchedulerPeer,
  auto: async () => (await import('../peers/acme-client.js')).makeAutoPeer,
  'tuned-auto': async () => (await import('../peers/acme-client.js')).makeTunedAutoPeer,
  idle: () =>
    Promise.resolve(() => Promise.resolve({ obtain: () => Promise.resolve([]), forget: () => Promise.resolve() })),
}

const challenges: Challenges = new Map()
let world: PeerWorld | undefined
let peer: Peer | undefined
let stopWatching: (() => void) | undefined

process.on('message', (message: ToPeer) => {
  answer(message).catch((error: unknown) => {
    reply({ kind: 'failed', reason: error instanceof Error ? (error.stack ?? error.message) : String(error) })
  })
})

// The benchmark was stopped.
process.once('disconnect', () => process.exit())

async function answer(message: ToPeer): Promise<void> {
  switch (message.kind) {
    case 'world':
      world = message.world
      peer = await (await makers[process.argv[2] as PeerName]())(world, challenges)
      reply({ kind: 'ready' })
      break
    case 'job':
      reply({ kind: 'done', measurement: await measureJob(message.job) })
      break
    case 'watch': {
      const { measurement } = await measured(() => new Promise<void>((resolve) => (stopWatching = resolve)))
      reply({ kind: 'done', measurement })
      break
    }
    case 'watched':
      stopWatching?.()
  }
}

function reply(message: FromPeer): void {
  process.send?.(message)
}

async function measureJob(job: Job): Promise<Measurement> {
  const client = peer
  if (client === undefined || world === undefined) throw new Error('no peer yet')
  const stopServing = await serveChallenges(world.httpPort, challenges)
  try {
    if (job.cold) await client.forget()
    const { result: chains, measurement } = await measured(() => client.obtain(job))
    for (const [index, chain] of chains.entries()) assertNames(chain, job.orders[index]?.names ?? [])
    return measurement
  } finally {
    await stopServing()
  }
}

async function measured<Result>(
  run: () => Promise<Result>,
): Promise<{ readonly result: Result; readonly measurement: Measurement }> {
  // The garbage of the job before is not this one's.
  globalThis.gc?.()
  await sleep(20)
  const delay = monitorEventLoopDelay({ resolution: 1 })
  delay.enable()
  // Recorded is the time between two ticks: without one before, a loop blocked from the start would go unseen.
  await sleep(5)
  const cpu = process.cpuUsage()
  const started = performance.now()
  const result = await run()
  const wallMs = performance.now() - started
  const { user, system } = process.cpuUsage(cpu)
  // What has blocked the loop at the very end is recorded by the tick after it.
  await sleep(2)
  delay.disable()
  return { result, measurement: { wallMs, cpuMs: (user + system) / 1000, eventLoopMaxMs: delay.max / 1e6 } }
}

/** A client that is fast because it does something else is no peer. */
function assertNames(chain: string, names: readonly string[]): void {
  const { subjectAltName = '' } = new X509Certificate(chain)
  const certified = subjectAltName.split(', ').map((name) => name.replace(/^DNS:/, ''))
  if (certified.length !== names.length || !names.every((name) => certified.includes(name))) {
    throw new Error(`the certificate is for ${subjectAltName}, not for ${names.join(', ')}`)
  }
}
