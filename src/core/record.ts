/**
 * The format of stored records: JSON with a schema number and a kind, read strictly.
 *
 * @module
 */
import { StoreError } from '../errors.js'

/** Schema number of everything this version writes. */
export const recordSchema = 1

/** Where a record was read, for messages. */
export interface RecordOrigin {
  /** Name of the store. */
  readonly store: string
  readonly key: string
}

/** Turns values of one kind into bytes and back. */
export interface RecordCodec<Value> {
  encode(value: Value): Uint8Array
  /**
   * @throws {@link StoreError} `ERR_STORE_CORRUPT` when the bytes are not such a record, `ERR_STORE_SCHEMA` when a newer
   *   evercert wrote them.
   */
  decode(bytes: Uint8Array, origin: RecordOrigin): Value
}

/** A codec for one kind of record. `read` picks and checks members; what it throws becomes `ERR_STORE_CORRUPT`. */
export function recordCodec<Value extends object>(
  kind: string,
  read: (fields: RecordFields) => Value,
): RecordCodec<Value> {
  return {
    encode: (value) => Buffer.from(JSON.stringify({ schema: recordSchema, kind, ...value }, finiteOnly)),
    decode(bytes, origin) {
      const corrupt = (why: string, cause?: unknown): StoreError =>
        new StoreError({
          code: 'ERR_STORE_CORRUPT',
          message: `${origin.store}: record ${origin.key} ${why}`,
          ...origin,
          cause,
        })
      let data: unknown
      try {
        data = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
      } catch {
        // The parser's message quotes the text, which may hold a key.
        throw corrupt('is not JSON')
      }
      if (typeof data !== 'object' || data === null || Array.isArray(data)) throw corrupt('is not an object')
      const fields = new RecordFields(data as Readonly<Record<string, unknown>>)
      try {
        const schema = fields.number('schema')
        if (!Number.isInteger(schema) || schema < 1) throw new TypeError('"schema" is not a schema number')
        if (schema > recordSchema) {
          throw new StoreError({
            code: 'ERR_STORE_SCHEMA',
            message: `${origin.store}: record ${origin.key} was written by a newer evercert (schema ${String(schema)}); upgrade this process`,
            ...origin,
          })
        }
        if (fields.text('kind') !== kind) throw new TypeError(`"kind" is not ${kind}`)
        return read(fields)
      } catch (cause) {
        if (cause instanceof StoreError) throw cause
        throw corrupt(`is damaged: ${cause instanceof Error ? cause.message : 'unreadable'}`)
      }
    },
  }
}

/** JSON would turn NaN into null, and the record could not be read again. */
function finiteOnly(name: string, value: unknown): unknown {
  if (typeof value === 'number' && !Number.isFinite(value)) throw new TypeError(`record member "${name}" is not finite`)
  return value
}

/** Checked access to the members of a record. Every method throws a `TypeError` that names the member, never its value. */
export class RecordFields {
  readonly #data: Readonly<Record<string, unknown>>

  constructor(data: Readonly<Record<string, unknown>>) {
    this.#data = data
  }

  #own(name: string): unknown {
    return Object.hasOwn(this.#data, name) ? this.#data[name] : undefined
  }

  text(name: string): string {
    const value = this.#own(name)
    if (typeof value !== 'string') throw new TypeError(`"${name}" is not a string`)
    return value
  }

  number(name: string): number {
    const value = this.#own(name)
    if (typeof value !== 'number' || !Number.isFinite(value)) throw new TypeError(`"${name}" is not a number`)
    return value
  }

  boolean(name: string): boolean {
    const value = this.#own(name)
    if (typeof value !== 'boolean') throw new TypeError(`"${name}" is not a boolean`)
    return value
  }

  list<Item>(name: string, read: (item: unknown) => Item): readonly Item[] {
    const value = this.#own(name)
    if (!Array.isArray(value)) throw new TypeError(`"${name}" is not a list`)
    return value.map(read)
  }

  texts(name: string): readonly string[] {
    return this.list(name, (item) => {
      if (typeof item !== 'string') throw new TypeError(`"${name}" holds something that is not a string`)
      return item
    })
  }

  /** A nested object. */
  object<Value>(name: string, read: (fields: RecordFields) => Value): Value {
    return read(RecordFields.of(this.#own(name), name))
  }

  /** A list of nested objects. */
  objects<Value>(name: string, read: (fields: RecordFields) => Value): readonly Value[] {
    return this.list(name, (item) => read(RecordFields.of(item, name)))
  }

  /** A nested object used as a map. */
  map<Value>(name: string, read: (fields: RecordFields) => Value): ReadonlyMap<string, Value> {
    const entries = Object.entries(RecordFields.of(this.#own(name), name).#data)
    // The keys of a map are data: a message that names one would quote the record.
    return new Map(entries.map(([key, item]) => [key, read(RecordFields.of(item, `${name}.*`))]))
  }

  /** `undefined` when the member is absent, else what `read` makes of it. */
  optional<Value>(name: string, read: (name: string) => Value): Value | undefined {
    return this.#own(name) === undefined ? undefined : read(name)
  }

  static of(value: unknown, name: string): RecordFields {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw new TypeError(`"${name}" is not an object`)
    }
    return new RecordFields(value as Readonly<Record<string, unknown>>)
  }
}
