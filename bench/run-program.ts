/**
 * A program that measures something in a fresh process and sends one message: its result.
 */
import { once } from 'node:events'
import { forkProgram } from './contestant.js'

export async function runProgram<Measurement>(name: string, ...args: readonly string[]): Promise<Measurement> {
  const child = forkProgram(name, args)
  const gone = once(child, 'exit')
  let measurement: Measurement | undefined
  child.once('message', (message) => (measurement = message as Measurement))
  const [code, signal] = (await gone) as [number | null, string | null]
  if (measurement === undefined) throw new Error(`${name} ended with ${String(code ?? signal)}`)
  return measurement
}
