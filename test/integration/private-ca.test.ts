/**
 * The private CA, as others see it: openssl, curl and Node verify what it signs; cfssl does the same by hand.
 */
import { execFile } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { chmod, readFile, writeFile } from 'node:fs/promises'
import { createServer, request as httpsRequest } from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import type { TLSSocket } from 'node:tls'
import { promisify } from 'node:util'
import * as x509 from '@peculiar/x509'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { RenewalScheduler } from '../../src/index.js'
import { parseIdentifier } from '../../src/core/identifier.js'
import { encodePem } from '../../src/core/pem.js'
import { generatePrivateKey, publicKeyInfo, type KeyAlgorithm } from '../../src/core/private-key.js'
import { createCsr, parseCertificate } from '../../src/core/x509.js'
import { createCertificate } from '../../src/core/x509-signing.js'
import { nginxPem, pemFilesDeployer } from '../../src/deployers/pem-files.js'
import type { IssuerContext } from '../../src/issuers/issuer.js'
import { cfsslRoot, privateCaIssuer, type PrivateCaIssuer, type RootPair } from '../../src/issuers/private-ca.js'
import { readRoot } from '../../src/issuers/private-ca/root.js'
import { storeKey } from '../../src/stores/cert-store.js'
import { memoryStore } from '../../src/stores/memory.js'
import { fakeClock, operationContext, seededRandom } from '../../src/testing/index.js'
import { freePort, spawnServer } from '../support/processes.js'
import { describeWith, requireServer } from '../support/servers.js'
import { temporaryDirectory, type TemporaryDirectory } from '../support/temporary-directory.js'

const run = promisify(execFile)
const day = 86_400_000

let work: TemporaryDirectory
let used: IssuerContext
beforeEach(async () => {
  work = await temporaryDirectory()
  used = {
    ...operationContext({ clock: fakeClock({ now: Date.now() }) }),
    store: memoryStore(),
    random: seededRandom(1),
  }
})
afterEach(() => work.remove())

const at = (name: string): string => join(work.path, name)
async function save(name: string, text: string | Uint8Array): Promise<string> {
  await writeFile(at(name), text)
  return at(name)
}

/** Runs a program; its output, whether it succeeded or not. */
async function outcome(file: string, args: readonly string[]): Promise<{ ok: boolean; output: string }> {
  const child = run(file, args)
  child.child.stdin?.end()
  return child.then(
    ({ stdout, stderr }) => ({ ok: true, output: stdout + stderr }),
    (error: unknown) => ({ ok: false, output: String((error as { stdout?: string }).stdout) + String(error) }),
  )
}
const openssl = (...args: string[]) => outcome(requireServer('openssl'), args)

async function issue(
  issuer: PrivateCaIssuer,
  names: readonly string[],
  more: { key?: KeyAlgorithm; profile?: string } = {},
) {
  const key = await generatePrivateKey(more.key)
  const identifiers = names.map(parseIdentifier)
  const { chainPem } = await issuer.issue(
    {
      certificate: names.join(),
      idempotencyKey: crypto.randomUUID(),
      csr: await createCsr(key, identifiers),
      identifiers,
      profile: more.profile,
    },
    used,
  )
  return { pem: chainPem, keyPem: key.exportPem() }
}

