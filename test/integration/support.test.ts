import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { get as httpsGet } from 'node:https'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, expect, it, onTestFinished, vi } from 'vitest'
import { testAuthority } from '../support/certificates.js'
import { startHaproxy, type Haproxy, type HaproxyOptions } from '../support/haproxy.js'
import { startJournalProxy, type JournalProxy } from '../support/journal-proxy.js'
import { startNginx } from '../support/nginx.js'
import { startPebble, type Pebble, type PebbleOptions } from '../support/pebble.js'
import { runningServers, spawnServer } from '../support/processes.js'
import { describeWith, requireServer } from '../support/servers.js'
import { temporaryDirectory } from '../support/temporary-directory.js'
import { probeTls, startHandshakeLoad } from '../support/tls-probe.js'

afterAll(async () => {
  expect(runningServers()).toEqual([])
  // Masters and their workers: whatever serves has an ancestor in this process.
  expect(await serversBelow(process.pid)).toEqual([])
})

describeWith(['pebble', 'pebble-challtestsrv'], 'Pebble behind the journal proxy', () => {
  it('serves its directory with profiles and renewal information, and records the request', async () => {
    const pebble = await startedPebble({
      profiles: { classic: { description: 'c' }, shortlived: { description: 's', validityPeriod: 518_400 } },
    })
    const proxy = await startedProxy(pebble)

    const { status, body } = await get(proxy.directoryUrl, proxy.caPem)

    const directory = JSON.parse(body) as { newOrder: string; renewalInfo: string; meta: { profiles: object } }
    expect(status).toBe(200)
    expect(Object.keys(directory.meta.profiles).sort()).toEqual(['classic', 'shortlived'])
    expect(directory.renewalInfo).toMatch(/renewalInfo$/)
    // Clients that follow the directory stay behind the proxy.
    expect(new URL(directory.newOrder).origin).toBe(new URL(proxy.directoryUrl).origin)
    expect(proxy.journal).toMatchObject([
      { kind: 'directory', method: 'GET', path: '/dir', status: 200, fault: undefined },
    ])
    expect(pebble.requestCounts()).toEqual({ 'GET /dir': 1 })
  })

  it('applies each kind of fault, and counts it', async () => {
    const pebble = await startedPebble()
    const proxy = await startedProxy(pebble)
    const nonceUrl = proxy.directoryUrl.replace('/dir', '/nonce-plz')
    const lost = proxy.addRule({ match: { kind: 'newNonce', nth: 2 }, action: 'drop-after' })
    const unsent = proxy.addRule({ match: { kind: 'newNonce', nth: 3 }, action: 'drop-before' })
    const half = proxy.addRule({ match: { kind: 'directory', nth: 1 }, action: 'truncate' })
    const other = proxy.addRule({ match: { kind: 'directory', nth: 2 }, action: { replaceBody: () => '{}' } })
    const busy = proxy.addRule({
      match: { kind: 'directory', nth: 3 },
      action: { status: 503, headers: { 'retry-after': '7' }, body: 'later' },
    })
    const slow = proxy.addRule({ match: { kind: 'directory', nth: 4 }, action: { delayMs: 200 } })

    expect((await get(nonceUrl, proxy.caPem)).status).toBe(204)
    await expect(get(nonceUrl, proxy.caPem)).rejects.toThrow()
    await expect(get(nonceUrl, proxy.caPem)).rejects.toThrow()
    await expect(get(proxy.directoryUrl, proxy.caPem)).rejects.toThrow()
    expect((await get(proxy.directoryUrl, proxy.caPem)).body).toBe('{}')
    expect(await get(proxy.directoryUrl, proxy.caPem)).toMatchObject({ status: 503, body: 'later' })
    const before = performance.now()
    expect((await get(proxy.directoryUrl, proxy.caPem)).status).toBe(200)
    expect(performance.now() - before).toBeGreaterThanOrEqual(199)

    expect([lost, unsent, half, other, busy, slow].map(({ fired }) => fired)).toEqual([1, 1, 1, 1, 1, 1])
    expect(proxy.journal.map(({ kind, status, fault }) => [kind, status, fault])).toEqual([
      ['newNonce', 204, undefined],
      ['newNonce', 204, 'drop-after'],
      ['newNonce', undefined, 'drop-before'],
      ['directory', 200, 'truncate'],
      ['directory', 200, 'replace-body'],
      ['directory', 503, 'reply'],
      ['directory', 200, 'delay'],
    ])
    expect(proxy.journal[5]?.responseHeaders).toEqual({ 'retry-after': '7' })
    // The lost reply had reached Pebble, the cut request had not.
    expect(pebble.requestCounts()).toEqual({ 'GET /nonce-plz': 2, 'GET /dir': 3 })
  })

  it('can keep a client waiting for ever, and still stops', async () => {
    const pebble = await startedPebble()
    const proxy = await startedProxy(pebble)
    const silence = proxy.addRule({ match: {}, action: { delayMs: Infinity } })

    const request = get(proxy.directoryUrl, proxy.caPem)
    request.catch(() => {})
    await expect(Promise.race([request, sleep(300, 'still waiting')])).resolves.toBe('still waiting')
    await proxy.stop()

    await expect(request).rejects.toThrow()
    expect(silence.fired).toBe(1)
    expect(pebble.requestCounts()).toEqual({})
  })

  it('tells its roots, and what it knows of a certificate', async () => {
    const pebble = await startedPebble({ alternateRoots: 2 })

    const roots = await pebble.rootPems()

    expect(new Set(roots).size).toBe(3)
    expect(await pebble.rootPem()).toBe(roots[0])
    expect(new Set(await pebble.intermediatePems()).size).toBe(3)
    expect(await pebble.certificateStatus('ab12')).toBeUndefined()
    await expect(pebble.setRenewalInfo(roots[0]!, 'not json')).resolves.toBeUndefined()
  })

  it('answers DNS and http-01 from records that the test sets', async () => {
    const { challtestsrv, httpPort } = await startedPebble()
    const host = 'records.example'
    await challtestsrv.addHttp01('token', 'authorization')
    await challtestsrv.addA(host, ['127.0.0.1'])
    await challtestsrv.setTxt(`_acme-challenge.${host}`, 'value')
    await challtestsrv.setServfail(`broken.${host}`)
    await challtestsrv.setCname(`alias.${host}`, host)

    const response = await fetch(`http://127.0.0.1:${httpPort}/.well-known/acme-challenge/token`)

    expect(await response.text()).toBe('authorization')
    expect(await challtestsrv.requestHistory('http', '127.0.0.1')).toMatchObject([
      { URL: '/.well-known/acme-challenge/token' },
    ])
    expect(await challtestsrv.requestHistory('dns', host)).toEqual([])
  })
})

