/**
 * The calls to Marathon that are made, and what their answers mean.
 *
 * @module
 */
import { parseRetryAfter } from '../../internal/retry-after.js'
import type { LoginContext } from './authorization.js'
import {
  isRecord,
  readAccepted,
  readApp,
  readDeployments,
  readLocks,
  readVersions,
  type ListedDeployment,
  type MarathonApp,
} from './marathon-app.js'
import { MarathonDeployError, type MarathonFailure } from './marathon-error.js'
import { isUnsure, type MarathonAnswer, type MarathonRequest, type MarathonTransport } from './marathon-transport.js'
import { harmlessText, serverMessage } from './server-message.js'

/** What became of a change. */
export type ChangeOutcome =
  | { readonly kind: 'accepted'; readonly deploymentId: string | undefined; readonly version: string | undefined }
  /** Other deployments hold the app. */
  | { readonly kind: 'locked'; readonly deployments: readonly string[] }
  /** Marathon runs as many deployments as it may. */
  | { readonly kind: 'busy'; readonly error: MarathonDeployError }
  /** Whether it was made is not known. */
  | { readonly kind: 'unsure'; readonly error: MarathonDeployError }

/** Marathon, as one operation sees it. */
export interface MarathonApi {
  app(): Promise<MarathonApp>
  deployments(): Promise<readonly ListedDeployment[]>
  /** The versions there have been, in no order. */
  versions(): Promise<readonly string[]>
  /** The app as it was. */
  appIn(version: string): Promise<MarathonApp>
  /** Changes the fields of the body, and no others. */
  update(body: Readonly<Record<string, unknown>>): Promise<ChangeOutcome>
  /** Starts all tasks anew, with the app as it is. */
  restart(): Promise<ChangeOutcome>
  /** Ends a deployment by another one that brings back what was before. */
  rollBack(deploymentId: string): Promise<void>
  /** Text of the server, made fit for a message. */
  quotable(text: string | undefined): string | undefined
}

/** Parts of {@link marathonApi}. */
export interface ApiParts {
  readonly appId: string
  readonly force: boolean
  readonly transport: MarathonTransport
  readonly context: LoginContext
  /** What must not be shown, besides the values of the app's environment. */
  readonly secrets: () => readonly string[]
}

