/**
 * Provides the real servers that the integration tests talk to: taken from PATH or from the cache directory,
 * else built (Go) or installed (Python packages in an environment of their own; Debian packages, only as root), else reported
 * as missing with how to get them.
 */
import { execFile } from 'node:child_process'
import { access, chmod, constants, mkdir, readFile, realpath, rename, rm, stat, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { delimiter, join } from 'node:path'
import { buildGoModule } from './servers/go-module-build.js'

/**
 * @typedef {{ path: string, version: string }} FoundServer
 * @typedef {{ missing: string, how: string }} MissingServer `missing` says what is wrong, `how` what to do about it.
 * @typedef {(path: string) => Promise<string | undefined>} VersionReader
 * @typedef {object} ServerSource
 * @property {string} name Name of the executable.
 * @property {boolean} required A required server that is missing fails a CI run.
 * @property {string} minimum Oldest version the tests work with.
 * @property {VersionReader} readVersion
 * @property {string} [goPackage] Exact package and version for `go install`.
 * @property {import('./servers/go-module-build.js').GoModuleBuild} [goModule] What `go install` cannot build.
 * @property {string} [debianPackage]
 * @property {{ requirement: string, module: string }} [pythonPackage] What pip installs, and what `python -m` then runs.
 */

const pebbleModule = 'github.com/letsencrypt/pebble/v2'
const legoModule = 'github.com/go-acme/lego/v4'
const kubernetesVersion = '1.34.4'
const etcdVersion = '3.6.13'

/** @type {readonly ServerSource[]} */
const sources = [
  {
    name: 'pebble',
    required: true,
    minimum: '2.10.0',
    readVersion: goModuleVersion(pebbleModule),
    goPackage: `${pebbleModule}/cmd/pebble@v2.10.1`,
  },
  {
    name: 'pebble-challtestsrv',
    required: true,
    minimum: '2.10.0',
    readVersion: goModuleVersion(pebbleModule),
    goPackage: `${pebbleModule}/cmd/pebble-challtestsrv@v2.10.1`,
  },
  { name: 'haproxy', required: true, minimum: '2.6.0', readVersion: printedVersion('-v'), debianPackage: 'haproxy' },
  { name: 'nginx', required: true, minimum: '1.20.0', readVersion: printedVersion('-v'), debianPackage: 'nginx' },
  {
    name: 'openssl',
    required: true,
    minimum: '1.1.1',
    readVersion: printedVersion('version'),
    debianPackage: 'openssl',
  },
  { name: 'strace', required: true, minimum: '5.0', readVersion: printedVersion('-V'), debianPackage: 'strace' },
  {
    name: 'lego',
    required: true,
    minimum: '4.9.0',
    // Only released binaries print their version; Debian's says "dev".
    readVersion: firstOf(printedVersion('--version'), goModuleVersion(legoModule), debianVersion('lego')),
    goPackage: `${legoModule}/cmd/lego@v4.25.2`,
    debianPackage: 'lego',
  },
  { name: 'nsd', required: true, minimum: '4.3.0', readVersion: printedVersion('-v'), debianPackage: 'nsd' },
  { name: 'unbound', required: true, minimum: '1.13.0', readVersion: printedVersion('-V'), debianPackage: 'unbound' },
  {
    name: 'moto_server',
    required: true,
    minimum: '5.2.0',
    readVersion: pythonPackageVersion('moto'),
    pythonPackage: { requirement: 'moto[route53,server]==5.2.5', module: 'moto.server' },
  },
  {
    name: 'etcd',
    required: true,
    // What Kubernetes 1.34 is made for: an older one cannot tell how far it is, and every list is read from it anew.
    minimum: '3.6.0',
    readVersion: printedVersion('--version'),
    goModule: {
      module: 'go.etcd.io/etcd/server/v3',
      version: `v${etcdVersion}`,
      command: 'go.etcd.io/etcd/server/v3',
    },
  },
  {
    name: 'kube-apiserver',
    required: true,
    minimum: '1.34.0',
    readVersion: printedVersion('--version'),
    goModule: {
      module: 'k8s.io/kubernetes',
      version: `v${kubernetesVersion}`,
      stagedVersion: `v${kubernetesVersion.replace(/^1/, '0')}`,
      command: 'k8s.io/kubernetes/cmd/kube-apiserver',
      // What it says its version is: feature gates and the versions of its own components are judged by it.
      ldflags: Object.entries({
        gitVersion: `v${kubernetesVersion}`,
        gitMajor: kubernetesVersion.split('.')[0],
        gitMinor: kubernetesVersion.split('.')[1],
      }).map(([name, value]) => `-X k8s.io/component-base/version.${name}=${value}`),
    },
  },
  {
    name: 'keepalived',
    required: true,
    minimum: '2.1.0',
    readVersion: printedVersion('--version'),
    debianPackage: 'keepalived',
  },
  {
    name: 'testssl',
    required: true,
    // 3.2 is in Debian's backports.
    minimum: '3.0.8',
    readVersion: printedVersion('--version'),
    debianPackage: 'testssl.sh',
  },
  {
    name: 'cfssl',
    required: true,
    minimum: '1.2.0',
    readVersion: firstOf(printedVersion('version'), debianVersion('golang-cfssl')),
    debianPackage: 'golang-cfssl',
  },
  {
    name: 'redis-server',
    required: true,
    minimum: '6.2.0',
    readVersion: printedVersion('--version'),
    debianPackage: 'redis-server',
  },
  { name: 'postgres', required: true, minimum: '13.0', readVersion: printedVersion('-V'), debianPackage: 'postgresql' },
  {
    name: 'pgbouncer',
    required: true,
    minimum: '1.18.0',
    readVersion: printedVersion('-V'),
    debianPackage: 'pgbouncer',
  },
  {
    name: 'certbot',
    required: false,
    minimum: '2.1.0',
    readVersion: printedVersion('--version'),
    debianPackage: 'certbot',
  },
]

const cacheDirectory = join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'evercert')
const binDirectory = join(cacheDirectory, 'bin')
const versionMemo = join(cacheDirectory, 'versions.json')