describeWith(['nginx'], 'nginx', () => {
  it('serves challenge files from a web root, on IPv4 and IPv6', async () => {
    const webroot = await ownDirectory()
    const challenges = join(webroot, '.well-known/acme-challenge')
    await mkdir(challenges, { recursive: true })
    await writeFile(join(challenges, 'token'), 'authorization')
    const nginx = await startNginx({ webroot, listenIPv6: true })
    onTestFinished(nginx.stop)

    for (const host of ['127.0.0.1', '[::1]']) {
      const response = await fetch(`http://${host}:${nginx.httpPort}/.well-known/acme-challenge/token`)
      expect([response.status, await response.text()]).toEqual([200, 'authorization'])
    }
    expect((await fetch(`http://127.0.0.1:${nginx.httpPort}/`)).status).toBe(404)
    expect(await nginx.accessLog()).toContain('GET /.well-known/acme-challenge/token')
  })
})

describeWith(['haproxy'], 'HAProxy', () => {
  it('serves a certificate, whose fingerprint the probe returns', async () => {
    const authority = await testAuthority()
    const certificate = await authority.issue(['www.example.com'])
    const pemPath = join(await ownDirectory(), 'www.pem')
    await writeFile(pemPath, certificate.bundlePem)
    const haproxy = await startedHaproxy({ certificates: [pemPath] })

    const trusted = await probeTls({
      port: haproxy.tlsPort,
      servername: 'www.example.com',
      caPem: authority.certificatePem,
    })
    const untrusted = await probeTls({
      port: haproxy.tlsPort,
      servername: 'other.example.com',
      caPem: authority.certificatePem,
    })

    expect(trusted).toMatchObject({ fingerprintSha256: certificate.fingerprintSha256, authorized: true })
    expect(untrusted).toMatchObject({ fingerprintSha256: certificate.fingerprintSha256, authorized: false })
    expect(await haproxy.command('show ssl cert')).toContain(pemPath)
    expect(haproxy.version).toMatch(/^\d+\.\d+\.\d+$/)
  })

  it('reloads under load without a failed handshake, and refuses a broken file', async () => {
    const authority = await testAuthority()
    const [old, renewed] = await Promise.all([authority.issue(['a.example']), authority.issue(['a.example'])])
    const crtDirectory = await ownDirectory()
    const pemPath = join(crtDirectory, 'a.pem')
    await writeFile(pemPath, old.bundlePem)
    const haproxy = await startedHaproxy({ certificates: { crtDirectory } })
    const load = startHandshakeLoad({ port: haproxy.tlsPort, servername: 'a.example', perSecond: 100 })
    await sleep(300)

    await writeFile(pemPath, renewed.bundlePem)
    await haproxy.reload()
    const after = await probeTls({ port: haproxy.tlsPort, servername: 'a.example' })
    await writeFile(pemPath, 'broken')
    await expect(haproxy.reload()).rejects.toThrow('unable to load certificate')
    const afterRefusal = await probeTls({ port: haproxy.tlsPort, servername: 'a.example' })

    const { failures, fingerprints, handshakes } = await load.stop()
    expect(failures).toEqual([])
    expect(after.fingerprintSha256).toBe(renewed.fingerprintSha256)
    expect(afterRefusal.fingerprintSha256).toBe(renewed.fingerprintSha256)
    expect([...fingerprints.keys()].sort()).toEqual([old.fingerprintSha256, renewed.fingerprintSha256].sort())
    expect(handshakes).toBeGreaterThan(20)
  })

  it('takes a crt-list, and runs without a master', async () => {
    const certificate = await (await testAuthority()).issue(['b.example'])
    const directory = await ownDirectory()
    await writeFile(join(directory, 'b.pem'), certificate.bundlePem)
    await writeFile(join(directory, 'list'), `${join(directory, 'b.pem')} b.example\n`)
    const haproxy = await startedHaproxy({
      certificates: { crtList: join(directory, 'list') },
      masterWorker: false,
      adminSocket: false,
    })

    const { fingerprintSha256 } = await probeTls({ port: haproxy.tlsPort, servername: 'b.example' })

    expect(fingerprintSha256).toBe(certificate.fingerprintSha256)
    expect(haproxy).toMatchObject({ adminSocket: undefined, masterSocket: undefined })
    await expect(haproxy.reload()).rejects.toThrow(TypeError)
  })
})

