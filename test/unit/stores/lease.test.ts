import { describe, expect, it } from 'vitest'
import { StoreError } from '../../../src/errors.js'
import { lookAgainMs } from '../../../src/scheduler/look-again.js'
import type { Revision, StoredValue, StoreLock } from '../../../src/stores/cert-store.js'
import { takeLease, type LeaseCell, type LeaseObservations, type LeaseOptions } from '../../../src/stores/lease.js'
import { fakeClock, type FakeClock } from '../../../src/testing/fake-clock.js'
import { recordingLogger } from '../../../src/testing/recording-logger.js'
import { stoppableClock } from '../../support/stoppable-clock.js'

const ttlMs = 60_000

/** A cell in memory, whose writes can be made to fail or to hang. */
class TestCell implements LeaseCell {
  current: StoredValue | undefined
  writes = 0
  onWrite: () => Promise<void> = () => Promise.resolve()

  read(): Promise<StoredValue | undefined> {
    return Promise.resolve(this.current)
  }

  async write(value: Uint8Array, ifRevision: Revision | null): Promise<Revision> {
    await this.onWrite()
    if ((this.current?.revision ?? null) !== ifRevision) {
      throw new StoreError({ code: 'ERR_STORE_CONFLICT', message: 'changed', store: 'test' })
    }
    this.writes += 1
    this.current = { value, revision: String(this.writes) as Revision }
    return this.current.revision
  }
}

interface Participant {
  readonly clock: FakeClock
  take(options?: Partial<LeaseOptions>): Promise<StoreLock | undefined>
}

const logger = recordingLogger()

/** A process: its clock and what it has observed are its own. */
function participant(cell: LeaseCell, clock: FakeClock = fakeClock()): Participant {
  const observations: LeaseObservations = new Map()
  return {
    clock,
    take: (options) => takeLease({ store: 'test', name: 'www', cell, ttlMs, clock, logger, observations, ...options }),
  }
}

async function taken(from: Participant): Promise<StoreLock> {
  const lock = await from.take()
  if (lock === undefined) throw new Error('the lock was not given')
  return lock
}

/** Looks now, after that time, and three times in between. */
async function looksInVain(waiter: Participant, ms: number, options?: Partial<LeaseOptions>): Promise<void> {
  expect(await waiter.take(options)).toBeUndefined()
  for (let look = 0; look < 4; look += 1) {
    await waiter.clock.advance(ms / 4)
    expect(await waiter.take(options)).toBeUndefined()
  }
}

