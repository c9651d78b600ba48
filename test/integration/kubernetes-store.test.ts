/**
 * kubernetesStore on a real API server, with nothing but the Role that requiredPermissions() returns.
 */
import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { CertStore } from '../../src/stores/cert-store.js'
import { encryptedStore } from '../../src/stores/encrypted.js'
import { kubernetesStore } from '../../src/stores/kubernetes/index.js'
import { objectNames } from '../../src/stores/kubernetes/object-names.js'
import { certStoreContract, type StoreFixture } from '../../src/testing/store-contract.js'
import { kubeAccount, type KubeAccount } from '../support/kube-account.js'
import { startKubeApiserver, type KubeApiserver } from '../support/kube-apiserver.js'
import { describeWith } from '../support/servers.js'
import { sweepFaults } from '../support/store-faults.js'
import { tcpProxy } from '../support/tcp-proxy.js'

describeWith(['etcd', 'kube-apiserver'], 'kubernetesStore', () => {
  let kube: KubeApiserver
  let account: KubeAccount
  let count = 0

  beforeAll(async () => {
    kube = await startKubeApiserver()
    account = await kubeAccount(kube, 'certificates')
    await account.grant(kubernetesStore().requiredPermissions({ serviceAccount: account.serviceAccount }))
  }, 180_000)
  afterAll(() => kube.stop())

  /** Two stores with connections of their own, on Secrets of their own. */
  const fixture = async (wrap: (store: CertStore) => CertStore): Promise<StoreFixture> => {
    const prefix = `contract-${String((count += 1))}`
    const stores: CertStore[] = []
    const open = async (): Promise<CertStore> => {
      const { namespace } = account
      const store = kubernetesStore({ kubeConfig: await account.config(), namespace, prefix })
      stores.push(store)
      return wrap(store)
    }
    return {
      store: await open(),
      reopen: open,
      damage: async (key) => {
        const path = `/api/v1/namespaces/${account.namespace}/secrets/${objectNames(prefix).nameOf(key)}`
        const bytes = Buffer.from((await kube.admin.find(path))!.data!['entry']!, 'base64')
        bytes[bytes.length - 1]! ^= 1
        await kube.admin.call(
          'PATCH',
          path,
          { data: { entry: bytes.toString('base64') } },
          'application/merge-patch+json',
        )
      },
      dispose: async () => {
        for (const store of stores) await store.close?.()
      },
    }
  }

  describe('as it is', () => {
    certStoreContract({ describe, it }, { createStore: () => fixture((store) => store), level: 'strict' })
  })

  describe('encrypted', () => {
    const key = randomBytes(32)
    const createStore = () => fixture((store) => encryptedStore(store, key))
    certStoreContract({ describe, it }, { createStore, level: 'strict' })
  })

  describe('through a bad connection', () => {
    it.each(['drop-before', 'drop-after', 'hang'] as const)('tells of every request that met %s', async (fault) => {
      const proxy = await tcpProxy(Number(new URL(kube.url).port))
      const prefix = `faults-${String((count += 1))}`
      const open = async (url: string, timeoutMs: number) => {
        const store = kubernetesStore({
          ...{ kubeConfig: await account.config(url), namespace: account.namespace, prefix, timeoutMs },
        })
        return { store, close: async () => store.close?.() }
      }
      const direct = await open(kube.url, 10_000)
      const { fired, told } = await sweepFaults(
        {
          ...{ proxy, direct: direct.store },
          connect: (timeoutMs) => open(`https://127.0.0.1:${String(proxy.port)}`, timeoutMs),
        },
        fault,
      )
      expect(fired).toBeGreaterThanOrEqual(9)
      console.log(`kubernetes, ${fault}: ${String(fired)} requests, ${String(told)} operations failed`)
      await direct.close()
      await proxy.close()
    })
  })
})
