import { expect, it } from 'vitest'
import { coalesce } from '../../../src/internal/coalesce.js'

interface Call {
  resolve(value: number): void
  reject(error: Error): void
}

function scripted(): { readonly ask: (signal?: AbortSignal) => Promise<number>; readonly calls: Call[] } {
  const calls: Call[] = []
  const ask = coalesce(
    () =>
      new Promise<number>((resolve, reject) => {
        calls.push({ resolve, reject })
      }),
  )
  return { ask, calls }
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

it('calls at once for the first, and once more for all who ask meanwhile', async () => {
  const { ask, calls } = scripted()
  const first = ask()
  const later = [ask(), ask(), ask()]
  await turn()
  expect(calls).toHaveLength(1)
  calls[0]!.resolve(1)
  expect(await first).toBe(1)
  await turn()
  expect(calls).toHaveLength(2)
  calls[1]!.resolve(2)
  expect(await Promise.all(later)).toEqual([2, 2, 2])
})

it('gives nobody the outcome of a call that began before they asked', async () => {
  const { ask, calls } = scripted()
  void ask()
  const second = ask()
  calls[0]!.resolve(1)
  await turn()
  const third = ask()
  calls[1]!.resolve(2)
  expect(await second).toBe(2)
  await turn()
  calls[2]!.resolve(3)
  expect(await third).toBe(3)
})

it('goes on after a call that failed', async () => {
  const { ask, calls } = scripted()
  const first = ask()
  const second = ask()
  calls[0]!.reject(new Error('lost'))
  await expect(first).rejects.toThrow('lost')
  await turn()
  calls[1]!.resolve(2)
  expect(await second).toBe(2)
  const third = ask()
  calls[2]!.resolve(3)
  expect(await third).toBe(3)
})

it('lets one go whose signal aborts, and nobody else', async () => {
  const { ask, calls } = scripted()
  const gone = new AbortController()
  const reason = new Error('gone')
  const leaving = ask(gone.signal)
  const staying = ask()
  gone.abort(reason)
  await expect(leaving).rejects.toBe(reason)
  await expect(ask(gone.signal)).rejects.toBe(reason)
  calls[0]!.resolve(1)
  await turn()
  calls[1]!.resolve(2)
  expect(await staying).toBe(2)
})
