/**
 * A hundred certificates for one name each, ten at a time.
 */
import { inArena } from '../arena.js'
import { contestReport, judgeIssuer } from '../contest-report.js'
import { makeOrder, type Row } from '../row.js'

export const hundredCertificates: Row = ({ rounds }) =>
  inArena(async (arena) => {
    const indexes = Array.from({ length: 100 }, (_, index) => index)
    const orders = await Promise.all(indexes.map((index) => makeOrder(`site-${index}`, [`site-${index}.test`])))
    return [
      await contestReport({
        title: '100 certificates, 10 at a time',
        arena,
        rounds,
        fewerRounds: { 'tuned-auto': 3, scheduler: 3 },
        job: { orders, concurrency: 10, cold: false, key: 'ready' },
        contestants: ['bare', 'issuer', 'scheduler', 'tuned-auto', 'auto'],
        judge: judgeIssuer('100 certificates', { ratio: 1.25 }),
        notes: [
          'RenewalScheduler makes keys (P-256) and CSRs too, checks and stores the chains, and asks for the renewal window.',
          'lego and certbot get one certificate per process: 100 times their row above.',
        ],
      }),
    ]
  })
