/**
 * The event stream.
 */
import { createParser } from 'eventsource-parser'
import { connect } from 'node:net'
import { describe, expect, it, onTestFinished, vi } from 'vitest'
import { askUrl, lb, startWorld, type World } from './world.js'

interface Received {
  readonly type: string
  readonly data: Record<string, unknown>
}

interface Stream {
  readonly received: readonly Received[]
  /** Resolves with the next event that has not been asked for yet. */
  next(): Promise<Received>
  readonly ended: Promise<void>
  types(): string[]
}

async function listen(world: World, query = '', headers: Record<string, string> = {}): Promise<Stream> {
  const abort = new AbortController()
  onTestFinished(() => abort.abort())
  const response = await fetch(`${world.url}/v2/events${query}`, {
    headers: { accept: 'text/event-stream', ...headers },
    signal: abort.signal,
  })
  expect(response.headers.get('content-type')).toBe('text/event-stream;charset=utf-8')
  const received: Received[] = []
  let asked = 0
  let wake = (): void => undefined
  const parser = createParser({
    onEvent({ event = '', data }) {
      received.push({ type: event, data: JSON.parse(data) as Record<string, unknown> })
      wake()
    },
  })
  const ended = (async () => {
    const decoder = new TextDecoder()
    for await (const chunk of response.body!) parser.feed(decoder.decode(chunk as Uint8Array, { stream: true }))
  })()
  ended.catch(() => undefined)
  return {
    received,
    async next() {
      while (received.length <= asked) await new Promise<void>((resolve) => (wake = resolve))
      asked += 1
      return received[asked - 1]!
    },
    ended,
    types: () => received.map(({ type }) => type),
  }
}

const newEnv = { env: { HAPROXY_SSL_CERT: 'new' } }

describe('GET /v2/events', () => {
  it('tells who has attached, then what happens, ending with success', async () => {
    const world = await startWorld()
    const stream = await listen(world)
    expect(await stream.next()).toMatchObject({
      type: 'event_stream_attached',
      data: { eventType: 'event_stream_attached', remoteAddress: '127.0.0.1' },
    })
    const { json } = await world.ask('PATCH', '/v2/apps/marathon-lb', newEnv)
    const { version, deploymentId } = json()
    let event = await stream.next()
    while (event.type !== 'deployment_success') event = await stream.next()
    expect(event.data).toEqual({
      eventType: 'deployment_success',
      id: deploymentId,
      plan: {
        id: deploymentId,
        version,
        steps: [{ actions: [{ action: 'RestartApplication', app: '/marathon-lb' }] }],
      },
      timestamp: expect.any(String) as string,
    })
    const order = ['api_post_event', 'deployment_info', 'status_update_event', 'deployment_step_success']
    expect(stream.types().filter((type) => order.includes(type))[0]).toBe('api_post_event')
    expect(new Set(stream.types())).toEqual(new Set(['event_stream_attached', ...order, 'deployment_success']))
  })

  it('sends only the types that are asked for', async () => {
    const world = await startWorld()
    const stream = await listen(world, '?event_type=deployment_success&event_type=deployment_failed')
    world.update('marathon-lb', newEnv)
    expect((await stream.next()).type).toBe('deployment_success')
    expect(stream.types()).toEqual(['deployment_success'])
  })

  it('ignored that before 1.3.7', async () => {
    const world = await startWorld({ features: { eventFilter: false } })
    const stream = await listen(world, '?event_type=deployment_success')
    expect((await stream.next()).type).toBe('event_stream_attached')
  })

  it('tells of a cancelled deployment why, and of one that is overridden', async () => {
    const world = await startWorld()
    world.deployments.hold()
    const stream = await listen(world, '?event_type=deployment_failed')
    const first = world.update('marathon-lb', newEnv)
    world.update('marathon-lb', { env: {} }, { force: true })
    expect((await stream.next()).data).toMatchObject({
      id: first.deploymentId,
      reason: 'The upgrade has been cancelled',
    })
    const [second] = world.deployments.running
    world.deployments.cancel()
    expect((await stream.next()).data).toMatchObject({ id: second!.id })
  })

  it('gave no reason before 1.8', async () => {
    const world = await startWorld({ features: { failureReason: false } })
    world.deployments.hold()
    const stream = await listen(world, '?event_type=deployment_failed')
    world.update('marathon-lb', newEnv)
    world.deployments.cancel()
    expect((await stream.next()).data).not.toHaveProperty('reason')
  })

  it('tells of a refused change as of a failed deployment, with an id that nobody was given', async () => {
    const world = await startWorld()
    world.deployments.hold()
    const stream = await listen(world, '?event_type=deployment_failed')
    const { deploymentId } = world.update('marathon-lb', newEnv)
    expect((await world.ask('PATCH', '/v2/apps/marathon-lb', { env: {} })).status).toBe(409)
    const { data } = await stream.next()
    expect(data['id']).not.toBe(deploymentId)
    expect(data['reason']).toMatch(/^App is locked by one or more deployments/)
  })

  it('carries whole definitions before 1.7, unless light plans are asked for', async () => {
    const world = await startWorld({ features: { heavyPlans: true } })
    const [heavy, light] = await Promise.all([
      listen(world, '?event_type=deployment_success'),
      listen(world, '?event_type=deployment_success&plan-format=light'),
    ])
    world.update('marathon-lb', newEnv)
    expect((await heavy.next()).data['plan']).toMatchObject({
      original: { apps: [{ env: lb.env }] },
      target: { apps: [newEnv] },
    })
    expect((await light.next()).data['plan']).not.toHaveProperty('target')
  })

  it('answers 405 with a page when no event stream is asked for', async () => {
    const world = await startWorld()
    const { status, headers, text } = await askUrl(`${world.url}/v2/events`)
    expect([status, headers.get('content-type')]).toEqual([405, 'text/html;charset=utf-8'])
    expect(text).toContain('<html>')
  })

  it('can be forbidden', async () => {
    const world = await startWorld()
    const refused = world.forbid({ action: 'view-events' })
    const { status } = await askUrl(`${world.url}/v2/events`, { headers: { accept: 'text/event-stream' } })
    expect([status, refused.fired]).toEqual([403, 1])
  })
})

describe('an event stream', () => {
  it('breaks on demand', async () => {
    const world = await startWorld()
    const stream = await listen(world)
    expect(world.events.subscribers).toBe(1)
    world.events.cut()
    await stream.ended
    await vi.waitFor(() => expect(world.events.subscribers).toBe(0), { timeout: 50_000 })
  })

  it('falls silent on demand', async () => {
    const world = await startWorld()
    const stream = await listen(world)
    await stream.next()
    world.events.mute()
    world.update('marathon-lb', newEnv)
    await world.deployments.settled()
    world.events.unmute()
    world.events.emit('framework_message_event')
    expect((await stream.next()).type).toBe('framework_message_event')
  })

  it('is closed when its consumer is slow', async () => {
    const world = await startWorld({ features: { eventBuffer: 3 } })
    const { hostname, port } = new URL(world.url)
    const socket = connect(Number(port), hostname)
    onTestFinished(() => void socket.destroy())
    socket.on('error', () => undefined)
    socket.pause()
    socket.write('GET /v2/events HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\r\n')
    await vi.waitFor(() => expect(world.events.subscribers).toBe(1), { timeout: 50_000 })
    const text = 'x'.repeat(8 * 1024 * 1024)
    for (let event = 0; event < 5; event += 1) world.events.emit('framework_message_event', { text })
    expect(world.events.slowConsumersClosed).toBe(1)
  })
})
