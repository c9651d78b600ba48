import { EventEmitter } from 'node:events'
import { describe, expect, it, vi } from 'vitest'
import { postgresStore, type PostgresListenerClient, type PostgresPool } from '../../../src/stores/postgres.js'
import type { Revision } from '../../../src/stores/cert-store.js'
import { fakeClock } from '../../../src/testing/fake-clock.js'
import { operationContext } from '../../../src/testing/operation-context.js'
import { recordingLogger } from '../../../src/testing/recording-logger.js'

const key = 'certificates/www'
const secret = 'PRIVATE KEY of www'
const sound = { exists: true, format: '1', synchronous: true }

interface Script {
  readonly table?: object | undefined
  query?(text: string, values: unknown[]): readonly unknown[] | Promise<readonly unknown[]>
}

/** A server that answers as it is told, and has the table. */
function scripted({ table = sound, query = () => [] }: Script = {}) {
  const sent: string[] = []
  const pool: PostgresPool = {
    query: async (text, values = []) => {
      sent.push(text)
      if (text.includes('to_regclass')) return { rows: [table] }
      return { rows: await query(text, values) }
    },
  }
  return { pool, sent }
}

/** As `pg` throws it, with what a server may add. */
function refusal(code: string, message = 'refused'): Error {
  return Object.assign(new Error(message), { code, detail: `Failing row contains (${secret}).`, where: secret })
}

async function failureOf(error: Error): Promise<Error> {
  const { pool } = scripted({
    query: () => {
      throw error
    },
  })
  const failure: unknown = await postgresStore({ pool })
    .put(key, Buffer.from(secret), operationContext())
    .catch((thrown: unknown) => thrown)
  return failure as Error
}

describe('options', () => {
  it.each([
    ['pool', { pool: {} }],
    ['listener', { listener: {} }],
    ['table', { table: 'a"; DROP TABLE users; --' }],
    ['table', { table: '' }],
    ['table', { table: 'x'.repeat(64) }],
    ['schema', { schema: 'a.b' }],
    ['timeoutMs', { timeoutMs: -1 }],
    ['connectionString', { connectionString: 'postgres://' }],
  ])('refuses a wrong %s with a TypeError that names it', (option, change) => {
    expect(() => postgresStore({ pool: scripted().pool, ...change } as never)).toThrow(
      expect.objectContaining({ name: 'TypeError', message: expect.stringContaining(option) as string }) as Error,
    )
  })

  it('names the table as it is told to, and offers a watch only with a pool for it', async () => {
    const { pool, sent } = scripted()
    const store = postgresStore({ pool, table: 'tls', schema: 'Services' })
    await store.get(key, operationContext())
    expect(sent.at(-1)).toContain('FROM "Services"."tls" WHERE')
    expect(store.watch).toBeUndefined()
  })
})

