/**
 * A Marathon with one app, and a client that keeps everything of a reply.
 */
import { onTestFinished } from 'vitest'
import { startMarathon, type Marathon, type MarathonOptions } from '../../../servers/marathon/marathon.js'
import type { AppDefinition } from '../../../servers/marathon/app.js'

export interface Answer {
  readonly status: number
  readonly headers: Headers
  readonly text: string
  /** Throws when it is no JSON. */
  readonly json: () => Record<string, unknown>
}

export interface World extends Marathon {
  /** `path` as in `/v2/apps`; the body is sent as JSON unless it is a string. */
  ask(method: string, path: string, body?: unknown, headers?: Readonly<Record<string, string>>): Promise<Answer>
  /** The app as the API shows it. */
  shown(id?: string): Promise<Record<string, unknown>>
}

export const lb: AppDefinition = {
  id: '/marathon-lb',
  args: ['sse', '--group', 'external'],
  instances: 2,
  env: { HAPROXY_SSL_CERT: 'old', HAPROXY_SYSCTL_PARAMS: 'net.ipv4.tcp_fin_timeout=30' },
  portDefinitions: [{ port: 80 }, { port: 443 }],
  requirePorts: true,
  upgradeStrategy: { minimumHealthCapacity: 0.5, maximumOverCapacity: 0.2 },
}

export async function startWorld(options: MarathonOptions = {}): Promise<World> {
  const marathon = await startMarathon({ apps: [lb], ...options })
  onTestFinished(() => marathon.close())
  const ask: World['ask'] = (method, path, body, headers = {}) =>
    askUrl(marathon.url + path, {
      method,
      headers: { 'content-type': 'application/json', ...headers },
      ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    })
  return Object.assign(marathon, {
    ask,
    shown: async (id = 'marathon-lb') => (await ask('GET', `/v2/apps/${id}`)).json()['app'] as Record<string, unknown>,
  })
}

/** Redirects are replies. */
export async function askUrl(url: string, options: RequestInit = {}): Promise<Answer> {
  const response = await fetch(url, { redirect: 'manual', ...options })
  const text = await response.text()
  return {
    status: response.status,
    headers: response.headers,
    text,
    json: () => JSON.parse(text) as Record<string, unknown>,
  }
}
