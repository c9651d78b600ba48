/**
 * The packed package as its users get it: its files, both module formats, its declarations.
 */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, readFile, readdir, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest'
import { subPaths } from '../../scripts/sub-paths.js'
import { createConsumer, readJson, type Consumer } from './consumer.js'

const specifiers = Object.keys(subPaths)
const formats = [
  { how: 'import', type: 'module' },
  { how: 'require', type: 'commonjs' },
] as const

let consumer: Consumer

beforeAll(async () => {
  consumer = await createConsumer({ type: 'commonjs' })
})
afterAll(() => consumer.remove())

describe('files', () => {
  it('are one script, source map and declaration per source file and format, and nothing else', async () => {
    const { stdout } = await promisify(execFile)('tar', ['-tzf', inject('tarball')])
    const sources = (await readdir('src', { recursive: true })).filter((path) => path.endsWith('.ts'))
    const compiled = sources.flatMap((source) =>
      ['esm', 'cjs'].flatMap((format) =>
        ['.js', '.js.map', '.d.ts'].map((extension) => `dist/${format}/${source.replace(/\.ts$/, extension)}`),
      ),
    )
    const expected = ['package.json', 'README.md', 'LICENSE', 'CHANGELOG.md', 'SECURITY.md', 'dist/cjs/package.json']
    expect(
      stdout
        .trimEnd()
        .split('\n')
        .map((path) => path.replace('package/', ''))
        .sort(),
    ).toEqual([...expected, ...compiled].sort())
  })

  it('name no file of the machine they were built on', async () => {
    const packed = join(consumer.path, 'node_modules/evercert')
    for (const file of await readdir(packed, { recursive: true })) {
      if (!/\.(js|map|ts|json)$/.test(file)) continue
      expect(await readFile(join(packed, file), 'utf8'), file).not.toContain(resolve('.'))
    }
  })

  it('need no scripts to install', async () => {
    const { scripts } = await readJson<{ scripts: object }>(join(consumer.path, 'node_modules/evercert/package.json'))
    expect(Object.keys(scripts)).not.toEqual(expect.arrayContaining([expect.stringMatching(/install|^prepare$/)]))
  })
})

describe('both formats', () => {
  it('export the same names from every sub-path', async () => {
    await consumer.write(
      'names.cjs',
      `(async () => {
        const names = (module) => Object.keys(module).filter((name) => !['default', 'module.exports', '__esModule'].includes(name)).sort()
        const result = {}
        for (const specifier of ${JSON.stringify(specifiers)}) {
          result[specifier] = [names(await import(specifier)), names(require(specifier))]
        }
        console.log(JSON.stringify(result))
      })()`,
    )
    const result = JSON.parse(await consumer.node(['names.cjs'])) as Record<string, [string[], string[]]>
    expect(Object.keys(result)).toEqual(specifiers)
    for (const [specifier, [imported, required]] of Object.entries(result)) {
      expect(imported, specifier).not.toEqual([])
      expect(required, specifier).toEqual(imported)
    }
  })

  it('recognise the errors of each other', async () => {
    await consumer.write(
      'errors.cjs',
      `(async () => {
        const options = { code: 'ERR_NOT_MANAGED', message: 'busy', retryable: true }
        const copies = [await import('evercert'), require('evercert')].map(({ CertError }) => CertError)
        const error = copies.map((CertError) => new CertError(options))
        console.log(JSON.stringify({
          distinct: copies[0] !== copies[1],
          recognised: copies.flatMap((CertError) => [CertError.isInstance(error[0]), CertError.isInstance(error[1])]),
          foreign: copies.map((CertError) => CertError.isInstance(new Error('no'))),
        }))
      })()`,
    )
    expect(JSON.parse(await consumer.node(['errors.cjs']))).toEqual({
      distinct: true,
      recognised: [true, true, true, true],
      foreign: [false, false],
    })
  })

  it('keep internal files to themselves', async () => {
    await consumer.write(
      'internal.cjs',
      `for (const path of ['core/clock', 'internal/options', 'dist/cjs/index.js']) {
        try { require('evercert/' + path); console.log(path) } catch (error) { console.log(error.code) }
      }`,
    )
    expect((await consumer.node(['internal.cjs'])).trim().split('\n')).toEqual(
      Array(3).fill('ERR_PACKAGE_PATH_NOT_EXPORTED'),
    )
  })
})

