/**
 * What runs in a process of its own: one ACME client, told what to obtain.
 */

/** Where a peer finds its CA, and where the CA will look for http-01 answers. */
export interface PeerWorld {
  readonly directoryUrl: string
  readonly caPem: string
  readonly httpPort: number
}

export type LeafKey = 'ecdsa-p256' | 'rsa-4096'

export interface CertificateOrder {
  readonly name: string
  readonly names: readonly string[]
  /** DER, base64. */
  readonly csr: string
}

export interface Job {
  readonly orders: readonly CertificateOrder[]
  /** Orders under way at once. */
  readonly concurrency: number
  /** Forget connections, directory and nonces first; the account stays known. */
  readonly cold: boolean
  /** `ready`: the CSR of each order is used; otherwise key and CSR are made as a part of the job. */
  readonly key: 'ready' | LeafKey
}

export interface Measurement {
  readonly wallMs: number
  /** Of all threads of the client; only of peers that run in Node. */
  readonly cpuMs?: number | undefined
  /** As `monitorEventLoopDelay` has it, its own tick of 1 ms included; only of peers that run in Node. */
  readonly eventLoopMaxMs?: number | undefined
}

/** A client with an account. */
export interface Peer {
  /** From CSRs to chains (PEM, in the order of the job). */
  obtain(job: Job): Promise<readonly string[]>
  /** Drops what a new process would not have. */
  forget(): Promise<void>
}

export type MakePeer = (world: PeerWorld, challenges: Challenges) => Promise<Peer>

/** http-01 answers by token, served by the same little responder for every peer. */
export type Challenges = Map<string, string>

/** `run` for every item, at most `limit` at once. */
export async function atMost<Item, Result>(
  limit: number,
  items: readonly Item[],
  run: (item: Item) => Promise<Result>,
): Promise<Result[]> {
  const results: Result[] = []
  const entries = items.entries()
  const worker = async (): Promise<void> => {
    for (const [index, item] of entries) results[index] = await run(item)
  }
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, worker))
  return results
}
