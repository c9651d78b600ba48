import { expect, it } from 'vitest'
import { memoryStore } from '../../../src/stores/memory.js'
import { fakeClock } from '../../../src/testing/fake-clock.js'
import { operationContext } from '../../../src/testing/operation-context.js'

const context = operationContext()

it('shares values and locks within one object only', async () => {
  const [one, other] = [memoryStore(), memoryStore()]
  await one.put('certificates/www', Buffer.from('value'), context)
  await one.lock?.('www', context, { ttlMs: 1000 })
  expect(await other.get('certificates/www', context)).toBeUndefined()
  expect(await other.lock?.('www', context, { ttlMs: 1000 })).toBeDefined()
})

it('times leases by its own clock when it is given one', async () => {
  const clock = fakeClock()
  const store = memoryStore({ clock })
  const lock = await store.lock?.('www', context, { ttlMs: 9000 })
  expect(clock.sleeping).toBeGreaterThan(0)
  await lock?.release()
  expect(clock.sleeping).toBe(0)
})

it('refuses unknown options and leases without a life', async () => {
  expect(() => memoryStore({ directory: '/tmp' } as never)).toThrow(/unknown option "directory"/)
  await expect(memoryStore().lock?.('www', context, { ttlMs: -1 })).rejects.toThrow(TypeError)
})
