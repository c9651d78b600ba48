import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'vitest'
import type { Challenge } from '../../src/solvers/challenge-solver.js'
import { httpResponder } from '../../src/solvers/http-responder.js'
import { route53Solver } from '../../src/solvers/route53/index.js'
import { storeResponder } from '../../src/solvers/store-responder.js'
import { webrootSolver } from '../../src/solvers/webroot.js'
import { storeKey } from '../../src/stores/cert-store.js'
import { memoryStore } from '../../src/stores/memory.js'
import { operationContext } from '../../src/testing/operation-context.js'
import { challengeSolverContract } from '../../src/testing/solver-contract.js'
import { fakeRoute53 } from '../support/fake-route53.js'
import { temporaryDirectory } from '../support/temporary-directory.js'

for (const option of ['directory', 'challengeDirectory'] as const) {
  describe(`webrootSolver with ${option}`, () => {
    challengeSolverContract(
      { describe, it },
      {
        level: 'strict',
        async createSolver() {
          const root = await temporaryDirectory()
          const open = () =>
            webrootSolver(option === 'directory' ? { directory: root.path } : { challengeDirectory: root.path })
          const served = option === 'directory' ? join(root.path, '.well-known/acme-challenge') : root.path
          return {
            solver: open(),
            // As a web server does: whatever has the name. Temporary files have none a CA would ask for.
            readPresented: async ({ token }) => {
              const names: string[] = await readdir(served).catch(() => [])
              return names.includes(token) ? [await readFile(join(served, token), 'utf8')] : []
            },
            plantForeign: async ({ token }, value) => {
              await mkdir(served, { recursive: true })
              await writeFile(join(served, token), value)
            },
            reopen: async () => open(),
            dispose: () => root.remove(),
          }
        },
      },
    )
  })
}

describe('httpResponder', () => {
  challengeSolverContract(
    { describe, it },
    {
      level: 'strict',
      async createSolver() {
        let responder = httpResponder()
        return {
          solver: responder,
          readPresented: async ({ identifier, token }) => {
            const response = responder.fetch(
              new Request(`http://${identifier.value}/.well-known/acme-challenge/${token}`),
            )
            return response === undefined ? [] : [await response.text()]
          },
          plantForeign: async (challenge, value) => {
            if (challenge.type !== 'http-01') throw new Error('not an http-01 challenge')
            await responder.present({ ...challenge, keyAuthorization: value }, operationContext())
          },
          reopen: async () => (responder = httpResponder()),
        }
      },
    },
  )
})

describe('route53Solver', () => {
  challengeSolverContract(
    { describe, it },
    {
      level: 'strict',
      async createSolver() {
        const route53 = fakeRoute53([{ id: 'Z1', name: 'contract.example' }])
        const open = () => route53Solver({ client: route53.client, followCname: false, propagation: false })
        const recordName = (challenge: Challenge): string => (challenge.type === 'dns-01' ? challenge.recordName : '')
        return {
          solver: open(),
          readPresented: async (challenge) => route53.values(recordName(challenge)),
          plantForeign: async (challenge, value) => route53.plantTxt('Z1', recordName(challenge), [value]),
          reopen: async () => open(),
        }
      },
    },
  )
})

describe('storeResponder', () => {
  challengeSolverContract(
    { describe, it },
    {
      level: 'strict',
      async createSolver() {
        const store = memoryStore()
        const keyOf = ({ identifier, token }: Challenge) => storeKey('challenges', 'http-01', identifier.value, token)
        return {
          solver: storeResponder({ store }),
          readPresented: async (challenge) => {
            const stored = await store.get(keyOf(challenge), operationContext())
            return stored === undefined ? [] : [Buffer.from(stored.value).toString()]
          },
          plantForeign: async (challenge, value) => {
            await store.put(keyOf(challenge), Buffer.from(value), operationContext())
          },
          reopen: async () => storeResponder({ store }),
        }
      },
    },
  )
})
