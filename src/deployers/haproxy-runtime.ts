/**
 * HAProxy's runtime API, as far as certificates need it. Every reply is either exactly what was expected, or an error.
 *
 * @module
 */
import type { Clock } from '../core/clock.js'
import { DeployError } from '../errors.js'
import { askSocket } from '../internal/ask-socket.js'
import { errorCode } from '../internal/atomic-file.js'

/** A certificate as HAProxy has it in memory. */
export interface LoadedCertificate {
  /** `Used`: served; `Unused`: in memory only; `Empty`: a name without a certificate. */
  readonly status: string
  /** Lower-case hex; `undefined` while it is empty. */
  readonly fingerprintSha1: string | undefined
  /** How many intermediates it comes with. */
  readonly chainLength: number
}

/** What is loaded, and the one transaction that may be open. */
export interface CertificateListing {
  /** Name the open transaction is for. */
  readonly transaction: string | undefined
  readonly names: readonly string[]
}

/** The answer to `set ssl cert`. */
export type SetOutcome =
  | { readonly kind: 'created' }
  /** It went into a transaction of somebody else, which is for this name: HAProxy 2.6 to 3.0 do that. */
  | { readonly kind: 'went-elsewhere'; readonly name: string }
  | { readonly kind: 'busy' }

/** The commands, in words. Each opens a connection of its own; none is sent with a name that is not of the alphabet. */
export interface HaproxyRuntime {
  list(): Promise<CertificateListing>
  /** `undefined` when HAProxy does not know the name. `pending`: what the open transaction holds for it. */
  show(name: string, which?: 'loaded' | 'pending'): Promise<LoadedCertificate | undefined>
  /** Largest command HAProxy can take, bytes. A larger one is not refused: it hangs, and then crashes the worker. */
  commandLimit(): Promise<number>
  create(name: string): Promise<void>
  set(name: string, pem: string): Promise<SetOutcome>
  /** `busy`: other certificates are being committed. */
  commit(name: string): Promise<'committed' | 'busy'>
  abort(name: string): Promise<void>
  addToList(list: string, name: string): Promise<void>
}

/** Where it is and how long it may take. */
export interface HaproxyRuntimeOptions {
  readonly socket: string
  /** Name of the deployer, for errors. */
  readonly deployer: string
  readonly clock: Clock
  readonly signal: AbortSignal
  /** For one command. */
  readonly timeoutMs: number
}

/** Names that can be sent without becoming something else: no space, quote, newline, `;`, `<`, `*` or backslash. */
export const haproxyName: RegExp = /^[A-Za-z0-9_./@-]+$/

/** tune.bufsize of HAProxy when it is not set. */
const defaultBufferBytes = 16_384
/** The pool that holds the buffers rounds their size up by less than this. */
const bufferRounding = 64

