import { getEventListeners } from 'node:events'
import { describe, expect, it } from 'vitest'
import { subscribe, type DeploymentEvents } from '../../../../src/deployers/marathon/marathon-events.js'
import { createHttpClient } from '../../../../src/internal/http.js'
import { authenticationOf } from '../../../../src/deployers/marathon/marathon-authentication.js'
import { marathonTransport } from '../../../../src/deployers/marathon/marathon-transport.js'
import { fakeClock } from '../../../../src/testing/fake-clock.js'
import { operationContext } from '../../../../src/testing/operation-context.js'
import { eventSource, scriptedFetch, type Answer } from './scripted-marathon.js'

async function subscribed(answer: () => Answer | Promise<Answer>, controller = new AbortController()) {
  const clock = fakeClock()
  const scripted = scriptedFetch(answer)
  const http = createHttpClient({ clock, userAgent: 'test', fetch: scripted.fetch })
  const context = { ...operationContext({ clock, signal: controller.signal }), http, deployer: 'marathon' }
  const masters = { urls: ['https://a.example'], preferred: 0 }
  const transport = marathonTransport({ masters, authentication: authenticationOf(undefined, false), context })
  const subscribing = subscribe(transport, context)
  return { clock, scripted, subscribing }
}

async function isWaiting(events: DeploymentEvents, ms = 1_000): Promise<boolean> {
  let over = false
  void events.wait(ms, ['ours']).then(() => (over = true))
  for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve))
  return !over
}

describe('the events of deployments', () => {
  it('are asked for by type, and with short plans', async () => {
    const { scripted, subscribing } = await subscribed(() => eventSource().stream)
    await subscribing
    expect(scripted.sent[0]?.path).toBe(
      '/v2/events?event_type=deployment_success&event_type=deployment_failed&plan-format=light',
    )
  })

  it('wake whoever waits, and say how each deployment ended', async () => {
    const source = eventSource()
    const { subscribing } = await subscribed(() => source.stream)
    const events = await subscribing
    const waiting = events.wait(60_000, ['ours', 'other'])
    source.send({ eventType: 'status_update_event', id: 'ours' })
    source.send({ eventType: 'deployment_failed', id: 'other', reason: 'x' })
    await waiting
    expect([events.outcomeOf('ours'), events.outcomeOf('other'), events.outcomeOf(undefined)]).toEqual([
      undefined,
      'failed',
      undefined,
    ])
    source.send({ eventType: 'deployment_success', id: 'ours' })
    await events.wait(60_000, ['ours'])
    expect(events.outcomeOf('ours')).toBe('success')
    expect(await isWaiting(events)).toBe(true)
  })

  it('of others wake nobody', async () => {
    const source = eventSource()
    const { subscribing } = await subscribed(() => source.stream)
    const events = await subscribing
    source.send({ eventType: 'deployment_success', id: 'before' })
    while (events.outcomeOf('before') === undefined) await new Promise((resolve) => setImmediate(resolve))
    const waiting = isWaiting(events)
    source.send({ eventType: 'deployment_success', id: 'meanwhile' })
    expect(await waiting).toBe(true)
    expect(events.outcomeOf('meanwhile')).toBe('success')
  })

  it('that came before the wait end it at once', async () => {
    const source = eventSource()
    const { subscribing } = await subscribed(() => source.stream)
    const events = await subscribing
    source.send({ eventType: 'deployment_success', id: 'ours' })
    while (events.outcomeOf('ours') === undefined) await new Promise((resolve) => setImmediate(resolve))
    expect(await isWaiting(events)).toBe(false)
  })

  it('are read across the borders of chunks, and of letters', async () => {
    const text = `:comment\r\nevent: deployment_success\r\ndata: ${JSON.stringify({ eventType: 'deployment_success', id: 'ours', note: 'ä€😀' })}\r\n\r\n`
    const stream = new ReadableStream<Uint8Array>({
      start(controller) {
        for (const byte of Buffer.from(text)) controller.enqueue(Uint8Array.of(byte))
      },
    })
    const { subscribing } = await subscribed(() => stream)
    const events = await subscribing
    await events.wait(60_000, ['ours'])
    expect(events.outcomeOf('ours')).toBe('success')
  })

  it('that never end fill no memory', async () => {
    let pulled = 0
    const stream = new ReadableStream<Uint8Array>({
      pull(controller) {
        pulled += 1
        controller.enqueue(Buffer.from('data: '.padEnd(65_536, 'x')))
      },
    })
    const { clock, subscribing } = await subscribed(() => stream)
    const events = await subscribing
    for (let turn = 0; turn < 500; turn += 1) await new Promise((resolve) => setImmediate(resolve))
    expect(pulled).toBeGreaterThan(10)
    expect(pulled).toBeLessThan(200)
    const waiting = events.wait(1_000, ['ours'])
    await clock.advance(1_000)
    await waiting
  })

  it.each<[string, Answer]>([
    ['refused', { status: 403, body: '<html>' }],
    ['not known', { status: 405, body: '<html>' }],
    ['unreachable', new TypeError('fetch failed')],
  ])('are done without when they are %s', async (_, answer) => {
    const { clock, subscribing } = await subscribed(() => answer)
    const events = await subscribing
    expect(await isWaiting(events, 1_000)).toBe(true)
    const waiting = events.wait(1_000, ['ours'])
    await clock.advance(1_000)
    await waiting
  })

  it('are not waited for when the stream does not open', async () => {
    const { clock, subscribing } = await subscribed(() => new Promise<never>(() => undefined))
    await clock.advance(5_000)
    const events = await subscribing
    expect(events.outcomeOf('ours')).toBeUndefined()
  })

  it('leave nothing on the signal by being waited for, however a wait ends', async () => {
    const controller = new AbortController()
    const source = eventSource()
    const { clock, subscribing } = await subscribed(() => source.stream, controller)
    const events = await subscribing
    const listening = (): number => getEventListeners(controller.signal, 'abort').length
    const before = listening()
    for (let waits = 0; waits < 3; waits += 1) {
      const woken = events.wait(60_000, ['ours'])
      expect(listening()).toBe(before + 1)
      source.send({ eventType: 'deployment_success', id: 'ours' })
      await woken
      expect(listening()).toBe(before)
      const timed = events.wait(1_000, ['ours'])
      expect(listening()).toBe(before + 1)
      await clock.advance(1_000)
      await timed
      expect(listening()).toBe(before)
    }
  })

  it('end with an abort, whose reason passes through', async () => {
    const controller = new AbortController()
    const { subscribing } = await subscribed(() => eventSource().stream, controller)
    const events = await subscribing
    const waiting = events.wait(60_000, ['ours'])
    const reason = new Error('stop')
    controller.abort(reason)
    await expect(waiting).rejects.toBe(reason)
  })
})
