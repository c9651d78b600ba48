/**
 * The sub-paths of package.json, the one list of what is public: `evercert/stores/file` -> `src/stores/file.ts`.
 */
import { readFileSync } from 'node:fs'

/** @type {{ name: string, exports: Record<string, string | { import: { default: string } }> }} */
const { name, exports } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'))

/** @type {Readonly<Record<string, string>>} Import specifier -> source file, relative to the root. */
export const subPaths = Object.fromEntries(
  Object.entries(exports).flatMap(([subPath, target]) =>
    typeof target === 'string'
      ? []
      : [[subPath.replace('.', name), target.import.default.replace('./dist/esm/', 'src/').replace(/\.js$/, '.ts')]],
  ),
)
