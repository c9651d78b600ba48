/** An issuer of a real little CA, without sockets: it signs what it is asked for, and misbehaves when told to. */
import { encodePem, parsePem } from '../../src/core/pem.js'
import { generatePrivateKey, publicKeyInfo, type PrivateKeyMaterial } from '../../src/core/private-key.js'
import type { RenewalInfo } from '../../src/core/renewal-info.js'
import { csrPublicKeyInfo, parseCertificate, type ParsedCertificate } from '../../src/core/x509.js'
import { createCertificate } from '../../src/core/x509-signing.js'
import type { Clock } from '../../src/core/clock.js'
import type { Issuer, IssuerContext, IssueRequest, RevocationReason } from '../../src/issuers/issuer.js'

const day = 86_400_000

export interface ScriptedIssuer extends Issuer {
  /** Every call of `issue`. */
  readonly requests: readonly IssueRequest[]
  /** Certificates made, by idempotency key: a repeated request gets the same one, as from a resumed order. */
  readonly issued: ReadonlyMap<string, string>
  readonly revoked: readonly { pem: string; reason: RevocationReason }[]
  lifetimeMs: number
  /** Called at the start of each `issue`; throws to fail it. */
  onIssue: (request: IssueRequest, context: IssuerContext) => void | Promise<void>
  /** Changes what is returned. */
  tamper: (chainPem: string, request: IssueRequest) => string | Promise<string>
  window: ((leaf: ParsedCertificate) => RenewalInfo | undefined | Promise<RenewalInfo | undefined>) | undefined
  readonly rootPem: string
}

export async function scriptedIssuer(options: {
  readonly clock: Clock
  readonly id?: string
  readonly lifetimeMs?: number
  readonly backdateMs?: number
}): Promise<ScriptedIssuer> {
  const { clock, id = 'scripted', backdateMs = 3_600_000 } = options
  const start = clock.now()
  const root = await certificateAuthority(`CN=${id} root`, start)
  const intermediate = await certificateAuthority(`CN=${id} intermediate`, start, root)
  const requests: IssueRequest[] = []
  const issued = new Map<string, string>()
  const parsed = new Map<string, ParsedCertificate>()
  const revoked: { pem: string; reason: RevocationReason }[] = []
  const issuer: ScriptedIssuer = {
    id,
    requests,
    issued,
    revoked,
    lifetimeMs: options.lifetimeMs ?? 90 * day,
    rootPem: encodePem('CERTIFICATE', root.certificate.der),
    onIssue: () => undefined,
    tamper: (pem) => pem,
    window: undefined,
    async issue(request, context) {
      requests.push(request)
      await issuer.onIssue(request, context)
      let pem = issued.get(request.idempotencyKey)
      if (pem === undefined) {
        const now = clock.now()
        const der = await createCertificate({
          subject: 'CN=leaf',
          publicKeyInfo: csrPublicKeyInfo(request.csr),
          identifiers: request.identifiers,
          notBefore: new Date(now - backdateMs),
          notAfter: new Date(now - backdateMs + issuer.lifetimeMs),
          isCa: false,
          signWith: intermediate,
        })
        pem = encodePem('CERTIFICATE', der) + encodePem('CERTIFICATE', intermediate.certificate.der)
        issued.set(request.idempotencyKey, pem)
      }
      return { chainPem: await issuer.tamper(pem, request) }
    },
    async renewalInfo(certificatePem) {
      if (issuer.window === undefined) return undefined
      let leaf = parsed.get(certificatePem)
      if (leaf === undefined) {
        leaf = parseCertificate(parsePem(certificatePem)[0]?.der ?? Buffer.alloc(0))
        parsed.set(certificatePem, leaf)
      }
      return await issuer.window(leaf)
    },
    revoke(pem, reason) {
      revoked.push({ pem, reason })
      return Promise.resolve()
    },
  }
  return issuer
}

async function certificateAuthority(
  subject: string,
  now: number,
  issuer?: { key: PrivateKeyMaterial; certificate: ParsedCertificate },
): Promise<{ key: PrivateKeyMaterial; certificate: ParsedCertificate }> {
  const key = await generatePrivateKey()
  const der = await createCertificate({
    subject,
    publicKeyInfo: publicKeyInfo(key),
    identifiers: [],
    notBefore: new Date(now - day),
    notAfter: new Date(now + 10_000 * day),
    isCa: true,
    signWith: issuer ?? { key },
  })
  return { key, certificate: parseCertificate(der) }
}
