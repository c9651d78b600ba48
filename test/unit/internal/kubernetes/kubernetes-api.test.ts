import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { systemClock } from '../../../../src/core/clock.js'
import { kubernetesApi, type ApiScope } from '../../../../src/internal/kubernetes/kubernetes-api.js'
import type { KubernetesConnection } from '../../../../src/internal/kubernetes/kubernetes-config.js'
import { assertNoSecrets } from '../../../../src/testing/recording-logger.js'
import { testAuthority } from '../../../support/certificates.js'
import { kubeConfig } from '../../../support/kube-apiserver.js'
import { temporaryDirectory, type TemporaryDirectory } from '../../../support/temporary-directory.js'

const authority = await testAuthority()
const certificate = await authority.issue(['127.0.0.1'])
const request = { method: 'GET', path: '/api/v1/namespaces/web/secrets/x' } as const

class Told extends Error {}
const scope = (signal = new AbortController().signal): ApiScope => ({
  ...{ clock: systemClock, signal },
  tell: (why, kind, cause) => new Told(`${kind}: ${why}`, { cause }),
})

interface Listening {
  readonly server: Server
  readonly url: string
  readonly connections: () => number
  readonly open: () => number
  readonly tokens: string[]
}

/** Takes the token `good`, and no other. */
async function listen(): Promise<Listening> {
  const tokens: string[] = []
  let connections = 0
  let open = 0
  const server = createServer(
    { cert: certificate.certificatePem, key: certificate.privateKeyPem },
    (incoming, response) => {
      const token = incoming.headers.authorization ?? ''
      tokens.push(token)
      response.statusCode = token === 'Bearer good' ? 200 : 401
      if (incoming.url === '/stream') response.write('begun\n')
      else if (incoming.url === '/silent') return
      else response.end('{}')
    },
  )
  server.on('secureConnection', (socket) => {
    connections += 1
    open += 1
    socket.on('close', () => (open -= 1))
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const url = `https://127.0.0.1:${String((server.address() as AddressInfo).port)}`
  return { server, url, connections: () => connections, open: () => open, tokens }
}

describe('kubernetesApi', () => {
  let directory: TemporaryDirectory
  let listening: Listening
  let kubeConfigFile: string
  beforeEach(async () => {
    directory = await temporaryDirectory()
    listening = await listen()
    kubeConfigFile = join(directory.path, 'config')
    await configure('good')
  })
  afterEach(async () => {
    listening.server.closeAllConnections()
    listening.server.close()
    await directory.remove()
  })

  const configure = (token: string, url = listening.url) =>
    writeFile(kubeConfigFile, JSON.stringify(kubeConfig(url, authority.certificatePem, { token })))
  const open = () => {
    const connection: KubernetesConnection = {
      ...{ kubeConfig: undefined, kubeConfigFile, timeoutMs: 10_000, fetch: undefined },
    }
    return kubernetesApi(connection)
  }

  it('keeps its connections open from one request to the next, and lets them go', async () => {
    const api = open()
    for (let count = 0; count < 30; count += 1) expect((await api.ask(request, scope())).status).toBe(200)
    expect(listening.connections()).toBe(1)
    api.close()
    await vi.waitUntil(() => listening.open() === 0, { timeout: 10_000 })
    expect((await api.ask(request, scope())).status).toBe(200)
    api.close()
  })

  it('reads its configuration anew after 401, once, and again after a connection that failed', async () => {
    const api = open()
    await api.ask(request, scope())
    await configure('better')
    // What was loaded is still good.
    expect((await api.ask(request, scope())).status).toBe(200)
    await configure('bad')
    api.close()
    expect((await api.ask(request, scope())).status).toBe(401)
    expect(listening.tokens.slice(-2)).toEqual(['Bearer bad', 'Bearer bad'])
    await configure('good')
    expect((await api.ask(request, scope())).status).toBe(200)
    expect(listening.tokens.slice(-2)).toEqual(['Bearer bad', 'Bearer good'])

    listening.server.closeAllConnections()
    listening.server.close()
    const elsewhere = await listen()
    await configure('good', elsewhere.url)
    await expect(api.ask(request, scope())).rejects.toThrow(/^unavailable: the Kubernetes API server cannot be asked: /)
    expect((await api.ask(request, scope())).status).toBe(200)
    api.close()
    elsewhere.server.closeAllConnections()
    elsewhere.server.close()
  })

  it('lets its connections go, and reads its configuration anew, after a request that was aborted', async () => {
    const api = open()
    const silent = { method: 'GET', path: '/silent' } as const
    const controller = new AbortController()
    const unanswered = api.ask(silent, scope(controller.signal))
    await vi.waitUntil(() => listening.tokens.length === 1, { timeout: 10_000 })
    const elsewhere = await listen()
    await configure('good', elsewhere.url)
    // Who asks at the same time is served all the same.
    const before = api.ask(request, scope())
    const reason = new Error('time is up')
    controller.abort(reason)
    const others = Array.from({ length: 5 }, () => api.ask(request, scope()))
    await expect(unanswered).rejects.toBe(reason)
    for (const other of [before, ...others]) expect((await other).status).toBe(200)
    expect((await api.ask(request, scope())).status).toBe(200)
    expect(elsewhere.tokens.length).toBeGreaterThan(0)
    await vi.waitUntil(() => listening.open() === 0, { timeout: 30_000 })
    // What was not even sent says nothing about the server.
    await configure('bad', elsewhere.url)
    await expect(api.ask(request, scope(controller.signal))).rejects.toBe(reason)
    expect((await api.ask(request, scope())).status).toBe(200)
    api.close()
    elsewhere.server.closeAllConnections()
    elsewhere.server.close()
  })

  it('serves many at once while one of them aborts, or configuration is missing for a moment', async () => {
    const api = open()
    const controller = new AbortController()
    const reason = new Error('stop')
    const aborted = api.ask(request, scope(controller.signal))
    const others = Array.from({ length: 20 }, () => api.ask(request, scope()))
    controller.abort(reason)
    await expect(aborted).rejects.toBe(reason)
    for (const other of others) expect((await other).status).toBe(200)
    expect(listening.connections()).toBeLessThanOrEqual(16)
    api.close()
    await writeFile(kubeConfigFile, '{ token: good')
    await expect(api.ask(request, scope())).rejects.toThrow(/^rejected: the kubeconfig cannot be read/)
    await configure('good')
    expect((await api.ask(request, scope())).status).toBe(200)
    api.close()
  })

  it('reads what comes bit by bit until it is aborted, with the token that is good by then', async () => {
    await configure('bad')
    const api = open()
    const controller = new AbortController()
    const refused = await api.stream({ method: 'GET', path: '/stream' }, scope(controller.signal))
    expect(refused.status).toBe(401)
    refused.cancel()
    await configure('good')
    const { status, chunks } = await api.stream({ method: 'GET', path: '/stream' }, scope(controller.signal))
    expect(status).toBe(200)
    const reason = new Error('stop')
    const read = async (): Promise<void> => {
      for await (const chunk of chunks) {
        expect(Buffer.from(chunk).toString()).toBe('begun\n')
        controller.abort(reason)
      }
    }
    await expect(read()).rejects.toBe(reason)
    api.close()
    await vi.waitUntil(() => listening.open() === 0, { timeout: 10_000 })
  })

  it('tells nothing of the token', async () => {
    const token = 'token-that-must-not-be-shown'
    await configure(token, 'https://127.0.0.1:1')
    const error: unknown = await open()
      .ask(request, scope())
      .catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(Told)
    assertNoSecrets(error, [token])
  })
})
