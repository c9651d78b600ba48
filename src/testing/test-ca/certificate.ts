/**
 * Signs X.509 certificates: one template in, DER out. RFC 5280.
 *
 * @module
 */
import { createHash, generateKeyPairSync, randomBytes, sign, type KeyObject } from 'node:crypto'
import { isIPv6 } from 'node:net'
import type { Identifier } from '../../core/identifier.js'
import {
  bitString,
  children,
  contextTag,
  decode,
  encode,
  flags,
  objectIdentifier,
  sequence,
  tags,
  time,
  unsignedInteger,
} from './der.js'

/** Who signs: a distinguished name with its key. */
export interface Signer {
  /** DER Name. */
  readonly name: Buffer
  /** P-256. */
  readonly privateKey: KeyObject
  /** DER SubjectPublicKeyInfo. */
  readonly publicKeyInfo: Buffer
  readonly keyIdentifier: Buffer
}

/** What a certificate says. */
export interface CertificateTemplate {
  /** DER Name. */
  readonly subject: Buffer
  /** DER SubjectPublicKeyInfo. */
  readonly publicKeyInfo: Buffer
  /** Epoch milliseconds, cut to whole seconds; so is `notAfter`. */
  readonly notBefore: number
  /** Last instant of validity. */
  readonly notAfter: number
  /** Octets of the serial number without a sign octet. */
  readonly serial: Buffer
  /** The subjectAltName extension; left out when empty. */
  readonly identifiers: readonly Identifier[]
  /** Whether it may sign certificates. */
  readonly ca: boolean
}

const extensionIds = {
  subjectKeyIdentifier: objectIdentifier('2.5.29.14'),
  keyUsage: objectIdentifier('2.5.29.15'),
  subjectAltName: objectIdentifier('2.5.29.17'),
  basicConstraints: objectIdentifier('2.5.29.19'),
  authorityKeyIdentifier: objectIdentifier('2.5.29.35'),
  extendedKeyUsage: objectIdentifier('2.5.29.37'),
}
const ecdsaWithSha256 = sequence(objectIdentifier('1.2.840.10045.4.3.2'))
const serverAuth = sequence(objectIdentifier('1.3.6.1.5.5.7.3.1'))
const rsaEncryption = objectIdentifier('1.2.840.113549.1.1.1')
const commonNameId = objectIdentifier('2.5.4.3')
const certificateVersion3 = encode(contextTag(0, 'constructed'), unsignedInteger(Buffer.from([2])))
const yes = encode(tags.boolean, Buffer.from([0xff]))
const no = Buffer.alloc(0)

/** The empty distinguished name: what a certificate without a common name has as its subject. */
export const emptyName: Buffer = sequence()

/** DER Name with one common name. */
export function commonName(text: string): Buffer {
  return sequence(encode(tags.set, sequence(commonNameId, encode(tags.utf8String, Buffer.from(text)))))
}

/** A new P-256 key under a common name. */
export function createSigner(name: string): Signer {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const publicKeyInfo = publicKey.export({ type: 'spki', format: 'der' })
  return { name: commonName(name), privateKey, publicKeyInfo, keyIdentifier: keyIdentifier(publicKeyInfo) }
}

/**
 * 16 random octets. Every other serial has its top bit set, so that it needs a sign octet in DER: the case in which
 * clients compute the wrong ARI identifier (RFC 9773 section 4.1).
 */
export function randomSerial(): Buffer {
  const serial = randomBytes(16)
  serial[0] ||= 1
  return serial
}

/** Octets of the serial as DER has them: with a sign octet when the top bit is set. */
export function serialOctets(serial: Buffer): Buffer {
  return decode(unsignedInteger(serial)).content
}

/** Leftmost 160 bits of the SHA-256 of the public key. RFC 7093 section 2, method 1. */
function keyIdentifier(publicKeyInfo: Buffer): Buffer {
  const key = children(decode(publicKeyInfo))[1]
  return createHash('sha256')
    .update(key?.content.subarray(1) ?? publicKeyInfo)
    .digest()
    .subarray(0, 20)
}

/** Signs the template. @returns DER */
export function signCertificate(template: CertificateTemplate, signer: Signer): Buffer {
  const toBeSigned = sequence(
    certificateVersion3,
    unsignedInteger(template.serial),
    ecdsaWithSha256,
    signer.name,
    sequence(time(template.notBefore), time(template.notAfter)),
    template.subject,
    template.publicKeyInfo,
    encode(contextTag(3, 'constructed'), sequence(...extensions(template, signer))),
  )
  return sequence(toBeSigned, ecdsaWithSha256, bitString(sign('sha256', toBeSigned, signer.privateKey)))
}

function extensions(template: CertificateTemplate, signer: Signer): Buffer[] {
  const { ca, identifiers, publicKeyInfo, subject } = template
  const list = [
    extension(extensionIds.keyUsage, yes, keyUsage(template)),
    extension(extensionIds.basicConstraints, yes, ca ? sequence(yes) : sequence()),
    extension(extensionIds.subjectKeyIdentifier, no, encode(tags.octetString, keyIdentifier(publicKeyInfo))),
    extension(
      extensionIds.authorityKeyIdentifier,
      no,
      sequence(encode(contextTag(0, 'primitive'), signer.keyIdentifier)),
    ),
  ]
  if (identifiers.length === 0) return list
  // Critical when the subject is empty: RFC 5280 section 4.2.1.6.
  const critical = subject.equals(emptyName) ? yes : no
  list.push(
    extension(extensionIds.extendedKeyUsage, no, serverAuth),
    extension(extensionIds.subjectAltName, critical, sequence(...identifiers.map(generalName))),
  )
  return list
}

function extension(id: Buffer, critical: Buffer, value: Buffer): Buffer {
  return sequence(id, critical, encode(tags.octetString, value))
}

function keyUsage({ ca, publicKeyInfo }: CertificateTemplate): Buffer {
  const digitalSignature = 0
  const keyEncipherment = 2
  const [keyCertSign, crlSign] = [5, 6]
  if (ca) return flags(keyCertSign, crlSign)
  return publicKeyInfo.includes(rsaEncryption) ? flags(digitalSignature, keyEncipherment) : flags(digitalSignature)
}

function generalName({ type, value }: Identifier): Buffer {
  return type === 'dns'
    ? encode(contextTag(2, 'primitive'), Buffer.from(value, 'ascii'))
    : encode(contextTag(7, 'primitive'), addressOctets(value))
}

function addressOctets(address: string): Buffer {
  if (!isIPv6(address)) return Buffer.from(address.split('.').map(Number))
  // The URL parser writes any embedded IPv4 part as hexadecimal groups.
  const [head = '', tail] = new URL(`http://[${address}]/`).hostname.slice(1, -1).split('::')
  const groups = (text: string | undefined): string[] => (text ? text.split(':') : [])
  const before = groups(head)
  const after = groups(tail)
  const zeros = Array<string>(8 - before.length - after.length).fill('0')
  return Buffer.from([...before, ...zeros, ...after].map((group) => group.padStart(4, '0')).join(''), 'hex')
}
