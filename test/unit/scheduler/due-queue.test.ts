import { inspect } from 'node:util'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { DueQueue } from '../../../src/scheduler/due-queue.js'

describe('DueQueue', () => {
  it('behaves like a sorted map, whatever is set, moved and deleted', () => {
    const command = fc.oneof(
      fc.record({ kind: fc.constant('set' as const), name: fc.constantFrom(...'abcdefgh'), at: fc.nat(100) }),
      fc.record({ kind: fc.constant('delete' as const), name: fc.constantFrom(...'abcdefgh') }),
      fc.record({ kind: fc.constant('take' as const), now: fc.nat(100) }),
    )
    fc.assert(
      fc.property(fc.array(command, { maxLength: 200 }), (commands) => {
        const queue = new DueQueue()
        const model = new Map<string, number>()
        for (const step of commands) {
          if (step.kind === 'set') {
            queue.set(step.name, step.at)
            model.set(step.name, step.at)
          } else if (step.kind === 'delete') {
            queue.delete(step.name)
            model.delete(step.name)
          } else {
            const earliest = Math.min(...model.values())
            const taken = queue.takeDue(step.now)
            if (earliest > step.now) expect(taken).toBeUndefined()
            else {
              expect(model.get(taken ?? '')).toBe(earliest)
              model.delete(taken ?? '')
            }
          }
          expect(queue.nextAt()).toBe(Math.min(...model.values()))
        }
      }),
    )
  })

  it('does not grow when names are moved and never taken', () => {
    const queue = new DueQueue()
    for (let at = 0; at < 200_000; at += 1) queue.set(at % 2 === 0 ? 'a' : 'b', at)
    const shown = inspect(queue, { showHidden: true, depth: 3, maxArrayLength: 10 })
    expect(shown.length).toBeLessThan(2_000)
    expect(queue.takeDue(Infinity)).toBe('a')
    expect(queue.takeDue(Infinity)).toBe('b')
    expect(queue.takeDue(Infinity)).toBeUndefined()
  })

  it('does not grow when one name is moved again and again', () => {
    const queue = new DueQueue()
    for (let at = 0; at < 100_000; at += 1) {
      queue.set('a', at)
      queue.takeDue(at)
    }
    expect(queue.nextAt()).toBe(Infinity)
  })
})
