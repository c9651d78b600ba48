/**
 * The files and settings that Mesos reads for TLS: for `pemFilesDeployer`.
 *
 * @module
 */
import { join } from 'node:path'
import type { OperationContext } from '../core/context.js'
import {
  assertBoolean,
  assertFunction,
  assertNumber,
  assertOneOf,
  assertOptions,
  assertPath,
  assertText,
} from '../internal/options.js'
import type { PemLayout } from './pem-layouts.js'

/** Options of {@link mesosTls}. */
export interface MesosTlsOptions {
  /** Directory of the files. Becomes a link that is switched as a whole. Letters, digits, `/`, `.`, `_`, `-`. */
  readonly directory: string
  /** The roots to trust (PEM): `(context) => issuer.trustBundle({ ...context, store })`. */
  readonly trustBundle: (context: OperationContext) => string | Promise<string>
  /** File names. @defaultValue those of the published walk-through, and `mesos-tls.env` */
  readonly names?:
    | {
        /** @defaultValue 'ca.pem' */
        readonly ca?: string | undefined
        /** @defaultValue 'localhost.pem' */
        readonly certificate?: string | undefined
        /** @defaultValue 'localhost-key.pem' */
        readonly key?: string | undefined
        /** @defaultValue 'mesos-tls.env' */
        readonly environment?: string | undefined
      }
    | undefined
  /** `LIBPROCESS_SSL_SUPPORT_DOWNGRADE`: plain text beside TLS, to move a cluster over. Verification can then be bypassed. @defaultValue false */
  readonly supportDowngrade?: boolean | undefined
  /** `LIBPROCESS_SSL_REQUIRE_CLIENT_CERT`, `REQUIRE_CERT`: web interfaces then need a certificate too. @defaultValue true */
  readonly requireClientCertificate?: boolean | undefined
  /** `LIBPROCESS_SSL_HOSTNAME_VALIDATION_SCHEME`; `legacy` before Mesos 1.9. @defaultValue 'openssl' */
  readonly hostnameValidation?: 'openssl' | 'legacy' | undefined
  /** `LIBPROCESS_SSL_VERIFICATION_DEPTH`. @defaultValue 4, as Mesos */
  readonly verificationDepth?: number | undefined
  /** `LIBPROCESS_SSL_ECDH_CURVES`. @defaultValue 'auto', as Mesos */
  readonly ecdhCurves?: string | undefined
  /** `LIBPROCESS_SSL_CIPHERS`. @defaultValue Mesos' own, which work with RSA keys only: other certificates are refused */
  readonly ciphers?: string | undefined
}

/**
 * Mesos masters and agents: `ca.pem`, `localhost.pem`, `localhost-key.pem`, and a file with the `LIBPROCESS_SSL_*` variables
 * that libprocess reads, verification on. Mesos reads them at its start only: restart it `afterwards`.
 *
 * @example
 *
 * ```ts
 * import { RenewalScheduler } from 'evercert'
 * import { mesosTls, pemFilesDeployer } from 'evercert/deployers/pem-files'
 * import { privateCaIssuer } from 'evercert/issuers/private-ca'
 * import { fileStore } from 'evercert/stores/file'
 *
 * const store = fileStore({ directory: '/var/lib/evercert' })
 * const issuer = privateCaIssuer({ profile: 'peer' })
 * const scheduler = new RenewalScheduler({
 *   store,
 *   certificates: [
 *     {
 *       name: 'mesos-agent-7',
 *       identifiers: ['agent-7.cluster.example', 'localhost', '10.0.0.7', '127.0.0.1'],
 *       key: 'rsa-2048',
 *       issuers: [issuer],
 *       deployers: [
 *         pemFilesDeployer({
 *           ...mesosTls({
 *             directory: '/etc/mesos/tls',
 *             trustBundle: (context) => issuer.trustBundle({ ...context, store }),
 *           }),
 *           afterwards: { command: ['/usr/bin/systemctl', 'restart', 'mesos-slave'] },
 *         }),
 *       ],
 *     },
 *   ],
 * })
 * ```
 *
 * @remarks
 * libprocess passes over names it does not know without a word, among them some of its documentation
 * (`VERIFY_DEPTH`, `ECDH_CURVE`, `ENABLE_DOWNGRADE`). `VERIFY_CERT` and `REQUIRE_CERT` are what `VERIFY_SERVER_CERT` and
 * `REQUIRE_CLIENT_CERT` were called before Mesos 1.10: both are written, and later versions log that the old ones are deprecated.
 * `CA_FILE` and not `CA_DIR`: a directory needs hashed links.
 *
 * @throws `TypeError` that names the option
 * @see {@link https://github.com/apache/mesos/blob/master/3rdparty/libprocess/src/openssl.cpp | libprocess, openssl.cpp}
 */
