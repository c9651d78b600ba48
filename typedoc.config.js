import { subPaths } from './scripts/sub-paths.js'

/** @type {Partial<import('typedoc').TypeDocOptions>} */
export default {
  entryPoints: Object.values(subPaths),
  tsconfig: 'tsconfig.json',
  out: 'docs/api',
  name: 'evercert',
  readme: 'none',
  githubPages: false,
  // Links to lines need to know where the repository is.
  disableSources: true,
  excludeInternal: true,
  excludePrivate: true,
  treatWarningsAsErrors: true,
  validation: { notExported: true, invalidLink: true, invalidPath: true, notDocumented: true },
  // The contract of an interface stands above it; its methods need no sentence each.
  requiredToBeDocumented: ['Class', 'Interface', 'TypeAlias', 'Variable'],
}
