import { describe, expect, it } from 'vitest'
import { marathonLbReload, type MarathonLbReloadOptions } from '../../../../src/deployers/marathon/index.js'
import { operationContext } from '../../../../src/testing/operation-context.js'
import { networkError, scriptedFetch, type Answer } from './scripted-marathon.js'

const urls = ['http://10.0.0.4:9090/', 'http://10.0.0.5:9090']

describe('a reload of marathon-lb', () => {
  it('is asked of every one', async () => {
    const scripted = scriptedFetch(() => ({ body: 'Sent SIGUSR1 signal to marathon-lb' }))
    await marathonLbReload({ urls, fetch: scripted.fetch })(operationContext())
    expect(scripted.sent.map(({ method, url }) => `${method} ${url}`)).toEqual([
      'GET http://10.0.0.4:9090/_mlb_signal/usr1',
      'GET http://10.0.0.5:9090/_mlb_signal/usr1',
    ])
  })

  it.each<[string, Answer, RegExp]>([
    ['refuses', { status: 500, body: 'poll mode' }, /10\.0\.0\.4:9090 answered 500$/],
    ['is away', networkError('ECONNREFUSED'), /10\.0\.0\.4:9090.*ECONNREFUSED/],
  ])('is an error when one %s, after all were asked', async (_, answer, message) => {
    const scripted = scriptedFetch(({ url }) => (url.includes('10.0.0.4') ? answer : { body: 'sent' }))
    await expect(marathonLbReload({ urls, fetch: scripted.fetch })(operationContext())).rejects.toMatchObject({
      code: 'ERR_DEPLOY_UNAVAILABLE',
      message: expect.stringMatching(message) as string,
    })
    expect(scripted.sent).toHaveLength(2)
  })

  it('rethrows the reason of an abort', async () => {
    const controller = new AbortController()
    const reason = new Error('stop')
    const scripted = scriptedFetch(() => {
      controller.abort(reason)
      return networkError('ECONNRESET')
    })
    const context = operationContext({ signal: controller.signal })
    await expect(marathonLbReload({ urls, fetch: scripted.fetch })(context)).rejects.toBe(reason)
  })

  it.each<[unknown, string]>([
    [{}, 'urls'],
    [{ urls: [] }, 'urls'],
    [{ urls: ['ftp://x'] }, 'urls'],
    [{ urls: ['http://x/?y'] }, 'urls'],
    [{ urls, timeoutMs: 0 }, 'timeoutMs'],
    [{ urls, fetch: 7 }, 'fetch'],
    [{ urls, url: 'x' }, 'url'],
  ])('is refused with %j', (options, named) => {
    expect(() => marathonLbReload(options as MarathonLbReloadOptions)).toThrow(named)
  })
})