export function mesosTls(options: MesosTlsOptions): PemLayout {
  const { directory, trustBundle, names, ciphers, settings } = checkOptions(options)
  const paths = {
    ca: join(directory, names.ca),
    certificate: join(directory, names.certificate),
    key: join(directory, names.key),
  }
  const variables = {
    ENABLED: true,
    CERT_FILE: paths.certificate,
    KEY_FILE: paths.key,
    CA_FILE: paths.ca,
    VERIFY_SERVER_CERT: true,
    // Its name before Mesos 1.10, which would verify nothing without it.
    VERIFY_CERT: true,
    ...settings,
    // What the certificates have, and what the `openssl` scheme needs to accept a connection to an address.
    VERIFY_IPADD: true,
    ENABLE_TLS_V1_2: true,
  }
  const text = Object.entries(variables).map(([name, value]) => `LIBPROCESS_SSL_${name}=${String(value)}\n`)
  return {
    files: [
      { path: paths.ca, content: [{ trustBundle }] },
      { path: paths.certificate, content: ['fullchain'] },
      { path: paths.key, content: ['key'] },
      { path: join(directory, names.environment), content: [{ text: text.join('') }] },
    ],
    ...(ciphers === undefined ? { keyAlgorithms: ['rsa-2048', 'rsa-3072', 'rsa-4096'] } : {}),
  }
}

function checkOptions(options: MesosTlsOptions) {
  const known = [
    'directory',
    'trustBundle',
    'names',
    'supportDowngrade',
    'requireClientCertificate',
    'hostnameValidation',
    'verificationDepth',
    'ecdhCurves',
    'ciphers',
  ]
  assertOptions(options, known, 'mesosTls')
  const { directory, trustBundle, supportDowngrade = false, requireClientCertificate = true } = options
  const { hostnameValidation = 'openssl', verificationDepth = 4, ecdhCurves = 'auto', ciphers } = options
  assertPath(directory, 'directory')
  if (!/^[\w./-]+$/.test(directory)) {
    throw new TypeError(
      '"directory" option must consist of letters, digits, "/", ".", "_" and "-": it goes into an environment file',
    )
  }
  assertFunction(trustBundle, 'trustBundle')
  assertBoolean(supportDowngrade, 'supportDowngrade')
  assertBoolean(requireClientCertificate, 'requireClientCertificate')
  assertOneOf(hostnameValidation, 'hostnameValidation', ['openssl', 'legacy'])
  assertNumber(verificationDepth, 'verificationDepth', { min: 1, max: 100, integer: true })
  assertValue(ecdhCurves, 'ecdhCurves')
  if (ciphers !== undefined) assertValue(ciphers, 'ciphers')
  return {
    directory,
    trustBundle,
    names: namesOption(options.names ?? {}),
    ciphers,
    settings: {
      REQUIRE_CLIENT_CERT: requireClientCertificate,
      REQUIRE_CERT: requireClientCertificate,
      SUPPORT_DOWNGRADE: supportDowngrade,
      HOSTNAME_VALIDATION_SCHEME: hostnameValidation,
      VERIFICATION_DEPTH: verificationDepth,
      ECDH_CURVES: ecdhCurves,
      ...(ciphers === undefined ? {} : { CIPHERS: ciphers }),
    },
  }
}

function namesOption(names: NonNullable<MesosTlsOptions['names']>) {
  assertOptions(names, ['ca', 'certificate', 'key', 'environment'], '"names" option')
  const {
    ca = 'ca.pem',
    certificate = 'localhost.pem',
    key = 'localhost-key.pem',
    environment = 'mesos-tls.env',
  } = names
  const all = { ca, certificate, key, environment }
  for (const [option, name] of Object.entries(all)) {
    assertText(name, `names.${option}`, 255)
    if (!/^\w[\w.-]*$/.test(name)) throw new TypeError(`"names.${option}" option must be a file name without spaces`)
  }
  return all
}

/** What needs no quotes in an environment file, of systemd or of a shell. */
function assertValue(value: unknown, option: string): asserts value is string {
  assertText(value, option, 2000)
  if (!/^[\w.:+@-]+$/.test(value)) {
    throw new TypeError(`"${option}" option must consist of letters, digits, ":", "+", "@", ".", "_" and "-"`)
  }
}
