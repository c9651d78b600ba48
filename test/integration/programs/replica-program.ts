/**
 * One replica of a service: obtains a certificate on a store that it shares with others, and brings it to its targets. Kills or
 * stops itself at the step it is told to; a step is anything the outside could notice. Argument: JSON of
 * {@link ReplicaInstructions}. Says what happens in lines of JSON.
 */
import { createInterface } from 'node:readline'
import {
  openStore,
  replicaScheduler,
  untilSettled,
  type ReplicaOptions,
  type ReplicaStore,
} from './replica-scheduler.js'

export interface ReplicaInstructions extends ReplicaStore, ReplicaOptions {
  /**
   * `start`: runs as a service does, from the first line on standard input to the second. `passes`: one pass after the
   * other until nothing is left to do; then a forced renewal if `renewAgain`.
   */
  readonly mode: 'start' | 'passes'
  readonly renewAgain?: boolean | undefined
  /** 0: never. */
  readonly endAtStep: number
  readonly signal: 'SIGKILL' | 'SIGSTOP'
}

const instructions = JSON.parse(process.argv[2] ?? '{}') as ReplicaInstructions
const say = (what: object): void => void process.stdout.write(`${JSON.stringify(what)}\n`)

let steps = 0
function step(): void {
  steps += 1
  if (steps === instructions.endAtStep) process.kill(process.pid, instructions.signal)
}

const { store, close } = await openStore(instructions)
const scheduler = replicaScheduler(store, instructions, { beforeWrite: step, atStep: step })
scheduler.on('issuance-failed', ({ error }) => say({ failed: String(error) }))
scheduler.on('deployment-failed', ({ error }) => say({ failed: String(error) }))
scheduler.on('pass-failed', ({ error }) => say({ failed: String(error) }))

if (instructions.mode === 'passes') {
  const onFailure = (error: unknown): void => say({ failed: String(error) })
  say({ ...(await untilSettled(scheduler, { onFailure })), steps })
  // A service goes on with its next pass.
  await untilSettled(scheduler, { onFailure })
  if (instructions.renewAgain === true) say({ ...(await untilSettled(scheduler, { onFailure, force: true })), steps })
} else {
  scheduler.on('certificate-deployed', ({ deployer: target, fingerprintSha256 }) => say({ target, fingerprintSha256 }))
  const lines = createInterface(process.stdin)[Symbol.asyncIterator]()
  say({ ready: true })
  await lines.next()
  scheduler.start()
  await lines.next()
  await scheduler.stop()
}
await store.close?.()
await close()
