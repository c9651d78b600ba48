/**
 * Tests that need real servers.
 */
import { describe } from 'vitest'
import { howToGetServers, serverPath, type ServerName } from './server-paths.js'

export { requireServer, serverPath, type ServerName } from './server-paths.js'

const ci = ['true', '1'].includes(process.env['CI'] ?? '')

/**
 * `describe` for tests that need real servers: skipped with a printed reason when one is missing, except in CI, where
 * a suite that quietly does not run would be worse than a failure.
 */
export function describeWith(servers: readonly ServerName[], name: string, define: () => void): void {
  const missing = servers.filter((server) => serverPath(server) === undefined)
  if (missing.length === 0) {
    describe(name, define)
    return
  }
  const reason = `${missing.join(', ')} missing; ${howToGetServers}`
  if (ci) throw new Error(`${name}: ${reason}`)
  console.warn(`skipped "${name}": ${reason}`)
  describe.skip(name, define)
}
