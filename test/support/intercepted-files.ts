/**
 * The real file system, with a say before each operation: to make the n-th fail, to hold it up, or to end the process.
 * Nothing is synced to the disk.
 */
import type { FileHandle } from 'node:fs/promises'
import { systemFiles, type FileSystem } from '../../src/internal/file-system.js'

export interface FileOperation {
  /** From 1. */
  readonly index: number
  /** `rename`, `handle.sync`, ... */
  readonly name: string
  readonly path: string
}

/** Runs before each operation; what it throws is thrown instead of running it. */
export type BeforeFileOperation = (operation: FileOperation) => Promise<void> | void

export function interceptedFiles(before: BeforeFileOperation): FileSystem {
  let index = 0
  const announce = async (name: string, path: string): Promise<void> => {
    index += 1
    await before({ index, name, path })
  }

  const wrapHandle = (handle: FileHandle, path: string): FileHandle =>
    new Proxy(handle, {
      get(target, property) {
        const member: unknown = Reflect.get(target, property, target)
        if (typeof member !== 'function') return member
        const call = (...args: unknown[]): unknown => Reflect.apply(member, target, args)
        return async (...args: unknown[]) => {
          try {
            await announce(`handle.${String(property)}`, path)
          } catch (error) {
            // A failed write has written a part, and a failed close has closed.
            if (property === 'writeFile') await target.write((args[0] as Uint8Array).subarray(0, 50))
            if (property === 'close') await target.close()
            throw error
          }
          // The disk is real, its durability is not what is tested here, and waiting for it is slow.
          return property === 'sync' ? undefined : call(...args)
        }
      },
    })

  return new Proxy(systemFiles, {
    get(target, property) {
      const member: unknown = Reflect.get(target, property, target)
      if (typeof member !== 'function') return member
      return async (...args: unknown[]) => {
        const path = String(args[0])
        await announce(String(property), path)
        const result: unknown = await Reflect.apply(member, target, args)
        return property === 'open' ? wrapHandle(result as FileHandle, path) : result
      }
    },
  })
}

/** An error as the system makes it. */
export function systemError(code: string, { name, path }: FileOperation): NodeJS.ErrnoException {
  return Object.assign(new Error(`${code}: injected, ${name} '${path}'`), { code, errno: -1, syscall: name, path })
}
