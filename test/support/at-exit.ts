/**
 * Clean-up that happens however the process ends, SIGKILL excepted.
 */

const tasks = new Set<() => void>()

process.on('exit', () => {
  for (const task of tasks) task()
})

// vitest ends its workers with SIGTERM, and a terminal sends SIGINT: without a listener there is no 'exit' event.
process.once('SIGTERM', () => process.exit(143))
process.once('SIGINT', () => process.exit(130))

/** `task` must be synchronous and must not throw. */
export function atExit(task: () => void): void {
  tasks.add(task)
}