describeWith(['haproxy'], 'a server process', () => {
  it('that dies early rejects with its output', async () => {
    const command = requireServer('haproxy')

    const spawned = spawnServer({ command, args: ['-f', '/nonexistent.cfg'], ready: [{ log: /never/ }] })

    await expect(spawned).rejects.toThrow(/exited with 1 before it was ready\n.*nonexistent\.cfg/s)
  })

  it('that is not ready in time is stopped', async () => {
    const spawned = spawnServer({ command: '/bin/sleep', args: ['60'], ready: [{ log: /never/ }], readyTimeoutMs: 100 })

    await expect(spawned).rejects.toThrow('not ready after 100 ms')
    expect(runningServers()).toEqual([])
  })

  it('that ignores SIGTERM is killed', async () => {
    const script = 'trap "" TERM; echo up; while :; do sleep 0.1; done'
    const server = await spawnServer({
      command: '/bin/sh',
      args: ['-c', script],
      ready: [{ log: /up/ }],
      stopTimeoutMs: 200,
    })

    await server.stop()

    expect(isAlive(server.pid)).toBe(false)
  })

  it.runIf(process.platform === 'linux')('does not outlive a test run that is killed', async () => {
    const directory = await ownDirectory()
    const pemPath = join(directory, 'a.pem')
    await writeFile(pemPath, (await (await testAuthority()).issue(['a.example'])).bundlePem)
    const script = `
      const { startHaproxy } = await import(${JSON.stringify(new URL('../support/haproxy.ts', import.meta.url))})
      const { pid } = await startHaproxy({ certificates: [${JSON.stringify(pemPath)}] })
      console.log('pid', pid)
    `
    const run = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
      // What a killed run leaves in the temporary directory is removed with ours.
      env: { ...process.env, TMPDIR: directory },
    })
    const [line] = (await once(run.stdout.setEncoding('utf8'), 'data')) as [string]
    const master = Number(line.split(' ')[1])
    let workers: readonly number[] = []
    try {
      await vi.waitFor(
        async () => {
          workers = await serversBelow(master)
          expect(workers.length).toBeGreaterThan(0)
        },
        { timeout: 60_000 },
      )
    } finally {
      run.kill('SIGKILL')
    }

    await vi.waitFor(() => expect([master, ...workers].filter(isAlive)).toEqual([]), { timeout: 60_000 })
  })
})

