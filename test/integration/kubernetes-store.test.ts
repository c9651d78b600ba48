/**
 * kubernetesStore on a real API server, with nothing but the Role that requiredPermissions() returns.
 */
import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/core/clock.js'
import { kubernetesApi } from '../../src/internal/kubernetes/kubernetes-api.js'
import type { CertStore } from '../../src/stores/cert-store.js'
import { encryptedStore } from '../../src/stores/encrypted.js'
import { kubernetesStore } from '../../src/stores/kubernetes/index.js'
import { readObject } from '../../src/stores/kubernetes/kubernetes-objects.js'
import { objectNames } from '../../src/stores/kubernetes/object-names.js'
import { protobufType, readObjectList } from '../../src/stores/kubernetes/object-list.js'
import { operationContext } from '../../src/testing/operation-context.js'
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

  it('reads a list in Protocol Buffers as it does one in JSON', async () => {
    const { namespace } = account
    const secrets = [
      { name: 'list-plain', data: { entry: Buffer.from([0, 255, 10, 128]).toString('base64'), empty: '' } },
      { name: 'list-bare' },
      { name: 'list-annotated', annotations: { 'note.test/what': 'dürüm', 'note.test/empty': '' } },
      { name: 'list-kept', finalizers: ['backup.test/keep'] },
    ]
    for (const { name, data, ...metadata } of secrets) {
      const manifest = { apiVersion: 'v1', kind: 'Secret', metadata: { name, namespace, ...metadata } }
      await kube.admin.put({ ...manifest, type: 'test/list', ...(data && { data }) })
    }
    const path = `/api/v1/namespaces/${namespace}/secrets`
    await kube.admin.call('DELETE', `${path}/list-kept`)
    const api = kubernetesApi({
      ...{ kubeConfig: await account.config(), timeoutMs: 10_000, kubeConfigFile: undefined, fetch: undefined },
    })
    const scope = { ...operationContext({ clock: systemClock }), tell: (why: string) => new Error(why) }
    const ask = (accept: string) =>
      api.ask({ method: 'GET', path: `${path}?fieldSelector=type=test/list`, accept }, scope)
    for (const form of ['', ';as=PartialObjectMetadataList;g=meta.k8s.io;v=v1']) {
      const binary = await ask(`${protobufType}${form}`)
      expect(binary.headers['content-type']).toContain(protobufType)
      const page = readObjectList(binary.body)
      const text = JSON.parse((await ask(`application/json${form}`)).text()) as { readonly items: readonly unknown[] }
      expect(page?.items).toEqual(text.items.map(readObject))
      expect(page?.items.map(({ name, isDeleted }) => [name, isDeleted])).toEqual(
        secrets.map(({ name }) => [name, name === 'list-kept']).sort(),
      )
      expect(page?.items.map(({ data }) => data.size)).toEqual(form === '' ? [0, 0, 0, 2] : [0, 0, 0, 0])
    }
    await kube.admin.call(
      ...(['PATCH', `${path}/list-kept`, { metadata: { finalizers: null } }, 'application/merge-patch+json'] as const),
    )
    api.close()
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
