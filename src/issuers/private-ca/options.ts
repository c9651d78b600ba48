/**
 * The options of the private CA, checked and copied.
 *
 * @module
 */
import { parseAdditionalName, type AdditionalName } from '../../core/additional-names.js'
import { encodeNameConstraints, parseNameConstraints, type NameConstraints } from '../../core/name-constraints.js'
import { keyAlgorithms, type KeyAlgorithm } from '../../core/private-key.js'
import {
  assertArray,
  assertDuration,
  assertNumber,
  assertOneOf,
  assertOptions,
  assertText,
} from '../../internal/options.js'
import { privateCaProfiles, type PrivateCaProfile } from './certificate-profile.js'
import { readRoot, type Root, type RootPair } from './root.js'

/** Options of {@link privateCaIssuer}. */
export interface PrivateCaIssuerOptions {
  /** Id of the issuer: where its roots are in the store. One CA, one id. @defaultValue 'private-ca' */
  readonly id?: string | undefined
  /**
   * Begins the common name of roots that are made; eight random digits follow. Letters, digits, spaces, `.`, `_`, `-`.
   *
   * @defaultValue 'evercert private CA'
   */
  readonly commonName?: string | undefined
  /** Key of roots that are made. @defaultValue 'ecdsa-p256' for the first root, then as the root before */
  readonly rootKey?: KeyAlgorithm | undefined
  /**
   * Life of roots that are made, milliseconds, at most 25 years. At least `overlapMs` and three times `lifetimeMs`.
   *
   * @defaultValue 157_680_000_000 (5 years, as cfssl)
   */
  readonly rootLifetimeMs?: number | undefined
  /**
   * The first root, for a CA that exists: imported into the store at first use, and followed by roots that are made. Once
   * it is in the store the option may be left out. Not together with `roots`.
   *
   * @defaultValue a new root is made
   */
  readonly importRoot?: RootPair | undefined
  /**
   * Roots that are never stored: the first one signs, all of them are trusted. Their roll-over is yours. Not together with
   * `importRoot`.
   *
   * @defaultValue roots live in the store
   */
  readonly roots?: readonly RootPair[] | undefined
  /**
   * Life of a certificate, milliseconds; shorter where the root ends before. Certificates are renewed when a third of it is
   * left (half, below ten days).
   *
   * @defaultValue 7_776_000_000 (90 days)
   */
  readonly lifetimeMs?: number | undefined
  /** For certificates that ask for no profile. @defaultValue 'server' */
  readonly profile?: PrivateCaProfile | undefined
  /**
   * Names of every certificate besides its identifiers, `uri:spiffe://cluster.local/agent` or `email:ops@example.com`; or
   * a function from the certificate's name to them. They change at the next renewal.
   *
   * @defaultValue none
   */
  readonly additionalNames?: readonly string[] | ((certificate: string) => readonly string[]) | undefined
  /**
   * What roots that are made may certify, as a critical extension: DNS names with everything below them, and networks.
   * With `permitted` DNS names only, addresses are excluded altogether, and the reverse; `additionalNames` are not held to it.
   *
   * @defaultValue everything, or as the root before
   */
  readonly nameConstraints?:
    | { readonly permitted?: readonly string[] | undefined; readonly excluded?: readonly string[] | undefined }
    | undefined
  /**
   * How long the next root is in the trust bundle before it signs, milliseconds. Some days are enough for `pemFilesDeployer`,
   * which looks at the bundle every day; where it goes out with certificates only, it takes `lifetimeMs`.
   *
   * @defaultValue `lifetimeMs`
   */
  readonly overlapMs?: number | undefined
  /** Life of a revocation list, milliseconds. @defaultValue 604_800_000 (7 days) */
  readonly revocationListLifetimeMs?: number | undefined
}

/** Options with their defaults. */
export interface PrivateCaSettings {
  readonly id: string
  readonly commonName: string
  readonly rootKey: KeyAlgorithm | undefined
  readonly rootLifetimeMs: number
  readonly imported: Root | undefined
  readonly ownRoots: readonly Root[] | undefined
  readonly lifetimeMs: number
  readonly profile: PrivateCaProfile
  readonly additionalNames: (certificate: string) => readonly AdditionalName[]
  /** DER value of the extension. */
  readonly nameConstraints: Uint8Array | undefined
  /** What is known of the constraints of the signing root before the store is asked. */
  readonly knownConstraints: NameConstraints | undefined
  readonly overlapMs: number
  readonly revocationListLifetimeMs: number
}

