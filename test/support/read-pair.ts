/**
 * What a server would find in PEM files.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { readFile, realpath } from 'node:fs/promises'
import { join } from 'node:path'
import type { DeployedPair } from '../../src/testing/deployer-contract.js'

/** A file with both. */
export async function readCombined(path: string): Promise<DeployedPair | undefined> {
  const pem = await readFile(path, 'utf8').catch(ifAbsent)
  return pem === undefined ? undefined : pairOf(pem, pem)
}

/** Two files of a directory, as it is at one moment. */
export async function readDirectory(
  directory: string,
  names: { readonly certificate: string; readonly key: string },
): Promise<DeployedPair | undefined> {
  const version = await realpath(directory).catch(ifAbsent)
  if (version === undefined) return undefined
  const [certificate, key] = await Promise.all([
    readFile(join(version, names.certificate), 'utf8'),
    readFile(join(version, names.key), 'utf8'),
  ])
  return pairOf(certificate, key)
}

export function pairOf(certificatePem: string, keyPem: string): DeployedPair {
  const leaf = new X509Certificate(certificatePem)
  return {
    fingerprintSha256: leaf.fingerprint256.replaceAll(':', '').toLowerCase(),
    keyMatches: leaf.checkPrivateKey(createPrivateKey(keyPem)),
  }
}

function ifAbsent(error: NodeJS.ErrnoException): undefined {
  if (error.code === 'ENOENT') return undefined
  throw error
}
