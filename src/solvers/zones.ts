/**
 * The names a solver is for.
 *
 * @module
 */
import { parseIdentifier } from '../core/identifier.js'

/**
 * Checks and normalises the `zones` option of a solver.
 *
 * @throws `TypeError` for anything but a non-empty list of names without wildcards.
 *
 * @internal
 */
export function parseZones(zones: unknown): readonly string[] | undefined {
  if (zones === undefined) return undefined
  if (!Array.isArray(zones) || zones.length === 0)
    throw new TypeError('"zones" option must be a non-empty list of names')
  return zones.map((zone: unknown) => {
    const { value } = parseIdentifier(zone as string)
    if (value.startsWith('*.')) {
      throw new TypeError(`"zones" option must not have wildcards: "${value.slice(2)}" covers every name below it`)
    }
    return value
  })
}
