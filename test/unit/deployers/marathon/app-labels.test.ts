import { describe, expect, it } from 'vitest'
import {
  marathonLbHosts,
  readMarathonLabels,
  type MarathonConnectionOptions,
} from '../../../../src/deployers/marathon/index.js'
import { scriptedMarathon } from './scripted-marathon.js'

const connection = { urls: 'https://marathon.example', appId: 'lb' }

describe('the labels of an app', () => {
  it('are read, and only those that are texts', async () => {
    const marathon = scriptedMarathon({ labels: { HAPROXY_GROUP: 'external', ODD: 7 } })
    expect(await readMarathonLabels({ ...connection, fetch: marathon.fetch })).toEqual({ HAPROXY_GROUP: 'external' })
    expect(marathon.calls()).toEqual(['GET /v2/apps/lb'])
  })

  it('of an app without any are none', async () => {
    const marathon = scriptedMarathon()
    expect(await readMarathonLabels({ ...connection, fetch: marathon.fetch })).toEqual({})
  })

  it('of an app that is not there are an error', async () => {
    const marathon = scriptedMarathon()
    const reading = readMarathonLabels({ ...connection, appId: 'other', fetch: marathon.fetch })
    await expect(reading).rejects.toMatchObject({
      reason: 'not-found',
      message: expect.stringContaining('/other') as string,
    })
  })

  it('are not read with a signal that has aborted, nor with options of the deployer', async () => {
    const reason = new Error('stop')
    await expect(readMarathonLabels(connection, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
    const options = { ...connection, force: true } as MarathonConnectionOptions
    await expect(readMarathonLabels(options)).rejects.toThrow('unknown option "force"')
  })
})

describe('the hosts of marathon-lb', () => {
  it.each<[Record<string, string>, readonly string[]]>([
    [{}, []],
    [{ HAPROXY_0_VHOST: 'www.example.com' }, ['www.example.com']],
    [{ HAPROXY_0_VHOST: ' WWW.Example.com, example.com ,,www.example.com' }, ['www.example.com', 'example.com']],
    [{ HAPROXY_10_VHOST: 'c', HAPROXY_2_VHOST: 'b,a', HAPROXY_0_VHOST: 'a' }, ['a', 'b', 'c']],
    [{ HAPROXY_X_VHOST: 'a', HAPROXY_0_PATH: 'b', XHAPROXY_0_VHOST: 'c', HAPROXY_0_VHOSTS: 'd' }, []],
  ])('of %j are %j', (labels, hosts) => {
    expect(marathonLbHosts(labels)).toEqual(hosts)
  })
})
