import { appendFile, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'vitest'
import { acmetoolDnsSolver, acmetoolHttpSolver } from '../../src/solvers/acmetool-hooks.js'
import type { Challenge } from '../../src/solvers/challenge-solver.js'
import { httpResponder } from '../../src/solvers/http-responder.js'
import { route53Solver } from '../../src/solvers/route53/index.js'
import { storeResponder } from '../../src/solvers/store-responder.js'
import { webrootSolver } from '../../src/solvers/webroot.js'
import { storeKey } from '../../src/stores/cert-store.js'
import { memoryStore } from '../../src/stores/memory.js'
import { operationContext } from '../../src/testing/operation-context.js'
import { challengeSolverContract, type SolverFixture } from '../../src/testing/solver-contract.js'
import { fakeRoute53 } from '../support/fake-route53.js'
import { dnsHook, webrootHook, writeHook } from '../support/hook-scripts.js'
import { temporaryDirectory } from '../support/temporary-directory.js'

/** As a web server does: whatever has the name. Temporary files have none a CA would ask for. */
const servedFrom = (directory: string): Pick<SolverFixture, 'readPresented' | 'plantForeign'> => ({
  readPresented: async ({ token }) => {
    const names: string[] = await readdir(directory).catch(() => [])
    return names.includes(token) ? [await readFile(join(directory, token), 'utf8')] : []
  },
  plantForeign: async ({ token }, value) => {
    await mkdir(directory, { recursive: true })
    await writeFile(join(directory, token), value)
  },
})

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
            ...servedFrom(served),
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

describe('acmetoolHttpSolver', () => {
  challengeSolverContract(
    { describe, it },
    {
      level: 'strict',
      async createSolver() {
        const root = await temporaryDirectory()
        const [hooks, served] = [join(root.path, 'hooks'), join(root.path, 'webroot')]
        await writeHook(hooks, 'webroot', webrootHook)
        await writeHook(hooks, 'reload', 'exit 42')
        const open = () => acmetoolHttpSolver({ stateDirectory: root.path, directories: [hooks] })
        return {
          solver: open(),
          ...servedFrom(served),
          reopen: async () => open(),
          dispose: () => root.remove(),
        }
      },
    },
  )
})

describe('acmetoolDnsSolver', () => {
  challengeSolverContract(
    { describe, it },
    {
      level: 'strict',
      async createSolver() {
        const root = await temporaryDirectory()
        const hooks = join(root.path, 'hooks')
        await writeHook(hooks, 'dns', dnsHook)
        const open = () => acmetoolDnsSolver({ stateDirectory: root.path, directories: [hooks] })
        const zone = (host: string) => join(root.path, 'txt', host)
        return {
          solver: open(),
          readPresented: async ({ identifier }) =>
            (await readFile(zone(identifier.value), 'utf8').catch(() => '')).split('\n').filter(Boolean),
          plantForeign: async ({ identifier }, value) => {
            await mkdir(join(root.path, 'txt'), { recursive: true })
            await appendFile(zone(identifier.value), `${value}\n`)
          },
          reopen: async () => open(),
          dispose: () => root.remove(),
        }
      },
    },
  )
})