async function startedPebble(options?: PebbleOptions): Promise<Pebble> {
  const pebble = await startPebble(options)
  onTestFinished(pebble.stop)
  return pebble
}

async function startedProxy({ directoryUrl, caPem }: Pebble): Promise<JournalProxy> {
  const proxy = await startJournalProxy({ upstreamUrl: directoryUrl, upstreamCaPem: caPem })
  onTestFinished(proxy.stop)
  return proxy
}

async function startedHaproxy(options: HaproxyOptions): Promise<Haproxy> {
  const haproxy = await startHaproxy(options)
  onTestFinished(haproxy.stop)
  return haproxy
}

async function ownDirectory(): Promise<string> {
  const directory = await temporaryDirectory()
  onTestFinished(directory.remove)
  return directory.path
}

function get(url: string, ca: string): Promise<{ status: number | undefined; body: string }> {
  return new Promise((resolve, reject) => {
    const request = httpsGet(url, { ca, agent: false, headers: { 'user-agent': 'test' } }, (response) => {
      let body = ''
      response.on('data', (chunk: Buffer) => (body += chunk.toString()))
      response.on('error', reject)
      response.on('end', () => resolve({ status: response.statusCode, body }))
    })
    request.on('error', reject)
  })
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

/** Process ids of servers among the descendants of a process. */
async function serversBelow(ancestor: number): Promise<number[]> {
  if (process.platform !== 'linux') return []
  const processes = await Promise.all(
    (await readdir('/proc'))
      .filter((name) => /^\d+$/.test(name))
      .map(async (pid) => {
        const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')
        const [, name = '', parent = ''] = /^\d+ \((.*)\) \S (\d+)/.exec(stat) ?? []
        return { pid: Number(pid), name, parent: Number(parent) }
      }),
  )
  const below = (parent: number): number[] =>
    processes.filter((child) => child.parent === parent).flatMap(({ pid }) => [pid, ...below(pid)])
  const descendants = new Set(below(ancestor))
  return processes
    .filter(({ pid, name }) => descendants.has(pid) && /pebble|haproxy|nginx/.test(name))
    .map(({ pid }) => pid)
}
