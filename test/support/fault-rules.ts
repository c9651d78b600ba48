/**
 * Which request goes wrong, and how.
 */

export interface FaultRule<Match extends object> {
  readonly match: Match & {
    /** Only the nth such request since the rule was added, from 1. @defaultValue all of them */
    readonly nth?: number | undefined
  }
  readonly action: FaultAction
}

export type FaultAction =
  /** Answered in the server's place; it never hears of the request. */
  | {
      readonly status: number
      readonly headers?: Readonly<Record<string, string>> | undefined
      readonly body?: string | undefined
    }
  /** Handled that much later; `Infinity` is never. */
  | { readonly delayMs: number }
  /** Handled, with another body in the reply. */
  | { readonly replaceBody: (body: string) => string }
  /** Handled as usual, after this: what somebody else does just before. */
  | { readonly first: () => void | Promise<void> }
  /** The connection is cut before the request is handled. */
  | 'drop-before'
  /** Handled, but the connection is cut instead of the reply. */
  | 'drop-after'
  /** Handled, but the connection is cut in the middle of the reply's body. */
  | 'truncate'

export interface FaultRuleHandle {
  /** How often the rule has been applied. A test that injects a fault asserts that it happened. */
  readonly fired: number
  remove(): void
}

/** An action with a name to record. */
export type NamedAction =
  | {
      readonly name: 'reply'
      readonly reply: {
        status: number
        headers?: Readonly<Record<string, string>> | undefined
        body?: string | undefined
      }
    }
  | { readonly name: 'delay'; readonly delayMs: number }
  | { readonly name: 'replace-body'; readonly replaceBody: (body: string) => string }
  | { readonly name: 'first'; readonly first: () => void | Promise<void> }
  | { readonly name: 'drop-before' | 'drop-after' | 'truncate' }

export interface FaultRules<Match extends object, Request> {
  add(rule: FaultRule<Match>): FaultRuleHandle
  /** Counts the request against every rule and returns the action of the first that applies. */
  actionFor(request: Request): NamedAction | undefined
}

/** No rules yet. `matches` says whether a request is one of those that a rule names. */
export function faultRules<Match extends object, Request>(
  matches: (match: Match, request: Request) => boolean,
): FaultRules<Match, Request> {
  const active = new Set<{ rule: FaultRule<Match>; matched: number; fired: number }>()
  return {
    add(rule) {
      const state = { rule, matched: 0, fired: 0 }
      active.add(state)
      return {
        get fired() {
          return state.fired
        },
        remove: () => void active.delete(state),
      }
    },
    actionFor(request) {
      const due = [...active].filter((state) => {
        const { match } = state.rule
        if (!matches(match, request)) return false
        state.matched += 1
        return (match.nth ?? state.matched) === state.matched
      })
      const first = due[0]
      if (first === undefined) return undefined
      first.fired += 1
      return named(first.rule.action)
    },
  }
}

function named(action: FaultAction): NamedAction {
  if (typeof action === 'string') return { name: action }
  if ('delayMs' in action) return { name: 'delay', delayMs: action.delayMs }
  if ('replaceBody' in action) return { name: 'replace-body', replaceBody: action.replaceBody }
  if ('first' in action) return { name: 'first', first: action.first }
  return { name: 'reply', reply: action }
}
