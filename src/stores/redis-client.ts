/**
 * The Redis clients that the caller may bring, behind one face: send a command, hear a channel.
 *
 * @module
 */

/** Part of a command. */
export type RedisArgument = string | Buffer

/** A client, or a pool of clients, of `redis` (node-redis) 4.6 or later, as far as it is used. */
export interface NodeRedisClient {
  sendCommand(args: RedisArgument[], options?: object): Promise<unknown>
}

/** A sentinel client of `redis`, as far as it is used. */
export interface NodeRedisSentinel {
  sendCommand(isReadonly: boolean | undefined, args: RedisArgument[], options?: object): Promise<unknown>
  getMasterNode(): unknown
}

/** A cluster client of `redis`, as far as it is used. */
export interface NodeRedisCluster {
  sendCommand(
    firstKey: RedisArgument | undefined,
    isReadonly: boolean | undefined,
    args: RedisArgument[],
    options?: object,
  ): Promise<unknown>
  readonly masters: readonly unknown[]
}

/** A client or a cluster client of `ioredis` 5 or later, as far as it is used. */
export interface IoRedisClient {
  readonly isCluster?: boolean | undefined
  callBuffer(command: string, ...args: RedisArgument[]): Promise<unknown>
}

/** A Redis client of the caller's. */
export type RedisClient = NodeRedisClient | NodeRedisSentinel | NodeRedisCluster | IoRedisClient

/** A client, sentinel or cluster client of `redis` that is used for nothing else, as far as it is used. */
export interface NodeRedisSubscriber {
  subscribe(channel: string, listener: (message: string) => void): Promise<unknown>
  /** Channel and listener. Client and cluster client declare the listener in ways that no common type meets. */
  unsubscribe(...channelAndListener: never[]): Promise<unknown>
  on(event: 'ready', listener: () => void): unknown
  off(event: 'ready', listener: () => void): unknown
}

/** A client of `ioredis` that is used for nothing else, as far as it is used. */
export interface IoRedisSubscriber {
  callBuffer: unknown
  subscribe(channel: string): Promise<unknown>
  on(event: 'message' | 'ready', listener: (channel: string, message: string) => void): unknown
  off(event: 'message' | 'ready', listener: (channel: string, message: string) => void): unknown
}

/** A client that listens to a channel. */
export type RedisSubscriber = NodeRedisSubscriber | IoRedisSubscriber

/** Sends one command. Text in replies comes as `Buffer`. */
export type SendCommand = (key: string | undefined, args: RedisArgument[], signal: AbortSignal) => Promise<unknown>

/** node-redis 4 knows the first option, later ones the second: blob strings, `$`, are not decoded. */
const binaryReplies = { returnBuffers: true, typeMapping: { 36: Buffer } }

/** @throws `TypeError` for what is neither client */
export function redisCommands(client: RedisClient): SendCommand {
  const made: unknown = client
  if (typeof made !== 'object' || made === null)
    throw new TypeError('"client" option must be a redis or ioredis client')
  if ('callBuffer' in client && typeof client.callBuffer === 'function') {
    return async (_key, [command = '', ...args]) => client.callBuffer(String(command), ...args)
  }
  if (!('sendCommand' in client) || typeof client.sendCommand !== 'function') {
    throw new TypeError('"client" option must be a redis or ioredis client: it has neither sendCommand nor callBuffer')
  }
  // The signal takes a command back that still waits for a connection.
  if ('masters' in client) {
    return async (key, args, abortSignal) => client.sendCommand(key, false, args, { ...binaryReplies, abortSignal })
  }
  if ('getMasterNode' in client) {
    return async (_key, args, abortSignal) => client.sendCommand(false, args, { ...binaryReplies, abortSignal })
  }
  return async (_key, args, abortSignal) => client.sendCommand(args, { ...binaryReplies, abortSignal })
}

/**
 * Hears a channel: `onMessage` for each message, `onGap` after messages may have been missed. Resolves what ends it; nothing
 * is left behind when it fails, or when the signal aborts before it resolves.
 */
export type HearChannel = (
  channel: string,
  onMessage: (message: string) => void,
  onGap: () => void,
  signal: AbortSignal,
) => Promise<() => void>

/** @throws `TypeError` for what is neither client */
export function redisChannel(subscriber: RedisSubscriber): HearChannel {
  const made: unknown = subscriber
  const usable =
    typeof made === 'object' && made !== null && ['subscribe', 'on', 'off'].every((method) => isMethod(made, method))
  if (!usable) throw new TypeError('"subscriber" option must be a redis or ioredis client of its own')
  if ('callBuffer' in subscriber) {
    return async (channel, onMessage, onGap, signal) => {
      const listener = (from: string, message: string): void => {
        if (from === channel) onMessage(message)
      }
      subscriber.on('message', listener)
      subscriber.on('ready', onGap)
      // The subscription stays: another watch may need it, and it ends with the caller's client.
      return begun(subscriber.subscribe(channel), signal, () => {
        subscriber.off('message', listener)
        subscriber.off('ready', onGap)
      })
    }
  }
  return async (channel, onMessage, onGap, signal) => {
    subscriber.on('ready', onGap)
    return begun(subscriber.subscribe(channel, onMessage), signal, () => {
      subscriber.off('ready', onGap)
      // Fails when the client was closed meanwhile, which ends the subscription too.
      subscriber.unsubscribe(channel as never, onMessage as never).catch(() => undefined)
    })
  }
}

/** A client that is not connected keeps a subscription for later, for as long as it takes. */
async function begun(subscribing: Promise<unknown>, signal: AbortSignal, end: () => void): Promise<() => void> {
  signal.addEventListener('abort', end, { once: true })
  try {
    await subscribing
    signal.throwIfAborted()
  } catch (error) {
    // Also when it ended before: what was subscribed only now has to be taken back.
    end()
    throw error
  }
  return end
}

function isMethod(object: object, method: string): boolean {
  return typeof (object as Readonly<Record<string, unknown>>)[method] === 'function'
}