/** Makes a {@link MarathonApi}. */
export function marathonApi({ appId, force, transport, context, secrets }: ApiParts): MarathonApi {
  const { clock, deployer, logger } = context
  const path = `/v2/apps${appId}`
  const query = force ? '?force=true' : ''
  /** An answer may repeat any of them, and whose secrets they are nobody knows. */
  let environment: readonly string[] = []

  const hidden = (): readonly string[] => [...secrets(), ...environment]

  function failure(
    reason: MarathonFailure,
    what: string,
    answer: MarathonAnswer,
    remedy?: string,
  ): MarathonDeployError {
    const said = serverMessage(answer.data, hidden())
    const contentType = /^[a-z0-9.+-]{1,40}\/[a-z0-9.+-]{1,40}/.exec(answer.headers['content-type'] ?? '')?.[0]
    const kind = answer.data === undefined && contentType !== undefined ? ` with ${contentType}` : ''
    const parts = [`${what} was answered ${String(answer.status)}${kind}`, remedy, said && `Marathon says: ${said}`]
    const retryAt = parseRetryAfter(answer.headers['retry-after'], clock.now())
    return new MarathonDeployError({
      deployer,
      reason,
      message: parts.filter((part) => part !== undefined).join('; '),
      ...(answer.status === 503 || answer.status === 429 ? { retryAt } : {}),
    })
  }

  /** What an answer that is no success means, whatever was asked. */
  function failed(what: string, answer: MarathonAnswer): MarathonDeployError {
    const { status, data } = answer
    if (status === 401) {
      return failure('unauthenticated', what, answer, 'the credentials are missing, wrong, or no longer valid')
    }
    if (status === 403) return failure('forbidden', what, answer, 'see requiredPermissions() for what is needed')
    if (status === 404) {
      // Marathon says so in JSON; anything else answers for a path it does not know.
      return data === undefined
        ? failure('unreadable', what, answer, 'is the option "urls" right, path included?')
        : failure('not-found', what, answer, `is there an app ${appId}, and may this account see it?`)
    }
    if (status === 502 || status === 503 || status === 504) {
      return failure('no-leader', what, answer, 'Marathon has no leader at the moment, or something before it is down')
    }
    if (status >= 500 || status === 429) return failure('unreachable', what, answer)
    if (status < 300) return failure('unreadable', what, answer, 'is the option "urls" right, path included?')
    return failure('refused', what, answer)
  }

  async function read<Result>(
    what: string,
    request: MarathonRequest,
    parse: (data: unknown) => Result | undefined,
  ): Promise<Result> {
    const answer = await transport.send(request)
    const result = answer.status === 200 ? parse(answer.data) : undefined
    if (result === undefined) throw failed(what, answer)
    return result
  }

  /** One attempt. A change whose answer is lost is never sent again from here. */
  async function change(what: string, request: MarathonRequest): Promise<ChangeOutcome | MarathonAnswer> {
    let answer: MarathonAnswer
    try {
      answer = await transport.send(request)
    } catch (error) {
      if (isUnsure(error)) return { kind: 'unsure', error: error as MarathonDeployError }
      throw error
    }
    const { status, data } = answer
    if (status === 200) {
      const accepted = readAccepted(data)
      // Without either it is not Marathon's answer, whoever gave it.
      if (accepted.version === undefined && accepted.deploymentId === undefined) {
        return { kind: 'unsure', error: failed(what, answer) }
      }
      return { kind: 'accepted', ...accepted }
    }
    if (status === 409) {
      const deployments = readLocks(data)
      if (deployments.length > 0) return { kind: 'locked', deployments }
    }
    if (status === 403 && isBusy(data)) {
      return { kind: 'busy', error: failure('busy', what, answer, 'too many deployments are running') }
    }
    if (status === 201) {
      const remedy = 'the app was removed meanwhile, and Marathon has made a new one of the update: remove it'
      throw failure('not-found', what, answer, remedy)
    }
    if (isUnknownRoute(answer)) return answer
    if (status >= 500 || status === 429 || status === 409) return { kind: 'unsure', error: failed(what, answer) }
    throw failed(what, answer)
  }

  async function onlyChange(what: string, request: MarathonRequest): Promise<ChangeOutcome> {
    const outcome = await change(what, request)
    if ('kind' in outcome) return outcome
    throw failed(what, outcome)
  }

  return {
    async app() {
      const app = await read(`reading ${appId}`, { method: 'GET', path }, readApp)
      environment = textValues(app.env)
      return app
    },
    deployments: () => read('reading deployments', { method: 'GET', path: '/v2/deployments' }, readDeployments),
    versions: () => read(`reading the versions of ${appId}`, { method: 'GET', path: `${path}/versions` }, readVersions),
    async appIn(version) {
      const what = `reading ${appId} as it was`
      const request = { method: 'GET', path: `${path}/versions/${encodeURIComponent(version)}` } as const
      const app = await read(what, request, (data) => readApp({ app: data }))
      environment = [...environment, ...textValues(app.env)]
      return app
    },
    async update(body) {
      const what = `the update of ${appId}`
      environment = [...environment, ...textValues(body['env'])]
      const outcome = await change(what, { method: 'PATCH', path: path + query, body })
      if ('kind' in outcome) return outcome
      logger.debug('marathon does not know patch, put is used', { app: appId, status: outcome.status })
      // Before Marathon 1.4. By default it changes the given fields only, as PATCH does.
      return onlyChange(what, { method: 'PUT', path: path + query, body })
    },
    restart: () => onlyChange(`the restart of ${appId}`, { method: 'POST', path: `${path}/restart${query}` }),
    async rollBack(deploymentId) {
      const what = `the roll-back of deployment ${deploymentId}`
      const answer = await transport.send({ method: 'DELETE', path: `/v2/deployments/${deploymentId}` })
      if (answer.status !== 200 && answer.status !== 404) throw failed(what, answer)
    },
    quotable: (text) => (text === undefined ? undefined : harmlessText(text, hidden())),
  }
}

function textValues(env: unknown): readonly string[] {
  return isRecord(env) ? Object.values(env).filter((value) => typeof value === 'string') : []
}

/** `Max number (100) of running deployments is achieved`: the one 403 that passes. */
function isBusy(data: unknown): boolean {
  return /max number.{0,20}running deployments/i.test(messageOf(data))
}

/** A method the server does not know; Marathon maps unknown routes to 500. */
function isUnknownRoute({ status, data }: MarathonAnswer): boolean {
  return status === 405 || status === 501 || (status === 500 && /^URI not found/i.test(messageOf(data)))
}

/** Only to be compared. */
function messageOf(data: unknown): string {
  const message = typeof data === 'object' && data !== null && 'message' in data ? data.message : undefined
  return typeof message === 'string' ? message.slice(0, 500) : ''
}
