import { EventEmitter } from 'node:events'
import { describe, expect, it, vi } from 'vitest'
import type { FoundValue, StoreKey } from '../../../src/stores/cert-store.js'
import { redisStore, type RedisArgument, type RedisClient } from '../../../src/stores/redis.js'
import { fakeClock } from '../../../src/testing/fake-clock.js'
import { operationContext } from '../../../src/testing/operation-context.js'
import { recordingLogger } from '../../../src/testing/recording-logger.js'

const key = 'certificates/www'
const secret = 'PRIVATE KEY of www'

/** A server that answers as it is told. */
function scripted(answer: (command: string, args: readonly RedisArgument[]) => unknown) {
  const sent: string[] = []
  const client: RedisClient = {
    sendCommand: async ([command = '', ...args]: RedisArgument[]) => {
      sent.push(String(command))
      if (command === 'INFO') return Buffer.from('maxmemory:0\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\n')
      return answer(String(command), args)
    },
  }
  return { client, sent }
}

/** As clients do: with the command attached. */
function refusal(message: string, command: readonly RedisArgument[]): Error {
  return Object.assign(new Error(message), { command: { name: 'evalsha', args: command } })
}

describe('options', () => {
  const client: RedisClient = { callBuffer: () => Promise.resolve(null) }
  it.each([
    ['client', { client: undefined }],
    ['client', { client: { get: () => undefined } }],
    ['subscriber', { subscriber: { subscribe: () => undefined } }],
    ['prefix', { prefix: '{other}' }],
    ['prefix', { prefix: '' }],
    ['waitForReplicas', { waitForReplicas: -1 }],
    ['timeoutMs', { timeoutMs: 0 }],
    ['url', { url: 'redis://localhost' }],
  ])('refuses a wrong %s with a TypeError that names it', (option, change) => {
    expect(() => redisStore({ client, ...change } as never)).toThrow(
      expect.objectContaining({
        name: 'TypeError',
        message: expect.stringContaining(`"${option}"`) as string,
      }) as Error,
    )
  })

  it('offers a watch only with a connection for it', () => {
    expect(redisStore({ client }).watch).toBeUndefined()
  })
})