describeWith(['openssl'], 'openssl', () => {
  it.each(['ecdsa-p256', 'rsa-3072'] as const)(
    'verifies a chain from a root of type %s, strictly, names and addresses',
    async (rootKey) => {
      const issuer = privateCaIssuer({
        rootKey,
        nameConstraints: { permitted: ['internal.example', '10.0.0.0/8', 'fd00::/8'] },
      })
      const { pem } = await issue(issuer, ['www.internal.example', '10.0.0.5', 'fd00::5'])
      const [ca, leaf] = [await save('ca.pem', await issuer.trustBundle(used)), await save('leaf.pem', pem)]
      const verify = (...args: string[]) =>
        openssl('verify', '-x509_strict', '-purpose', 'sslserver', ...args, '-CAfile', ca, leaf)
      for (const name of [
        ['-verify_ip', '10.0.0.5'],
        ['-verify_ip', 'fd00::5'],
        ['-verify_hostname', 'www.internal.example'],
      ]) {
        expect(await verify(...name)).toMatchObject({ ok: true })
      }
      expect(await verify('-verify_ip', '10.0.0.6')).toMatchObject({ ok: false })
      expect(await verify('-verify_hostname', 'x.internal.example')).toMatchObject({ ok: false })
    },
  )

  it('verifies a certificate for addresses only below constraints on DNS names', async () => {
    const issuer = privateCaIssuer({ nameConstraints: { permitted: ['internal.example', '10.0.0.0/8'] } })
    const { pem } = await issue(issuer, ['10.0.0.5'])
    const ca = await save('ca.pem', await issuer.trustBundle(used))
    expect(await openssl('verify', '-x509_strict', '-CAfile', ca, await save('leaf.pem', pem))).toMatchObject({
      ok: true,
    })
  })

  it.each([
    ['www.example', false],
    ['hr.internal.example', false],
    ['11.0.0.1', false],
    ['::1', false],
    ['www.internal.example', true],
    ['10.0.0.1', true],
  ])(
    'holds a certificate for %s that the key of the root signed to its name constraints: %s',
    async (name, allowed) => {
      const issuer = privateCaIssuer({
        nameConstraints: { permitted: ['internal.example', '10.0.0.0/8'], excluded: ['hr.internal.example'] },
      })
      const ca = await save('ca.pem', await issuer.trustBundle(used))
      const stored = await used.store.get(storeKey('accounts', 'private-ca'), used)
      const { roots } = JSON.parse(Buffer.from(stored!.value).toString()) as { roots: RootPair[] }
      const { key, certificate } = readRoot({
        certificatePem: roots[0]!.certificatePem,
        privateKeyPem: roots[0]!.privateKeyPem,
      })
      const der = await createCertificate({
        subject: '',
        publicKeyInfo: publicKeyInfo(await generatePrivateKey()),
        identifiers: [parseIdentifier(name)],
        notBefore: certificate.notBefore,
        notAfter: certificate.notAfter,
        isCa: false,
        signWith: { key, certificate },
      })
      const { ok, output } = await openssl(
        'verify',
        '-CAfile',
        ca,
        await save('leaf.pem', encodePem('CERTIFICATE', der)),
      )
      expect({ name, ok }).toEqual({ name, ok: allowed })
      if (!allowed) expect(output).toMatch(/(permitted|excluded) subtree violation/)
      expect(issuer.supports?.([parseIdentifier(name)]) === true).toBe(allowed)
    },
  )

  it('reads the revocation list, and refuses what is in it', async () => {
    const issuer = privateCaIssuer()
    const [good, bad] = [await issue(issuer, ['good.example']), await issue(issuer, ['bad.example'])]
    await issuer.revoke?.(bad.pem, 'keyCompromise', used)
    const [list] = await issuer.revocationLists(used)
    const [ca, crl] = [await save('ca.pem', await issuer.trustBundle(used)), await save('crl.pem', list!.pem)]
    const check = async (name: string, pem: string) =>
      openssl('verify', '-x509_strict', '-crl_check', '-CRLfile', crl, '-CAfile', ca, await save(name, pem))
    expect(await check('good.pem', good.pem)).toMatchObject({ ok: true })
    const refused = await check('bad.pem', bad.pem)
    expect([refused.ok, refused.output.includes('certificate revoked')]).toEqual([false, true])
    const text = (await openssl('crl', '-in', crl, '-noout', '-text', '-CAfile', ca)).output
    expect(text).toContain('verify OK')
    expect(text).toContain('Key Compromise')
    expect(text).toMatch(new RegExp(`X509v3 CRL Number: \\s*${String(list!.number)}`))
  })

  it('fails no mutual handshake from before a roll-over of the CA to after it', { timeout: 300_000 }, async () => {
    const clock = fakeClock({ now: Date.now() })
    used = { ...used, ...operationContext({ clock }), store: memoryStore({ clock }) }
    const issuer = privateCaIssuer({ lifetimeMs: 9 * day, rootLifetimeMs: 60 * day, profile: 'peer' })
    // The side that renews takes the bundle along; the other one has what it took at its own renewal.
    const renew = async (side: string): Promise<string> => {
      const { pem, keyPem } = await issue(issuer, [`${side}.example`, '127.0.0.1'])
      await save(`${side}.pem`, pem)
      await save(`${side}-key.pem`, keyPem)
      await save(`${side}-ca.pem`, await issuer.trustBundle(used))
      return new X509Certificate(pem).issuer
    }
    const files = (side: string): string[] => [
      ...['-cert', at(`${side}.pem`), '-key', at(`${side}-key.pem`), '-CAfile', at(`${side}-ca.pem`)],
      ...['-verify_return_error', '-tls1_2', '-attime', String(Math.floor(clock.now() / 1000))],
    ]
    const due = { server: 0, client: 0 }
    const pairs = new Set<string>()
    const issuers = { server: '', client: '' }
    for (let step = 0; step < 30; step += 1) {
      for (const side of ['server', 'client'] as const) {
        if (clock.now() < due[side]) continue
        issuers[side] = await renew(side)
        // In turns: half of the time one side is ahead of the other.
        due[side] = clock.now() + (side === 'client' && due.client === 0 ? 3 : 6) * day
      }
      const port = await freePort()
      const server = await spawnServer({
        command: requireServer('openssl'),
        args: ['s_server', '-www', '-accept', `127.0.0.1:${String(port)}`, '-Verify', '1', ...files('server')],
        ready: [{ log: /ACCEPT/ }],
      })
      const { ok, output } = await openssl(
        's_client',
        '-connect',
        `127.0.0.1:${String(port)}`,
        '-verify_ip',
        '127.0.0.1',
        ...files('client'),
      )
      await server.stop()
      expect(ok, `step ${String(step)}: ${output}\n${server.output()}`).toBe(true)
      expect(output).toContain('Verify return code: 0 (ok)')
      pairs.add(`${issuers.server} ${issuers.client}`)
      await clock.advance(2 * day)
    }
    // Old with old, a mixed pair, and new with new: the roll-over was on the way.
    expect(pairs.size).toBeGreaterThanOrEqual(3)
  })
})