// Debian keeps nginx and haproxy in sbin, which is not on the PATH of an ordinary user.
const searchPath = [
  ...(process.env['PATH'] ?? '').split(delimiter).filter(Boolean),
  '/usr/local/sbin',
  '/usr/sbin',
  '/sbin',
  // Debian keeps one set of PostgreSQL's programs per version, and none of the server's on the PATH.
  ...[18, 17, 16, 15, 14, 13].map((version) => `/usr/lib/postgresql/${version}/bin`),
  binDirectory,
]

/**
 * @param {object} options
 * @param {boolean} options.ci Makes a missing required server an error.
 * @param {(line: string) => void} options.log Told what is being installed, and the output of what failed.
 * @returns {Promise<Record<string, FoundServer | MissingServer>>}
 */
export async function provideServers({ ci, log }) {
  let located = await locateAll()
  // Something optional comes along when something required is installed, but is no reason to call apt-get every time.
  if (lacksRequired(located)) {
    await buildWithGo(missingFrom(located), log)
    await installFromPython(missingFrom(located), log)
    located = await locateAll()
    await installFromDebian(missingFrom(located), log)
    located = await locateAll()
  }
  if (ci && lacksRequired(located)) {
    throw new Error(`servers that the tests need are missing:\n${describeMissing(located).join('\n')}`)
  }
  return located
}

/**
 * One line per missing server.
 *
 * @param {Record<string, FoundServer | MissingServer>} servers
 */
export function describeMissing(servers) {
  return Object.entries(servers).flatMap(([name, server]) =>
    'missing' in server ? [`${name}: ${server.missing}. To get it: ${server.how}`] : [],
  )
}

/** @param {Record<string, FoundServer | MissingServer>} located */
function missingFrom(located) {
  return sources.filter(({ name }) => 'missing' in /** @type {object} */ (located[name]))
}

