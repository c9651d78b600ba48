/**
 * A program of test/integration/programs as one file that plain node runs: it starts fast, and can be killed at any moment.
 */
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'tsup'

/** Inside node_modules, so that the bundle finds its dependencies and git does not see it. */
const bundles = fileURLToPath(new URL('../../node_modules/.cache/evercert-programs', import.meta.url))

/**
 * Resolves with the path of the file. `withDependencies: false` for programs that use packages which cannot be bundled into an
 * ES module.
 */
export async function bundleProgram(name: string, { withDependencies = true } = {}): Promise<string> {
  const outDir = join(bundles, name)
  await build({
    entry: { program: fileURLToPath(new URL(`../integration/programs/${name}.ts`, import.meta.url)) },
    outDir,
    format: 'esm',
    target: 'node20',
    config: false,
    silent: true,
    splitting: false,
    skipNodeModulesBundle: !withDependencies,
    outExtension: () => ({ js: '.mjs' }),
  })
  return join(outDir, 'program.mjs')
}
