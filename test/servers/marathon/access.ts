/**
 * Who a request comes from, and what they may do.
 */
import { timingSafeEqual } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import type { Login } from './login.js'
import { htmlPage, refusal, Refusal } from './reply.js'

export type AccessAction = 'view' | 'create' | 'update' | 'delete' | 'view-events' | 'view-system'

export interface Prohibition {
  readonly action: AccessAction
  /** @defaultValue every app */
  readonly appId?: string | undefined
}

export interface ProhibitionHandle {
  /** How often it has refused something or kept it from view. */
  readonly fired: number
  remove(): void
}

export interface Access {
  /** @throws Refusal 401 */
  authenticate(headers: IncomingHttpHeaders): void
  isAllowed(action: AccessAction, appId?: string): boolean
  /** @throws Refusal 403 */
  authorize(action: AccessAction, appId?: string): void
  forbid(prohibition: Prohibition): ProhibitionHandle
}

/** How callers prove who they are. */
export type Authentication =
  | { readonly type: 'none' }
  | { readonly type: 'basic'; readonly username: string; readonly password: string }
  | {
      readonly type: 'token'
      readonly login: Login
      /** Admin Router takes a token as `Bearer` and as a cookie too; Marathon's own plug-in as `token=` only. */
      readonly adminRouter: boolean
    }

export function access(authentication: Authentication): Access {
  const prohibitions = new Set<{ prohibition: Prohibition; fired: number }>()

  const isAllowed = (action: AccessAction, appId?: string): boolean => {
    const hit = [...prohibitions].find(
      ({ prohibition }) => prohibition.action === action && (prohibition.appId ?? appId) === appId,
    )
    if (hit === undefined) return true
    hit.fired += 1
    return false
  }

  return {
    authenticate(headers) {
      switch (authentication.type) {
        case 'none':
          return
        case 'basic': {
          const { username, password } = authentication
          const expected = `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`
          if (isSame(headers.authorization ?? '', expected)) return
          throw new Refusal(htmlPage(401, 'Unauthorized', { 'www-authenticate': 'Basic realm="Mesosphere"' }))
        }
        case 'token': {
          const token = tokenOf(headers, authentication.adminRouter)
          if (token !== undefined && authentication.login.owner(token) !== undefined) return
          throw new Refusal(htmlPage(401, 'Unauthorized', { 'www-authenticate': 'acsjwt' }))
        }
      }
    },
    isAllowed,
    authorize(action, appId) {
      if (!isAllowed(action, appId)) throw refusal(403, 'Not Authorized to perform this action!')
    },
    forbid(prohibition) {
      const state = { prohibition, fired: 0 }
      prohibitions.add(state)
      return {
        get fired() {
          return state.fired
        },
        remove: () => void prohibitions.delete(state),
      }
    },
  }
}

function tokenOf({ authorization = '', cookie = '' }: IncomingHttpHeaders, adminRouter: boolean): string | undefined {
  const own = /^token=(\S+)$/.exec(authorization)?.[1]
  if (own !== undefined || !adminRouter) return own
  return /^Bearer (\S+)$/.exec(authorization)?.[1] ?? /(?:^|;\s*)dcos-acs-auth-cookie=([^;\s]+)/.exec(cookie)?.[1]
}

function isSame(given: string, expected: string): boolean {
  const [one, other] = [Buffer.from(given), Buffer.from(expected)]
  return one.length === other.length && timingSafeEqual(one, other)
}