/** @param {Record<string, FoundServer | MissingServer>} located */
function lacksRequired(located) {
  return missingFrom(located).some((source) => source.required)
}

async function locateAll() {
  const memo = await readMemo()
  const known = JSON.stringify(memo)
  const entries = await Promise.all(sources.map(async (source) => [source.name, await locate(source, memo)]))
  if (JSON.stringify(memo) !== known) await writeMemo(memo)
  return /** @type {Record<string, FoundServer | MissingServer>} */ (Object.fromEntries(entries))
}

/**
 * @param {ServerSource} source
 * @param {Record<string, string>} memo
 * @returns {Promise<FoundServer | MissingServer>}
 */
async function locate(source, memo) {
  let missing = 'not found'
  for (const directory of new Set(searchPath)) {
    const path = join(directory, source.name)
    if (!(await isExecutable(path))) continue
    const version = await rememberedVersion(source, path, memo)
    if (version !== undefined && isAtLeast(version, source.minimum)) return { path, version }
    missing = `${path} is ${version ?? 'of unknown version'}, the tests need ${source.minimum} or later`
  }
  return { missing, how: howToGet(source) }
}

/** @param {ServerSource} source */
function howToGet({ goPackage, goModule, debianPackage, pythonPackage }) {
  const ways = []
  if (goModule) ways.push('install Go and run the integration tests again: they build it, once')
  if (pythonPackage) ways.push('install Python 3.9 or later with venv or pip and run the integration tests again')
  if (goPackage) ways.push(`install Go, then "GOBIN=${binDirectory} go install ${goPackage}"`)
  if (debianPackage) ways.push(`as root "apt-get install ${debianPackage}"`)
  return ways.join(', or ')
}

/** @param {string} path */
async function isExecutable(path) {
  try {
    await access(path, constants.X_OK)
    return (await stat(path)).isFile()
  } catch {
    return false
  }
}

/**
 * Asking every program for its version takes half a second (certbot is Python), so the answers are kept.
 *
 * @param {ServerSource} source
 * @param {string} path
 * @param {Record<string, string>} memo
 */
async function rememberedVersion(source, path, memo) {
  const { size, mtimeMs } = await stat(path)
  const key = `${await realpath(path)} ${size} ${mtimeMs}`
  const version = memo[key] ?? (await source.readVersion(path))
  if (version !== undefined) memo[key] = version
  return version
}

/** @returns {Promise<Record<string, string>>} */
async function readMemo() {
  try {
    return JSON.parse(await readFile(versionMemo, 'utf8'))
  } catch {
    return {}
  }
}

/** @param {Record<string, string>} memo */
async function writeMemo(memo) {
  const temporary = `${versionMemo}.${process.pid}`
  try {
    await mkdir(cacheDirectory, { recursive: true })
    await writeFile(temporary, JSON.stringify(memo, null, 2))
    await rename(temporary, versionMemo)
  } catch {
    // Without a writable cache the versions are asked for again next time.
  }
}

/**
 * @param {string} argument
 * @returns {VersionReader}
 */
function printedVersion(argument) {
  return async (path) => {
    const { output } = await run(path, [argument], { timeoutMs: 10_000 })
    return /\d+\.\d+(\.\d+)?/.exec(output)?.[0]
  }
}

/**
 * @param {string} debianPackage
 * @returns {VersionReader}
 */
function debianVersion(debianPackage) {
  return async () => {
    const { ok, output } = await run('dpkg-query', ['-W', '-f', '${Version}', debianPackage], { timeoutMs: 10_000 })
    return ok ? /\d+\.\d+(\.\d+)?/.exec(output)?.[0] : undefined
  }
}

/**
 * @param {...VersionReader} readers
 * @returns {VersionReader}
 */
function firstOf(...readers) {
  return async (path) => {
    for (const readVersion of readers) {
      const version = await readVersion(path)
      if (version !== undefined) return version
    }
    return undefined
  }
}