describe.each(formats)('$how', ({ how }) => {
  it('has no side effect', async () => {
    await consumer.copy('side-effects.cjs')
    const report = JSON.parse(await consumer.node(['side-effects.cjs', how, ...specifiers])) as {
      before: object
      after: object
      environmentReads: string[]
    }
    expect(report.after).toEqual(report.before)
    expect(report.environmentReads).toEqual([])
  })

  it('names the source in stack traces', async () => {
    const load = how === 'import' ? `await import('evercert/stores/file')` : `require('evercert/stores/file')`
    await consumer.write(
      'stack.cjs',
      `(async () => {
        const { fileStore } = ${load}
        try { fileStore({}) } catch (error) { console.log(error.stack) }
      })()`,
    )
    expect(await consumer.node(['--enable-source-maps', 'stack.cjs'])).toMatch(
      /evercert\/src\/stores\/file\.ts:\d+:\d+/,
    )
  })
})

describe('declarations', () => {
  const service = 'service.ts'
  const everything = specifiers.map((specifier, index) => `export * as part${index} from '${specifier}'\n`).join('')

  it.each([
    { name: 'an ES module', type: 'module', module: 'NodeNext', moduleResolution: 'NodeNext' },
    { name: 'CommonJS', type: 'commonjs', module: 'Node16', moduleResolution: 'Node16' },
    { name: 'a bundler', type: 'module', module: 'ESNext', moduleResolution: 'Bundler' },
    { name: 'CommonJS of old', type: 'commonjs', module: 'CommonJS', moduleResolution: 'Node10' },
  ] as const)('type-check in $name', async ({ type, module, moduleResolution }) => {
    const project = await createConsumer({ type, dependencies: ['@types/node'] })
    try {
      await project.copy(service)
      await project.write('everything.ts', everything)
      const compilerOptions = {
        target: 'ES2022',
        lib: ['ES2022', 'ESNext.Disposable'],
        types: ['node'],
        module,
        moduleResolution,
        // Node10 is what `module: CommonJS` meant until TypeScript 6, and what many services still have.
        ignoreDeprecations: '6.0',
        strict: true,
        skipLibCheck: false,
        noEmit: true,
      }
      await project.write('tsconfig.json', JSON.stringify({ compilerOptions, files: [service, 'everything.ts'] }))
      await project.node([resolve('node_modules/typescript/bin/tsc'), '-p', 'tsconfig.json'])
    } finally {
      await project.remove()
    }
  })
})

describe('Jest', () => {
  it('runs a CommonJS suite that uses every sub-path', async () => {
    const jest = await provideJest()
    const project = await createConsumer({ type: 'commonjs' })
    try {
      await project.write(
        'service.test.js',
        `test.each(${JSON.stringify(specifiers)})('%s', (specifier) => {
          expect(Object.keys(require(specifier))).not.toEqual([])
        })
        test('errors', () => {
          const { CertError } = require('evercert')
          const error = new CertError({ code: 'ERR_NOT_MANAGED', message: 'busy', retryable: true })
          expect(CertError.isInstance(error)).toBe(true)
        })`,
      )
      await project.write('report.json', '')
      await project.node([
        jest,
        '--ci',
        '--rootDir',
        project.path,
        '--json',
        '--outputFile',
        'report.json',
        '--transform',
        '{}',
      ])
      const report = await readJson<{ numPassedTests: number }>(join(project.path, 'report.json'))
      expect(report.numPassedTests).toBe(specifiers.length + 1)
    } finally {
      await project.remove()
    }
  })
})

/** Jest brings 300 packages that nothing else here needs, so it lives in a cache outside the checkout. */
async function provideJest(): Promise<string> {
  const directory = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'evercert', 'jest-30.5.2')
  const jest = join(directory, 'node_modules/jest/bin/jest.js')
  if (!existsSync(jest)) {
    await mkdir(directory, { recursive: true })
    await writeFile(join(directory, 'package.json'), '{ "private": true }')
    await promisify(execFile)('npm', ['install', '--ignore-scripts', '--no-fund', '--no-audit', 'jest@30.5.2'], {
      cwd: directory,
    })
  }
  return jest
}
