/**
 * acme-client's `auto()`: as it comes, and with the shortest waits that make sense against a CA without delays.
 */
import { Agent } from 'node:https'
import { axios, Client, crypto, type ClientOptions } from 'acme-client'
import { atMost, type LeafKey, type MakePeer } from './peer.js'

type Backoff = Pick<ClientOptions, 'backoffAttempts' | 'backoffMin' | 'backoffMax'>

/** Five seconds between two looks. */
export const makeAutoPeer: MakePeer = autoPeer({})

export const makeTunedAutoPeer: MakePeer = autoPeer({ backoffAttempts: 100, backoffMin: 10, backoffMax: 100 })

function autoPeer(backoff: Backoff): MakePeer {
  return async (world, challenges) => {
    const accountKey = await crypto.createPrivateEcdsaKey()
    const open = (known: { readonly accountUrl?: string }): Client => {
      axios.defaults.httpsAgent = new Agent({ keepAlive: true, ca: world.caPem })
      return new Client({ directoryUrl: world.directoryUrl, accountKey, ...known, ...backoff })
    }
    let client = open({})
    await client.createAccount({ termsOfServiceAgreed: true })
    const accountUrl = client.getAccountUrl()

    return {
      obtain: ({ orders, concurrency, key }) =>
        atMost(concurrency, orders, async ({ names, csr: ready }) => {
          const csr = key === 'ready' ? pemOf(ready) : await makeRequest(names, key)
          return client.auto({
            csr,
            termsOfServiceAgreed: true,
            // The names are in no DNS that it could ask.
            skipChallengeVerification: true,
            challengePriority: ['http-01'],
            challengeCreateFn: async (_, { token }, keyAuthorization) => challenges.set(token, keyAuthorization),
            challengeRemoveFn: async (_, { token }) => challenges.delete(token),
          })
        }),
      forget() {
        ;(axios.defaults.httpsAgent as Agent).destroy()
        client = open({ accountUrl })
        return Promise.resolve()
      },
    }
  }
}

async function makeRequest(names: readonly string[], key: LeafKey): Promise<Buffer> {
  const leafKey = key === 'rsa-4096' ? await crypto.createPrivateRsaKey(4096) : await crypto.createPrivateEcdsaKey()
  const [, csr] = await crypto.createCsr({ altNames: [...names] }, leafKey)
  return csr
}

function pemOf(csr: string): string {
  const lines = csr.match(/.{1,64}/g) ?? []
  return `-----BEGIN CERTIFICATE REQUEST-----\n${lines.join('\n')}\n-----END CERTIFICATE REQUEST-----\n`
}
