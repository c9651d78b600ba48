/**
 * Which solver proves which name. Pure.
 *
 * @module
 */
import { baseName, isWildcard, type Identifier } from '../core/identifier.js'
import { ChallengeError } from '../errors.js'
import type { AnyChallengeSolver, ChallengeType } from './challenge-solver.js'

/**
 * Chooses the solver for one name: an exact name in `zones` first, then the longest zone the name is in, then solvers
 * for every name; equals in the order of the list. Only types the CA offers count; wildcards are for dns-01 alone,
 * IP addresses for anything but dns-01.
 *
 * @param identifier - with its `*.` if it is a wildcard
 * @param offered - challenge types of the authorization; unknown ones are passed over
 * @returns The solver; narrow it by its `type`.
 * @throws `ChallengeError` with `ERR_CHALLENGE_NO_SOLVER`, naming what was offered and what is configured.
 *
 * @see {@link https://www.rfc-editor.org/rfc/rfc8555.html#section-7.1.4 | RFC 8555 section 7.1.4} and
 *   {@link https://www.rfc-editor.org/rfc/rfc8738.html#section-7 | RFC 8738 section 7} for what may prove what
 */
export function selectSolver(
  identifier: Identifier,
  offered: readonly string[],
  solvers: readonly AnyChallengeSolver[],
): AnyChallengeSolver {
  let best: { readonly solver: AnyChallengeSolver; readonly rank: number } | undefined
  for (const solver of solvers) {
    if (!offered.includes(solver.type) || !canProve(solver.type, identifier)) continue
    const rank = zoneRank(solver.zones, identifier)
    if (rank === undefined || solver.supports?.(identifier) === false) continue
    if (best === undefined || rank > best.rank) best = { solver, rank }
  }
  if (best !== undefined) return best.solver
  throw new ChallengeError({
    code: 'ERR_CHALLENGE_NO_SOLVER',
    message: explainNoSolver(identifier, offered, solvers),
    retryable: false,
    identifier,
    phase: 'select',
  })
}

/** What the CAs allow, whatever an authorization offers. */
function canProve(type: ChallengeType, identifier: Identifier): boolean {
  if (isWildcard(identifier)) return type === 'dns-01'
  return identifier.type === 'dns' || type !== 'dns-01'
}

/** How closely the zones fit: `undefined` not at all, 0 for every name, then the longer the closer, an exact name most. */
function zoneRank(zones: readonly string[] | undefined, identifier: Identifier): number | undefined {
  if (zones === undefined) return 0
  const name = baseName(identifier)
  const ranks = zones
    .map((zone) => zone.toLowerCase().replace(/\.$/, ''))
    .map((zone) => {
      if (zone === name) return Number.POSITIVE_INFINITY
      return zone !== '' && identifier.type === 'dns' && name.endsWith(`.${zone}`) ? zone.length : -1
    })
  const rank = Math.max(-1, ...ranks)
  return rank === -1 ? undefined : rank
}

function explainNoSolver(
  identifier: Identifier,
  offered: readonly string[],
  solvers: readonly AnyChallengeSolver[],
): string {
  // The types come from the CA: only what looks like one is shown.
  const types = offered.filter((type) => /^[a-z0-9-]{1,40}$/.test(type)).slice(0, 10)
  const configured = solvers.map(({ name, type, zones }) => {
    const only = zones === undefined ? '' : `, only ${zones.slice(0, 5).join(', ')}${zones.length > 5 ? ', ...' : ''}`
    return `${name} (${type}${only})`
  })
  const facts =
    `no solver for ${identifier.value}: the CA offers ${types.join(', ') || 'no challenge'}; ` +
    `configured are ${configured.join('; ') || 'no solvers'}. `
  if (isWildcard(identifier))
    return `${facts}A wildcard can only be proved over dns-01: add a dns-01 solver for its zone`
  if (identifier.type === 'ip') return `${facts}An IP address cannot be proved over dns-01: add an http-01 solver`
  return `${facts}Add a solver for one of the offered types whose zones cover the name`
}