const known = [
  'id',
  'commonName',
  'rootKey',
  'rootLifetimeMs',
  'importRoot',
  'roots',
  'lifetimeMs',
  'profile',
  'additionalNames',
  'nameConstraints',
  'overlapMs',
  'revocationListLifetimeMs',
]
const day = 86_400_000
const longestRootMs = 25 * 365 * day

/** @throws `TypeError` that names the option */
export function checkOptions(options: PrivateCaIssuerOptions): PrivateCaSettings {
  assertOptions(options, known, 'privateCaIssuer')
  const { id = 'private-ca', commonName = 'evercert private CA', profile = 'server', rootKey } = options
  const { lifetimeMs = 90 * day, rootLifetimeMs = 5 * 365 * day, revocationListLifetimeMs = 7 * day } = options
  assertText(id, 'id', 200)
  assertText(commonName, 'commonName', 50)
  if (!/^[\p{L}\p{N}][\p{L}\p{N} ._-]*$/u.test(commonName)) {
    throw new TypeError('"commonName" option must consist of letters, digits, spaces, ".", "_" and "-"')
  }
  assertOneOf(profile, 'profile', privateCaProfiles)
  if (rootKey !== undefined) assertOneOf(rootKey, 'rootKey', keyAlgorithms)
  assertDuration(lifetimeMs, 'lifetimeMs')
  const { overlapMs = lifetimeMs } = options
  assertDuration(overlapMs, 'overlapMs')
  const shortest = overlapMs + 3 * lifetimeMs
  assertNumber(rootLifetimeMs, 'rootLifetimeMs', { min: shortest, max: longestRootMs })
  assertDuration(revocationListLifetimeMs, 'revocationListLifetimeMs')
  if (options.importRoot !== undefined && options.roots !== undefined) {
    throw new TypeError('"importRoot" and "roots" options: give one of them')
  }
  const imported = options.importRoot && rootOption(options.importRoot, 'importRoot')
  const ownRoots = options.roots === undefined ? undefined : ownRootsOption(options.roots)
  const constraints = constraintsOption(options.nameConstraints)
  if (constraints !== undefined && ownRoots !== undefined) {
    throw new TypeError('"nameConstraints" option is for roots that are made; those of "roots" have their own')
  }
  const given = imported ?? ownRoots?.[0]
  return {
    id,
    commonName,
    rootKey,
    rootLifetimeMs,
    imported,
    ownRoots,
    lifetimeMs,
    profile,
    additionalNames: additionalNamesOption(options.additionalNames),
    nameConstraints: constraints && encodeNameConstraints(constraints),
    knownConstraints: given === undefined ? constraints : given.constraints,
    overlapMs,
    revocationListLifetimeMs,
  }
}

function ownRootsOption(roots: readonly RootPair[]): readonly Root[] {
  assertArray(roots, 'roots')
  if (roots.length === 0 || roots.length > 5) throw new TypeError('"roots" option must hold one to five roots')
  return roots.map((pair) => rootOption(pair, 'roots'))
}

function rootOption(pair: RootPair, option: string): Root {
  assertOptions(pair, ['certificatePem', 'privateKeyPem'], `"${option}" option`)
  try {
    return readRoot(pair)
  } catch (cause) {
    // None of these messages quotes what it was given.
    throw new TypeError(`"${option}" option: ${cause instanceof Error ? cause.message : 'unreadable'}`, { cause })
  }
}

function constraintsOption(value: PrivateCaIssuerOptions['nameConstraints']): NameConstraints | undefined {
  if (value === undefined) return undefined
  assertOptions(value, ['permitted', 'excluded'], '"nameConstraints" option')
  for (const list of ['permitted', 'excluded'] as const) {
    if (value[list] !== undefined) assertArray(value[list], `nameConstraints.${list}`)
  }
  let constraints: NameConstraints
  try {
    constraints = parseNameConstraints(value)
  } catch (cause) {
    throw new TypeError(`"nameConstraints" option: ${cause instanceof Error ? cause.message : 'unreadable'}`, { cause })
  }
  if (constraints.permitted.length + constraints.excluded.length === 0) {
    throw new TypeError('"nameConstraints" option must permit or exclude something')
  }
  return constraints
}

function additionalNamesOption(
  value: PrivateCaIssuerOptions['additionalNames'],
): (certificate: string) => readonly AdditionalName[] {
  const parse = (names: readonly string[]): readonly AdditionalName[] => {
    assertArray(names, 'additionalNames')
    try {
      return [...new Set(names)].map(parseAdditionalName)
    } catch (cause) {
      throw new TypeError(`"additionalNames" option: ${cause instanceof Error ? cause.message : 'unreadable'}`, {
        cause,
      })
    }
  }
  if (typeof value === 'function') return (certificate) => parse(value(certificate))
  const names = parse(value ?? [])
  return () => names
}