describe('a holder', () => {
  it('renews after each third of the life', async () => {
    const cell = new TestCell()
    const holder = participant(cell)
    const lock = await taken(holder)
    expect(cell.writes).toBe(1)
    await holder.clock.advance(ttlMs / 3 - 1)
    expect(cell.writes).toBe(1)
    await holder.clock.advance(1)
    expect(cell.writes).toBe(2)
    await holder.clock.advance(10 * ttlMs)
    expect(cell.writes).toBe(32)
    expect(lock.signal.aborted).toBe(false)
    await lock.release()
    expect(holder.clock.sleeping).toBe(0)
  })

  it.each([
    ['fail', () => Promise.reject(new Error('disk is full'))],
    ['hang', () => new Promise<void>(() => undefined)],
  ])('stops trusting its lease after two thirds of the life when renewals %s', async (_, onWrite) => {
    const cell = new TestCell()
    const holder = participant(cell)
    const lock = await taken(holder)
    cell.onWrite = onWrite
    await holder.clock.advance((ttlMs * 2) / 3 - 1)
    expect(lock.signal.aborted).toBe(false)
    await holder.clock.advance(1)
    expect(lock.signal.reason).toMatchObject({ name: 'StoreError', code: 'ERR_STORE_LOCK_LOST', store: 'test' })
    expect((lock.signal.reason as Error).message).toContain('lock www was not renewed for 40000 ms')
    expect(holder.clock.sleeping).toBe(0)
  })

  it('goes on when a renewal fails and a later one succeeds in time', async () => {
    const cell = new TestCell()
    const holder = participant(cell)
    const lock = await taken(holder)
    let failures = 0
    cell.onWrite = () => {
      failures += 1
      return failures <= 2 ? Promise.reject(new Error('disk is full')) : Promise.resolve()
    }
    await holder.clock.advance(5 * ttlMs)
    expect(failures).toBeGreaterThan(10)
    expect(lock.signal.aborted).toBe(false)
    await lock.release()
  })

  it('goes on when the reply to a renewal was lost that was carried out, and can be released after one', async () => {
    const cell = new TestCell()
    const holder = participant(cell)
    let lost = 1
    const write = cell.write.bind(cell)
    cell.write = async (value, ifRevision) => {
      const revision = await write(value, ifRevision)
      if (cell.writes > 1 && lost > 0) {
        lost -= 1
        throw new Error('the connection broke')
      }
      return revision
    }
    const lock = await taken(holder)
    await holder.clock.advance(5 * ttlMs)
    expect(lost).toBe(0)
    expect(lock.signal.aborted).toBe(false)
    lost = 1
    await holder.clock.advance(ttlMs / 3)
    expect(lost).toBe(0)
    await lock.release()
    expect(await participant(cell).take(), 'the lock was not released').toBeDefined()
  })

  it('counts from the beginning of a renewal: that is when others may have seen it last', async () => {
    const cell = new TestCell()
    const holder = participant(cell)
    const lock = await taken(holder)
    let finish = (): void => undefined
    cell.onWrite = () =>
      new Promise((resolve) => {
        finish = resolve
      })
    // Begins at one third, ends shortly before two thirds, and is the last one that succeeds.
    await holder.clock.advance(ttlMs / 3)
    await holder.clock.advance(ttlMs / 3 - 1)
    finish()
    await holder.clock.advance(0)
    cell.onWrite = () => Promise.reject(new Error('disk is full'))
    await holder.clock.advance(ttlMs / 3)
    expect(lock.signal.aborted).toBe(false)
    await holder.clock.advance(1)
    expect(lock.signal.aborted).toBe(true)
  })

  it('does not trust its lease for longer because its clock was set back', async () => {
    const cell = new TestCell()
    const holder = participant(cell)
    const lock = await taken(holder)
    let finish = (): void => undefined
    cell.onWrite = () =>
      new Promise((resolve) => {
        finish = resolve
      })
    await holder.clock.advance(ttlMs / 3)
    await holder.clock.setTime(holder.clock.now() - 3_600_000)
    finish()
    await holder.clock.advance(0)
    cell.onWrite = () => Promise.reject(new Error('disk is full'))
    await holder.clock.advance((ttlMs * 2) / 3)
    expect(lock.signal.aborted).toBe(true)
  })

  it('waits for a renewal that is under way before it releases', async () => {
    const cell = new TestCell()
    const holder = participant(cell)
    const lock = await taken(holder)
    let finish = (): void => undefined
    cell.onWrite = () =>
      new Promise((resolve) => {
        finish = resolve
      })
    await holder.clock.advance(ttlMs / 3)
    cell.onWrite = () => Promise.resolve()
    const releasing = lock.release()
    finish()
    await releasing
    expect(await participant(cell).take(), 'the lock was not released').toBeDefined()
  })

  it('that was stopped knows by the clock, before any timer, that its lease is over, and writes nothing', async () => {
    const cell = new TestCell()
    const clock = stoppableClock()
    const lock = await taken(participant(cell, clock))
    await clock.advance(10)
    clock.stop((ttlMs * 2) / 3 - 11)
    expect(lock.signal.aborted).toBe(false)
    clock.stop(1)
    expect(lock.signal.aborted).toBe(true)
    expect(lock.signal.reason).toMatchObject({ code: 'ERR_STORE_LOCK_LOST' })
    await lock.release()
    await clock.advance(10 * ttlMs)
    expect(cell.writes).toBe(1)
    expect(clock.sleeping).toBe(0)
  })

  it('that was stopped renews nothing when its timers have their turn', async () => {
    const cell = new TestCell()
    const clock = stoppableClock()
    const lock = await taken(participant(cell, clock))
    clock.stop(3 * ttlMs)
    await clock.advance(ttlMs / 3)
    expect(cell.writes).toBe(1)
    expect(lock.signal.aborted).toBe(true)
  })

  it('has its lease also when the reply to the taking was lost', async () => {
    const cell = new TestCell()
    const write = cell.write.bind(cell)
    cell.write = async (value, ifRevision) => {
      await write(value, ifRevision)
      throw new Error('the connection broke')
    }
    const lock = await taken(participant(cell))
    cell.write = write
    expect(lock.signal.aborted).toBe(false)
    expect(await participant(cell).take()).toBeUndefined()
    await lock.release()
    expect(await participant(cell).take(), 'the lock was not released').toBeDefined()
  })

  it.each([
    ['the taking failed', () => undefined],
    [
      'somebody else has it by now, with the same token',
      async (cell: TestCell) => {
        await taken(participant(cell))
      },
    ],
  ])('does not mistake a lease for its own when %s', async (_, meanwhile) => {
    const cell = new TestCell()
    const failure = new Error('the connection broke')
    const write = cell.write.bind(cell)
    cell.write = async () => {
      cell.write = write
      await meanwhile(cell)
      throw failure
    }
    await expect(participant(cell).take()).rejects.toBe(failure)
  })

  it('is not disturbed by a release that fails', async () => {
    const cell = new TestCell()
    const lock = await taken(participant(cell))
    cell.onWrite = () => Promise.reject(new Error('disk is full'))
    await lock.release()
    expect(logger.entries.at(-1)).toMatchObject({
      level: 'warn',
      message: 'lock could not be released, it will expire',
    })
  })
})

