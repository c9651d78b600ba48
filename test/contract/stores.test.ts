/**
 * Our stores, held to the contract that those of others are held to.
 */
import { randomBytes } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'vitest'
import type { CertStore, StoreKey } from '../../src/stores/cert-store.js'
import { encryptedStore } from '../../src/stores/encrypted.js'
import { fileStore } from '../../src/stores/file.js'
import { keyName } from '../../src/stores/file/key-name.js'
import { kubernetesStore } from '../../src/stores/kubernetes/index.js'
import { memoryStore } from '../../src/stores/memory.js'
import { operationContext } from '../../src/testing/operation-context.js'
import { certStoreContract, type StoreFixture } from '../../src/testing/store-contract.js'
import { fakeKubeObjects } from '../support/fake-kube-objects.js'
import { temporaryDirectory } from '../support/temporary-directory.js'

async function onDisk(
  open: (directory: string) => CertStore,
  damage: (directory: string, key: StoreKey) => Promise<void>,
): Promise<StoreFixture> {
  const temporary = await temporaryDirectory()
  const openAgain = (): CertStore => open(temporary.path)
  return {
    store: openAgain(),
    reopen: () => Promise.resolve(openAgain()),
    damage: (key) => damage(temporary.path, key),
    dispose: () => temporary.remove(),
  }
}

function flipLastBit(bytes: Uint8Array): Uint8Array {
  return Uint8Array.from(bytes, (byte, index) => (index === bytes.length - 1 ? byte ^ 1 : byte))
}

async function damageFile(directory: string, key: StoreKey): Promise<void> {
  const path = join(directory, `${keyName(key)}.entry`)
  await writeFile(path, flipLastBit(await readFile(path)))
}

/** The store underneath finds nothing wrong with it. */
async function tamper(directory: string, key: StoreKey): Promise<void> {
  const inner = fileStore({ directory })
  const context = operationContext()
  const stored = await inner.get(key, context)
  await inner.put(key, flipLastBit(stored?.value ?? new Uint8Array()), context)
}

describe('memoryStore', () => {
  certStoreContract({ describe, it }, { createStore: () => Promise.resolve({ store: memoryStore() }), level: 'strict' })
})

describe('fileStore', () => {
  certStoreContract(
    { describe, it },
    { createStore: () => onDisk((directory) => fileStore({ directory }), damageFile), level: 'strict' },
  )
})

describe('kubernetesStore', () => {
  const createStore = async (): Promise<StoreFixture> => {
    const api = fakeKubeObjects()
    const { kubeConfig, fetch } = api
    return {
      store: kubernetesStore({ kubeConfig, fetch }),
      reopen: () => Promise.resolve(kubernetesStore({ kubeConfig, fetch })),
      damage: async (key) => {
        for (const [name, { metadata, data }] of Object.entries(api.secrets())) {
          if (metadata.annotations?.['evercert.dev/key'] !== key) continue
          const entry = Buffer.from(flipLastBit(Buffer.from(data!['entry']!, 'base64'))).toString('base64')
          api.edit('secrets', name, { data: { entry } })
        }
      },
    }
  }
  certStoreContract({ describe, it }, { createStore, level: 'strict' })
})

describe('encryptedStore', () => {
  const key = randomBytes(32)
  const open = (directory: string): CertStore => encryptedStore(fileStore({ directory }), key)
  describe('with damage below it', () => {
    certStoreContract({ describe, it }, { createStore: () => onDisk(open, damageFile), level: 'strict' })
  })
  describe('with values that were tampered with', () => {
    certStoreContract({ describe, it }, { createStore: () => onDisk(open, tamper), level: 'strict' })
  })
})
