/**
 * Rules that tell which of the requests to a server go wrong, and that know how often they have been applied.
 */
export interface CountedRule {
  readonly match: {
    /** Only the nth request that matches since the rule was added, from 1. @defaultValue all of them */
    readonly nth?: number | undefined
  }
}

export interface FaultRuleHandle {
  /** How often the rule has been applied. A test that injects a fault asserts that it happened. */
  readonly fired: number
  remove(): void
}

export interface CountedRules<Rule, Request> {
  add(rule: Rule): FaultRuleHandle
  /** Counts the request against every rule and returns the first that applies. */
  ruleFor(request: Request): Rule | undefined
}

/** `matches` says whether a rule is about a request; which one of them it is, is counted here. */
export function countedRules<Rule extends CountedRule, Request>(
  matches: (match: Rule['match'], request: Request) => boolean,
): CountedRules<Rule, Request> {
  const active = new Set<{ rule: Rule; matched: number; fired: number }>()
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
    ruleFor(request) {
      const due = [...active].filter((state) => {
        const { match } = state.rule
        if (!matches(match, request)) return false
        state.matched += 1
        return (match.nth ?? state.matched) === state.matched
      })
      const first = due[0]
      if (first === undefined) return undefined
      first.fired += 1
      return first.rule
    },
  }
}
