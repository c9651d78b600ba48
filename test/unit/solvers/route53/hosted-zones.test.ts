import { describe, expect, it } from 'vitest'
import { chooseZone, hostedZones } from '../../../../src/solvers/route53/hosted-zones.js'
import type { HostedZone } from '../../../../src/solvers/route53/route53-client.js'
import { fakeClock } from '../../../../src/testing/fake-clock.js'
import { operationContext } from '../../../../src/testing/operation-context.js'

const zone = (id: string, name: string, isPrivate = false): HostedZone => ({ id, name, private: isPrivate })

describe('chooseZone', () => {
  const zones = [
    zone('Z1', 'example.com'),
    zone('Z2', 'sub.example.com'),
    zone('Z3', 'private.example.com', true),
    zone('Z4', 'example.com', true),
    zone('Z5', 'ample.com'),
    zone('Z6', 'com'),
  ]

  it.each([
    ['_acme-challenge.example.com', 'Z1'],
    ['_acme-challenge.www.example.com', 'Z1'],
    ['_acme-challenge.sub.example.com', 'Z2'],
    ['_acme-challenge.a.b.sub.example.com', 'Z2'],
    ['sub.example.com', 'Z2'],
    ['_acme-challenge.private.example.com', 'Z1'],
    ['_acme-challenge.notexample.com', 'Z6'],
    ['_acme-challenge.example.org', undefined],
  ])('%s belongs to %s', (name, id) => {
    expect(chooseZone(name, zones)).toBe(id)
  })

  it('refuses to guess between two public zones of one name', () => {
    const twins = [...zones, zone('Z7', 'example.com')]
    expect(() => chooseZone('_acme-challenge.example.com', twins)).toThrow(/Z1, Z7.*"hostedZoneId"/)
    expect(chooseZone('_acme-challenge.sub.example.com', twins)).toBe('Z2')
  })
})

describe('hostedZones', () => {
  function world(zones: HostedZone[]) {
    const clock = fakeClock()
    let lists = 0
    const found = hostedZones(async () => {
      lists += 1
      await Promise.resolve()
      return [...zones]
    })
    return { clock, found, context: operationContext({ clock }), lists: () => lists }
  }

  it('lists once for everybody, and again after a while', async () => {
    const { found, context, clock, lists } = world([zone('Z1', 'example.com')])
    await Promise.all(Array.from({ length: 20 }, () => found.find('_acme-challenge.example.com', context)))
    expect(lists()).toBe(1)
    await clock.advance(299_999)
    await found.find('_acme-challenge.example.com', context)
    expect(lists()).toBe(1)
    await clock.advance(2)
    await found.find('_acme-challenge.example.com', context)
    expect(lists()).toBe(2)
    await clock.setTime(clock.now() - 3_600_000)
    await found.find('_acme-challenge.example.com', context)
    expect(lists()).toBe(3)
    found.forget()
    await found.find('_acme-challenge.example.com', context)
    expect(lists()).toBe(4)
  })

  it('looks again for a zone that may have been made since, once', async () => {
    const zones = [zone('Z1', 'example.com')]
    const { found, context, clock, lists } = world(zones)
    await found.find('_acme-challenge.example.com', context)
    await clock.advance(1000)
    zones.push(zone('Z2', 'example.org'))
    expect(await found.find('_acme-challenge.example.org', context)).toBe('Z2')
    expect(lists()).toBe(2)
    await expect(found.find('_acme-challenge.example.net', context)).rejects.toThrow(
      'looked for _acme-challenge.example.net, example.net',
    )
    expect(lists()).toBe(2)
  })

  it('lets one caller go without taking the list from the others', async () => {
    const { found, context, lists } = world([zone('Z1', 'example.com')])
    const controller = new AbortController()
    const reason = new Error('stop')
    const leaving = found.find('_acme-challenge.example.com', { ...context, signal: controller.signal })
    const staying = found.find('_acme-challenge.example.com', context)
    controller.abort(reason)
    await expect(leaving).rejects.toBe(reason)
    expect(await staying).toBe('Z1')
    expect(lists()).toBe(1)
  })
})
