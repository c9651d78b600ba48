/** A deployer that keeps what it was given, and fails when told to. */
import type { CertificateBundle } from '../../src/core/certificate-bundle.js'
import type { Deployer } from '../../src/deployers/deployer.js'

export interface RecordingDeployer extends Deployer {
  /** What would be served now. */
  readonly current: CertificateBundle | undefined
  /** Every bundle that was put in place, placeholders included. */
  readonly history: readonly CertificateBundle[]
  /** Every call of `deploy`. */
  readonly calls: number
  /** Called at the start of each `deploy`; throws to fail it. */
  onDeploy: (bundle: CertificateBundle) => void | Promise<void>
  /** Forgets what is in place, as a target does that was rebuilt. */
  wipe(): void
}

export function recordingDeployer(name = 'recording', scope: 'node' | 'cluster' = 'node'): RecordingDeployer {
  let current: CertificateBundle | undefined
  let calls = 0
  const history: CertificateBundle[] = []
  const deployer: RecordingDeployer = {
    name,
    scope,
    history,
    get current() {
      return current
    },
    get calls() {
      return calls
    },
    onDeploy: () => undefined,
    wipe() {
      current = undefined
    },
    async deploy(bundle) {
      calls += 1
      await deployer.onDeploy(bundle)
      if (current?.fingerprintSha256 === bundle.fingerprintSha256) return { status: 'unchanged' }
      current = bundle
      history.push(bundle)
      return { status: 'deployed' }
    },
    inspect(bundle) {
      if (current === undefined) return Promise.resolve('absent')
      return Promise.resolve(current.fingerprintSha256 === bundle.fingerprintSha256 ? 'current' : 'stale')
    },
  }
  return deployer
}
