/**
 * Certificates in Secrets of Kubernetes, locks in its Leases.
 *
 * Published as `evercert/stores/kubernetes`.
 *
 * @module
 */
import { hostname } from 'node:os'
import type { OperationContext } from '../../core/context.js'
import { kubernetesApi, type ApiScope } from '../../internal/kubernetes/kubernetes-api.js'
import { isNamespace } from '../../internal/kubernetes/kubernetes-names.js'
import type { RbacManifest } from '../../internal/kubernetes/rbac.js'
import type { CertStore, FoundValue, StoreKey } from '../cert-store.js'
import { damaged, decodeEntry, encodeEntry, foundValue, newRevision, type Entry } from '../entry-format.js'
import type { LeaseCell } from '../lease.js'
import { serverOperations } from '../server-operation.js'
import { storeLeases } from '../store-leases.js'
import { removeObject, writeObject, type Target } from './compare-and-set.js'
import { kubernetesObjects, type KubernetesObject, type Step } from './kubernetes-objects.js'
import { leaseContent, leaseRevision, leaseValue } from './lease-object.js'
import { listObjects } from './list-pages.js'
import { objectNames } from './object-names.js'
import { readSecrets } from './read-secrets.js'
import { storePermissions, type StorePermissionOptions } from './required-permissions.js'
import { checkStoreOptions, type KubernetesStoreOptions } from './store-options.js'
import { watchSecrets } from './watch-secrets.js'

export type { FetchFunction } from '../../internal/http.js'
export type { KubernetesConfig } from '../../internal/kubernetes/kubernetes-config.js'
export { manifestsToYaml } from '../../internal/kubernetes/rbac.js'
export type { RbacManifest, RbacRule, ServiceAccountName } from '../../internal/kubernetes/rbac.js'
export type { StorePermissionOptions } from './required-permissions.js'
export type { KubernetesStoreOptions } from './store-options.js'

/** A {@link CertStore} that can say which rights it needs. */
export interface KubernetesStore extends CertStore {
  /**
   * The Role, and a RoleBinding if an account is given: `get`, `list`, `watch`, `create`, `patch` and `delete` on Secrets,
   * `get`, `create` and `patch` on Leases. It covers all of them in the namespace: Kubernetes cannot limit `create`, `list`
   * and `watch` to names. A namespace of its own keeps the store from the Secrets of others, and others from its keys.
   *
   * @throws `TypeError` if an option is unknown or wrong, or the namespace is not known.
   */
  requiredPermissions(options?: StorePermissionOptions): readonly RbacManifest[]
}

const name = 'kubernetes'

/** What a Secret can hold, without what surrounds the value in it. */
const largestValueBytes = 1_048_576 - 1024

/** A key is stored in an annotation. */
const longestKey = 2000

/** The entry of the Secret that is ours. */
const entryName = 'entry'

/**
 * A store in the Secrets of one namespace, for replicas of a service in or beside a Kubernetes cluster.
 *
 * Each entry is one Secret of type `evercert.dev/entry`, named after its key. Compare-and-set rests on `resourceVersion`. Locks
 * are Leases with growing fencing tokens, which `kubectl get leases` shows; no clock of a server or of another process is
 * compared to ours. Others may add labels and annotations. Changes are noticed at once, by a watch.
 *
 * @example In a Pod
 *
 * ```ts
 * import { kubernetesStore } from 'evercert/stores/kubernetes'
 *
 * const store = kubernetesStore()
 * ```
 *
 * @example The rights for it, printed once for review
 *
 * ```ts
 * import { kubernetesStore, manifestsToYaml } from 'evercert/stores/kubernetes'
 *
 * const serviceAccount = { namespace: 'certificates', name: 'evercert' }
 * console.log(manifestsToYaml(kubernetesStore().requiredPermissions({ serviceAccount })))
 * ```
 *
 * @remarks
 * What was acknowledged is on the disks of most members of etcd: it survives crashes and fail-overs, and reads are
 * linearizable. An etcd that is **restored from a backup goes back in time** with everything in it: certificates that were renewed since
 * are the old ones again, and are renewed once more when due. Secrets are in clear in etcd, and in its backups, unless the
 * cluster encrypts them at rest or the store is wrapped by `encryptedStore`; whoever may read Secrets in the namespace reads
 * private keys.
 *
 * Meant for certificates, not for traffic: a renewal takes a few dozen requests, and each lock that is held two in a third of
 * its life. An entry of more than 1 MiB does not fit into a Secret. One whose labels a person takes away is not listed until
 * it is written again. Leases stay where they are: their fencing tokens have to grow.
 *
 * Rejects with `ERR_STORE_UNAVAILABLE` when the API server is away, silent or overloaded (`retryAt` from its `Retry-After`),
 * or refuses (rights, namespace, quota, webhook, a Secret that was made immutable), and when somebody's finalizer keeps a
 * Secret that was deleted: the message says which. A write may have been carried out then. Rejects with `ERR_STORE_CORRUPT` when an entry was damaged or edited.
 *
 * @param options - See {@link KubernetesStoreOptions}. Validated and copied; later changes have no effect.
 * @returns A store named `kubernetes`. Its `close` gives back leases and closes idle connections.
 * @throws `TypeError` if an option is unknown or wrong.
 * @see [Encrypting confidential data at rest](https://kubernetes.io/docs/tasks/administer-cluster/encrypt-data/)
 */
