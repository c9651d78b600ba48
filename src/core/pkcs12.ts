/**
 * PKCS#12 keystores for Java and others (RFC 7292): the only importer of `pkijs`.
 *
 * @module
 */
import { createHash, createHmac, webcrypto } from 'node:crypto'
import * as asn1js from 'asn1js'
import * as pkijs from 'pkijs'
import type { CertificateBundle } from './certificate-bundle.js'
import { parsePem } from './pem.js'
import { keyObjectOf } from './private-key.js'

/** Options of {@link createKeystore}. */
export interface KeystoreOptions {
  /** Printable ASCII: what encodings of other characters a reader expects, nobody knows. */
  readonly password: string
  /** What Java calls the alias. */
  readonly alias: string
}

/** Of the key from the password. OpenSSL's default is 2,048, keytool's 10,000. */
const iterations = 10_000
/** Of the integrity key; runs on the event loop. */
const macIterations = 2_048

const shroudedKeyBagOid = '1.2.840.113549.1.12.10.1.2'
const certificateBagOid = '1.2.840.113549.1.12.10.1.3'
const friendlyNameOid = '1.2.840.113549.1.9.20'
const localKeyIdOid = '1.2.840.113549.1.9.21'

/**
 * A keystore with the key and its chain, encrypted by AES-256-CBC with PBKDF2-HMAC-SHA-256 and protected by HMAC-SHA-256:
 * what OpenSSL 3 and Java 8u301, 11.0.12 and newer read and write.
 *
 * The same key, chain, password and alias give the same bytes, so that a keystore can be compared with the one in service.
 * Salts and initialization vectors are derived from the key and from everything that goes in, as RFC 6979 does with nonces:
 * nobody without the key can foretell them, and none is used twice for different content.
 *
 * @see {@link https://www.rfc-editor.org/rfc/rfc7292.html | RFC 7292}
 */
export async function createKeystore(bundle: CertificateBundle, options: KeystoreOptions): Promise<Buffer> {
  const { password, alias } = options
  const keyDer = keyObjectOf(bundle.privateKey).export({ type: 'pkcs8', format: 'der' })
  const certificates = parsePem(bundle.certificatePem + bundle.chainPem).map(({ der }) => der)
  const engine = new DerivedSaltEngine(keyDer, [Buffer.from(password), Buffer.from(alias), ...certificates])
  const passwordBytes = new Uint8Array(Buffer.from(password, 'ascii')).buffer
  const encryption = {
    password: passwordBytes,
    contentEncryptionAlgorithm: { name: 'AES-CBC', length: 256 },
    hmacHashAlgorithm: 'SHA-256',
    iterationCount: iterations,
  }

  const leafId = createHash('sha1')
    .update(certificates[0] ?? '')
    .digest()
  const attributes = [
    attribute(friendlyNameOid, bmpString(alias)),
    attribute(localKeyIdOid, new asn1js.OctetString({ valueHex: bytes(leafId) })),
  ]
  const key = new pkijs.PKCS8ShroudedKeyBag({ parsedValue: pkijs.PrivateKeyInfo.fromBER(bytes(keyDer)) })
  await key.makeInternalValues(encryption, engine)
  const keyBag = new pkijs.SafeBag({ bagId: shroudedKeyBagOid, bagValue: key, bagAttributes: attributes })
  const certificateBags = certificates.map((der, index) => {
    const bagValue = new pkijs.CertBag({ parsedValue: pkijs.Certificate.fromBER(bytes(der)) })
    return new pkijs.SafeBag({
      bagId: certificateBagOid,
      bagValue,
      // Java finds the chain by the leaf's id; an intermediate with a name would be an entry of its own.
      ...(index === 0 ? { bagAttributes: attributes } : {}),
    })
  })

  const unencrypted = { privacyMode: 0, value: new pkijs.SafeContents({ safeBags: [keyBag] }) }
  const encrypted = { privacyMode: 1, value: new pkijs.SafeContents({ safeBags: certificateBags }) }
  const authenticatedSafe = new pkijs.AuthenticatedSafe({ parsedValue: { safeContents: [unencrypted, encrypted] } })
  await authenticatedSafe.makeInternalValues({ safeContents: [{}, encryption] }, engine)
  const keystore = new pkijs.PFX({ parsedValue: { integrityMode: 0, authenticatedSafe } })
  await keystore.makeInternalValues(
    {
      password: passwordBytes,
      iterations: macIterations,
      pbkdf2HashAlgorithm: 'SHA-256',
      hmacHashAlgorithm: 'SHA-256',
    },
    engine,
  )
  return Buffer.from(keystore.toSchema().toBER(false))
}

/** pkijs asks its engine for everything random. */
class DerivedSaltEngine extends pkijs.CryptoEngine {
  readonly #seed: Buffer
  #drawn = 0

  constructor(secret: Uint8Array, context: readonly Uint8Array[]) {
    super({ name: 'evercert', crypto: webcrypto })
    const seed = createHmac('sha256', secret).update('evercert keystore 1')
    for (const part of context) seed.update(createHash('sha256').update(part).digest())
    this.#seed = seed.digest()
  }

  override getRandomValues<T extends ArrayBufferView | null>(array: T): T {
    if (array === null) return array
    const target = new Uint8Array(array.buffer, array.byteOffset, array.byteLength)
    for (let at = 0; at < target.length; at += 32) {
      const block = createHmac('sha256', this.#seed)
        .update(String((this.#drawn += 1)))
        .digest()
      target.set(block.subarray(0, target.length - at), at)
    }
    return array
  }

  /** By node:crypto: pkijs hashes in JavaScript here, which would hold up the event loop ten times as long. */
  override async stampDataWithPassword(
    parameters: pkijs.CryptoEngineStampDataWithPasswordParams,
  ): Promise<ArrayBuffer> {
    const { password, salt, iterationCount, contentToStamp } = parameters
    const key = integrityKey(Buffer.from(password).toString('ascii'), new Uint8Array(salt), iterationCount)
    return bytes(createHmac('sha256', key).update(new Uint8Array(contentToStamp)).digest())
  }
}

/** RFC 7292 appendix B.2 for SHA-256 and a key of one hash: there the first round is all. */
function integrityKey(password: string, salt: Uint8Array, rounds: number): Buffer {
  const blockBytes = 64
  const repeated = (value: Uint8Array): Uint8Array =>
    Uint8Array.from(
      { length: blockBytes * Math.ceil(value.length / blockBytes) },
      (_, index) => value[index % value.length] ?? 0,
    )
  const utf16 = Buffer.from(`${password}\0`, 'utf16le').swap16()
  let hash = Buffer.concat([new Uint8Array(blockBytes).fill(3), repeated(salt), repeated(utf16)])
  for (let round = 0; round < rounds; round += 1) hash = createHash('sha256').update(hash).digest()
  return hash
}

function attribute(type: string, value: asn1js.AsnType): pkijs.Attribute {
  return new pkijs.Attribute({ type, values: [value] })
}

function bmpString(value: string): asn1js.BmpString {
  return new asn1js.BmpString({ value })
}

/** An ArrayBuffer with exactly these octets; a Buffer may be a part of a larger one. */
function bytes(value: Uint8Array): ArrayBuffer {
  return new Uint8Array(value).buffer
}