describe('mutual authentication with deployed files', () => {
  it('works for Node and curl, and refuses a client without a certificate, or of another CA', async () => {
    const issuer = privateCaIssuer({ profile: 'peer' })
    const store = memoryStore()
    const directory = (name: string): string => at(name)
    const certificate = (name: string, from: PrivateCaIssuer) => ({
      name,
      identifiers: [`${name}.internal.example`, '127.0.0.1', '::1'],
      issuers: [from] as const,
      deployers: [pemFilesDeployer(nginxPem({ directory: directory(name) }))],
    })
    const scheduler = new RenewalScheduler({
      store,
      certificates: [
        certificate('server', issuer),
        certificate('client', issuer),
        certificate('stranger', privateCaIssuer({ id: 'another', profile: 'peer' })),
      ],
    })
    const { outcomes } = await scheduler.reconcile()
    await scheduler.stop()
    expect(outcomes.map(({ status }) => status)).toEqual(['renewed', 'renewed', 'renewed'])
    const ca = await issuer.trustBundle({ ...operationContext(), store })
    const pair = async (name: string) => ({
      cert: await readFile(join(directory(name), 'fullchain.pem')),
      key: await readFile(join(directory(name), 'privkey.pem')),
    })
    const server = createServer({ ...(await pair('server')), ca, requestCert: true }, (request, response) => {
      const { subject } = (request.socket as TLSSocket).getPeerCertificate()
      response.end(String(subject.CN))
    })
    await once(server.listen(0, '127.0.0.1'), 'listening')
    const { port } = server.address() as AddressInfo
    const ask = (from: object): Promise<string> =>
      new Promise((resolve, reject) => {
        const request = httpsRequest({ host: '127.0.0.1', port, ca, agent: false, ...from }, (response) => {
          response.setEncoding('utf8').on('data', resolve)
        })
        request.on('error', reject).end()
      })
    try {
      expect(await ask(await pair('client'))).toBe('client.internal.example')
      await expect(ask({})).rejects.toThrow()
      await expect(ask(await pair('stranger'))).rejects.toThrow()
      await expect(
        ask({
          ...(await pair('client')),
          ca: await issuer.trustBundle({ ...operationContext(), store: memoryStore() }),
        }),
      ).rejects.toThrow()
      const caFile = await save('ca.pem', ca)
      const curl = await outcome('curl', [
        ...['-sS', '--cacert', caFile, '--cert', join(directory('client'), 'fullchain.pem')],
        ...['--key', join(directory('client'), 'privkey.pem'), `https://127.0.0.1:${String(port)}/`],
      ])
      expect(curl).toEqual({ ok: true, output: 'client.internal.example' })
    } finally {
      server.closeAllConnections()
      server.close()
    }
  })
})