describe('what goes wrong', () => {
  it.each([
    ['READONLY You can’t write against a read only replica.', /connect to the primary.*\(READONLY\)/],
    ['LOADING Redis is loading the dataset in memory', /still loads its data/],
    ['MASTERDOWN Link with MASTER is down', /lost its primary/],
    ["OOM command not allowed when used memory > 'maxmemory'.", /maxmemory.*nothing was written/],
    ['MISCONF Redis is configured to save RDB snapshots', /disk/],
    ['NOREPLICAS Not enough good replicas to write.', /min-replicas-to-write/],
    ['NOAUTH Authentication required.', /password/],
    ["NOPERM User x has no permissions to run the 'hget' command", /may not do this/],
    ['WRONGTYPE Operation against a key holding the wrong kind of value', /another "prefix"/],
    ['MOVED 3999 127.0.0.1:6381', /cluster client/],
    ['CLUSTERDOWN The cluster is down', /cluster info/],
    ['ERR max number of clients reached', /maxclients/],
    [`ERR unknown command 'EVALSHA', with args beginning with: '${secret}'`, /does not know a command/],
    ['Connection is closed.', /connection to the server failed: Connection is closed/],
  ])('is told as ERR_STORE_UNAVAILABLE with what to do: %s', async (message, expected) => {
    const { client } = scripted((command, args) => {
      throw refusal(message, [command, ...args])
    })
    const failing = redisStore({ client }).put(key, Buffer.from(secret), operationContext())
    const error: unknown = await failing.catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({ code: 'ERR_STORE_UNAVAILABLE', store: 'redis', key, retryable: true })
    expect((error as Error).message).toMatch(expected)
    expect((error as Error).message).toContain(`cannot write ${key}`)
    expect(JSON.stringify(error, Object.getOwnPropertyNames(error))).not.toContain(secret)
    expect((error as Error).cause).not.toHaveProperty('command')
  })

  it('does not last: a server that never answers is given up, and the next operation works', async () => {
    const clock = fakeClock()
    let hangs = true
    const { client } = scripted(() => (hangs ? new Promise(() => undefined) : [null]))
    const store = redisStore({ client, timeoutMs: 1_000 })
    const reading = store.get(key, operationContext({ clock }))
    const refused = expect(reading).rejects.toMatchObject({
      code: 'ERR_STORE_UNAVAILABLE',
      message: `redis: cannot read ${key}: no answer within 1000 ms; look at the server and at the connection of the client`,
    })
    await clock.advance(1_000)
    await refused
    hangs = false
    expect(await store.get(key, operationContext({ clock }))).toBeUndefined()
    expect(clock.sleeping).toBe(0)
  })

  it('says how many were read together, and sends no command of more than 256 keys', async () => {
    const clock = fakeClock()
    const keys = Array.from({ length: 600 }, (_, index): StoreKey => `certificates/${String(index)}`)
    const lengths: number[] = []
    const { client } = scripted((_, [, ...asked]) => {
      lengths.push(asked.length)
      return lengths.length < 3 ? asked.map(() => null) : new Promise(() => undefined)
    })
    const store = redisStore({ client, timeoutMs: 1_000 })
    const found: FoundValue[] = []
    const reading = (async () => {
      for await (const part of store.getMany!(keys, operationContext({ clock }))) found.push(...part)
    })()
    const refused = expect(reading).rejects.toMatchObject({
      message: expect.stringContaining('cannot read certificates/512 and 87 more: no answer') as string,
    })
    while (lengths.length < 3) await new Promise((resolve) => setImmediate(resolve))
    await clock.advance(1_000)
    await refused
    expect(lengths).toEqual([256, 256, 88])
    expect(found).toEqual(keys.slice(0, 512).map((each) => ({ key: each, stored: undefined })))
    expect(clock.sleeping).toBe(0)
  })

  it('takes a command back that has not been sent yet', async () => {
    const clock = fakeClock()
    const signals: AbortSignal[] = []
    const client: RedisClient = {
      sendCommand: (_: RedisArgument[], options?: object) => {
        signals.push((options as { abortSignal: AbortSignal }).abortSignal)
        return new Promise(() => undefined)
      },
    }
    const reading = redisStore({ client }).get(key, operationContext({ clock }))
    reading.catch(() => undefined)
    await clock.advance(10_000)
    expect(signals.map(({ aborted }) => aborted)).toEqual([true])
  })

  it('is told for a client that decodes bytes', async () => {
    const { client } = scripted(() => ['text'])
    await expect(redisStore({ client }).get(key, operationContext())).rejects.toThrow(/does not hand out bytes/)
  })
})

describe('a server that evicts keys', () => {
  const store = (info: string, logger = recordingLogger()) => {
    const client: RedisClient = {
      callBuffer: async (command) => {
        if (command !== 'INFO') return [null]
        if (info.startsWith('NOPERM')) throw new Error(info)
        return Buffer.from(info)
      },
    }
    return { logger, read: () => redisStore({ client }).get(key, operationContext({ logger })) }
  }

  it('is refused', async () => {
    const { read } = store('maxmemory:100\r\nmaxmemory_policy:allkeys-lru\r\naof_enabled:1\r\n')
    await expect(read()).rejects.toThrow(
      /may evict certificates \(maxmemory-policy allkeys-lru\); set it to noeviction/,
    )
  })

  it('is taken when it has no limit, and when it only evicts what has an end', async () => {
    await store('maxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\naof_enabled:1\r\n').read()
    await store('maxmemory:100\r\nmaxmemory_policy:volatile-lru\r\naof_enabled:1\r\n').read()
  })

  it('is warned of when it does not say, and when it keeps nothing', async () => {
    const silent = store("NOPERM this user has no permissions to run the 'info' command")
    await silent.read()
    expect(silent.logger.entries).toMatchObject([{ level: 'warn', message: /does not say how it is configured/ }])
    const forgetful = store('maxmemory:0\r\nmaxmemory_policy:noeviction\r\naof_enabled:0\r\n')
    await forgetful.read()
    expect(forgetful.logger.entries).toMatchObject([{ level: 'warn', message: /set appendonly yes/ }])
  })
})

