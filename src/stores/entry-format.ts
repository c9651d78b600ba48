/**
 * What an entry looks like where stores keep it: one header line, the key on a line of its own, the value. The checksum in
 * the header tells damage, and the revision in it is the writer's own choice: 128 random bits never come back.
 *
 * @module
 */
import { hash, randomBytes } from 'node:crypto'
import { StoreError } from '../errors.js'
import type { FoundValue, Revision, StoreKey, StoredValue } from './cert-store.js'

/** Far above any record of evercert; a larger file is not one of ours. */
export const largestEntryBytes: number = 16 * 1024 * 1024

/** Of a damaged file. Also far above any record, and small enough to be put elsewhere as a value. */
const shownBytes = 1024 * 1024

/** An entry that was read: whole, or damaged in a way a person can be told. */
export type Entry = { readonly key: string; readonly revision: Revision; readonly value: Uint8Array } | DamagedEntry

/** What is there instead of an entry. */
export interface DamagedEntry {
  /** Continues the sentence "the file ...", or whatever holds the entry. */
  readonly damage: string
  readonly revision: Revision
  /** `undefined` when it was not read, being a link, a directory or too large. */
  readonly raw: Uint8Array | undefined
}

/** A revision that no other write has. */
export function newRevision(): Revision {
  return randomBytes(16).toString('hex') as Revision
}

const header = /^evercert-entry 1 (([0-9a-f]{32}) (\d{1,9}) (\d{1,9})) ([0-9a-f]{64})\n/

/** `evercert-entry 1 <revision> <bytes of key> <bytes of value> <SHA-256>`, key, value. */
export function encodeEntry(key: string, revision: string, value: Uint8Array): Uint8Array {
  const keyBytes = Buffer.from(key)
  const fields = `${revision} ${String(keyBytes.length)} ${String(value.length)}`
  const body = Buffer.concat([keyBytes, Buffer.from('\n'), value])
  return Buffer.concat([Buffer.from(`evercert-entry 1 ${fields} ${checksum(fields, body)}\n`), body])
}

/** Reads an entry. `key` is what the place promises, where that is known. */
export function decodeEntry(bytes: Uint8Array, key?: string): Entry {
  // The longest header line is 134 bytes.
  const match = header.exec(Buffer.from(bytes.subarray(0, 160)).toString('latin1'))
  if (match === null)
    return damaged(bytes.length === 0 ? 'is empty' : 'does not begin with a header of evercert', bytes)
  const [line, fields = '', revision, keyLength, valueLength, digest] = match
  const length = line.length + Number(keyLength) + 1 + Number(valueLength)
  if (bytes.length !== length) return damaged(`has ${String(bytes.length)} bytes instead of ${String(length)}`, bytes)
  const body = bytes.subarray(line.length)
  if (checksum(fields, body) !== digest) return damaged('does not match its checksum', bytes)
  const storedKey = Buffer.from(body.subarray(0, Number(keyLength))).toString()
  if (key !== undefined && storedKey !== key) return damaged('belongs to another key; was it renamed?', bytes)
  // A copy: the caller may change it, and a small value must not keep a whole file in memory.
  const value = Uint8Array.from(body.subarray(Number(keyLength) + 1))
  return { key: storedKey, revision: revision as Revision, value }
}

/** Where an entry lies: in which store, under which key, and in what, as in "its row in evercert". */
export interface EntryPlace {
  readonly store: string
  readonly key: StoreKey
  readonly holder: string
}

/** What a store answers for one of many entries. */
export function foundValue(entry: Entry | undefined, { store, key, holder }: EntryPlace): FoundValue {
  if (entry === undefined) return { key, stored: undefined }
  if (!('damage' in entry)) return { key, stored: { value: entry.value, revision: entry.revision } }
  const { damage, raw, revision } = entry
  const error = new StoreError({
    code: 'ERR_STORE_CORRUPT',
    message: `${store}: ${key} cannot be read: ${holder} ${damage}; restore it or remove it`,
    ...{ store, key, damaged: raw && { value: raw, revision } },
  })
  return { key, error }
}

/**
 * What a store answers for an entry.
 *
 * @throws {@link StoreError} `ERR_STORE_CORRUPT` when it is damaged
 */
export function storedValue(entry: Entry | undefined, place: EntryPlace): StoredValue | undefined {
  const found = foundValue(entry, place)
  if (found.error !== undefined) throw found.error
  return found.stored
}

/**
 * A damaged entry has a revision too, so that exactly this damage can be replaced by compare-and-set. `evidence`: the
 * bytes of the file, or words for what is no file of ours.
 */
export function damaged(damage: string, evidence: Uint8Array | string): DamagedEntry {
  const revision = `damaged-${hash('sha256', evidence)}` as Revision
  const raw = typeof evidence === 'string' ? undefined : Uint8Array.from(evidence.subarray(0, shownBytes))
  return { damage, revision, raw }
}

function checksum(fields: string, body: Uint8Array): string {
  // An object of a hash costs more than the hash, and than the copy.
  return hash('sha256', Buffer.concat([Buffer.from(`${fields}\n`), body]))
}
