/**
 * Compare-and-set as a script: Redis runs it as a whole, or not at all.
 *
 * @module
 */
import { createHash } from 'node:crypto'

/**
 * KEYS: hash of entries, index of their keys (both with the same hash tag). ARGV: key, expected revision (`any`, `none`),
 * new revision, new entry (empty: delete), channel (empty: tell nobody). Answers `done`, or in one word why not.
 *
 * A client that lost its connection sends a command again, although it may have been carried out: the second time the
 * entry is there already. A damaged entry has its SHA-1 for a revision, because that is what scripts can compute; it tells
 * one damage from another, no more.
 */
export const changeScript: string = `
local found = redis.call('HGET', KEYS[1], ARGV[1])
local current = found and string.match(found, '^evercert%-entry 1 (%x+) ') or ''
local removing = ARGV[4] == ''
if found and not removing and current == ARGV[3] then return 'done' end
if not found and removing then return 'done' end
if ARGV[2] ~= 'any' then
  if not found and ARGV[2] ~= 'none' then return 'deleted' end
  if found and ARGV[2] == 'none' then return 'created' end
  if found and current ~= ARGV[2] and 'damaged-' .. redis.sha1hex(found) ~= ARGV[2] then return 'changed' end
end
if removing then
  redis.call('HDEL', KEYS[1], ARGV[1])
  redis.call('ZREM', KEYS[2], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[4])
  redis.call('ZADD', KEYS[2], 0, ARGV[1])
end
if ARGV[5] ~= '' then redis.pcall('PUBLISH', ARGV[5], ARGV[1]) end
return 'done'
`.trim()

/** What Redis calls the script. */
export const changeScriptId: string = createHash('sha1').update(changeScript).digest('hex')
