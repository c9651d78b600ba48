/**
 * The apps, and every version they have had.
 */
import { changeBetween, type AppDefinition, type AppVersion } from './app.js'

export interface AppStore {
  get(id: string): AppVersion | undefined
  all(): AppVersion[]
  /** Newest first. */
  versions(id: string): AppVersion[]
  put(app: AppVersion): void
  /** With all its versions. */
  remove(id: string): void
}

export function appStore(): AppStore {
  const apps = new Map<string, AppVersion[]>()
  return {
    get: (id) => apps.get(id)?.[0],
    all: () => [...apps.values()].map(([newest]) => newest!),
    versions: (id) => [...(apps.get(id) ?? [])],
    put(app) {
      const { id } = app.definition
      const older = (apps.get(id) ?? []).filter(({ version }) => version !== app.version)
      apps.set(id, [app, ...older])
    },
    remove: (id) => void apps.delete(id),
  }
}

/**
 * The version that an app gets by a change: what did not change keeps its instants. Marathon's GroupVersioningUtil.
 *
 * @param restart - A new version although the definition is the same.
 */
export function nextVersion(
  before: AppVersion | undefined,
  definition: AppDefinition,
  version: string,
  restart = false,
): AppVersion {
  const fresh = { definition, version, lastScalingAt: version, lastConfigChangeAt: version }
  if (before === undefined || restart) return fresh
  switch (changeBetween(before.definition, definition)) {
    case 'none':
      return before
    case 'scale':
      return { ...fresh, lastConfigChangeAt: before.lastConfigChangeAt }
    case 'upgrade':
      return fresh
  }
}
