import { DeployError, type CertificateBundle, type Deployer, type DeploymentState } from 'evercert'

export interface EdgeOptions {
  /** Of the certificate at the edge: GET tells which one it has, PUT replaces it. */
  readonly url: string
  readonly token: string
}

/** Brings a certificate to the edge (a CDN, say) that all workers are behind: one of them does it for all. */
export function edgeDeployer({ url, token }: EdgeOptions): Deployer {
  const name = `edge:${new URL(url).host}`

  /** @returns `undefined` when there is nothing yet */
  async function call(method: 'GET' | 'PUT', signal: AbortSignal, body?: string): Promise<string | undefined> {
    try {
      const response = await fetch(url, {
        method,
        headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
        redirect: 'error',
        signal: AbortSignal.any([signal, AbortSignal.timeout(10_000)]),
        ...(body === undefined ? {} : { body }),
      })
      const answer = await response.text()
      if (response.ok) return answer
      if (method === 'GET' && response.status === 404) return undefined
      throw new Error(`status ${String(response.status)}`)
    } catch (cause) {
      signal.throwIfAborted()
      throw new DeployError({
        code: 'ERR_DEPLOY_UNAVAILABLE',
        message: `${name}: ${method} failed: ${String(cause)}`,
        deployer: name,
        cause,
      })
    }
  }

  async function stateOf({ fingerprintSha256 }: CertificateBundle, signal: AbortSignal): Promise<DeploymentState> {
    signal.throwIfAborted()
    const known = await call('GET', signal)
    if (known === undefined) return 'absent'
    return known === fingerprintSha256 ? 'current' : 'stale'
  }

  return {
    name,
    scope: 'cluster',
    async deploy(bundle, { signal }) {
      if ((await stateOf(bundle, signal)) === 'current') return { status: 'unchanged' }
      // Chain and key in one request: the edge never has half of it.
      const pair = JSON.stringify({ chain: bundle.fullChainPem, key: bundle.privateKey.exportPem() })
      await call('PUT', signal, pair)
      return { status: 'deployed' }
    },
    inspect: (bundle, { signal }) => stateOf(bundle, signal),
  }
}
