/**
 * A row: something that is measured and printed by itself.
 */
import { createCsr } from '../src/core/x509.js'
import { parseIdentifiers } from '../src/core/identifier.js'
import { generatePrivateKey } from '../src/core/private-key.js'
import type { CertificateOrder } from './peers/peer.js'
import type { RowReport } from './report.js'

export interface Bench {
  readonly rounds: number
}

export type Row = (bench: Bench) => Promise<readonly RowReport[]>

/** Names, and a CSR for them whose key nobody keeps. */
export async function makeOrder(name: string, names: readonly string[]): Promise<CertificateOrder> {
  const identifiers = parseIdentifiers(names)
  const csr = await createCsr(await generatePrivateKey(), identifiers)
  return { name, names, csr: Buffer.from(csr).toString('base64') }
}
