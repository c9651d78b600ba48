/**
 * A Secret as the API server returns it, read with suspicion.
 *
 * @module
 */
import { asObject, parseObject, resourceVersionOf, strings } from '../../internal/kubernetes/api-object.js'

/** What is used of a Secret. */
export interface SecretResource {
  readonly resourceVersion: string
  readonly type: string
  readonly immutable: boolean
  /** Entries in base64. */
  readonly data: Readonly<Record<string, string>>
  readonly labels: Readonly<Record<string, string>>
  readonly annotations: Readonly<Record<string, string>>
  readonly managers: readonly FieldManager[]
}

/** Who has written what. */
export interface FieldManager {
  readonly name: string
  /** `Apply` for server-side apply. */
  readonly operation: string
  readonly dataKeys: readonly string[]
  readonly labelKeys: readonly string[]
  readonly annotationKeys: readonly string[]
}

/** Reads the body of an answer. `undefined` when it is no Secret of this name. */
export function readSecret(text: string, name: string, namespace: string): SecretResource | undefined {
  const secret = parseObject(text)
  const metadata = asObject(secret?.['metadata'])
  const resourceVersion = resourceVersionOf(metadata)
  if (secret?.['kind'] !== 'Secret' || metadata['name'] !== name || metadata['namespace'] !== namespace)
    return undefined
  if (resourceVersion === undefined) return undefined
  const { type, immutable, data } = secret
  const managedFields: unknown[] = Array.isArray(metadata['managedFields']) ? metadata['managedFields'] : []
  return {
    resourceVersion,
    type: typeof type === 'string' ? type : 'Opaque',
    immutable: immutable === true,
    data: strings(data),
    labels: strings(metadata['labels']),
    annotations: strings(metadata['annotations']),
    managers: managedFields.map(readManager),
  }
}

function readManager(value: unknown): FieldManager {
  const { manager, operation, fieldsV1 } = asObject(value)
  const fields = asObject(fieldsV1)
  const metadata = asObject(fields['f:metadata'])
  return {
    name: typeof manager === 'string' ? manager : '',
    operation: typeof operation === 'string' ? operation : '',
    dataKeys: fieldKeys(fields['f:data']),
    labelKeys: fieldKeys(metadata['f:labels']),
    annotationKeys: fieldKeys(metadata['f:annotations']),
  }
}

function fieldKeys(fields: unknown): readonly string[] {
  return Object.keys(asObject(fields)).flatMap((key) => (key.startsWith('f:') ? [key.slice(2)] : []))
}