describe('what goes wrong', () => {
  it.each([
    ['57P01', /shutting down.*may have been carried out/],
    ['57P03', /starting or recovering/],
    ['53300', /no connection left/],
    ['53100', /disk of the server is full, nothing was written/],
    ['25006', /read-only standby/],
    ['42501', /SELECT, INSERT, UPDATE and DELETE/],
    ['42P01', /made anew, empty/],
    ['42703', /other columns/],
    ['28P01', /refuses the user or password/],
    ['3D000', /no such database/],
    ['57014', /cancelled the statement/],
    ['08006', /connection to the server broke/],
    ['XX001', /damaged data/],
    ['23514', /cannot write certificates\/www: refused \(23514\)/],
    ['ECONNREFUSED', /connection to the server failed, a write may have been carried out: refused \(ECONNREFUSED\)/],
  ])('is told as ERR_STORE_UNAVAILABLE with what to do: %s', async (code, expected) => {
    const failure = await failureOf(refusal(code))
    expect(failure).toMatchObject({ code: 'ERR_STORE_UNAVAILABLE', store: 'postgres', key, retryable: true })
    expect(failure.message).toMatch(expected)
    expect(JSON.stringify(failure, Object.getOwnPropertyNames(failure))).not.toContain(secret)
    expect(failure.cause).toMatchObject({ code })
    expect(failure.cause).not.toHaveProperty('detail')
  })

  it('has a message also when Node gives none', async () => {
    const refused = new AggregateError([refusal('ECONNREFUSED', 'connect ECONNREFUSED ::1:5432')])
    expect((await failureOf(refused)).message).toContain('connect ECONNREFUSED ::1:5432')
  })

  it.each(['40001', '40P01'])('is tried again when nothing was done (%s), but not for ever', async (code) => {
    let attempts = 0
    const { pool } = scripted({
      query: () => {
        attempts += 1
        if (attempts < 4) throw refusal(code)
        return [{ changed: null }]
      },
    })
    await postgresStore({ pool }).put(key, Buffer.from('value'), operationContext(), { ifRevision: null })
    expect(attempts).toBe(4)
    attempts = -100
    await expect(postgresStore({ pool }).get(key, operationContext())).rejects.toThrow(/tried again/)
    expect(attempts).toBe(-90)
  })

  it('does not last: a pool that hangs is given up, and the next operation works', async () => {
    const clock = fakeClock()
    let hangs = true
    const pool: PostgresPool = {
      query: (text) => {
        if (hangs) return new Promise(() => undefined)
        return Promise.resolve({ rows: text.includes('to_regclass') ? [sound] : [] })
      },
    }
    const store = postgresStore({ pool, timeoutMs: 1_000 })
    const reading = store.get(key, operationContext({ clock }))
    const refused = expect(reading).rejects.toMatchObject({
      code: 'ERR_STORE_UNAVAILABLE',
      message: `postgres: cannot read ${key}: no answer within 1000 ms; look at the server, and whether all connections of the pool are taken`,
    })
    await clock.advance(1_000)
    await refused
    hangs = false
    expect(await store.get(key, operationContext({ clock }))).toBeUndefined()
    expect(clock.sleeping).toBe(0)
  })

  it.each([
    ['is gone', { removed: 0, found: 0 }, true],
    ['has another revision', { removed: 0, found: 1 }, false],
  ])('is no guess when a row that is deleted changes at the same time: when it %s', async (_, second, done) => {
    const answers = [{ removed: 0, found: 1 }, second]
    const { pool, sent } = scripted({ query: () => [answers.shift()] })
    const ifRevision = 'one' as Revision
    const deleting = postgresStore({ pool }).delete(key, operationContext(), { ifRevision })
    if (done) await deleting
    else await expect(deleting).rejects.toMatchObject({ code: 'ERR_STORE_CONFLICT' })
    expect(answers).toEqual([])
    expect(sent).toHaveLength(3)
  })

  it('is told for a pool that decodes bytes, for an entry of another revision, and for what is too large', async () => {
    const { pool } = scripted({ query: () => [{ key, revision: 'x', entry: '\\x00' }] })
    await expect(postgresStore({ pool }).get(key, operationContext())).rejects.toThrow(/does not hand out bytea/)
    const put = (name: string, value: Uint8Array) =>
      postgresStore({ pool }).put(`certificates/${name}`, value, operationContext())
    await expect(put('www', new Uint8Array(17_000_000))).rejects.toThrow(TypeError)
    await expect(put('x'.repeat(3_000), new Uint8Array(1))).rejects.toThrow(TypeError)
  })
})

describe('the table', () => {
  it('is looked at once, and again when it has vanished', async () => {
    let gone = false
    const { pool, sent } = scripted({
      query: () => {
        if (gone) throw refusal('42P01')
        return []
      },
    })
    const inspections = (): number => sent.filter((text) => text.includes('to_regclass')).length
    const store = postgresStore({ pool })
    await store.get(key, operationContext())
    await store.get(key, operationContext())
    expect(inspections()).toBe(1)
    gone = true
    await expect(store.get(key, operationContext())).rejects.toThrow(/removed while it was in use/)
    gone = false
    await store.get(key, operationContext())
    expect(inspections()).toBe(2)
  })

  it.each([
    ['by a newer evercert', '2', /newer evercert \(format 2\); upgrade/],
    ['by somebody else', null, /was not made by evercert; choose another "table"/],
  ])('that was made %s is left alone', async (_, format, expected) => {
    const { pool, sent } = scripted({ table: { exists: true, format, synchronous: true } })
    const reading = postgresStore({ pool }).get(key, operationContext())
    await expect(reading).rejects.toMatchObject({
      code: 'ERR_STORE_SCHEMA',
      message: expect.stringMatching(expected) as string,
    })
    expect(sent.filter((text) => !text.includes('to_regclass'))).toEqual([])
  })

  it('is ours also when another process was just making it', async () => {
    const states = [{ ...sound, format: null }, sound]
    const { pool, sent } = scripted()
    const making: PostgresPool = {
      query: (text, values) =>
        text.includes('to_regclass') ? Promise.resolve({ rows: [states.shift()!] }) : pool.query(text, values),
    }
    expect(await postgresStore({ pool: making }).get(key, operationContext())).toBeUndefined()
    expect(states).toEqual([])
    expect(sent).toHaveLength(1)
  })

  it('on a server that may lose writes is warned of', async () => {
    const logger = recordingLogger()
    const { pool } = scripted({ table: { ...sound, synchronous: false } })
    await postgresStore({ pool }).get(key, operationContext({ logger }))
    expect(logger.entries).toMatchObject([{ level: 'warn', message: /set synchronous_commit/ }])
  })
})