/**
 * Pebble built by `go install` calls itself "dev", but every Go binary carries the version of its main module.
 *
 * @param {string} module
 * @returns {VersionReader}
 */
function goModuleVersion(module) {
  return async (path) => {
    const binary = await readFile(path)
    const label = `mod\t${module}\tv`
    const start = binary.indexOf(label)
    if (start < 0) return undefined
    return /^\d+\.\d+\.\d+/.exec(binary.toString('latin1', start + label.length, start + label.length + 32))?.[0]
  }
}

/**
 * Asks the interpreter that the program is run by.
 *
 * @param {string} distribution
 * @returns {VersionReader}
 */
function pythonPackageVersion(distribution) {
  return async (path) => {
    const interpreter = /^(?:#!|exec ")(\/[^\s"]*python[^\s"]*)/m.exec(await readFile(path, 'utf8'))?.[1]
    if (interpreter === undefined) return undefined
    const script = `from importlib.metadata import version; print(version('${distribution}'))`
    const { ok, output } = await run(interpreter, ['-c', script], { timeoutMs: 30_000 })
    return ok ? /\d+\.\d+(\.\d+)?/.exec(output)?.[0] : undefined
  }
}

/**
 * @param {string} version
 * @param {string} minimum
 */
function isAtLeast(version, minimum) {
  const [have = [], need = []] = [version, minimum].map((text) => text.split('.').map(Number))
  for (const [index, part] of need.entries()) {
    const difference = (have[index] ?? 0) - part
    if (difference !== 0) return difference > 0
  }
  return true
}

/**
 * @param {readonly ServerSource[]} wanted
 * @param {(line: string) => void} log
 */
async function buildWithGo(wanted, log) {
  const packages = wanted.flatMap(({ goPackage }) => goPackage ?? [])
  const modules = wanted.flatMap(({ name, goModule }) => (goModule === undefined ? [] : [{ name, goModule }]))
  if (packages.length + modules.length === 0) return
  const go = await findProgram('go', ['/usr/local/go/bin'])
  if (go === undefined) return
  for (const goPackage of packages) {
    log(`building ${goPackage}`)
    const result = await run(go, ['install', goPackage], { timeoutMs: 600_000, env: { GOBIN: binDirectory } })
    if (!result.ok) log(`go install ${goPackage} failed:\n${tail(result.output)}`)
  }
  for (const { name, goModule } of modules) {
    log(`building ${goModule.command} ${goModule.version}; this takes some minutes, once`)
    const failure = await buildGoModule(goModule, join(binDirectory, name), (args, options) => run(go, args, options))
    if (failure !== undefined) log(`building ${name} failed:\n${tail(failure)}`)
  }
}

/**
 * Each in a virtual environment of its own. Debian's Python may lack ensurepip, or pip: one of the two is enough.
 *
 * @param {readonly ServerSource[]} wanted
 * @param {(line: string) => void} log
 */
async function installFromPython(wanted, log) {
  const python = await findProgram('python3')
  if (python === undefined) return
  for (const { name, pythonPackage } of wanted) {
    if (pythonPackage === undefined) continue
    const { requirement, module } = pythonPackage
    log(`installing ${requirement}`)
    const environment = join(cacheDirectory, 'python', name)
    const own = join(environment, 'bin', 'python')
    const install = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check']
    await rm(environment, { recursive: true, force: true })
    let result = await run(python, ['-m', 'venv', environment], { timeoutMs: 120_000 })
    if (result.ok) result = await run(own, [...install, requirement], { timeoutMs: 600_000 })
    else {
      await rm(environment, { recursive: true, force: true })
      result = await run(python, ['-m', 'venv', '--without-pip', environment], { timeoutMs: 120_000 })
      const script = 'import sysconfig; print(sysconfig.get_path("purelib"))'
      const { output } = await run(own, ['-c', script], { timeoutMs: 30_000 })
      if (result.ok) {
        result = await run(python, [...install, '--target', output.trim(), requirement], { timeoutMs: 600_000 })
      }
    }
    if (!result.ok) {
      log(`pip install ${requirement} failed:\n${tail(result.output)}`)
      continue
    }
    await mkdir(binDirectory, { recursive: true })
    const temporary = join(binDirectory, `.${name}.${process.pid}`)
    await writeFile(temporary, `#!/bin/sh\nexec "${own}" -m ${module} "$@"\n`, { mode: 0o755 })
    await rename(temporary, join(binDirectory, name))
  }
}

/**
 * @param {readonly ServerSource[]} wanted
 * @param {(line: string) => void} log
 */
async function installFromDebian(wanted, log) {
  const apt = await findProgram('apt-get')
  if (apt === undefined || process.getuid?.() !== 0) return
  const required = wanted.filter((source) => source.required).flatMap(({ debianPackage }) => debianPackage ?? [])
  const optional = wanted.filter((source) => !source.required).flatMap(({ debianPackage }) => debianPackage ?? [])
  if (required.length + optional.length === 0) return

  const env = { DEBIAN_FRONTEND: 'noninteractive', NEEDRESTART_SUSPEND: '1' }
  /** @param {string[]} args */
  const aptGet = async (args) => {
    const result = await run(apt, ['-o', 'DPkg::Lock::Timeout=120', ...args], { timeoutMs: 600_000, env })
    if (!result.ok) log(`apt-get ${args.join(' ')} failed:\n${tail(result.output)}`)
  }
  await aptGet(['update'])
  await withoutServiceStart(async () => {
    // Two steps, so that an optional package which does not exist here cannot fail the required ones.
    for (const packages of [required, optional]) {
      if (packages.length === 0) continue
      log(`installing ${packages.join(', ')}`)
      await aptGet(['install', '-y', '--no-install-recommends', ...packages])
    }
  })
}

/**
 * Debian starts nginx, haproxy and databases as soon as they are installed, on the ports of a machine that only wanted to
 * run tests. A policy that was there before is left alone.
 *
 * @param {() => Promise<void>} install
 */
async function withoutServiceStart(install) {
  const policy = '/usr/sbin/policy-rc.d'
  // Should this process be killed, the file it leaves behind allows everything again.
  const script = `#!/bin/sh\nkill -0 ${process.pid} 2>/dev/null && exit 101\nexit 0\n`
  let created = false
  try {
    await writeFile(policy, script, { flag: 'wx' })
    created = true
    await chmod(policy, 0o755)
  } catch (error) {
    if (!created && /** @type {NodeJS.ErrnoException} */ (error).code !== 'EEXIST') throw error
  }
  try {
    await install()
  } finally {
    if (created) await rm(policy, { force: true })
  }
}

/**
 * @param {string} name
 * @param {readonly string[]} [furtherDirectories]
 */
async function findProgram(name, furtherDirectories = []) {
  for (const directory of [...searchPath, ...furtherDirectories]) {
    const path = join(directory, name)
    if (await isExecutable(path)) return path
  }
  return undefined
}

/**
 * @param {string} command
 * @param {readonly string[]} args
 * @param {{ timeoutMs: number, env?: Record<string, string>, cwd?: string }} options
 * @returns {Promise<{ ok: boolean, output: string }>}
 */
function run(command, args, { timeoutMs, env = {}, cwd }) {
  return new Promise((resolve) => {
    const options = { timeout: timeoutMs, env: { ...process.env, ...env }, maxBuffer: 64 * 1024 * 1024, cwd }
    const child = execFile(command, args, options, (error, stdout, stderr) => {
      const late = error?.killed ? `stopped after ${timeoutMs} ms\n` : ''
      resolve({ ok: error === null, output: `${stdout}${stderr}${late}` })
    })
    child.stdin?.end()
  })
}

/** @param {string} output */
function tail(output) {
  return output.trim().split('\n').slice(-20).join('\n')
}
