/**
 * A client that takes part: in a Node process of its own, or a program that is run for each job.
 */
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { Job, Measurement, PeerWorld } from './peers/peer.js'
import type { FromPeer, PeerName, ToPeer } from './programs/peer-process.js'

export interface Contestant {
  readonly label: string
  run(job: Job): Promise<Measurement>
  stop(): Promise<void>
}

/** The event-loop delay that the machine alone causes, in a process that does nothing. */
export interface IdleProcess {
  /** The delay while `run` runs. */
  during<Result>(run: () => Promise<Result>): Promise<{ readonly result: Result; readonly eventLoopMaxMs: number }>
  stop(): Promise<void>
}

const root = new URL('..', import.meta.url)

/** A program of ours in a process of its own. `evercert` is what is in `dist` there, as for a user. */
export function forkProgram(name: string, args: readonly string[] = []): ChildProcess {
  return fork(fileURLToPath(new URL(`programs/${name}.ts`, import.meta.url)), args, {
    cwd: fileURLToPath(root),
    execArgv: ['--expose-gc', '--import', import.meta.resolve('tsx')],
    // Without the paths of tsconfig.check.json, which lead to the source.
    env: { ...process.env, TSX_TSCONFIG_PATH: fileURLToPath(new URL('tsconfig.json', root)) },
  })
}

export async function startPeer(label: string, peer: PeerName, world: PeerWorld): Promise<Contestant> {
  const { ask, stop } = await connect(peer, world)
  return {
    label,
    run: (job) => ask({ kind: 'job', job }),
    stop,
  }
}

export async function startIdleProcess(world: PeerWorld): Promise<IdleProcess> {
  const { ask, tell, stop } = await connect('idle', world)
  return {
    async during(run) {
      const watching = ask({ kind: 'watch' })
      const result = await run().finally(() => {
        tell({ kind: 'watched' })
      })
      const { eventLoopMaxMs = NaN } = await watching
      return { result, eventLoopMaxMs }
    },
    stop,
  }
}

interface Connection {
  readonly ask: (message: ToPeer) => Promise<Measurement>
  readonly tell: (message: ToPeer) => void
  readonly stop: () => Promise<void>
}

async function connect(peer: PeerName, world: PeerWorld): Promise<Connection> {
  const child = forkProgram('peer-process', [peer])
  const gone = once(child, 'exit')
  const answer = async (): Promise<FromPeer> => {
    const waiting = new AbortController()
    const died = gone.then(([code, signal]): FromPeer => {
      return { kind: 'failed', reason: `the process of ${peer} ended with ${String(code ?? signal)}` }
    })
    const told = once(child, 'message', { signal: waiting.signal }).then(([message]) => message as FromPeer)
    told.catch(() => undefined)
    try {
      return await Promise.race([told, died])
    } finally {
      waiting.abort()
    }
  }
  const tell = (message: ToPeer): void => {
    child.send(message)
  }
  tell({ kind: 'world', world })
  const ready = await answer()
  if (ready.kind === 'failed') throw new Error(ready.reason)
  return {
    async ask(message) {
      tell(message)
      const reply = await answer()
      if (reply.kind === 'done') return reply.measurement
      throw new Error(reply.kind === 'failed' ? reply.reason : `unexpected ${reply.kind}`)
    },
    tell,
    async stop() {
      child.kill()
      await gone
    },
  }
}