describe('a watch', () => {
  class Listener extends EventEmitter implements PostgresListenerClient {
    readonly statements: string[] = []
    readonly released: boolean[] = []
    keepsProcess = true
    answers = true
    query(text: string): Promise<unknown> {
      this.statements.push(text)
      return this.answers ? Promise.resolve() : new Promise(() => undefined)
    }
    unref(): void {
      this.keepsProcess = false
    }
    release(destroy: boolean): void {
      this.released.push(destroy)
    }
  }

  it('is made anew when its connection breaks, and tells of everything that may have changed meanwhile', async () => {
    const clock = fakeClock()
    const clients: Listener[] = []
    let refuses = false
    const { pool } = scripted({ query: (text) => (text.includes('SELECT key') ? [{ key }] : []) })
    const listener = {
      connect: async () => {
        if (refuses) throw new Error('refused')
        const client = new Listener()
        clients.push(client)
        return client
      },
    }
    const store = postgresStore({ pool, listener })
    const told: string[] = []
    const abort = new AbortController()
    const watching = store.watch?.(
      'certificates/',
      (each) => told.push(each),
      operationContext({ clock, signal: abort.signal }),
    )
    const ended = expect(watching).rejects.toBe('stopped')
    await vi.waitUntil(() => clients[0]?.statements.length === 1, { timeout: 50_000 })
    expect(clients[0]?.statements).toEqual(['LISTEN "evercert"'])
    // Stored while nobody listened yet.
    await vi.waitUntil(() => told.length === 1, { timeout: 50_000 })
    expect(told.splice(0)).toEqual([key])
    clients[0]?.emit('notification', { payload: 'certificates/api' })
    clients[0]?.emit('notification', { payload: 'renewals/api' })
    expect(told).toEqual(['certificates/api'])

    refuses = true
    clients[0]?.emit('error', new Error('Connection terminated unexpectedly'))
    await clock.advance(5_000)
    refuses = false
    await clock.advance(5_000)
    await vi.waitUntil(() => told.length === 2, { timeout: 50_000 })
    expect(told).toEqual(['certificates/api', key])
    expect(clients[0]?.released).toEqual([true])

    abort.abort('stopped')
    await ended
    expect(clients[1]?.released).toEqual([true])
    clients[1]?.emit('notification', { payload: key })
    expect(told).toHaveLength(2)
    expect(clock.sleeping).toBe(0)
  })

  it('keeps no process alive, and notices that nobody is there any more', async () => {
    const clock = fakeClock()
    const clients: Listener[] = []
    const { pool } = scripted({ query: (text) => (text.includes('SELECT key') ? [{ key }] : []) })
    const listener = {
      connect: async () => {
        const client = new Listener()
        clients.push(client)
        return client
      },
    }
    const told: string[] = []
    const abort = new AbortController()
    const watching = postgresStore({ pool, listener, timeoutMs: 1_000 }).watch?.(
      'certificates/',
      (each) => told.push(each),
      operationContext({ clock, signal: abort.signal }),
    )
    const ended = expect(watching).rejects.toBe('stopped')
    await vi.waitUntil(() => clock.sleeping > 0 && told.length === 1, { timeout: 50_000 })
    told.length = 0
    expect(clients[0]?.keepsProcess).toBe(false)
    await clock.advance(600_000)
    expect(clients[0]?.statements.slice(1)).toEqual(Array.from({ length: 10 }, () => 'SELECT 1'))
    expect(clients).toHaveLength(1)

    if (clients[0]) clients[0].answers = false
    await clock.advance(60_000 + 1_000 + 5_000)
    await vi.waitUntil(() => told.length === 1, { timeout: 50_000 })
    expect(clients[0]?.released).toEqual([true])
    expect(clients).toHaveLength(2)
    abort.abort('stopped')
    await ended
    expect(clients[1]?.released).toEqual([true])
    expect(clock.sleeping).toBe(0)
  })

  it('that cannot begin says so', async () => {
    const listener = { connect: () => Promise.reject(refusal('53300')) }
    const store = postgresStore({ pool: scripted().pool, listener })
    const watching = store.watch?.('', () => undefined, operationContext())
    await expect(watching).rejects.toMatchObject({ code: 'ERR_STORE_UNAVAILABLE', message: /no connection left/ })
  })

  it('gives back the connection on which nobody answers its first statement', async () => {
    const clock = fakeClock()
    const client = new Listener()
    client.answers = false
    const store = postgresStore({ pool: scripted().pool, listener: { connect: async () => client }, timeoutMs: 1_000 })
    const watching = store.watch?.('', () => undefined, operationContext({ clock }))
    const refused = expect(watching).rejects.toMatchObject({ code: 'ERR_STORE_UNAVAILABLE', message: /no answer/ })
    await vi.waitUntil(() => client.statements.length === 1, { timeout: 50_000 })
    await clock.advance(1_000)
    await refused
    expect(client.released).toEqual([true])
    expect(clock.sleeping).toBe(0)
  })
})
