import { createClient } from '@redis/client'
import { type CertStore } from 'evercert'
import { encryptedStore } from 'evercert/stores/encrypted'
import { fileStore } from 'evercert/stores/file'
import { kubernetesStore } from 'evercert/stores/kubernetes'
import { postgresStore } from 'evercert/stores/postgres'
import { redisStore } from 'evercert/stores/redis'
import pg from 'pg'

export interface OpenStore {
  readonly store: CertStore
  /** Ends the connections that were made for it. */
  close(): unknown
}

/** @param key - 32 bytes in base64: the engine and its backups see no private key */
export async function openStore(place: string, key: string | undefined): Promise<OpenStore> {
  const { store, close } = await openEngine(place)
  return { store: key === undefined ? store : encryptedStore(store, Buffer.from(key, 'base64')), close }
}

/** One case for each engine. */
async function openEngine(place: string): Promise<OpenStore> {
  const [, scheme = 'file'] = /^(\w+):\/\//.exec(place) ?? []
  switch (scheme) {
    case 'redis':
    case 'rediss': {
      const client = createClient({ url: place })
      // The second one hears what other workers store.
      const subscriber = client.duplicate()
      for (const one of [client, subscriber]) one.on('error', (error) => console.error('redis', error))
      await Promise.all([client.connect(), subscriber.connect()])
      return {
        store: redisStore({ client, subscriber }),
        close: () => {
          client.destroy()
          subscriber.destroy()
        },
      }
    }
    case 'postgres':
    case 'postgresql': {
      const pool = new pg.Pool({
        connectionString: place,
        connectionTimeoutMillis: 5_000,
        statement_timeout: 10_000,
      })
      pool.on('error', (error) => {
        console.error('postgres', error)
      })
      return { store: postgresStore({ pool, listener: pool }), close: () => pool.end() }
    }
    case 'kubernetes': {
      // kubernetes://namespace, with the account of the Pod, or with ?kubeconfig=/a/file
      const { hostname, searchParams } = new URL(place)
      const kubeConfigFile = searchParams.get('kubeconfig') ?? undefined
      const store = kubernetesStore({ namespace: hostname, kubeConfigFile })
      return { store, close: () => store.close?.() }
    }
    case 'file':
      return { store: fileStore({ directory: place.replace(/^file:\/\//, '') }), close: () => undefined }
    default:
      throw new Error(`STORE: ${scheme} is not known here; open-store.ts is the place to add it`)
  }
}
