/**
 * What Marathon's event stream says about the end of deployments: hints, which only make the next look come sooner. The
 * only importer of eventsource-parser.
 *
 * @module
 */
import { createParser } from 'eventsource-parser'
import type { OperationContext } from '../../core/context.js'
import { anySignal } from '../../internal/any-signal.js'
import { deploymentId, isRecord } from './marathon-app.js'
import type { MarathonTransport } from './marathon-transport.js'

/** How a deployment ended, as an event tells. `failed` is said of cancelled and overridden ones, and of refused updates. */
export type DeploymentEvent = 'success' | 'failed'

/** A subscription. */
export interface DeploymentEvents {
  outcomeOf(id: string | undefined): DeploymentEvent | undefined
  /**
   * Waits for `ms`, or until one of these deployments has ended that no call has told of yet. Those of others do not count: a
   * busy cluster would have us look again and again without a pause.
   */
  wait(ms: number, ids: readonly string[]): Promise<void>
}

const kinds: Readonly<Record<string, DeploymentEvent>> = {
  deployment_success: 'success',
  deployment_failed: 'failed',
}
/** An event repeats the plan, which holds whole apps where `plan-format` is not known. */
const maxEventLength = 4_194_304
const mostRemembered = 1_000
/** The stream is a help, not a condition. */
const openTimeoutMs = 5_000

/** Subscribes until `signal` aborts. Resolves once the stream is there or will not be; rejects only by an abort. */
export async function subscribe(
  transport: MarathonTransport,
  { clock, signal, logger }: OperationContext,
): Promise<DeploymentEvents> {
  const outcomes = new Map<string, DeploymentEvent>()
  const untold = new Set<string>()
  let wake = (): void => undefined

  const note = (data: string): void => {
    const event = parsed(data)
    const kind = isRecord(event) && typeof event['eventType'] === 'string' ? kinds[event['eventType']] : undefined
    const id = isRecord(event) ? deploymentId(event['id']) : undefined
    if (kind === undefined || id === undefined) return
    if (outcomes.size === mostRemembered) {
      outcomes.clear()
      untold.clear()
    }
    outcomes.set(id, kind)
    untold.add(id)
    wake()
  }

  const read = async (chunks: AsyncIterable<Uint8Array>): Promise<void> => {
    const parser = createParser({
      onEvent: ({ data }) => {
        note(data)
      },
      maxBufferSize: maxEventLength,
    })
    const decoder = new TextDecoder()
    for await (const chunk of chunks) parser.feed(decoder.decode(chunk, { stream: true }))
  }

  const query = 'event_type=deployment_success&event_type=deployment_failed&plan-format=light'
  try {
    const stream = await transport.stream(`/v2/events?${query}`, openTimeoutMs, signal)
    if (stream.status === 200) {
      read(stream.chunks).catch((error: unknown) => {
        if (!signal.aborted) logger.debug('marathon event stream ended, polling goes on', { error })
      })
    } else logger.debug('no marathon event stream, polling only', { status: stream.status })
  } catch (error) {
    signal.throwIfAborted()
    logger.debug('no marathon event stream, polling only', { error })
  }

  return {
    outcomeOf: (id) => (id === undefined ? undefined : outcomes.get(id)),
    async wait(ms, ids) {
      const isNews = (): boolean => ids.some((id) => untold.has(id))
      if (!isNews()) {
        const over = new AbortController()
        const timer = clock.sleep(ms, { signal: anySignal(signal, over.signal).signal })
        const event = new Promise<void>((resolve) => {
          wake = () => {
            if (isNews()) resolve()
          }
        })
        try {
          await Promise.race([timer, event])
        } finally {
          over.abort()
          timer.catch(() => undefined)
        }
      }
      signal.throwIfAborted()
      for (const id of ids) untold.delete(id)
    },
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown
  } catch {
    return undefined
  }
}
