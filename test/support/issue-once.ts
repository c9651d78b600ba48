/**
 * One certificate from an issuer, without a scheduler.
 */
import { checkIssuedChain, type CheckedChain } from '../../src/core/certificate-bundle.js'
import { systemClock } from '../../src/core/clock.js'
import { parseIdentifiers } from '../../src/core/identifier.js'
import { generatePrivateKey, publicKeyInfo } from '../../src/core/private-key.js'
import { createCsr } from '../../src/core/x509.js'
import type { Issuer } from '../../src/issuers/issuer.js'
import { memoryStore } from '../../src/stores/memory.js'
import { recordingLogger, type RecordingLogger } from '../../src/testing/recording-logger.js'
import { seededRandom } from '../../src/testing/seeded-random.js'

/** Orders, and checks what comes as the scheduler does. */
export async function issueOnce(
  issuer: Issuer,
  names: readonly string[],
  options: { readonly trustedRoots: string; readonly logger?: RecordingLogger | undefined },
): Promise<CheckedChain> {
  const { trustedRoots, logger = recordingLogger() } = options
  const identifiers = parseIdentifiers(names)
  const key = await generatePrivateKey()
  const csr = await createCsr(key, identifiers)
  const { chainPem } = await issuer.issue(
    { certificate: 'www', idempotencyKey: '1', identifiers, csr },
    {
      signal: new AbortController().signal,
      clock: systemClock,
      logger,
      store: memoryStore(),
      random: seededRandom(1),
    },
  )
  return checkIssuedChain(chainPem, { identifiers, publicKeyInfo: publicKeyInfo(key), now: Date.now(), trustedRoots })
}