describeWith(['cfssl', 'openssl'], 'cfssl', () => {
  const cfssl = async (...args: string[]): Promise<string> =>
    (await run(requireServer('cfssl'), args, { cwd: work.path })).stdout

  /** What a certificate says, field by field. */
  function fieldsOf(pem: string) {
    const certificate = new x509.X509Certificate(pem)
    const { der, notAfter, notBefore, ...parsed } = parseCertificate(new X509Certificate(pem).raw)
    const constraints = certificate.getExtension(x509.BasicConstraintsExtension)
    return {
      subject: certificate.subject,
      lifeMs: notAfter.getTime() - notBefore.getTime(),
      notBefore,
      keyUsages: parsed.keyUsages,
      keyUsagesCritical: certificate.getExtension(x509.KeyUsagesExtension)?.critical,
      extendedKeyUsages: parsed.extendedKeyUsages,
      isCa: constraints?.ca,
      constraintsCritical: constraints?.critical,
      pathLength: constraints?.pathLength,
      names: parsed.identifiers.map(({ value }) => value),
      otherNames: parsed.otherNames,
      signature: parsed.signatureHash,
      serialOctets: parsed.serialNumber.length,
      extensions: certificate.extensions.map(({ type }) => type).sort(),
      size: der.length > 0,
    }
  }

  async function initCa(): Promise<string> {
    await save('ca-csr.json', JSON.stringify({ CN: 'Autogenerated CA', key: { algo: 'rsa', size: 2048 } }))
    return cfssl('gencert', '-initca', 'ca-csr.json')
  }

  it('makes a root that we make the same, but for a path length of 0 and the rounding of its dates', async () => {
    const { cert } = JSON.parse(await initCa()) as { cert: string }
    const issuer = privateCaIssuer({ rootKey: 'rsa-2048', commonName: 'Autogenerated CA' })
    const [theirs, ours] = [fieldsOf(cert), fieldsOf(await issuer.trustBundle(used))]
    const { subject, notBefore, lifeMs, pathLength, extensions, serialOctets, ...same } = ours
    expect(same).toEqual({
      keyUsages: theirs.keyUsages,
      keyUsagesCritical: theirs.keyUsagesCritical,
      extendedKeyUsages: theirs.extendedKeyUsages,
      isCa: theirs.isCa,
      constraintsCritical: theirs.constraintsCritical,
      names: theirs.names,
      otherNames: theirs.otherNames,
      signature: theirs.signature,
      size: true,
    })
    // On purpose: a name that is this root's only, no CA below it, its key identifier in itself (RFC 5280 allows both),
    // 20 octets at most where Go draws 160 bits and needs a 21st for the sign.
    expect(subject).toMatch(/^CN=Autogenerated CA [0-9a-f]{8}$/)
    expect([pathLength, theirs.pathLength]).toEqual([0, undefined])
    expect(extensions.filter((type) => !theirs.extensions.includes(type))).toEqual(['2.5.29.35'])
    expect([serialOctets <= 20, theirs.serialOctets <= 21]).toEqual([true, true])
    // cfssl rounds to the minute and counts from there; we count from now, and date back five minutes as it does.
    expect(lifeMs).toBe(theirs.lifeMs + 5 * 60_000)
    expect(Math.abs(notBefore.getTime() - theirs.notBefore.getTime())).toBeLessThanOrEqual(90_000)
    expect(theirs.notBefore.getTime() % 60_000).toBe(0)
  })

  it.each(['server', 'client', 'peer'] as const)(
    'signs a %s certificate as we do with the same imported root',
    async (profile) => {
      const json = await initCa()
      const root = cfsslRoot(json)
      await save('ca.pem', root.certificatePem)
      await save('ca-key.pem', root.privateKeyPem)
      await chmod(at('ca-key.pem'), 0o600)
      const usages = {
        server: ['server auth'],
        client: ['client auth'],
        peer: ['server auth', 'client auth'],
      }[profile]
      const signing = {
        profiles: { [profile]: { expiry: '8760h', usages: ['signing', 'key encipherment', ...usages] } },
      }
      await save('config.json', JSON.stringify({ signing }))
      await save('csr.json', JSON.stringify({ CN: 'localhost', key: { algo: 'rsa', size: 2048 } }))
      const names = ['localhost', '127.0.0.1', 'fd00::1']
      const arguments_ = ['-ca', 'ca.pem', '-ca-key', 'ca-key.pem', '-config', 'config.json', '-profile', profile]
      const made = await cfssl('gencert', ...arguments_, '-hostname', [...names, 'ops@example.com'].join(), 'csr.json')
      const { cert } = JSON.parse(made) as { cert: string }
      const issuer = privateCaIssuer({
        importRoot: root,
        lifetimeMs: 365 * day,
        additionalNames: ['email:ops@example.com'],
      })
      const { pem } = await issue(issuer, names, { key: 'rsa-2048', profile })
      const [theirs, ours] = [fieldsOf(cert), fieldsOf(pem)]
      const dates = { notBefore: undefined, lifeMs: undefined, serialOctets: undefined }
      expect({ ...ours, ...dates }).toEqual({ ...theirs, ...dates })
      // Five minutes back, but not before the root, whose start cfssl has rounded to the next or the last minute.
      const rootStart = Date.parse(new X509Certificate(root.certificatePem).validFrom)
      const backdatedMs = ours.lifeMs - theirs.lifeMs
      expect(backdatedMs).toBeGreaterThan(Math.min(5 * 60_000, Date.now() - rootStart) - 60_000)
      expect(backdatedMs).toBeLessThanOrEqual(5 * 60_000)
      expect(ours.notBefore.getTime()).toBeGreaterThanOrEqual(rootStart)
      expect(Math.abs(ours.notBefore.getTime() - theirs.notBefore.getTime())).toBeLessThanOrEqual(90_000)
      // One and the same root: openssl verifies both.
      for (const [name, text] of [
        ['theirs.pem', cert],
        ['ours.pem', pem],
      ] as const) {
        const purpose = profile === 'client' ? 'sslclient' : 'sslserver'
        expect(
          await openssl(
            'verify',
            '-purpose',
            purpose,
            '-verify_ip',
            'fd00::1',
            '-CAfile',
            at('ca.pem'),
            await save(name, text),
          ),
        ).toMatchObject({ ok: true })
      }
      // An ECDSA key gets no key encipherment from us, which its algorithm cannot do; cfssl writes what the profile says.
      const { pem: elliptic } = await issue(issuer, names, { profile })
      expect(fieldsOf(elliptic).keyUsages).toBe(x509.KeyUsageFlags.digitalSignature)
    },
  )
})
