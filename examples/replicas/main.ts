/** Several workers on one machine. On several machines, run worker.ts in each of them instead. */
import { startWorkers } from './workers.js'

const workers = startWorkers(Number(process.env['WORKERS'] ?? '3'))
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => void workers.stop())
