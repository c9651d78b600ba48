/**
 * An app as Marathon stores it and shows it. Marathon's types/app.raml.
 */

/** Plain, or the name of an entry of `secrets`. */
export type EnvironmentValue = string | { readonly secret: string }

export interface UpgradeStrategy {
  readonly minimumHealthCapacity: number
  readonly maximumOverCapacity: number
}

/** The fields that this server acts on; all others are kept as they come. */
export interface AppDefinition {
  /** Absolute: `/marathon-lb`. */
  readonly id: string
  readonly instances?: number | undefined
  readonly env?: Readonly<Record<string, EnvironmentValue>> | undefined
  readonly labels?: Readonly<Record<string, string>> | undefined
  readonly secrets?: Readonly<Record<string, { readonly source: string }>> | undefined
  readonly upgradeStrategy?: UpgradeStrategy | undefined
  readonly portDefinitions?: readonly { readonly port: number; readonly [field: string]: unknown }[] | undefined
  /** Whether the ports of `portDefinitions` are wanted on the agent itself. */
  readonly requirePorts?: boolean | undefined
  readonly healthChecks?: readonly unknown[] | undefined
  readonly [field: string]: unknown
}

/** A definition and since when it is what it is. */
export interface AppVersion {
  readonly definition: AppDefinition
  readonly version: string
  readonly lastScalingAt: string
  readonly lastConfigChangeAt: string
}

/** Not shown when there is nothing in them (`pragma.omitEmpty`). */
const omittedWhenEmpty = [
  'args',
  'constraints',
  'dependencies',
  'env',
  'fetch',
  'healthChecks',
  'readinessChecks',
  'secrets',
]

const defaults = {
  backoffFactor: 1.15,
  backoffSeconds: 1,
  cpus: 1,
  disk: 0,
  executor: '',
  gpus: 0,
  instances: 1,
  killSelection: 'YOUNGEST_FIRST',
  labels: {},
  maxLaunchDelaySeconds: 300,
  mem: 128,
  requirePorts: false,
  upgradeStrategy: { minimumHealthCapacity: 1, maximumOverCapacity: 1 },
}

/** `foo`, `/foo` and `foo/` are one app. */
export function absoluteId(id: string): string {
  return `/${id.split('/').filter(Boolean).join('/')}`
}

/** With what Marathon fills in, and without what it omits. */
export function normalized(definition: AppDefinition): AppDefinition {
  const full = { ...defaults, ...definition, id: absoluteId(definition.id) }
  const kept = Object.entries(full).filter(
    ([field, value]) => value !== undefined && !(omittedWhenEmpty.includes(field) && isEmpty(value)),
  )
  return Object.fromEntries(kept) as AppDefinition
}

function isEmpty(value: unknown): boolean {
  return typeof value === 'object' && value !== null && Object.keys(value).length === 0
}

/** What a change of the definition means for the tasks. */
export function changeBetween(before: AppDefinition, after: AppDefinition): 'none' | 'scale' | 'upgrade' {
  if (canonical(before) === canonical(after)) return 'none'
  return canonical({ ...before, instances: after.instances }) === canonical(after) ? 'scale' : 'upgrade'
}

/** JSON with sorted keys: the order of fields is no change. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_, inner: unknown) =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([first], [second]) => (first < second ? -1 : 1)))
      : inner,
  )
}

/** The ports that a task occupies on its agent. */
export function hostPorts({ portDefinitions = [], requirePorts = false }: AppDefinition): number[] {
  return requirePorts ? portDefinitions.map(({ port }) => port).filter((port) => port !== 0) : []
}
