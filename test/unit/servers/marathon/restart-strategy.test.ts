import { describe, expect, it } from 'vitest'
import { restartMove, restartStrategy } from '../../../servers/marathon/restart-strategy.js'

function app(instances: number, minimumHealthCapacity: number, maximumOverCapacity: number) {
  return { id: '/app', instances, upgradeStrategy: { minimumHealthCapacity, maximumOverCapacity } }
}

function tasks(count: number, appVersion = 'old', healthy = true) {
  return Array.from({ length: count }, (_, index) => ({ id: `${appVersion}${String(index)}`, appVersion, healthy }))
}

describe('restartStrategy', () => {
  it.each([
    // One instance may not go, so that there must be room for a second one.
    [app(1, 0.5, 0.2), tasks(1), { minimumHealthy: 1, maximumCapacity: 2 }],
    [app(1, 0, 0), tasks(1), { minimumHealthy: 0, maximumCapacity: 1 }],
    [app(2, 0.5, 0), tasks(2), { minimumHealthy: 1, maximumCapacity: 2 }],
    [app(4, 0.5, 0.2), tasks(4), { minimumHealthy: 2, maximumCapacity: 4 }],
    [app(5, 1, 0.2), tasks(5), { minimumHealthy: 5, maximumCapacity: 6 }],
    // Nothing is healthy that would have to be kept.
    [app(1, 1, 0), tasks(1, 'old', false), { minimumHealthy: 1, maximumCapacity: 1 }],
  ])('of %j', (definition, current, expected) => {
    expect(restartStrategy(definition, current)).toEqual(expected)
  })
})

describe('restartMove', () => {
  const strategy = { minimumHealthy: 1, maximumCapacity: 2 }
  it.each([
    ['kills an old task that is not needed', tasks(2), { kill: 'old0' }],
    ['starts a new one where there is room', tasks(1), { start: true }],
    ['kills the old one when the new one is healthy', [...tasks(1), ...tasks(1, 'new')], { kill: 'old0' }],
    ['waits for a new one', [...tasks(1), ...tasks(1, 'new', false)], 'wait'],
    ['is done when there are only new ones', tasks(2, 'new'), 'done'],
    ['is not done while one of them is not healthy', [...tasks(1, 'new'), ...tasks(1, 'new', false)], 'wait'],
  ])('%s', (_, current, expected) => {
    expect(restartMove(app(2, 0.5, 0), 'new', current, strategy)).toEqual(expected)
  })
})
