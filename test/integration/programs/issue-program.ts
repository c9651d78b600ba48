/**
 * Obtains and deploys one certificate, and kills itself with SIGKILL at the step it is told to. A step is anything the
 * outside could notice: a call of the issuer's observer, and each write of store and deployer, before and after it.
 *
 * Argument: JSON of {@link Instructions}. Prints the number of steps when it lives to the end.
 */
import { mkdir, readFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { readCertificates } from '../../../src/core/certificate-bundle.js'
import { parsePem } from '../../../src/core/pem.js'
import type { KeyAlgorithm } from '../../../src/core/private-key.js'
import { acmeIssuer } from '../../../src/issuers/acme/index.js'
import { writeFileAtomic } from '../../../src/internal/atomic-file.js'
import type { Deployer } from '../../../src/deployers/deployer.js'
import { RenewalScheduler } from '../../../src/scheduler/renewal-scheduler.js'
import { webrootSolver } from '../../../src/solvers/webroot.js'
import type { CertStore } from '../../../src/stores/cert-store.js'
import { fileStore } from '../../../src/stores/file.js'

export interface Instructions {
  readonly directoryUrl: string
  readonly caPem: string
  readonly httpPort: number
  readonly storeDirectory: string
  readonly webroot: string
  readonly pemPath: string
  /** 0: never. */
  readonly killAtStep: number
  /** Another key than the stored one makes a renewal due. */
  readonly key: KeyAlgorithm
}

const instructions = JSON.parse(process.argv[2] ?? '{}') as Instructions

let steps = 0
function step(): void {
  steps += 1
  if (steps === instructions.killAtStep) process.kill(process.pid, 'SIGKILL')
}

async function around<T>(act: () => Promise<T>): Promise<T> {
  step()
  const result = await act()
  step()
  return result
}

function stepping(store: CertStore): CertStore {
  return {
    ...store,
    put: (...args) => around(() => store.put(...args)),
    delete: (...args) => around(() => store.delete(...args)),
  }
}

const deployer: Deployer = {
  name: 'pem-file',
  deploy: (bundle) =>
    around(async () => {
      if ((await fingerprintAt(instructions.pemPath)) === bundle.fingerprintSha256) return { status: 'unchanged' }
      await mkdir(dirname(instructions.pemPath), { recursive: true })
      await writeFileAtomic(instructions.pemPath, bundle.fullChainPem + bundle.privateKey.exportPem(), { mode: 0o600 })
      return { status: 'deployed' }
    }),
  inspect: async (bundle) => {
    const there = await fingerprintAt(instructions.pemPath)
    if (there === undefined) return 'absent'
    return there === bundle.fingerprintSha256 ? 'current' : 'stale'
  },
}

async function fingerprintAt(path: string): Promise<string | undefined> {
  const pem = await readFile(path, 'utf8').catch(() => '')
  const certificates = parsePem(pem).filter(({ label }) => label === 'CERTIFICATE')
  if (certificates.length === 0) return undefined
  return readCertificates(pem.slice(0, pem.indexOf('-----BEGIN PRIVATE')))[0]?.fingerprintSha256
}

const scheduler = new RenewalScheduler({
  store: stepping(fileStore({ directory: instructions.storeDirectory })),
  node: 'test',
  certificates: [
    {
      name: 'www',
      identifiers: ['www.example.com'],
      issuers: [
        acmeIssuer({
          directory: instructions.directoryUrl,
          termsOfServiceAgreed: true,
          ca: instructions.caPem,
          solvers: [webrootSolver({ directory: instructions.webroot })],
          preflight: { httpPort: instructions.httpPort, resolve: () => Promise.resolve(['127.0.0.1']) },
          observe: step,
        }),
      ],
      key: instructions.key,
      deployers: [deployer],
      placeholder: true,
    },
  ],
})
const outcome = await scheduler.renew('www')
console.log(
  JSON.stringify({
    steps,
    status: outcome.status,
    error: outcome.error instanceof Error ? outcome.error.toString() : '',
  }),
)
