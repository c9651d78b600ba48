import { DeployError, type CertificateBundle, type Deployer } from 'evercert'

/** What the service offers. */
export interface KeyValueService {
  read(key: string, signal: AbortSignal): Promise<string | undefined>
  write(key: string, value: string, signal: AbortSignal): Promise<void>
}

const text = (bundle: CertificateBundle): string => bundle.fullChainPem + bundle.privateKey.exportPem()

export function keyValueDeployer(service: KeyValueService, key: string): Deployer {
  const name = `key-value:${key}`
  return {
    name,
    scope: 'cluster', // one replica does it for all
    async deploy(bundle, { signal }) {
      signal.throwIfAborted()
      try {
        if ((await service.read(key, signal)) === text(bundle)) return { status: 'unchanged' }
        await service.write(key, text(bundle), signal) // one value: readers never see half of it
        return { status: 'deployed' }
      } catch (cause) {
        signal.throwIfAborted()
        throw new DeployError({
          code: 'ERR_DEPLOY_UNAVAILABLE',
          message: `${name}: the service did not take the certificate`,
          deployer: name,
          cause,
        })
      }
    },
    async inspect(bundle, { signal }) {
      const value = await service.read(key, signal)
      if (value === undefined) return 'absent'
      return value === text(bundle) ? 'current' : 'stale'
    },
  }
}
