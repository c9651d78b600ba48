/**
 * The REST interface of the leader. Marathon's AppsResource, DeploymentsResource, InfoResource and LeaderResource.
 */
import type { IncomingHttpHeaders } from 'node:http'
import type { Access } from './access.js'
import { absoluteId } from './app.js'
import { appInfo, taskInfo, versionFields } from './app-info.js'
import type { AppStore } from './app-store.js'
import type { DeploymentPlan } from './deployment-plan.js'
import type { Deployments } from './deployments.js'
import type { Features } from './features.js'
import type { GroupManager } from './group-manager.js'
import { json, parseJson, refusal, Refusal, unknownApp, type Reply } from './reply.js'
import type { TaskCluster } from './task-cluster.js'

export interface ApiRequest {
  readonly method: string
  readonly path: string
  readonly query: URLSearchParams
  readonly headers: IncomingHttpHeaders
  readonly body: string
}

export interface ApiParts {
  readonly store: AppStore
  readonly cluster: TaskCluster
  readonly deployments: Deployments
  readonly groupManager: GroupManager
  readonly access: Access
  readonly features: Features
  /** `host:port` of the leader. */
  readonly leader: () => string | undefined
}

interface Route {
  readonly method: string
  readonly path: RegExp
  readonly answer: (request: ApiRequest, id: string, second: string) => Reply
}

/** Answers what has been authenticated; errors are replies. */
export function api(parts: ApiParts): (request: ApiRequest) => Reply {
  const routes = [...appRoutes(parts), ...deploymentRoutes(parts), ...systemRoutes(parts)]
  return (request) => {
    try {
      const here = routes.filter(({ path }) => path.test(request.path))
      if (here.length === 0) throw refusal(500, 'URI not found')
      const route = here.find(({ method }) => method === request.method)
      if (route === undefined) throw refusal(405, 'Method Not Allowed')
      const [, id = '', second = ''] = route.path.exec(request.path)!.map((part) => decodeURIComponent(part))
      return route.answer(request, id, second)
    } catch (error) {
      if (error instanceof Refusal) return error.reply
      throw error
    }
  }
}

