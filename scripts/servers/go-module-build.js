/**
 * Builds a command of a Go module that `go install` refuses because its go.mod replaces other modules by folders of its own
 * (`k8s.io/api => ./staging/src/k8s.io/api`). A module around it takes what was published from those folders.
 */
import { mkdtemp, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'

/**
 * @typedef {object} GoModuleBuild
 * @property {string} module Module with the command.
 * @property {string} version With its `v`.
 * @property {string} [stagedVersion] Version under which the modules it replaces by folders are published, where it does not
 *   require the right ones itself.
 * @property {string} command Import path of the command.
 * @property {readonly string[]} [ldflags]
 *
 * @typedef {(args: readonly string[], options: { cwd: string, env: Record<string, string>, timeoutMs: number }) =>
 *   Promise<{ ok: boolean, output: string }>} RunGo
 */

/**
 * @param {GoModuleBuild} build
 * @param {string} target Path of the executable; it appears when it is complete.
 * @param {RunGo} runGo
 * @returns {Promise<string | undefined>} What went wrong, if anything.
 */
export async function buildGoModule({ module, version, stagedVersion, command, ldflags = [] }, target, runGo) {
  const cwd = await mkdtemp(join(tmpdir(), 'evercert-build-'))
  // Whatever go.mod surrounds the checkout, and whatever the user's settings are, is not meant for this build.
  const env = { GOFLAGS: '-mod=mod', GOWORK: 'off' }
  /** @param {readonly string[]} args @param {number} timeoutMs */
  const go = async (args, timeoutMs) => {
    const { ok, output } = await runGo(args, { cwd, env, timeoutMs })
    if (!ok) throw new Error(`go ${args.join(' ')}:\n${output}`)
    return output
  }
  try {
    await writeFile(join(cwd, 'go.mod'), 'module evercert.test/server\n')
    const download = await go(['mod', 'download', '-json', `${module}@${version}`], 600_000)
    // What go says besides comes after the object.
    const downloaded = JSON.parse(download.slice(0, download.lastIndexOf('}') + 1))
    const original = await readFile(downloaded.GoMod, 'utf8')
    await writeFile(join(cwd, 'go.mod'), wrapperModule(original, { module, version, stagedVersion }))
    // A package that imports the command: -mod=mod then finds its dependencies for go.sum.
    await writeFile(join(cwd, 'server.go'), `//go:build server\n\npackage server\n\nimport _ "${command}"\n`)
    await mkdir(dirname(target), { recursive: true })
    const unfinished = `${target}.${process.pid}`
    const flags = ['-s', '-w', ...ldflags].join(' ')
    try {
      // 1,500 packages: minutes on a fast machine, and more on a small one that is busy.
      await go(['build', '-ldflags', flags, '-o', unfinished, command], 3_600_000)
      await rename(unfinished, target)
    } finally {
      await rm(unfinished, { force: true })
    }
    return undefined
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  } finally {
    await rm(cwd, { recursive: true, force: true })
  }
}

/**
 * @param {string} original The go.mod of the module.
 * @param {{ module: string, version: string, stagedVersion?: string | undefined }} versions
 */
export function wrapperModule(original, { module, version, stagedVersion }) {
  const go = /^go \S+$/m.exec(original)?.[0] ?? ''
  const staged = [...original.matchAll(/^\s*(?:replace\s+)?(\S+) => \.{1,2}\/\S+$/gm)].map(([, path]) => path)
  return [
    'module evercert.test/server',
    go,
    `require ${module} ${version}`,
    ...(stagedVersion === undefined ? [] : staged.map((path) => `replace ${path} => ${path} ${stagedVersion}`)),
    '',
  ].join('\n')
}
