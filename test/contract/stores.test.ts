/**
 * Our stores, held to the contract that those of others are held to.
 */
import { randomBytes } from 'node:crypto'
import { describe, it } from 'vitest'
import type { CertStore } from '../../src/stores/cert-store.js'
import { encryptedStore } from '../../src/stores/encrypted.js'
import { fileStore } from '../../src/stores/file.js'
import { memoryStore } from '../../src/stores/memory.js'
import { certStoreContract, type StoreFixture } from '../../src/testing/store-contract.js'
import { temporaryDirectory } from '../support/temporary-directory.js'

async function onDisk(open: (directory: string) => CertStore): Promise<StoreFixture> {
  const temporary = await temporaryDirectory()
  const openAgain = (): CertStore => open(temporary.path)
  return { store: openAgain(), reopen: () => Promise.resolve(openAgain()), dispose: () => temporary.remove() }
}

describe('memoryStore', () => {
  certStoreContract({ describe, it }, { createStore: () => Promise.resolve({ store: memoryStore() }), level: 'strict' })
})

describe('fileStore', () => {
  certStoreContract(
    { describe, it },
    { createStore: () => onDisk((directory) => fileStore({ directory })), level: 'strict' },
  )
})

describe('encryptedStore', () => {
  const key = randomBytes(32)
  certStoreContract(
    { describe, it },
    { createStore: () => onDisk((directory) => encryptedStore(fileStore({ directory }), key)), level: 'strict' },
  )
})
