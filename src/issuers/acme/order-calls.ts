/**
 * The requests that one order takes, and the waiting in between. RFC 8555 sections 7.4 and 7.5.
 *
 * @module
 */
import type { IssuerContext } from '../issuer.js'
import type { AccountSession } from './account.js'
import type { AcmeReply, AcmeTransport } from './acme-transport.js'
import { orderTimeout } from './order-errors.js'
import type { AcmeAuthorization, AcmeOrder } from './resources.js'

/** An order and where it is. */
export interface PlacedOrder {
  readonly url: string
  readonly order: AcmeOrder
}

/** An order as a reply has it. */
export interface OrderReply {
  readonly order: AcmeOrder
  readonly reply: AcmeReply
}

/** Options of {@link orderCalls}. */
export interface OrderCallsOptions {
  readonly transport: AcmeTransport
  readonly session: AccountSession
  /** `order for www.example.com`, for messages. */
  readonly what: string
  /** For the whole order. */
  readonly limitMs: number
  /** Epoch milliseconds. */
  readonly deadlineAt: number
  readonly context: IssuerContext
}

/** Requests about one order. */
export interface OrderCalls {
  /** Resolves also after an abort, once the request is on its way: nobody else can say where the order is. */
  create(newOrderUrl: string, payload: Readonly<Record<string, unknown>>): Promise<PlacedOrder>
  read(url: string, signal?: AbortSignal): Promise<OrderReply>
  /**
   * Looks at an order until it is `done`. Waits as the CA asks, else a little longer each time.
   *
   * @param whenSlow - called every half a minute
   */
  poll(
    url: string,
    firstWaitMs: number,
    done: (order: AcmeOrder) => boolean,
    whenSlow?: () => Promise<void>,
  ): Promise<AcmeOrder>
  readAuthorization(orderUrl: string, url: string): Promise<AcmeAuthorization>
  /** Tells the CA to look at a challenge. */
  answer(orderUrl: string, url: string, what: string): Promise<AcmeReply>
  finalize(url: string, order: AcmeOrder, csr: Uint8Array): Promise<OrderReply>
  /** How long the CA will probably take after these replies: such that one look is usually enough. */
  firstWait(replies: readonly AcmeReply[]): number
  /** Before something is sent a second time. */
  pause(): Promise<void>
}

const slowPollMs = 10_000
const longestPollMs = 60_000
/** An order that takes longer deserves a closer look. */
const suspicionMs = 30_000

/** Makes {@link OrderCalls}. */
export function orderCalls(options: OrderCallsOptions): OrderCalls {
  const { transport, session, what, limitMs, deadlineAt, context } = options
  const { clock, signal } = context
  const account = session.url
  const { read } = transport

  const calls: OrderCalls = {
    async create(url, payload) {
      const request = { url, what: `new ${what}`, payload, account, repeatable: false, uninterrupted: true }
      const { headers, data } = await session.signer.send(request, context)
      return { url: read.url(headers['location'], `new ${what}`), order: read.order(data, `new ${what}`) }
    },
    async read(url, inner = signal) {
      const request = { url, what, orderUrl: url, payload: null, account, repeatable: true }
      const reply = await session.signer.send(request, { ...context, signal: inner })
      return { order: read.order(reply.data, what), reply }
    },
    async poll(url, firstWaitMs, done, whenSlow) {
      let waitMs = firstWaitMs
      let backoffMs = firstWaitMs
      let suspiciousAt = clock.now() + suspicionMs
      for (;;) {
        const resumeAt = clock.now() + waitMs
        if (resumeAt > deadlineAt) throw orderTimeout(what, limitMs, url, new Date(resumeAt))
        await clock.sleep(waitMs, { signal })
        const { order, reply } = await calls.read(url)
        if (done(order)) return order
        if (clock.now() >= suspiciousAt) {
          await whenSlow?.()
          suspiciousAt = clock.now() + suspicionMs
        }
        backoffMs = Math.min(backoffMs * 1.6, slowPollMs)
        waitMs = askedWait(reply) ?? backoffMs
      }
    },
    async readAuthorization(orderUrl, url) {
      const doing = `authorization of ${what}`
      const request = { url, what: doing, orderUrl, payload: null, account, repeatable: true }
      return read.authorization((await session.signer.send(request, context)).data, doing)
    },
    answer(orderUrl, url, doing) {
      return session.signer.send({ url, what: doing, orderUrl, payload: {}, account, repeatable: false }, context)
    },
    async finalize(url, order, csr) {
      const doing = `finalization of ${what}`
      const payload = { csr: Buffer.from(csr).toString('base64url') }
      const request = { url: order.finalize, what: doing, orderUrl: url, payload, account, repeatable: false }
      const reply = await session.signer.send(request, context)
      return { order: read.order(reply.data, doing), reply }
    },
    firstWait(replies) {
      const asked = replies.map(askedWait).filter((waitMs) => waitMs !== undefined)
      const slowest = Math.max(0, ...replies.map(({ roundTripMs }) => roundTripMs))
      return Math.max(...asked, Math.min(Math.max(2 * slowest, 5), 2000))
    },
    pause: () => clock.sleep(1000 * (1 + context.random()), { signal }),
  }
  return calls

  /** What a `Retry-After` means in milliseconds, if there is one that means anything. */
  function askedWait({ retryAt }: AcmeReply): number | undefined {
    const waitMs = retryAt === undefined ? 0 : retryAt.getTime() - clock.now()
    return waitMs <= 0 ? undefined : Math.min(Math.max(waitMs, 1000), longestPollMs)
  }
}