export function kubernetesStore(options: KubernetesStoreOptions = {}): KubernetesStore {
  const settings = checkStoreOptions(options)
  const { prefix, timeoutMs, clock } = settings
  const api = kubernetesApi(settings)
  const names = objectNames(prefix)
  const secrets = kubernetesObjects({ api, namespace: namespaceOf, kind: 'Secret', type: 'evercert.dev/entry' })
  const leases = kubernetesObjects({ api, namespace: namespaceOf, kind: 'Lease' })
  const operation = serverOperations({
    store: name,
    timeoutMs,
    clock,
    silence: 'look at the API server and at the way to it',
    explain: ({ message }) => message,
  })
  let namespace = settings.namespace

  /** Stays what it was: the same process must not find another, empty store. */
  async function namespaceOf(scope: ApiScope): Promise<string> {
    if (namespace !== undefined) return namespace
    const found = await api.namespace(scope)
    if (isNamespace(found)) return (namespace ??= found)
    throw scope.tell('neither the Pod nor the context of the kubeconfig has a namespace; set "namespace"', 'rejected')
  }

  function attempt<Result>(
    action: string,
    key: string,
    context: OperationContext,
    run: (step: Step) => Promise<Result>,
  ): Promise<Result> {
    return operation(action, key, context, (signal, unavailable) =>
      run({ signal, unavailable, clock: clock ?? context.clock }),
    )
  }

  const found = (secret: KubernetesObject, key: StoreKey): FoundValue =>
    foundValue(entryOf(secret, key), { store: name, key, holder: `Secret ${secret.name}` })

  async function readOne(key: StoreKey, context: OperationContext): Promise<FoundValue> {
    const secret = await attempt('read', key, context, (step) => secrets.read(names.nameOf(key), step))
    return secret === undefined ? { key, stored: undefined } : found(secret, key)
  }

  function secretOf(key: string): Target {
    const revisionOf = (secret: KubernetesObject) => entryOf(secret, key).revision
    return { objects: secrets, name: names.nameOf(key), place: { store: name, key }, revisionOf }
  }

  function leaseCell(lock: string, context: OperationContext): LeaseCell {
    const key = `lock ${lock}`
    const target: Target = {
      ...{ objects: leases, name: names.nameOf(key), place: { store: name, key }, revisionOf: leaseRevision },
    }
    const holder = hostname()
    // Not the caller's signal: a lease outlives the call that took it, and is released also after an abort.
    const own = { ...context, signal: new AbortController().signal }
    return {
      read: (behalf) =>
        attempt('read', key, behalf === 'lease' ? own : context, async (step) => {
          const object = await leases.read(target.name, step)
          return object && leaseValue(key, object)
        }),
      write: (value, ifRevision) =>
        attempt('write', key, own, async (step) => {
          const write = { lock: key, value, names, holder, now: step.clock.now() }
          return leaseRevision(await writeObject(target, (current) => leaseContent(write, current), ifRevision, step))
        }),
    }
  }

  async function* list(keyPrefix: string, context: OperationContext): AsyncGenerator<StoreKey> {
    context.signal.throwIfAborted()
    const listing = { objects: secrets, selector: names.selectorOf(keyPrefix), metadataOnly: true }
    const objects = listObjects({ ...listing, attempt: (run) => attempt('list', `${keyPrefix}*`, context, run) })
    for await (const object of objects) {
      context.signal.throwIfAborted()
      const key = names.keyOf(object)
      if (key?.startsWith(keyPrefix) === true) yield key
    }
  }

  const { lock, close } = storeLeases({
    store: name,
    clock,
    open: async (lockName, context) => ({ cell: leaseCell(lockName, context) }),
  })

  return {
    name,
    async get(key, context) {
      const { stored, error } = await readOne(key, context)
      if (error !== undefined) throw error
      return stored
    },
    getMany: (keys, context) =>
      readSecrets(keys, context, {
        ...{ objects: secrets, names, found, readOne },
        attempt: (what, run) => attempt('read', what, context, run),
      }),
    async put(key, value, context, { ifRevision } = {}) {
      if (value.length + key.length > largestValueBytes || key.length > longestKey) {
        const sizes = `a value of ${String(value.length)} bytes under a key of ${String(key.length)}`
        throw new TypeError(`${name}: ${sizes} is too large for a Secret`)
      }
      const revision = newRevision()
      const data = { [entryName]: Buffer.from(encodeEntry(key, revision, value)).toString('base64') }
      const content = { metadata: names.metadataOf(key), data }
      await attempt('write', key, context, (step) => writeObject(secretOf(key), () => content, ifRevision, step))
      return revision
    },
    delete: (key, context, { ifRevision } = {}) =>
      attempt('delete', key, context, (step) => removeObject(secretOf(key), ifRevision, step)),
    list,
    lock,
    async watch(keyPrefix, onChange, context) {
      const own = kubernetesApi(settings)
      try {
        await watchSecrets({
          ...{ objects: secrets, names, api: own, prefix: keyPrefix, onChange, context, store: name },
          attempt: (run) => attempt('watch', `${keyPrefix}*`, context, run),
        })
      } finally {
        own.close()
      }
    },
    async close() {
      await close()
      api.close()
    },
    requiredPermissions: (permissionOptions = {}) => storePermissions(settings, permissionOptions),
  }
}

function entryOf({ data }: KubernetesObject, key: string): Entry {
  const bytes = data.get(entryName)
  if (bytes !== undefined) return decodeEntry(bytes, key)
  const held = [...data].map(([name, value]) => [name, value.toString('base64')])
  return damaged(`holds no "${entryName}"`, Buffer.from(JSON.stringify(Object.fromEntries(held))))
}