/** Speaks to one HAProxy. */
export function haproxyRuntime(options: HaproxyRuntimeOptions): HaproxyRuntime {
  const { socket, deployer, clock, signal, timeoutMs } = options

  async function ask(command: string): Promise<string> {
    const question = { path: socket, command: `${command}\n`, endAfterCommand: false, clock, signal, timeoutMs }
    let reply: string
    try {
      reply = await askSocket(question)
    } catch (error) {
      throw signal.aborted && error === signal.reason ? error : socketFailure(deployer, socket, error)
    }
    if (!reply.endsWith('\n\n')) throw unavailable(`HAProxy's reply on ${socket} was cut off`)
    const refusal = /^(?:Permission denied|Unknown command)/m.exec(reply)?.[0]
    if (refusal === 'Permission denied') {
      throw rejected(`${socket} may not change certificates; it needs "level admin" on its "stats socket" line`)
    }
    if (refusal !== undefined) {
      throw rejected(
        `the HAProxy behind ${socket} has no "${command.split(' /')[0]?.slice(0, 20) ?? ''}" command; it needs 2.2 or newer`,
      )
    }
    return reply
  }

  const unavailable = (message: string): DeployError =>
    new DeployError({ code: 'ERR_DEPLOY_UNAVAILABLE', message: `${deployer}: ${message}`, deployer })
  const rejected = (message: string): DeployError =>
    new DeployError({ code: 'ERR_DEPLOY_REJECTED', message: `${deployer}: ${message}`, deployer })
  const unexpected = (what: string, reply: string): DeployError => rejected(`HAProxy ${what}: ${printable(reply)}`)

  return {
    async list() {
      const reply = await ask('show ssl cert')
      const listing = parseListing(reply)
      if (listing === undefined) throw unexpected('does not list its certificates', reply)
      return listing
    },
    async show(name, which = 'loaded') {
      assertName(name)
      const reply = await ask(`show ssl cert ${which === 'pending' ? '*' : ''}${name}`)
      if (/^Can't display the certificate/.test(reply)) return undefined
      const certificate = parseCertificate(reply)
      if (certificate === undefined) throw unexpected(`does not describe ${name}`, reply)
      return certificate
    },
    async commandLimit() {
      const size = /Pool buffer \((\d{1,9}) bytes\)/.exec(await ask('show pools'))?.[1]
      return (size === undefined ? defaultBufferBytes : Number(size)) - bufferRounding
    },
    async create(name) {
      assertName(name)
      const reply = await ask(`new ssl cert ${name}`)
      if (!isExactly(reply, `New empty certificate store '${name}'!`)) throw unexpected(`did not create ${name}`, reply)
    },
    async set(name, pem) {
      assertName(name)
      // A blank line would end the payload, and HAProxy would run what follows as commands.
      if (!isPayload(pem)) throw rejected('the PEM to send has blank lines or other text')
      const reply = await ask(`set ssl cert ${name} <<\n${pem}`)
      if (isExactly(reply, `Transaction created for certificate ${name}!`)) return { kind: 'created' }
      if (isBusy(reply)) return { kind: 'busy' }
      const other = /^Transaction updated for certificate ([^\n!]{1,4096})!\n\n$/.exec(reply)?.[1]
      if (other !== undefined && haproxyName.test(other)) return { kind: 'went-elsewhere', name: other }
      throw unexpected(`refused the certificate for ${name}`, reply)
    },
    async commit(name) {
      assertName(name)
      const reply = await ask(`commit ssl cert ${name}`)
      if (reply.startsWith(`Committing ${name}`) && /\nSuccess!\n\n$/.test(reply)) return 'committed'
      if (isBusy(reply)) return 'busy'
      throw unexpected(`did not put ${name} into service`, reply)
    },
    async abort(name) {
      assertName(name)
      const reply = await ask(`abort ssl cert ${name}`)
      const done = [`Transaction aborted for certificate '${name}'!`, 'No ongoing transaction!']
      if (!done.some((text) => isExactly(reply, text))) throw unexpected(`did not abort the change of ${name}`, reply)
    },
    async addToList(list, name) {
      assertName(list)
      assertName(name)
      const reply = await ask(`add ssl crt-list ${list} ${name}`)
      if (!/\nSuccess!\n\n$/.test(reply)) throw unexpected(`did not add ${name} to ${list}`, reply)
    },
  }
}

/** Bytes of the command that {@link HaproxyRuntime.set} sends. */
export function setCommandBytes(name: string, pem: string): number {
  return Buffer.byteLength(`set ssl cert ${name} <<\n${pem}\n`)
}

/** `# transaction`, `*<name>`, `# filename`, names. `undefined` when it is anything else. */
export function parseListing(reply: string): CertificateListing | undefined {
  const names: string[] = []
  let transaction: string | undefined
  for (const line of reply.trimEnd().split('\n')) {
    if (line === '' || line === '# transaction' || line === '# filename') continue
    if (line.startsWith('*') && transaction === undefined) transaction = line.slice(1)
    else if (line.startsWith('#') || line.startsWith('*') || line.includes(' ')) return undefined
    else names.push(line)
  }
  return { transaction, names }
}

/** The lines `Status:`, `SHA1 FingerPrint:` and `Chain Subject:` of `show ssl cert <name>`. */
export function parseCertificate(reply: string): LoadedCertificate | undefined {
  const status = /^Status: ([A-Za-z]{1,20})/m.exec(reply)?.[1]
  if (status === undefined || !reply.startsWith('Filename: ')) return undefined
  const fingerprint = /^SHA1 FingerPrint: ([0-9A-F]{40})$/m.exec(reply)?.[1]
  const chainLength = reply.split('\n').filter((line) => line.startsWith('Chain Subject: ')).length
  return { status, fingerprintSha1: fingerprint?.toLowerCase(), chainLength }
}

/** Whether nobody is there to talk to: HAProxy is not running, or not with this socket. */
export function nobodyListens(error: unknown): boolean {
  const cause = error instanceof DeployError ? error.cause : undefined
  return ['ENOENT', 'ECONNREFUSED'].includes(errorCode(cause) ?? '')
}

/** What went wrong with a socket of HAProxy, in words. */
export function socketFailure(deployer: string, socket: string, cause: unknown): DeployError {
  const code = errorCode(cause) ?? ''
  const permanent: Readonly<Record<string, string>> = {
    EACCES: 'this process may not connect to it; check its mode and group on the "stats socket" line',
    EPERM: 'this process may not connect to it; check its mode and group on the "stats socket" line',
    ENOTSOCK: 'it is no socket',
    EMSGSIZE: "the reply is too long to be HAProxy's",
  }
  const temporary: Readonly<Record<string, string>> = {
    ENOENT: 'there is no such socket; is HAProxy running, and is this its "stats socket"?',
    ECONNREFUSED: 'nobody listens on it; is HAProxy running?',
    ETIMEDOUT: 'HAProxy accepted the connection and did not answer in time',
    ECONNRESET: 'HAProxy closed the connection',
    EPIPE: 'HAProxy closed the connection',
  }
  const reason = permanent[code] ?? temporary[code] ?? (cause instanceof Error ? cause.message : 'it failed')
  return new DeployError({
    code: permanent[code] === undefined ? 'ERR_DEPLOY_UNAVAILABLE' : 'ERR_DEPLOY_REJECTED',
    message: `${deployer}: ${socket}: ${reason}`,
    deployer,
    cause,
  })
}

function isExactly(reply: string, text: string): boolean {
  return reply === `${text}\n\n`
}

function isBusy(reply: string): boolean {
  return /^Operations on certificates are currently locked!/m.test(reply)
}

/** PEM blocks only, each line non-empty, with the newline that ends the last one. */
function isPayload(pem: string): boolean {
  return /^(?:[A-Za-z0-9+/= -]+\n)+$/.test(pem)
}

function assertName(name: string): void {
  if (!haproxyName.test(name)) throw new TypeError(`not a name that can be sent to HAProxy: ${JSON.stringify(name)}`)
}

/** One line, without what a terminal would act on; replies hold no keys, but may be anything. */
function printable(reply: string): string {
  return reply
    .replace(/[^\x20-\x7e]+/g, ' ')
    .trim()
    .slice(0, 300)
}
