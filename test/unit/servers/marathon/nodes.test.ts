/**
 * Several nodes, TLS, and faults between them and the client.
 */
import { get } from 'node:https'
import { describe, expect, it } from 'vitest'
import { fakeClock } from '../../../../src/testing/fake-clock.js'
import { askUrl, startWorld } from './world.js'

const path = '/v2/apps/marathon-lb'

describe('a standby', () => {
  it('passes requests on to the leader', async () => {
    const world = await startWorld({ nodes: 3 })
    const [leader, standby] = world.urls
    const { status, headers, json } = await askUrl(`${standby!}${path}`)
    expect(status).toBe(200)
    expect(json()).toMatchObject({ app: { id: '/marathon-lb' } })
    expect(headers.get('x-marathon-leader')).toBe(leader)
    expect(headers.get('x-marathon-via')).toBe(standby)
    expect(world.requests).toMatchObject([{ node: 1, method: 'GET', path }])
  })

  it('sends listeners to the leader', async () => {
    const world = await startWorld({ nodes: 2 })
    const { status, headers } = await askUrl(`${world.urls[1]!}/v2/events?event_type=deployment_success`, {
      headers: { accept: 'text/event-stream' },
    })
    expect(status).toBe(302)
    expect(headers.get('location')).toBe(`${world.urls[0]!}/v2/events?event_type=deployment_success`)
  })

  it('can redirect everything: whoever follows with fetch loses the credentials', async () => {
    const world = await startWorld({
      nodes: 2,
      standby: 'redirect',
      authentication: { type: 'basic', username: 'admin', password: 'pw' },
    })
    const headers = { authorization: `Basic ${Buffer.from('admin:pw').toString('base64')}` }
    expect((await askUrl(`${world.urls[0]!}${path}`, { headers })).status).toBe(200)
    expect((await askUrl(`${world.urls[1]!}${path}`, { headers })).status).toBe(302)
    expect((await askUrl(`${world.urls[1]!}${path}`, { headers, redirect: 'follow' })).status).toBe(401)
  })

  it('can become the leader, which ends the event streams', async () => {
    const world = await startWorld({ nodes: 2 })
    const stream = await fetch(`${world.urls[0]!}/v2/events`, { headers: { accept: 'text/event-stream' } })
    world.elect(1)
    expect(await stream.text()).toContain('event_stream_attached')
    expect((await world.ask('GET', '/v2/leader')).json()).toEqual({ leader: new URL(world.urls[1]!).host })
  })

  it('answers 502 when there is no leader, or none that answers', async () => {
    const world = await startWorld({ nodes: 2 })
    await world.nodes[0]!.stop()
    await expect(world.ask('GET', path)).rejects.toThrow('fetch failed')
    expect((await askUrl(`${world.urls[1]!}${path}`)).status).toBe(502)
    world.elect(undefined)
    const { status, text } = await askUrl(`${world.urls[1]!}${path}`)
    expect(status).toBe(502)
    expect(text).toContain('Could not determine the current leader')
    await world.nodes[0]!.start()
    world.elect(0)
    expect((await askUrl(`${world.urls[1]!}${path}`)).status).toBe(200)
    expect((await world.ask('GET', path)).status).toBe(200)
  })
})

describe('TLS', () => {
  it('is signed by a CA of its own', async () => {
    const world = await startWorld({ tls: true })
    const status = await new Promise((resolve, reject) => {
      get(`${world.url}${path}`, { ca: world.caPem }, (response) => {
        response.resume()
        resolve(response.statusCode)
      }).on('error', reject)
    })
    expect(status).toBe(200)
    await expect(world.ask('GET', path)).rejects.toThrow('fetch failed')
  })
})

describe('faults', () => {
  it('are applied to the requests they name, and counted', async () => {
    const clock = fakeClock()
    const world = await startWorld({ nodes: 2, clock })
    const page = world.addFault({ match: { path, nth: 1 }, action: { status: 503, body: '<html>' } })
    const unsent = world.addFault({ match: { path, nth: 2 }, action: 'drop-before' })
    const lost = world.addFault({ match: { path, nth: 3, method: 'PATCH' }, action: 'drop-after' })
    const half = world.addFault({ match: { path, nth: 3, method: 'GET' }, action: 'truncate' })
    const huge = world.addFault({ match: { path, nth: 7 }, action: { replaceBody: () => 'x'.repeat(1e6) } })
    const slow = world.addFault({ match: { path, nth: 8 }, action: { delayMs: 60_000 } })
    const elsewhere = world.addFault({ match: { node: 1 }, action: 'drop-before' })
    const patch = (value: string) => world.ask('PATCH', `${path}?force=true`, { env: { A: value } })

    expect(await world.ask('GET', path)).toMatchObject({ status: 503, text: '<html>' })
    await expect(patch('1')).rejects.toThrow()
    expect((await patch('2')).status).toBe(200)
    expect((await world.ask('GET', path)).status).toBe(200)
    await expect(patch('3')).rejects.toThrow()
    await expect(world.ask('GET', path)).rejects.toThrow()
    expect((await world.ask('GET', path)).text).toHaveLength(1e6)
    const late = world.ask('GET', path)
    while (clock.sleeping === 0) await new Promise((resolve) => void setImmediate(resolve))
    await clock.advance(60_000)
    expect((await late).status).toBe(200)

    expect([page, unsent, lost, half, huge, slow, elsewhere].map(({ fired }) => fired)).toEqual([1, 1, 1, 1, 1, 1, 0])
    // The lost reply was to a change that took place; the request that was cut was not handled.
    expect(world.app('marathon-lb')!.definition.env).toEqual({ A: '3' })
    expect(world.requests.map(({ status, fault }) => [status, fault])).toEqual([
      [503, 'reply'],
      [undefined, 'drop-before'],
      [200, undefined],
      [200, undefined],
      [200, 'drop-after'],
      [200, 'truncate'],
      [200, 'replace-body'],
      [200, 'delay'],
    ])
    expect(world.count('PATCH', path)).toBe(3)
    expect(world.count('GET', /^\/v2\//)).toBe(5)
  })

  it('hang until the client gives up', async () => {
    const world = await startWorld()
    const hang = world.addFault({ match: { method: 'PATCH' }, action: { delayMs: Infinity } })
    const abort = new AbortController()
    const request = fetch(world.url + path, { method: 'PATCH', body: '{}', signal: abort.signal })
    while (hang.fired === 0) await new Promise((resolve) => void setImmediate(resolve))
    abort.abort(new Error('given up'))
    await expect(request).rejects.toThrow('given up')
    expect(world.requests[0]!.status).toBeUndefined()
  })

  it('let somebody else act between a read and a write', async () => {
    const world = await startWorld()
    const edit = world.addFault({
      match: { method: 'PATCH', nth: 1 },
      action: {
        async first() {
          world.update('marathon-lb', { labels: { OTHER: 'yes' } })
          await world.deployments.settled()
        },
      },
    })
    expect((await world.ask('PATCH', path, { env: { A: '1' } })).status).toBe(200)
    expect(edit.fired).toBe(1)
    expect(world.app('marathon-lb')!.definition).toMatchObject({ env: { A: '1' }, labels: { OTHER: 'yes' } })
  })
})
