/**
 * Who holds a lock, in terms that let another process of the same machine prove its death.
 *
 * @module
 */
import { errorCode } from './atomic-file.js'
import type { FileSystem } from './file-system.js'

/**
 * `<boot id> <pid namespace> <pid> <start time>` of this process; `undefined` where the system does not say (anything but
 * Linux). A process id alone proves nothing: ids are reused, and every container has a process 1.
 */
export async function processIdentity(files: FileSystem): Promise<string | undefined> {
  try {
    const bootId = (await files.readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim()
    const namespace = await files.readlink('/proc/self/ns/pid')
    const { startTime } = parseStatus(await files.readFile('/proc/self/stat', 'utf8'))
    return [bootId, namespace, String(process.pid), startTime].join(' ')
  } catch {
    return undefined
  }
}

/** Whether the process is certainly gone. `false` means that nobody can tell: another machine, another container. */
export async function isProvenDead(holder: string, self: string | undefined, files: FileSystem): Promise<boolean> {
  if (self === undefined) return false
  const [bootId, namespace, pid = '', startTime] = holder.split(' ')
  const [ownBootId, ownNamespace] = self.split(' ')
  if (bootId !== ownBootId || namespace !== ownNamespace || !/^[1-9]\d{0,9}$/.test(pid)) return false
  try {
    process.kill(Number(pid), 0)
  } catch (error) {
    if (errorCode(error) === 'ESRCH') return true
  }
  try {
    const status = parseStatus(await files.readFile(`/proc/${pid}/stat`, 'utf8'))
    // Z: dead, and only not yet collected by its parent. X: being removed.
    return ['Z', 'X'].includes(status.state) || status.startTime !== startTime
  } catch {
    // Hidden (hidepid), or it ended just now: the next look will tell.
    return false
  }
}

/** Fields 3 and 22 of proc_pid_stat(5). The second one, the name, may hold spaces and brackets. */
function parseStatus(text: string): { readonly state: string; readonly startTime: string } {
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  return { state: fields[0] ?? '', startTime: fields[19] ?? '' }
}
