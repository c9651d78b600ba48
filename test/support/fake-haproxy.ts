/**
 * HAProxy's runtime API as 2.6.12 answers it, its fault of swallowing another name's certificate included; any reply can be
 * replaced.
 */
import { createHash, createPrivateKey, X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { temporaryDirectory } from './temporary-directory.js'

/** What a scripted reply does instead of the usual. */
export type OddReply = string | { readonly cut: string } | 'silence' | 'hang-up'

export interface FakeHaproxy {
  readonly socket: string
  readonly directory: string
  /** Names and what they serve. */
  readonly certificates: Map<string, string>
  /** The commands, payloads left out. */
  readonly commands: string[]
  transaction: { readonly name: string; readonly pem: string } | undefined
  /** tune.bufsize */
  bufferBytes: number
  /** `undefined`: the usual reply. The usual effect does not happen when there is another one. */
  onCommand: (command: string) => OddReply | undefined
  /** Called with each command after it has been carried out. */
  afterCommand: (command: string) => void
  served(name: string): { fingerprintSha256: string; keyMatches: boolean } | undefined
  close(): Promise<void>
}

export async function fakeHaproxy(loaded: Readonly<Record<string, string>> = {}): Promise<FakeHaproxy> {
  const directory = await temporaryDirectory()
  const socket = join(directory.path, 'admin.sock')
  const connections = new Set<Socket>()
  const lists = new Set<string>()
  const fake: FakeHaproxy = {
    socket,
    directory: directory.path,
    certificates: new Map(Object.entries(loaded)),
    commands: [],
    transaction: undefined,
    bufferBytes: 16_384,
    onCommand: () => undefined,
    afterCommand: () => undefined,
    served(name) {
      const pem = fake.certificates.get(name)
      if (pem === undefined || pem === '') return undefined
      const leaf = new X509Certificate(pem)
      return {
        fingerprintSha256: leaf.fingerprint256.replaceAll(':', '').toLowerCase(),
        keyMatches: leaf.checkPrivateKey(createPrivateKey(pem)),
      }
    },
    async close() {
      for (const connection of connections) connection.destroy()
      if (server.listening) await once(server.close(), 'close')
      await directory.remove()
    },
  }

  const answer = (command: string, payload: string): string => {
    const [name = '', second = ''] = command.split(' ').slice(3)
    if (command === 'show pools') return `  - Pool buffer (${fake.bufferBytes} bytes) : 4 allocated`
    if (command === 'show ssl cert') {
      const pending = fake.transaction === undefined ? '' : `# transaction\n*${fake.transaction.name}\n`
      return `${pending}# filename\n${[...fake.certificates.keys()].join('\n')}`
    }
    if (command.startsWith('show ssl cert ')) {
      const pending =
        name.startsWith('*') && fake.transaction?.name === name.slice(1) ? fake.transaction.pem : undefined
      const pem = name.startsWith('*') ? pending : fake.certificates.get(name)
      if (pem === undefined) return "Can't display the certificate: Not found or the certificate is a bundle!"
      return describe(
        name,
        pem,
        name.startsWith('*') ? 'Unused' : lists.has(name) || name in loaded ? 'Used' : 'Unused',
      )
    }
    if (command.startsWith('new ssl cert ')) {
      if (fake.certificates.has(name)) return `Certificate '${name}' already exists!`
      fake.certificates.set(name, '')
      return `New empty certificate store '${name}'!`
    }
    if (command.startsWith('set ssl cert ')) {
      if (fake.transaction !== undefined) {
        fake.transaction = { name: fake.transaction.name, pem: payload }
        return `Transaction updated for certificate ${fake.transaction.name}!`
      }
      if (!fake.certificates.has(name))
        return `Can't replace a certificate which is not referenced by the configuration!\nCan't update ${name}!`
      fake.transaction = { name, pem: payload }
      return `Transaction created for certificate ${name}!`
    }
    if (command.startsWith('commit ssl cert ')) {
      if (fake.transaction?.name !== name) return `No ongoing transaction! !\nCan't commit ${name}!`
      fake.certificates.set(name, fake.transaction.pem)
      fake.transaction = undefined
      return `Committing ${name}.\nSuccess!`
    }
    if (command.startsWith('abort ssl cert ')) {
      if (fake.transaction?.name !== name) return 'No ongoing transaction!'
      fake.transaction = undefined
      return `Transaction aborted for certificate '${name}'!`
    }
    if (command.startsWith('add ssl crt-list ')) {
      lists.add(second)
      return `Inserting certificate '${second}' in crt-list '${name}'.\nSuccess!`
    }
    return 'Unknown command. Please enter one of the following commands only:'
  }

  const server = createServer((connection) => {
    connections.add(connection)
    connection.on('close', () => connections.delete(connection))
    connection.on('error', () => undefined)
    let input = ''
    connection.setEncoding('utf8')
    connection.on('data', (chunk: string) => {
      input += chunk
      const line = input.slice(0, Math.max(0, input.indexOf('\n')))
      const isPayload = line.endsWith(' <<')
      if (line === '' || (isPayload && !input.includes('\n\n'))) return
      const command = isPayload ? line.slice(0, -3) : line
      const payload = isPayload ? input.slice(line.length + 1, input.indexOf('\n\n') + 1) : ''
      input = ''
      fake.commands.push(command)
      const odd = fake.onCommand(command)
      if (odd === 'silence') return
      if (odd === 'hang-up') connection.destroy()
      else if (typeof odd === 'object') connection.end(odd.cut)
      else connection.end(`${odd ?? answer(command, payload)}\n\n`)
      fake.afterCommand(command)
    })
  })
  await once(server.listen(socket), 'listening')
  return fake
}

function describe(name: string, pem: string, status: string): string {
  if (pem === '') return `Filename: ${name}\nStatus: Empty`
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? []
  const [leaf, ...chain] = blocks.map((block) => new X509Certificate(block))
  const sha1 = createHash('sha1').update(leaf!.raw).digest('hex').toUpperCase()
  const lines = chain.map(({ subject }) => `Chain Subject: /${subject}\nChain Issuer: /x`)
  return [`Filename: ${name}`, `Status: ${status}`, `SHA1 FingerPrint: ${sha1}`, ...lines, 'OCSP Response Key: '].join(
    '\n',
  )
}
