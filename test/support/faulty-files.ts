/**
 * The file system, counted: any call can be made to fail, and every change is seen.
 */
import { systemFiles, type FileSystem } from '../../src/internal/file-system.js'

export interface FaultyFiles {
  readonly files: FileSystem
  /** Calls that change something, so far. */
  readonly changes: number
  /** All calls so far, those of open files included, as `rename /path`. */
  readonly calls: readonly string[]
  /** How often a planned fault has happened. */
  readonly faults: number
  /** The n-th call from now on fails (1 is the next one) instead of being carried out. */
  failCall(n: number, code?: string): void
  /** The n-th call from now on and all after it fail: what a process that is killed there leaves behind. */
  dieAt(n: number): void
  /** The next call whose text matches fails. */
  failNext(pattern: RegExp, code?: string): void
}

const changing = ['chmod', 'link', 'mkdir', 'rename', 'rm', 'symlink', 'unlink', 'writeFile', 'chown']
const handleMethods = new Set(['writeFile', 'chmod', 'chown', 'sync', 'readFile', 'stat'])

export function faultyFiles(): FaultyFiles {
  const calls: string[] = []
  let changes = 0
  let faults = 0
  let countdown = 0
  let dying = false
  let dead = false
  let pattern: RegExp | undefined
  let errorCode = 'EIO'

  const before = (method: string, path: string): void => {
    // Reading /proc says who we are; it is no part of the target.
    if (path.startsWith('/proc/')) return
    const call = `${method} ${path}`
    calls.push(call)
    const due = countdown > 0 && --countdown === 0
    if (due || dead || pattern?.test(call) === true) {
      pattern = undefined
      if (!dead) faults += 1
      dead = dying
      throw Object.assign(new Error(`${errorCode}: injected, ${call}`), { code: errorCode, syscall: method, path })
    }
    if (changing.includes(method)) changes += 1
  }

  const wrapHandle = <T extends object>(handle: T, path: string): T =>
    new Proxy(handle, {
      get(target, property) {
        const value: unknown = Reflect.get(target, property, target)
        if (typeof value !== 'function') return value
        const bound = value.bind(target) as (...args: unknown[]) => unknown
        if (typeof property !== 'string' || !handleMethods.has(property)) return bound
        return async (...args: unknown[]) => {
          before(property, path)
          return bound(...args)
        }
      },
    })

  const files = Object.fromEntries(
    Object.entries(systemFiles).map(([method, call]) => {
      const original = call as (...args: unknown[]) => Promise<unknown>
      return [
        method,
        async (...args: unknown[]) => {
          before(method, args.filter((arg) => typeof arg === 'string').join(' '))
          const result = await original(...args)
          // Who dies here started at another time than this process: its lock can be told from one that is held.
          if (args[0] === '/proc/self/stat' && dying) return String(result).replace(/(?<=\) (?:\S+ ){19})\S+/, '1')
          return method === 'open' ? wrapHandle(result as object, String(args[0])) : result
        },
      ]
    }),
  ) as unknown as FileSystem

  return {
    files,
    calls,
    get changes() {
      return changes
    },
    get faults() {
      return faults
    },
    failCall(n, code = 'EIO') {
      countdown = n
      errorCode = code
    },
    dieAt(n) {
      countdown = n
      dying = true
    },
    failNext(next, code = 'EIO') {
      pattern = next
      errorCode = code
    },
  }
}