function appRoutes(parts: ApiParts): Route[] {
  const { store, cluster, deployments, groupManager, access, features } = parts

  const visible = (id: string) => {
    const app = store.get(absoluteId(id))
    // What one may not see does not exist.
    if (app === undefined || !access.isAllowed('view', app.definition.id)) throw unknownApp(absoluteId(id))
    return app
  }
  const infoOf = (id: string): object => appInfo(visible(id), cluster, deployments.idsOf(absoluteId(id)))
  const visibleInfos = (prefix: string): object[] =>
    store
      .all()
      .filter(({ definition: { id } }) => id.startsWith(prefix) && access.isAllowed('view', id))
      .map((app) => appInfo(app, cluster, deployments.idsOf(app.definition.id)))

  const update = (request: ApiRequest, id: string, options: { partial: boolean; allowCreation: boolean }): Reply => {
    const appId = absoluteId(id)
    const body = parseJson(request.body)
    const exists = store.get(appId) !== undefined
    if (exists || options.allowCreation) access.authorize(exists ? 'update' : 'create', appId)
    const plan = groupManager.update({ id: appId, body, ...options }, { force: isForced(request) })
    return deploymentResult(plan, features, exists ? 200 : 201, exists ? {} : { location: appId })
  }

  return [
    { method: 'GET', path: /^\/v2\/apps\/?$/, answer: () => json(200, { apps: visibleInfos('/') }) },
    {
      method: 'POST',
      path: /^\/v2\/apps\/?$/,
      answer(request) {
        const body = parseJson(request.body)
        const id = absoluteId((body as { id?: string } | null)?.id ?? '')
        if (store.get(id) !== undefined) throw refusal(409, `An app with id [${id}] already exists.`)
        access.authorize('create', id)
        const update = { id, body, partial: false, allowCreation: true }
        groupManager.update(update, { force: isForced(request) })
        return json(201, infoOf(id), { location: id })
      },
    },
    {
      method: 'GET',
      path: /^\/v2\/apps\/(.+)\/versions\/([^/]+)$/,
      answer(_, id, version) {
        visible(id)
        const found = store.versions(absoluteId(id)).find((app) => app.version === version)
        if (found === undefined) throw refusal(404, `App '${absoluteId(id)}' does not exist in version ${version}`)
        return json(200, { ...found.definition, version, ...versionFields(found) })
      },
    },
    {
      method: 'GET',
      path: /^\/v2\/apps\/(.+)\/versions$/,
      answer(_, id) {
        visible(id)
        return json(200, { versions: store.versions(absoluteId(id)).map(({ version }) => version) })
      },
    },
    {
      method: 'GET',
      path: /^\/v2\/apps\/(.+)\/tasks$/,
      answer(_, id) {
        const { definition } = visible(id)
        const isChecked = (definition.healthChecks ?? []).length > 0
        return json(200, { tasks: cluster.tasks(definition.id).map((task) => taskInfo(task, isChecked)) })
      },
    },
    {
      method: 'POST',
      path: /^\/v2\/apps\/(.+)\/restart$/,
      answer(request, id) {
        const appId = absoluteId(id)
        if (store.get(appId) !== undefined) access.authorize('update', appId)
        return deploymentResult(groupManager.restart(appId, { force: isForced(request) }), features)
      },
    },
    // The name of a group and an asterisk: all apps in it.
    {
      method: 'GET',
      path: /^\/v2\/apps\/((?:.+\/)?)\*$/,
      answer: (_, group) => json(200, { '*': visibleInfos(group === '' ? '/' : `${absoluteId(group)}/`) }),
    },
    { method: 'GET', path: /^\/v2\/apps\/(.+)$/, answer: (_, id) => json(200, { app: infoOf(id) }) },
    {
      method: 'PUT',
      path: /^\/v2\/apps\/(.+)$/,
      answer(request, id) {
        const partial = request.query.get('partialUpdate') !== 'false'
        return update(request, id, { partial, allowCreation: true })
      },
    },
    ...(features.patch
      ? [
          {
            method: 'PATCH',
            path: /^\/v2\/apps\/(.+)$/,
            answer: (request: ApiRequest, id: string) => update(request, id, { partial: true, allowCreation: false }),
          },
        ]
      : []),
  ]
}

function deploymentRoutes({ deployments, groupManager, access, features }: ApiParts): Route[] {
  return [
    {
      method: 'GET',
      path: /^\/v2\/deployments$/,
      answer: () =>
        json(
          200,
          deployments.list((appId) => access.isAllowed('view', appId)),
        ),
    },
    {
      method: 'DELETE',
      path: /^\/v2\/deployments\/([^/]+)$/,
      answer(request, id) {
        const plan = deployments.find(id)
        if (plan === undefined) throw refusal(404, `DeploymentPlan ${id} does not exist`)
        access.authorize('update', plan.appId)
        if (!isForced(request)) return deploymentResult(groupManager.revert(plan), features)
        deployments.cancel(id)
        return { status: 202, headers: {}, body: '' }
      },
    },
  ]
}

function systemRoutes({ access, features, leader }: ApiParts): Route[] {
  return [
    {
      method: 'GET',
      path: /^\/v2\/info$/,
      answer() {
        access.authorize('view-system')
        return json(200, { name: 'marathon', version: features.version, elected: true, leader: leader() })
      },
    },
    {
      method: 'GET',
      path: /^\/v2\/leader$/,
      answer() {
        access.authorize('view-system')
        return json(200, { leader: leader() })
      },
    },
    {
      method: 'GET',
      path: /^\/ping$/,
      answer: () => ({ status: 200, headers: { 'content-type': 'text/plain' }, body: 'pong' }),
    },
  ]
}

function isForced({ query }: ApiRequest): boolean {
  return query.get('force') === 'true'
}

function deploymentResult(
  { id, version }: DeploymentPlan,
  { deploymentIdHeader }: Features,
  status = 200,
  headers: Readonly<Record<string, string>> = {},
): Reply {
  const idHeader: Record<string, string> = deploymentIdHeader ? { 'marathon-deployment-id': id } : {}
  return json(status, { version, deploymentId: id }, { ...headers, ...idHeader })
}
