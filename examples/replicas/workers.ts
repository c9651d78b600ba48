/** Workers that share the ports of this machine (`node:cluster`). One that dies is replaced, under the same name. */
import cluster, { type Worker } from 'node:cluster'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'

export interface Workers {
  /** Ends one at once. @returns when it is gone */
  kill(name: string): Promise<void>
  /** Has one of them renew the certificate, for all. */
  renewAt(name: string): void
  stop(): Promise<void>
}

const restartDelayMs = 1_000

export function startWorkers(count: number, settings: Readonly<Record<string, string>> = {}): Workers {
  cluster.setupPrimary({ exec: fileURLToPath(new URL('worker.ts', import.meta.url)) })
  const running = new Map<string, Worker>()
  let stopping = false

  function start(name: string): void {
    if (stopping) return
    const worker = cluster.fork({ ...settings, WORKER: name })
    running.set(name, worker)
    worker.once('exit', (code, signal) => {
      running.delete(name)
      if (stopping) return
      console.log(name, 'has ended:', signal ?? code)
      setTimeout(start, restartDelayMs, name)
    })
  }
  for (let index = 1; index <= count; index += 1) start(`worker-${String(index)}`)

  return {
    kill: (name) => end(running.get(name), 'SIGKILL'),
    renewAt(name) {
      running.get(name)?.process.kill('SIGUSR2')
    },
    async stop() {
      stopping = true
      await Promise.all([...running.values()].map((worker) => end(worker, 'SIGTERM')))
    },
  }
}

async function end(worker: Worker | undefined, signal: NodeJS.Signals): Promise<void> {
  if (worker === undefined) return
  const ended = once(worker, 'exit')
  worker.process.kill(signal)
  await ended
}
