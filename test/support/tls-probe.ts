/**
 * What a client gets: fresh TLS handshakes, one or a steady stream of them.
 */
import type { X509Certificate } from 'node:crypto'
import { isIP } from 'node:net'
import { connect, type TLSSocket } from 'node:tls'

export interface ProbeOptions {
  /** @defaultValue '127.0.0.1' */
  readonly host?: string | undefined
  readonly port: number
  /** The name asked for (SNI). @defaultValue none */
  readonly servername?: string | undefined
  /** Trusted for `authorized`. @defaultValue the roots of Node */
  readonly caPem?: string | undefined
  /** @defaultValue 5000 */
  readonly timeoutMs?: number | undefined
}

export interface ProbeResult {
  /** Of the leaf; lower-case hex without colons. */
  readonly fingerprintSha256: string
  readonly peerCertificate: X509Certificate
  /** Whether the chain and the name hold. A handshake with a certificate that does not is a result, not an error. */
  readonly authorized: boolean
  readonly authorizationError: string | undefined
  readonly protocol: string | null
}

/** One handshake, never a resumed session. */
export function probeTls(options: ProbeOptions): Promise<ProbeResult> {
  return handshake(options, (socket) => {
    const peerCertificate = socket.getPeerX509Certificate()
    if (peerCertificate === undefined) throw new Error('the server sent no certificate')
    return {
      fingerprintSha256: peerCertificate.fingerprint256.replaceAll(':', '').toLowerCase(),
      peerCertificate,
      authorized: socket.authorized,
      authorizationError: socket.authorized ? undefined : String(socket.authorizationError),
      protocol: socket.getProtocol(),
    }
  })
}

export interface HandshakeLoadOptions extends Omit<ProbeOptions, 'caPem'> {
  /** @defaultValue 100 */
  readonly perSecond?: number | undefined
}

export interface HandshakeLoadResult {
  /** Completed ones. */
  readonly handshakes: number
  readonly failures: readonly Error[]
  /** How often each leaf was served. */
  readonly fingerprints: ReadonlyMap<string, number>
  /** Completed handshakes per second that were really reached. */
  readonly perSecond: number
}

export interface HandshakeLoad {
  /** Stops starting handshakes and waits for those under way. */
  stop(): Promise<HandshakeLoadResult>
}

/** Starts handshakes at a steady rate, whether or not earlier ones have finished. */
export function startHandshakeLoad(options: HandshakeLoadOptions): HandshakeLoad {
  const { perSecond = 100 } = options
  const failures: Error[] = []
  const fingerprints = new Map<string, number>()
  const underWay = new Set<Promise<void>>()
  let handshakes = 0
  let begun = 0

  const begin = async (): Promise<void> => {
    try {
      const { fingerprintSha256 } = await probeTls(options)
      handshakes += 1
      fingerprints.set(fingerprintSha256, (fingerprints.get(fingerprintSha256) ?? 0) + 1)
    } catch (error) {
      failures.push(error as Error)
    }
  }
  const start = performance.now()
  const timer = setInterval(() => {
    for (const due = ((performance.now() - start) / 1000) * perSecond; begun < due; begun += 1) {
      const one = begin().finally(() => underWay.delete(one))
      underWay.add(one)
    }
  }, 5)

  return {
    async stop() {
      clearInterval(timer)
      await Promise.all(underWay)
      const seconds = (performance.now() - start) / 1000
      return { handshakes, failures, fingerprints, perSecond: handshakes / seconds }
    },
  }
}

function handshake<T>(options: ProbeOptions, read: (socket: TLSSocket) => T): Promise<T> {
  const { host = '127.0.0.1', port, servername, caPem, timeoutMs = 5_000 } = options
  return new Promise((resolve, reject) => {
    const socket = connect({
      host,
      port,
      rejectUnauthorized: false,
      ...(caPem === undefined ? {} : { ca: caPem }),
      // RFC 6066 section 3: an address is no server name.
      ...(servername === undefined || isIP(servername) ? {} : { servername }),
    })
    const timer = setTimeout(() => socket.destroy(new Error(`no handshake within ${timeoutMs} ms`)), timeoutMs)
    socket.once('secureConnect', () => {
      clearTimeout(timer)
      try {
        resolve(read(socket))
      } catch (error) {
        reject(error)
      }
      socket.on('error', () => {})
      socket.end()
    })
    socket.once('error', (error) => {
      clearTimeout(timer)
      reject(error)
    })
    socket.once('close', () => {
      clearTimeout(timer)
      reject(new Error('connection closed during the handshake'))
    })
  })
}
