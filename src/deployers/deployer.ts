/**
 * The contract of deployers: whoever brings a certificate to where it is used.
 *
 * @module
 */
import type { CertificateBundle } from '../core/certificate-bundle.js'
import type { OperationContext } from '../core/context.js'

/** What is at the target now, compared with a bundle. */
export type DeploymentState = 'current' | 'stale' | 'absent'

/** Outcome of a deployment that did not fail. */
export interface DeployResult {
  readonly status: 'deployed' | 'unchanged'
  /** For logs and events. Never holds key material. */
  readonly details?: Readonly<Record<string, string | number | boolean>> | undefined
}

/**
 * Brings a certificate to a target.
 *
 * - `deploy` MUST be idempotent: the same fingerprint twice resolves `unchanged` and touches nothing.
 * - It MUST be all-or-nothing as seen by readers: a new certificate beside an old key MUST NOT be observable, and after a
 *   rejected or aborted deployment the previous material MUST still be in service.
 * - Unrelated state of the target MUST be left alone.
 * - It SHOULD call `context.signal.throwIfAborted()` directly before it changes anything: a process that was stopped and goes
 *   on learns there that another one has taken over.
 * - A key that is not the certificate's SHOULD be refused before anything is changed. (evercert never passes such a pair.)
 * - Every wait MUST be bounded. A failure is a {@link DeployError}; an abort rethrows `context.signal.reason`.
 * - Private keys MUST NOT appear in `details`, errors, logs, argv or environment.
 *
 * Test yours with `deployerContract` from `evercert/testing`.
 */
export interface Deployer {
  /** Unique among the deployers of a certificate, stable across restarts: key of its ledger entry. */
  readonly name: string
  /**
   * `node`: every replica runs it for itself (a file, a process on this machine); `cluster`: one replica runs it for all
   * (an API of a platform).
   *
   * @defaultValue 'node'
   */
  readonly scope?: 'node' | 'cluster' | undefined
  /**
   * `true` when the target holds one certificate only, as a file does. A scheduler then refuses a second certificate with
   * a deployer of the same name.
   *
   * @defaultValue false
   */
  readonly exclusive?: boolean | undefined
  /**
   * `true` when what it brings depends on more than the certificate, as on the roots to trust: `deploy` is then called in
   * every pass, once a day at least, and resolves `unchanged` when there is nothing to do.
   *
   * @defaultValue false: not again once the certificate is in place
   */
  readonly everyPass?: boolean | undefined
  deploy(bundle: CertificateBundle, context: OperationContext): Promise<DeployResult>
  /** What is there now? Used to find drift, and to know what a placeholder would replace. */
  inspect?(bundle: CertificateBundle, context: OperationContext): Promise<DeploymentState>
}
