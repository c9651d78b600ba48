/**
 * What the objects of a store are called, and what tells them from others.
 *
 * @module
 */
import { hash } from 'node:crypto'
import { labelValuePattern } from '../../internal/kubernetes/kubernetes-names.js'
import type { StoreKey } from '../cert-store.js'

const storeLabel = 'evercert.dev/store'
const spaceLabel = 'evercert.dev/space'
const keyAnnotation = 'evercert.dev/key'

/** Names, labels and annotations within one store. */
export interface ObjectNames {
  /**
   * The name of the object for a key: as much of the key as a name can hold, and a hash. No two keys have one name, nor have
   * keys of two stores.
   */
  nameOf(key: string): string
  /** What marks the object of a key. Others may add labels and annotations of their own. */
  metadataOf(key: string): {
    readonly labels: Readonly<Record<string, string>>
    readonly annotations: Readonly<Record<string, string>>
  }
  /** The key of an object, `undefined` when it is not of this store: a copy that somebody made has another name. */
  keyOf(object: { readonly name: string; readonly annotations: Readonly<Record<string, string>> }): StoreKey | undefined
  /** Selects the objects that hold keys with this beginning, and perhaps more. */
  selectorOf(keyPrefix: string): string
}

const longestName = 253

/** Names of the objects of the store with this prefix. */
export function objectNames(prefix: string): ObjectNames {
  function nameOf(key: string): string {
    const digest = hash('sha256', `${prefix}\n${key}`).slice(0, 32)
    const room = longestName - prefix.length - digest.length - 2
    const readable = key
      .toLowerCase()
      .replace(/[^a-z0-9.]+/g, '-')
      .replace(/-*\.[-.]*/g, '.')
      .slice(0, room)
      .replace(/^[-.]+|[-.]+$/g, '')
    return [prefix, readable, digest].filter((part) => part !== '').join('-')
  }
  return {
    nameOf,
    metadataOf: (key) => ({
      labels: {
        'app.kubernetes.io/managed-by': 'evercert',
        [storeLabel]: prefix,
        [spaceLabel]: spaceOf(key),
      },
      annotations: { [keyAnnotation]: key },
    }),
    keyOf({ name, annotations }) {
      const key = annotations[keyAnnotation]
      return key !== undefined && nameOf(key) === name ? (key as StoreKey) : undefined
    },
    selectorOf: (keyPrefix) => {
      const own = `${storeLabel}=${prefix}`
      return keyPrefix.includes('/') ? `${own},${spaceLabel}=${spaceOf(keyPrefix)}` : own
    },
  }
}

/** The first part of a key, which is all that can be selected by. */
export function spaceOf(key: string): string {
  const [space = ''] = key.split('/', 1)
  return labelValuePattern.test(space) ? space : ''
}
