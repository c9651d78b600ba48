/**
 * Who belongs to the fleet: addresses and accounts.
 *
 * @module
 */
import { isIP } from 'node:net'
import { assertArray } from '../../internal/options.js'
import { isThumbprint } from '../http-challenge.js'

/** Origins of the peers. @throws `TypeError` for anything but an IP address with a port. */
export function parsePeers(peers: readonly string[]): readonly string[] {
  assertArray(peers, 'peers')
  return peers.map((peer) => {
    const [, six, four, port] = /^(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):(\d{1,5})$/.exec(peer) ?? []
    if (isIP(six ?? four ?? '') === 0 || !(Number(port) >= 1 && Number(port) <= 65_535)) {
      throw new TypeError(`"peers" option must hold IP addresses with ports, as 192.0.2.12:31080, got ${peer}`)
    }
    return `http://${peer}`
  })
}

/** @throws `TypeError` for a list that is empty, or holds anything but RFC 7638 thumbprints. */
export function parseThumbprints(thumbprints: readonly string[] | undefined): ReadonlySet<string> | undefined {
  if (thumbprints === undefined) return undefined
  assertArray(thumbprints, 'accountThumbprints')
  if (thumbprints.length === 0 || !thumbprints.every((thumbprint) => isThumbprint(thumbprint))) {
    throw new TypeError('"accountThumbprints" option must be a non-empty list of RFC 7638 thumbprints (43 characters)')
  }
  return new Set(thumbprints)
}
