/**
 * What an app becomes by the body of a PUT or PATCH. Marathon's AppsResource, AppConversion and AppValidation.
 */
import { normalized, type AppDefinition, type AppVersion } from './app.js'
import type { Features } from './features.js'
import { invalidObject, invalidTypes, unknownApp, type InvalidField } from './reply.js'

export interface AppUpdate {
  readonly id: string
  readonly body: unknown
  /** Fields that are not in the body keep their values. */
  readonly partial: boolean
  readonly allowCreation: boolean
}

/** Shown with an app, never part of a definition. */
const readOnlyFields = [
  'deployments',
  'lastTaskFailure',
  'readinessCheckResults',
  'taskStats',
  'tasks',
  'tasksHealthy',
  'tasksRunning',
  'tasksStaged',
  'tasksUnhealthy',
  'version',
  'versionInfo',
]

/**
 * @param versions - What there is of the app, newest first; empty when it does not exist.
 * @throws Refusal
 */
export function updatedApp(update: AppUpdate, versions: readonly AppVersion[], features: Features): AppDefinition {
  const { id, partial, allowCreation } = update
  const fields = fieldsOf(update.body)
  const existing = versions[0]?.definition
  if (existing === undefined && !allowCreation) throw unknownApp(id)
  if (typeof fields['version'] === 'string' && existing !== undefined && partial) {
    return rolledBack(fields, fields['version'], id, versions, features)
  }
  const changes = Object.fromEntries(Object.entries(fields).filter(([field]) => !readOnlyFields.includes(field)))
  const kept = existing === undefined || !partial ? {} : keptFields(existing, features)
  const app = normalized({ ...kept, ...changes, id })
  const invalid = invalidFields(app)
  if (invalid.length > 0) throw invalidObject(invalid)
  return app
}

function rolledBack(
  fields: Readonly<Record<string, unknown>>,
  wanted: string,
  id: string,
  versions: readonly AppVersion[],
  { refuseVersionWithOtherFields }: Features,
): AppDefinition {
  const others = Object.keys(fields).filter((field) => field !== 'version' && field !== 'id')
  if (others.length > 0 && refuseVersionWithOtherFields) {
    const error = "The 'version' field may only be combined with the 'id' field."
    throw invalidObject([{ path: '/', errors: [error] }])
  }
  const found = versions.find(({ version }) => Date.parse(version) === Date.parse(wanted))
  if (found === undefined) throw unknownApp(id)
  return found.definition
}

function keptFields(existing: AppDefinition, { resetByPartialUpdate }: Features): Record<string, unknown> {
  return Object.fromEntries(Object.entries(existing).filter(([field]) => !resetByPartialUpdate.includes(field)))
}

/** Checks the types of the fields that this server acts on. */
function fieldsOf(body: unknown): Record<string, unknown> {
  if (!isObject(body)) throw invalidTypes([{ path: '', errors: ['error.expected.jsobject'] }])
  const wrong: InvalidField[] = []
  const check = (path: string, holds: boolean, expected: string): void => {
    if (!holds) wrong.push({ path, errors: [`error.expected.${expected}`] })
  }
  const { instances, env, labels, secrets, upgradeStrategy, version } = body
  if (instances !== undefined) check('/instances', Number.isInteger(instances), 'jsnumber')
  if (version !== undefined) check('/version', typeof version === 'string', 'jsstring')
  if (upgradeStrategy !== undefined) check('/upgradeStrategy', isObject(upgradeStrategy), 'jsobject')
  for (const [name, map] of Object.entries({ env, labels, secrets })) {
    if (map === undefined) continue
    check(`/${name}`, isObject(map), 'jsobject')
    if (!isObject(map)) continue
    for (const [key, value] of Object.entries(map)) {
      const isReference = isObject(value) && typeof value[name === 'env' ? 'secret' : 'source'] === 'string'
      const holds = name === 'secrets' ? isReference : typeof value === 'string' || (name === 'env' && isReference)
      check(`/${name}/${key}`, holds, name === 'secrets' ? 'jsobject' : 'jsstring')
    }
  }
  if (wrong.length > 0) throw invalidTypes(wrong)
  return body
}

function invalidFields(app: AppDefinition): InvalidField[] {
  const invalid: InvalidField[] = []
  if (app['cmd'] === undefined && app['args'] === undefined && app['container'] === undefined) {
    const error = "AppDefinition must either contain one of 'cmd' or 'args', and/or a 'container'."
    invalid.push({ path: '/', errors: [error] })
  }
  if (app.instances! < 0) {
    invalid.push({ path: '/instances', errors: [`got ${String(app.instances)}, expected 0 or more`] })
  }
  for (const [field, value] of Object.entries(app.upgradeStrategy!)) {
    if (value >= 0 && value <= 1) continue
    invalid.push({
      path: `/upgradeStrategy/${field}`,
      errors: [`got ${String(value)}, expected between 0.0 and 1.0`],
    })
  }
  for (const [name, value] of Object.entries(app.env ?? {})) {
    if (typeof value === 'string' || app.secrets?.[value.secret] !== undefined) continue
    invalid.push({ path: `/env/${name}/secret`, errors: [`references an undefined secret named '${value.secret}'`] })
  }
  return invalid
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
