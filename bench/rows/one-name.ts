/**
 * One certificate for one name: by a client that has just been started and knows its account, and by one at work.
 */
import { inArena } from '../arena.js'
import { contestReport, judgeIssuer } from '../contest-report.js'
import { makeOrder, type Row } from '../row.js'

export const oneName: Row = ({ rounds }) =>
  inArena(async (arena) => {
    const job = { orders: [await makeOrder('one', ['www.one.test'])], concurrency: 1, key: 'ready' } as const
    const common = { arena, rounds: 2 * rounds }
    return [
      await contestReport({
        ...common,
        title: 'One name, cold: new connections, directory and nonce; the account is known',
        job: { ...job, cold: true },
        contestants: ['bare', 'issuer', 'tuned-auto'],
        judge: judgeIssuer('one name, cold', { requests: 9 }),
        notes: ['Key and CSR are ready beforehand, for everybody, in all rows but the event-loop ones.'],
      }),
      await contestReport({
        ...common,
        title: 'One name, warm',
        job: { ...job, cold: false },
        contestants: ['bare', 'issuer', 'preflight', 'tuned-auto', 'auto', 'lego', 'certbot'],
        judge: judgeIssuer('one name, warm', { requests: 7, newNonces: 0, ratio: 1.15 }),
        notes: ['lego and certbot: one process from start to end, with a key of its own.'],
      }),
    ]
  })
