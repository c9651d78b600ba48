/**
 * What a plug-in threw, as one of our errors.
 *
 * @module
 */
import { CertError } from '../errors.js'

/** A plug-in may throw anything: what is no error of ours counts as retryable, and keeps the original as its cause. */
export function asCertError(thrown: unknown, plugin: string): CertError {
  if (CertError.isInstance(thrown)) return thrown
  const why = thrown instanceof Error ? thrown.message : 'no reason given'
  return new CertError({
    code: 'ERR_PLUGIN_FAILED',
    message: `${plugin} failed: ${why}`,
    retryable: true,
    cause: thrown,
  })
}
