/**
 * `/v2/events`: who listens, and what they are told. Marathon's HttpEventStreamServlet.
 */
import type { ServerResponse } from 'node:http'

export interface EventStreamOptions {
  readonly timestamp: () => string
  readonly bufferedEvents: number
}

/** An event as it is published; plans are rendered for each listener. */
export interface MarathonEvent {
  readonly eventType: string
  readonly fields: (plans: { readonly heavy: boolean }) => object
}

export interface Subscription {
  /** Empty: all. */
  readonly eventTypes: readonly string[]
  readonly heavyPlans: boolean
  readonly remoteAddress: string
}

export interface EventStream {
  /** Connections that are open. */
  readonly subscribers: number
  /** How many have been cut off because they did not read. */
  readonly slowConsumersClosed: number
  subscribe(subscription: Subscription, response: ServerResponse): void
  publish(event: MarathonEvent): void
  /** Something that Marathon would publish: `emit('status_update_event', { taskStatus: 'TASK_LOST' })`. */
  emit(eventType: string, fields?: object): void
  /** Closes all connections. The body has no length: to a listener that looks like its end, not like an error. */
  cut(): void
  /** Connections stay open and nothing is sent any more, as behind a broken network. */
  mute(): void
  unmute(): void
}

interface Subscriber {
  readonly subscription: Subscription
  readonly response: ServerResponse
  /** Events that its connection has not taken yet. */
  waiting: number
}

export function eventStream({ timestamp, bufferedEvents }: EventStreamOptions): EventStream {
  const subscribers = new Set<Subscriber>()
  let slowConsumersClosed = 0
  let muted = false

  const send = (subscriber: Subscriber, { eventType, fields }: MarathonEvent): void => {
    const { subscription, response } = subscriber
    if (subscription.eventTypes.length > 0 && !subscription.eventTypes.includes(eventType)) return
    if (subscriber.waiting >= bufferedEvents) {
      slowConsumersClosed += 1
      subscribers.delete(subscriber)
      response.destroy()
      return
    }
    const data = { ...fields({ heavy: subscription.heavyPlans }), eventType, timestamp: timestamp() }
    subscriber.waiting += 1
    response.write(`event: ${eventType}\r\ndata: ${JSON.stringify(data)}\r\n\r\n`, () => (subscriber.waiting -= 1))
  }

  const publish = (event: MarathonEvent): void => {
    if (muted) return
    for (const subscriber of subscribers) send(subscriber, event)
  }

  return {
    get subscribers() {
      return subscribers.size
    },
    get slowConsumersClosed() {
      return slowConsumersClosed
    },
    subscribe(subscription, response) {
      const subscriber = { subscription, response, waiting: 0 }
      subscribers.add(subscriber)
      response.on('close', () => subscribers.delete(subscriber))
      // As Jetty has it: the body ends with the connection.
      response.useChunkedEncodingByDefault = false
      response.writeHead(200, { 'content-type': 'text/event-stream;charset=utf-8', connection: 'close' })
      response.flushHeaders()
      const { remoteAddress } = subscription
      if (!muted) send(subscriber, { eventType: 'event_stream_attached', fields: () => ({ remoteAddress }) })
    },
    publish,
    emit: (eventType, fields = {}) => publish({ eventType, fields: () => fields }),
    cut() {
      for (const { response } of subscribers) response.destroy()
    },
    mute: () => void (muted = true),
    unmute: () => void (muted = false),
  }
}