describe('writes', () => {
  it('send the script once, when the server does not know it yet', async () => {
    let known = false
    const { client, sent } = scripted((command) => {
      if (command === 'EVALSHA' && !known) throw new Error('NOSCRIPT No matching script. Please use EVAL.')
      known = true
      return Buffer.from('done')
    })
    const store = redisStore({ client })
    await store.put(key, Buffer.from('one'), operationContext())
    await store.put(key, Buffer.from('two'), operationContext())
    expect(sent).toEqual(['INFO', 'EVALSHA', 'EVAL', 'EVALSHA'])
  })

  it('are not called durable before the replicas have them', async () => {
    let replicas = 0
    const { client, sent } = scripted((command) => (command === 'WAIT' ? replicas : Buffer.from('done')))
    const store = redisStore({ client, waitForReplicas: 1 })
    await expect(store.put(key, Buffer.from('one'), operationContext())).rejects.toMatchObject({
      code: 'ERR_STORE_UNAVAILABLE',
      message: `redis: ${key} is written, but only 0 of 1 replicas have it; look at the replicas`,
    })
    replicas = 1
    await store.put(key, Buffer.from('two'), operationContext())
    expect(sent).toEqual(['INFO', 'EVALSHA', 'WAIT', 'EVALSHA', 'WAIT'])
  })

  it('refuse what is too large for a record', async () => {
    const { client } = scripted(() => Buffer.from('done'))
    const large = redisStore({ client }).put(key, new Uint8Array(17_000_000), operationContext())
    await expect(large).rejects.toThrow(TypeError)
  })
})

describe('the makes of clients', () => {
  it('are told apart, and a cluster is given the key', async () => {
    const calls: unknown[][] = []
    const record = (...args: unknown[]): Promise<unknown> => {
      calls.push(args)
      return Promise.resolve([null])
    }
    const read = (client: unknown) => redisStore({ client: client as RedisClient }).get(key, operationContext())
    await read({ sendCommand: record, masters: [] })
    await read({ sendCommand: record, getMasterNode: () => undefined })
    await read({ sendCommand: record })
    await read({ sendCommand: record, callBuffer: record })
    const gets = calls.filter((args) => JSON.stringify(args).includes('HMGET'))
    const command = ['HMGET', '{evercert}:entries', key]
    const options = expect.objectContaining({ typeMapping: { 36: Buffer } }) as object
    expect(gets).toEqual([
      ['{evercert}:entries', false, command, options],
      [false, command, options],
      [command, options],
      command,
    ])
  })
})

describe('a watch', () => {
  it('tells of everything once it has begun: nobody heard what was announced before', async () => {
    let subscribed = (): void => undefined
    const subscriber = Object.assign(new EventEmitter(), {
      subscribe: () => new Promise<void>((resolve) => (subscribed = resolve)),
      unsubscribe: () => Promise.resolve(),
    })
    const { client, sent } = scripted(() => [Buffer.from('certificates/www')])
    const store = redisStore({ client, subscriber: subscriber })
    const told: string[] = []
    const abort = new AbortController()
    const context = operationContext({ clock: fakeClock(), signal: abort.signal })
    const ended = expect(store.watch!('certificates/', (key) => told.push(key), context)).rejects.toBe('stopped')
    await new Promise((resolve) => setImmediate(resolve))
    expect(sent).not.toContain('ZRANGEBYLEX')
    subscribed()
    await vi.waitUntil(() => told.length > 0, { timeout: 50_000 })
    expect(told).toEqual(['certificates/www'])
    abort.abort('stopped')
    await ended
  })

  it.each(['redis', 'ioredis'])('that cannot begin in time leaves nothing behind at the client of %s', async (make) => {
    const clock = fakeClock()
    const subscriber = new EventEmitter()
    const messages = new Set<unknown>()
    let subscribed = (): void => undefined
    Object.assign(subscriber, {
      ...(make === 'ioredis' && { callBuffer: () => undefined }),
      // Not connected: kept for later.
      subscribe: (_: string, listener: unknown) =>
        new Promise<void>((resolve) => {
          subscribed = () => {
            if (make === 'redis') messages.add(listener)
            resolve()
          }
        }),
      unsubscribe: (_: string, listener: unknown) => {
        messages.delete(listener)
        return Promise.resolve()
      },
    })
    const { client } = scripted(() => [null])
    const store = redisStore({ client, subscriber: subscriber as never, timeoutMs: 1_000 })
    const watching = store.watch!('certificates/', () => undefined, operationContext({ clock }))
    const refused = expect(watching).rejects.toMatchObject({ code: 'ERR_STORE_UNAVAILABLE' })
    await clock.advance(1_000)
    await refused
    expect(subscriber.eventNames()).toEqual([])
    subscribed()
    await clock.advance(0)
    expect(subscriber.eventNames()).toEqual([])
    expect(messages.size).toBe(0)
  })
})
