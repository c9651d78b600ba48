import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import { createNetwork, describeWithNamespaces } from '../support/network-namespaces.js'

const ip = async (...args: readonly string[]): Promise<string> => (await promisify(execFile)('ip', [...args])).stdout

describeWithNamespaces('a network', (name) => {
  describe(name, () => {
    it('removes what a test run that was killed left behind, then itself', async () => {
      const gone = spawn(process.execPath, ['-e', ''])
      await once(gone, 'exit')
      const leftOver = `ec${String(gone.pid)}n0`
      await ip('netns', 'add', leftOver)
      const network = await createNetwork(2)
      const names = network.namespaces.map((namespace) => namespace.name)
      const during = await ip('netns', 'list')
      expect(during).not.toContain(leftOver)
      for (const each of names) expect(during).toContain(each)
      await network.remove()
      const after = `${await ip('netns', 'list')}${await ip('-brief', 'link')}`
      expect(after).not.toContain(`ec${String(process.pid)}`)
    })
  })
})
