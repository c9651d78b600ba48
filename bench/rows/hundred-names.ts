/**
 * One certificate for a hundred names.
 */
import { inArena } from '../arena.js'
import { contestReport, judgeIssuer } from '../contest-report.js'
import { makeOrder, type Row } from '../row.js'

export const hundredNames: Row = ({ rounds }) =>
  inArena(async (arena) => {
    const names = Array.from({ length: 100 }, (_, index) => `host-${index}.hundred.test`)
    return [
      await contestReport({
        title: 'One certificate with 100 names',
        arena,
        rounds,
        fewerRounds: { 'tuned-auto': 3 },
        job: { orders: [await makeOrder('hundred-names', names)], concurrency: 1, cold: false, key: 'ready' },
        contestants: ['bare', 'issuer', 'preflight', 'tuned-auto', 'auto', 'certbot'],
        judge: judgeIssuer('100 names', { requests: 225, ratio: 1.15 }),
        notes: [
          'auto() asks for all names at once, the bare sequence and evercert for at most 10.',
          'lego was not finished after 60 s when this was written, and is left out.',
          'Told to reuse no authorization, Pebble still reuses one in a hundred: a few requests less for everybody.',
        ],
      }),
    ]
  })
