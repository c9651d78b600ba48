/**
 * Which hosted zone a record belongs to.
 *
 * @module
 */
import type { OperationContext } from '../../core/context.js'
import { singleFlight } from '../../internal/single-flight.js'
import { isWithin } from './record-names.js'
import type { HostedZone } from './route53-client.js'
import { NoPlace, Obstacle } from './route53-failure.js'

/** Finds zones, and remembers for a while which ones there are. */
export interface HostedZones {
  /** The id of the zone. @throws `NoPlace` when there is none, `Obstacle` when there is more than one of the name. */
  find(recordName: string, context: OperationContext): Promise<string>
  /** Lists anew next time: one of them is gone. */
  forget(): void
}

const cacheMs = 300_000

interface Listing {
  readonly zones: readonly HostedZone[]
  readonly at: number
}

/** Makes {@link HostedZones}. */
export function hostedZones(list: (context: OperationContext) => Promise<readonly HostedZone[]>): HostedZones {
  const flight = singleFlight<Listing>()
  let known: Listing | undefined

  async function listing(notBefore: number, context: OperationContext): Promise<Listing> {
    // In the future: the clock was set back.
    if (known !== undefined && known.at >= notBefore && known.at <= context.clock.now()) return known
    return flight(context.signal, async (signal) => {
      const at = context.clock.now()
      known = { zones: await list({ ...context, signal }), at }
      return known
    })
  }

  return {
    async find(recordName, context) {
      const now = context.clock.now()
      const remembered = await listing(now - cacheMs, context)
      const id = chooseZone(recordName, remembered.zones)
      if (id !== undefined) return id
      // It may have been made since.
      const { zones } = await listing(now, context)
      return chooseZone(recordName, zones) ?? noZone(recordName)
    },
    forget() {
      known = undefined
    },
  }
}

/**
 * The longest public zone that holds the name. Pure.
 *
 * @throws `Obstacle` when two public zones have that name: only one of them is what the world sees, and a wrong guess is a
 *   failed validation.
 */
export function chooseZone(recordName: string, zones: readonly HostedZone[]): string | undefined {
  const candidates = zones.filter((zone) => !zone.private && isWithin(recordName, zone.name))
  const longest = Math.max(...candidates.map(({ name }) => name.length))
  const [zone, ...twins] = candidates.filter(({ name }) => name.length === longest)
  if (zone === undefined) return undefined
  if (twins.length > 0) {
    const ids = [zone, ...twins].map(({ id }) => id).join(', ')
    throw new Obstacle(
      `there are several public hosted zones ${zone.name} (${ids}); set "hostedZoneId" to the one whose name servers the ` +
        'domain is delegated to',
    )
  }
  return zone.id
}

function noZone(recordName: string): never {
  const labels = recordName.split('.')
  const looked = labels.slice(0, -1).map((_, index) => labels.slice(index).join('.'))
  throw new NoPlace(
    `these credentials see no public hosted zone for ${recordName}; looked for ${looked.join(', ')}. Create one, use the credentials ` +
      'of the account that has it, or set "hostedZoneId"',
  )
}
