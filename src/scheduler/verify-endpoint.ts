/**
 * Proof that clients get a certificate: a fresh TLS handshake on every address of an endpoint.
 *
 * @module
 */
import { createHash } from 'node:crypto'
import { lookup } from 'node:dns/promises'
import { isIP } from 'node:net'
import { connect } from 'node:tls'
import type { OperationContext } from '../core/context.js'
import { withDeadline } from '../internal/deadline.js'
import type { EndpointSpec } from './managed-certificate.js'

/** What one address of an endpoint showed. */
export interface AddressProof {
  readonly address: string
  /** SHA-256 of the leaf that was presented, or `undefined` when there was none. */
  readonly fingerprintSha256: string | undefined
  /** Why there was none: `ECONNREFUSED`, `timed out`. */
  readonly problem: string | undefined
}

/** Resolves a host to all its addresses. @defaultValue the system's resolver */
export type ResolveHost = (host: string, context: OperationContext) => Promise<readonly string[]>

/** Performs one handshake and returns the leaf's DER. */
export type Handshake = (
  target: { readonly address: string; readonly port: number; readonly servername: string },
  signal: AbortSignal,
) => Promise<Buffer>

/** The system's resolver, IPv4 and IPv6. */
export const resolveWithSystem: ResolveHost = async (host) => {
  if (isIP(host) !== 0) return [host]
  const addresses = await lookup(host, { all: true, verbatim: true })
  return addresses.map(({ address }) => address)
}

/**
 * A full handshake without session resumption. The chain is not judged: what counts is which leaf is served, and a test
 * CA's certificate is as good as any for that.
 */
export const handshake: Handshake = ({ address, port, servername }, signal) =>
  new Promise<Buffer>((resolve, reject) => {
    const socket = connect({
      host: address,
      port,
      ...(servername === '' || isIP(servername) !== 0 ? {} : { servername }),
      rejectUnauthorized: false,
    })
    const finish = (settle: () => void): void => {
      signal.removeEventListener('abort', onAbort)
      socket.destroy()
      settle()
    }
    const onAbort = (): void => {
      finish(() => {
        reject(signal.reason)
      })
    }
    signal.addEventListener('abort', onAbort, { once: true })
    socket.once('secureConnect', () => {
      const { raw } = socket.getPeerCertificate()
      finish(() => {
        if (Buffer.isBuffer(raw)) resolve(raw)
        else reject(new Error('no certificate was presented'))
      })
    })
    socket.once('error', (error) => {
      finish(() => {
        reject(error)
      })
    })
    socket.once('close', () => {
      finish(() => {
        reject(new Error('connection closed during the handshake'))
      })
    })
  })

const handshakeTimeoutMs = 10_000
const maxAddresses = 64

/** Asks every address at once. An endpoint that resolves to nothing yields one proof that says so. */
export async function proveEndpoint(
  endpoint: EndpointSpec,
  context: OperationContext,
  seams: { readonly resolve: ResolveHost; readonly handshake: Handshake },
): Promise<readonly AddressProof[]> {
  const timed = <T>(run: (signal: AbortSignal) => Promise<T>): Promise<T> =>
    withDeadline({ ...context, ms: handshakeTimeoutMs, onTimeout: () => new Error('timed out') }, run)
  const failed = (address: string, error: unknown): AddressProof => {
    context.signal.throwIfAborted()
    return { address, fingerprintSha256: undefined, problem: describe(error) }
  }
  let addresses: readonly string[]
  try {
    addresses = await timed((signal) => seams.resolve(endpoint.host, { ...context, signal }))
  } catch (error) {
    return [failed(endpoint.host, error)]
  }
  if (addresses.length === 0) return [failed(endpoint.host, new Error('resolves to no address'))]
  return Promise.all(
    addresses.slice(0, maxAddresses).map(async (address) => {
      try {
        const der = await timed((signal) => seams.handshake({ ...endpoint, address }, signal))
        const fingerprintSha256 = createHash('sha256').update(der).digest('hex')
        return { address, fingerprintSha256, problem: undefined }
      } catch (error) {
        return failed(address, error)
      }
    }),
  )
}

/** `host:port/servername`: key of an endpoint in the ledger, and its name in events. */
export function endpointName({ host, port, servername }: EndpointSpec): string {
  const authority = `${isIP(host) === 6 ? `[${host}]` : host}:${String(port)}`
  return servername === '' || servername === host ? authority : `${authority}/${servername}`
}

function describe(error: unknown): string {
  if (!(error instanceof Error)) return 'failed'
  const code = 'code' in error && typeof error.code === 'string' ? error.code : undefined
  return code ?? error.message.slice(0, 200)
}
