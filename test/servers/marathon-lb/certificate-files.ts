/**
 * How certificates get from the environment into files: what marathon-lb's entry point (`run`) does before HAProxy starts.
 */
import { execFile } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { requireServer } from '../../support/servers.js'

const run = promisify(execFile)
const additionalCertificates = 101

/**
 * Writes the files, once.
 *
 * @param given - As with `--ssl-certs`.
 * @returns What HAProxy loads, in this order; the first is for unknown names.
 */
export async function writeCertificates(
  env: Readonly<Record<string, string>>,
  directory: string,
  given: readonly string[] = [],
): Promise<string[]> {
  const first = join(directory, 'cert.pem')
  if ((env['HAPROXY_SSL_CERT'] ?? '') === '') {
    if (given.length > 0) return [...given]
    await writeFile(first, await selfSigned(directory))
    return [first]
  }
  const variables = [
    ['HAPROXY_SSL_CERT', first] as const,
    // Looked at only because the one without a number is set.
    ...Array.from(
      { length: additionalCertificates },
      (_, index) => [`HAPROXY_SSL_CERT${String(index)}`, join(directory, `cert${String(index)}.pem`)] as const,
    ),
  ]
  const paths = [...given]
  for (const [name, path] of variables) {
    const value = env[name] ?? ''
    if (value === '') continue
    await writeFile(path, await echoed(value))
    paths.push(path)
  }
  return paths
}

/** `echo -e`: a backslash and an n become a new line, and one is added at the end. */
async function echoed(value: string): Promise<string> {
  const { stdout } = await run('bash', ['-c', 'echo -e "$VALUE"'], {
    env: { VALUE: value, PATH: process.env['PATH'] },
    maxBuffer: 1024 * 1024,
  })
  return stdout
}

async function selfSigned(directory: string): Promise<string> {
  const key = join(directory, 'self-signed.key')
  const { stdout } = await run(requireServer('openssl'), [
    ...['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-subj', '/CN=*', '-days', '3650', '-keyout', key],
  ])
  const { stdout: keyPem } = await run(requireServer('openssl'), ['pkey', '-in', key])
  return stdout + keyPem
}