describe('a waiter', () => {
  it('takes over what it has seen unchanged for the whole life, by its own clock', async () => {
    const cell = new TestCell()
    const holder = participant(cell)
    const first = await taken(holder)
    // An hour ahead, as clocks of containers sometimes are: that alone means nothing.
    const waiter = participant(cell, fakeClock({ now: holder.clock.now() + 3_600_000 }))
    await looksInVain(waiter, ttlMs - 1)
    await waiter.clock.advance(1)
    const second = await taken(waiter)
    expect(BigInt(second.fencingToken)).toBeGreaterThan(BigInt(first.fencingToken))
    // The holder wakes up.
    const before = cell.current
    await holder.clock.advance(ttlMs / 3)
    expect(first.signal.reason).toMatchObject({ code: 'ERR_STORE_LOCK_LOST' })
    await first.release()
    expect(cell.current).toBe(before)
  })

  it('begins to wait anew with each renewal it sees', async () => {
    const cell = new TestCell()
    const holder = participant(cell)
    await taken(holder)
    const waiter = participant(cell)
    for (let step = 0; step < 20; step += 1) {
      expect(await waiter.take()).toBeUndefined()
      await holder.clock.advance(ttlMs / 2)
      await waiter.clock.advance(ttlMs / 2)
    }
  })

  it('waits for the life the holder chose, not for its own', async () => {
    const cell = new TestCell()
    await taken(participant(cell))
    const waiter = participant(cell)
    await looksInVain(waiter, ttlMs - 1, { ttlMs: 1000 })
    await waiter.clock.advance(1)
    expect(await waiter.take({ ttlMs: 1000 })).toBeDefined()
  })

  it('is neither stuck nor early when its clock is set back', async () => {
    const cell = new TestCell()
    await taken(participant(cell))
    const waiter = participant(cell)
    expect(await waiter.take()).toBeUndefined()
    await waiter.clock.setTime(waiter.clock.now() - 86_400_000)
    await looksInVain(waiter, ttlMs - 1)
    await waiter.clock.advance(1)
    expect(await waiter.take()).toBeDefined()
  })

  it.each([
    ['an hour', 3_600_000],
    ['the life of the lease', ttlMs],
  ])('does not take over what its holder still trusts because its clock was set forward by %s', async (_, stepMs) => {
    for (let trustedMs = 0; trustedMs < (ttlMs * 2) / 3; trustedMs += 1000) {
      const cell = new TestCell()
      const holder = participant(cell)
      const lock = await taken(holder)
      const waiter = participant(cell)
      expect(await waiter.take()).toBeUndefined()
      // The last renewal that succeeded was the first writing: the worst that a live holder can look like.
      cell.onWrite = () => Promise.reject(new Error('disk is full'))
      for (let waitedMs = 0; waitedMs < trustedMs; waitedMs += 1000) {
        await Promise.all([holder.clock.advance(1000), waiter.clock.advance(1000)])
        expect(await waiter.take()).toBeUndefined()
      }
      cell.onWrite = () => Promise.resolve()
      await waiter.clock.setTime(waiter.clock.now() + stepMs)
      expect(await waiter.take(), `stolen after ${String(trustedMs)} ms`).toBeUndefined()
      expect(await waiter.take(), `stolen after ${String(trustedMs)} ms`).toBeUndefined()
      expect(lock.signal.aborted).toBe(false)
    }
  })

  it.each([150, 900, 1_000, 4_999, 30_000, 45_000, 60_000, 90_001, 300_000])(
    'that looks as often as evercert does replaces a dead holder of a lease of %i ms in time, whenever it died',
    async (leaseMs) => {
      const pauseMs = lookAgainMs(leaseMs)
      let longestMs = 0
      for (let part = 0; part < 7; part += 1) {
        for (let phase = 0; phase < 5; phase += 1) {
          const cell = new TestCell()
          const [holder, waiter] = [participant(cell), participant(cell)]
          const lock = await holder.take({ ttlMs: leaseMs })
          const diesMs = Math.floor((leaseMs * part) / 7)
          let nowMs = Math.floor((pauseMs * phase) / 5)
          await holder.clock.advance(Math.min(nowMs, diesMs))
          await waiter.clock.advance(nowMs)
          while ((await waiter.take({ ttlMs: leaseMs })) === undefined) {
            if (nowMs < diesMs) await holder.clock.advance(Math.min(pauseMs, diesMs - nowMs))
            await waiter.clock.advance(pauseMs)
            nowMs += pauseMs
          }
          longestMs = Math.max(longestMs, nowMs - diesMs)
          // It had stopped to trust its lease by then.
          await holder.clock.advance(nowMs - diesMs)
          expect(lock?.signal.aborted).toBe(true)
        }
      }
      expect(longestMs).toBeGreaterThan((leaseMs * 2) / 3)
      // The rest of the 15 seconds is for what the successor waits for besides.
      expect(longestMs).toBeLessThanOrEqual(leaseMs + 11_000)
    },
  )

  it('does not wait for a holder that is proven dead', async () => {
    const cell = new TestCell()
    await participant(cell).take({ holder: 'process 7' })
    const isDead = (holder: string): Promise<boolean> => Promise.resolve(holder === 'process 7')
    expect(await participant(cell).take({ isDead: () => Promise.resolve(false) })).toBeUndefined()
    expect(await participant(cell).take({ isDead })).toBeDefined()
  })

  it('gives way to one who was faster', async () => {
    const cell = new TestCell()
    const [one, other] = [participant(cell), participant(cell)]
    cell.onWrite = async () => {
      cell.onWrite = () => Promise.resolve()
      await taken(other)
    }
    expect(await one.take()).toBeUndefined()
  })

  it('refuses a lease of a newer evercert instead of taking it over', async () => {
    const cell = new TestCell()
    await cell.write(Buffer.from('{"schema":2,"kind":"lease"}'), null)
    await expect(participant(cell).take()).rejects.toMatchObject({ code: 'ERR_STORE_SCHEMA' })
  })
})
