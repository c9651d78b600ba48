/**
 * Rules for bugs, not for looks: this code is timers, signals and promises. Prettier owns the looks.
 *
 * The second half enforces the one-way street between the folders of src: core <- interface <- plug-in, and the
 * scheduler sees interfaces only.
 */
import eslint from '@eslint/js'
import { defineConfig, globalIgnores } from 'eslint/config'
import tseslint from 'typescript-eslint'
import { subPaths } from './scripts/sub-paths.js'

const kinds = ['solvers', 'stores', 'issuers', 'deployers']
const interfaceFiles = ['solvers/challenge-solver', 'stores/cert-store', 'issuers/issuer', 'deployers/deployer']
/** What plug-ins of one kind share, public or not: everything in these folders that is neither interface nor plug-in. */
const sharedFiles = ['solvers/preflight', 'solvers/select-solver', 'solvers/dns-propagation']
/** `stores/file`, `issuers/acme/index`, ...: every plug-in a user can import. */
const plugIns = Object.values(subPaths)
  .map((source) => source.replace(/^src\/|\.ts$/g, ''))
  .filter((path) => kinds.some((kind) => path.startsWith(`${kind}/`)) && !sharedFiles.includes(path))

/** @param {string[]} paths */
const alternatives = (paths) => `(${paths.join('|')})`
const up = String.raw`^(\.\./)+`

const realTime = [
  { object: 'Date', property: 'now', message: 'Ask the injected clock.' },
  { object: 'performance', property: 'now', message: 'Ask the injected clock.' },
  { object: 'AbortSignal', property: 'any', message: 'Use src/internal/any-signal.ts, which leaves nothing behind.' },
  { object: 'AbortSignal', property: 'timeout', message: 'Use src/internal/deadline.ts with the injected clock.' },
]
const ambient = [
  { object: 'Math', property: 'random', message: 'Use the injected Random, or node:crypto for secrets.' },
  { object: 'process', property: 'env', message: 'Configuration comes in through options.' },
]

const acmeClient = { regex: '^acme-client', message: 'Only src/issuers/acme/acme-transport.ts knows acme-client.' }
const x509 = {
  regex: '^@peculiar/',
  message: 'X.509 is read in src/core/x509.ts, written in src/core/x509-signing.ts and by the test CA.',
}
const pkijs = { regex: '^(pkijs|asn1js)', message: 'Only src/core/pkcs12.ts knows pkijs.' }
const dnsPacket = { regex: '^dns-packet', message: 'Only src/internal/dns-message.ts knows dns-packet.' }
const serverSentEvents = {
  regex: '^eventsource-parser',
  message: 'Only src/deployers/marathon/marathon-events.ts reads event streams.',
}
const aws = { regex: '^@(aws-sdk|smithy)/', message: 'Only src/solvers/route53/route53-client.ts knows the AWS SDK.' }
const kubernetes = {
  regex: '^@kubernetes/',
  message: 'Only src/internal/kubernetes/kubernetes-api.ts knows the Kubernetes client.',
}
const timers = { regex: '^(node:)?timers', message: 'Wait with the injected clock.' }
const self = { regex: '^evercert(/|$)', message: 'Inside src, import the file itself.' }
const testing = { regex: String.raw`${up}testing/`, message: 'evercert/testing is for tests.' }
const barrel = { regex: String.raw`${up}index\.js$`, message: 'Import the file itself, not the barrel.' }
const vendor = [acmeClient, x509, pkijs, dnsPacket, serverSentEvents, aws, kubernetes, timers, self]
/** @param {{ regex: string, message: string }} allowed */
const vendorBut = (allowed) => vendor.filter((pattern) => pattern !== allowed)

