import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'
import { subPaths } from './scripts/sub-paths.js'

// `evercert/...` is the source, as in tsconfig.check.json: tests and examples read like a user's code.
const alias = Object.entries(subPaths).map(([specifier, source]) => ({
  find: new RegExp(`^${specifier}$`),
  replacement: fileURLToPath(new URL(source, import.meta.url)),
}))

// Ends a wait for what never comes. Nothing here measures speed: a loaded machine may take its time.
const patience = { testTimeout: 120_000, hookTimeout: 120_000, expect: { poll: { timeout: 60_000 } } }

export default defineConfig({
  test: {
    projects: [
      {
        resolve: { alias },
        test: { name: 'unit', include: ['test/unit/**/*.test.ts'], ...patience },
      },
      {
        resolve: { alias },
        test: { name: 'contract', include: ['test/contract/**/*.test.ts'], ...patience },
      },
      {
        test: {
          name: 'types',
          include: [],
          typecheck: {
            enabled: true,
            only: true,
            include: ['test/types/**/*.test-d.ts'],
            tsconfig: './tsconfig.check.json',
            // Errors elsewhere are for `npm run types` to report.
            ignoreSourceErrors: true,
          },
        },
      },
      {
        test: {
          name: 'dist',
          include: ['test/dist/**/*.test.ts'],
          globalSetup: 'test/dist/pack.ts',
          ...patience,
          sequence: { groupOrder: 1 },
        },
      },
      {
        resolve: { alias },
        test: {
          name: 'integration',
          include: ['test/integration/**/*.test.ts'],
          ...patience,
          // Servers, load and handshakes: one file at a time, so that none starves another on a small machine.
          fileParallelism: false,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
})
