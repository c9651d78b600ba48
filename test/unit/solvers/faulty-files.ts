/**
 * The real file system, with one call that fails, or with nothing after it as when the process is killed.
 */
import type { FileHandle } from 'node:fs/promises'
import { systemFiles, type FileSystem } from '../../../src/internal/file-system.js'

export interface FaultyFiles {
  readonly files: FileSystem
  /** Calls so far, those on file handles included. */
  readonly calls: () => number
  /** What was called when the fault fired. */
  readonly fired: () => string | undefined
}

/** @param at - number of the call that fails, from 0 */
export function faultyFiles(fault: { at: number; code: string; thenDead?: boolean }): FaultyFiles {
  let calls = 0
  let fired: string | undefined
  const step = (name: string): void => {
    const index = calls++
    if (index !== fault.at && !(fault.thenDead === true && index > fault.at)) return
    fired ??= name
    throw Object.assign(new Error(`${fault.code}: injected, ${name}`), { code: fault.code })
  }
  const wrap = <T extends object>(target: T, prefix: string): T =>
    new Proxy(target, {
      get(_, property) {
        const member: unknown = Reflect.get(target, property, target)
        if (typeof member !== 'function') return member
        return async (...parameters: unknown[]) => {
          const name = `${prefix}${String(property)}`
          // A dead process closes its files; a live one that is refused close() still leaks none in these tests.
          if (name === 'handle.close') {
            await (target as FileHandle).close()
            step(name)
            return undefined
          }
          step(name)
          const result: unknown = await (member as (...all: unknown[]) => unknown).apply(target, parameters)
          return property === 'open' ? wrap(result as FileHandle, 'handle.') : result
        }
      },
    })
  return { files: wrap({ ...systemFiles }, ''), calls: () => calls, fired: () => fired }
}