/** @param {string[]} except */
const everythingOfOurs = (except) => `${up}(?!${alternatives(except)})`
/** For folders of src/internal, which are one level deeper. */
const outsideInternal = {
  regex: String.raw`^\.\./\.\./(?!${alternatives(['core/', 'errors\\.js$'])})`,
  message: 'internal imports core and errors only.',
}
const plugInNeighbours = [...interfaceFiles, ...sharedFiles].map((path) => path.replace(/^.*\//, ''))
const concretePlugIns = {
  regex: String.raw`${up}${alternatives(kinds)}/(?!${alternatives(plugInNeighbours)}\.js$)`,
  message: 'Depend on the interface; the plug-in comes in through options.',
}
const siblings = {
  regex: String.raw`^\.{1,2}/${alternatives(plugIns.map((path) => path.slice(path.indexOf('/') + 1)))}\.js$`,
  message: 'A plug-in does not depend on another plug-in.',
}
const scheduler = { regex: String.raw`${up}scheduler/`, message: 'The scheduler uses plug-ins, never the reverse.' }

/**
 * `no-restricted-imports` is replaced, not merged, by a later entry: each zone therefore lists all it forbids.
 *
 * @param {string[]} files
 * @param {...{ regex: string, message: string }} patterns
 * @returns {import('eslint').Linter.Config}
 */
const zone = (files, ...patterns) => ({
  files,
  rules: { 'no-restricted-imports': ['error', { patterns }] },
})

export default defineConfig(
  globalIgnores(['dist/', 'coverage/', 'docs/api/', '.fences/', 'test/dist/consumers/']),
  { linterOptions: { reportUnusedDisableDirectives: 'error' } },
  eslint.configs.recommended,
  tseslint.configs.strictTypeChecked,
  {
    languageOptions: {
      parserOptions: { project: './tsconfig.check.json', tsconfigRootDir: import.meta.dirname },
    },
    rules: {
      // The compiler's business.
      'no-undef': 'off',
      eqeqeq: 'error',
      'no-console': 'error',
      '@typescript-eslint/consistent-type-imports': ['error', { fixStyle: 'inline-type-imports' }],
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      '@typescript-eslint/return-await': ['error', 'error-handling-correctness-only'],
      // `signal.reason` is `any` and passes through untouched, as does whatever a plug-in threw.
      '@typescript-eslint/only-throw-error': ['error', { allowThrowingAny: true, allowThrowingUnknown: true }],
      '@typescript-eslint/prefer-promise-reject-errors': 'off',
      // Options are checked for callers without types, which the types call unnecessary.
      '@typescript-eslint/no-unnecessary-condition': 'off',
      // Errors are told apart by their code, not by their constructor.
      '@typescript-eslint/no-unsafe-class-instance-assignment': 'off',
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
      // An interface asks for a promise whether or not an implementation has to wait.
      '@typescript-eslint/require-await': 'off',
      '@typescript-eslint/no-unused-vars': ['error', { ignoreRestSiblings: true }],
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
    },
  },
  {
    files: ['src/**/*.ts'],
    ignores: ['src/core/clock.ts', 'src/core/random.ts'],
    rules: {
      'no-restricted-globals': [
        'error',
        ...['setTimeout', 'setInterval'].map((name) => ({ name, message: 'Wait with the injected clock.' })),
      ],
      'no-restricted-properties': ['error', ...realTime, ...ambient],
      'no-restricted-syntax': [
        'error',
        { selector: 'NewExpression[callee.name="Date"][arguments.length=0]', message: 'Ask the injected clock.' },
      ],
    },
  },
  {
    // The kits and the test CA deal with real files and sockets, whatever the clock of the certificates says.
    files: ['src/testing/**/*.ts'],
    rules: { 'no-restricted-globals': 'off', 'no-restricted-properties': ['error', ...ambient] },
  },
  zone(['src/**/*.ts'], ...vendor),
  zone(['src/index.ts'], ...vendor, {
    regex: String.raw`^\./(${alternatives(plugIns)}\.js$|testing/)`,
    message: 'The barrel is small: plug-ins have sub-paths of their own.',
  }),
  zone(['src/errors.ts'], ...vendor, { regex: String.raw`^\./(?!core/)`, message: 'Errors know only core types.' }),
  zone(['src/internal/**/*.ts'], ...vendor, {
    regex: everythingOfOurs(['core/', 'errors\\.js$']),
    message: 'internal imports core and errors only.',
  }),
  zone(['src/core/**/*.ts'], ...vendor, {
    regex: everythingOfOurs(['errors\\.js$']),
    message: 'core imports nothing of ours but errors.',
  }),
  zone(['src/core/x509.ts', 'src/core/x509-signing.ts'], ...vendorBut(x509), {
    regex: everythingOfOurs(['errors\\.js$']),
    message: 'core imports nothing of ours but errors.',
  }),
  zone(['src/core/pkcs12.ts'], ...vendorBut(pkijs), {
    regex: everythingOfOurs(['errors\\.js$']),
    message: 'core imports nothing of ours but errors.',
  }),
  zone(['src/internal/dns-message.ts'], ...vendorBut(dnsPacket), {
    regex: everythingOfOurs(['core/', 'errors\\.js$']),
    message: 'internal imports core and errors only.',
  }),
  zone(['src/internal/kubernetes/**/*.ts'], ...vendor, outsideInternal),
  zone(['src/internal/kubernetes/kubernetes-api.ts'], ...vendorBut(kubernetes), outsideInternal),
  zone(
    kinds.map((kind) => `src/${kind}/**/*.ts`),
    ...vendor,
    concretePlugIns,
    siblings,
    scheduler,
    testing,
    barrel,
  ),
  ...[
    { file: 'src/issuers/acme/acme-transport.ts', knows: acmeClient },
    { file: 'src/deployers/marathon/marathon-events.ts', knows: serverSentEvents },
    { file: 'src/solvers/route53/route53-client.ts', knows: aws },
  ].map(({ file, knows }) => zone([file], ...vendorBut(knows), concretePlugIns, siblings, scheduler, testing, barrel)),
  zone(
    interfaceFiles.map((path) => `src/${path}.ts`),
    ...vendor,
    { regex: String.raw`^\./`, message: 'An interface stands alone.' },
    { regex: everythingOfOurs(['core/']), message: 'An interface imports core only.' },
  ),
  zone(
    ['src/issuers/issuer.ts'],
    ...vendor,
    { regex: String.raw`^\./`, message: 'An interface stands alone.' },
    {
      regex: everythingOfOurs(['core/', 'stores/cert-store\\.js$']),
      message: 'Issuer imports core and CertStore only.',
    },
  ),
  zone(['src/scheduler/**/*.ts'], ...vendor, concretePlugIns, testing, barrel),
  zone(['src/testing/**/*.ts'], ...vendor, concretePlugIns, barrel),
  zone(['src/testing/test-ca/**/*.ts'], ...vendorBut(x509), concretePlugIns, barrel),
  {
    // Test runners, contract kits and the objects of test/support are closures; nothing in them reads `this`.
    files: ['src/testing/**', 'test/**', 'bench/**', 'examples/**'],
    rules: { '@typescript-eslint/unbound-method': 'off' },
  },
  {
    // A wrong assumption fails the test, which is what a test is for.
    files: ['test/**', 'bench/**'],
    rules: {
      '@typescript-eslint/no-non-null-assertion': 'off',
      '@typescript-eslint/no-misused-spread': 'off',
      '@typescript-eslint/no-redundant-type-constituents': 'off',
      '@typescript-eslint/no-unnecessary-type-parameters': 'off',
      'no-restricted-syntax': [
        'error',
        {
          selector:
            'CallExpression[callee.object.name="vi"][callee.property.name=/^wait(Until|For)$/]:not(:has(Property[key.name="timeout"]))',
          message: 'Say how long; vitest waits for one second, which a loaded machine may need.',
        },
      ],
    },
  },
  {
    files: ['scripts/**', 'examples/**', 'bench/**', 'test/**'],
    rules: { 'no-console': 'off' },
  },
  {
    // Typed by JSDoc where that helps; what JSON.parse and child processes return is not worth a cast each time.
    files: ['**/*.js'],
    rules: {
      '@typescript-eslint/no-unsafe-argument': 'off',
      '@typescript-eslint/no-unsafe-assignment': 'off',
      '@typescript-eslint/no-unsafe-call': 'off',
      '@typescript-eslint/no-unsafe-member-access': 'off',
      '@typescript-eslint/no-unsafe-return': 'off',
    },
  },
)
