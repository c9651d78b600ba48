/**
 * A deployer for Kubernetes: a Secret of type `kubernetes.io/tls`, in one namespace or several.
 *
 * Published as `evercert/deployers/kubernetes-secret`.
 *
 * @module
 */
import type { CertificateBundle } from '../../core/certificate-bundle.js'
import type { OperationContext } from '../../core/context.js'
import { CertError, DeployError } from '../../errors.js'
import type { HttpResponse } from '../../internal/http.js'
import { readStatus } from '../../internal/kubernetes/api-status.js'
import type { RbacManifest } from '../../internal/kubernetes/rbac.js'
import { checkedLeaf } from '../../internal/pem-layout.js'
import { Semaphore } from '../../internal/semaphore.js'
import type { Deployer, DeploymentState } from '../deployer.js'
import { decideSecret, secretState, type SecretDecision } from './decide-secret.js'
import { withKubernetesApi, type AskApi } from './kubernetes-client.js'
import { apiFailure, type ApiCall } from './kubernetes-failure.js'
import { checkKubernetesOptions, type KubernetesSecretDeployerOptions } from './kubernetes-options.js'
import { permissionManifests, type PermissionOptions } from './required-permissions.js'
import { secretContent, type SecretContent } from './secret-content.js'
import { readSecret, type SecretResource } from './secret-resource.js'

export type { KubernetesKeystore, KubernetesSecretDeployerOptions } from './kubernetes-options.js'
export type { PermissionOptions } from './required-permissions.js'
export type { KubernetesConfig } from '../../internal/kubernetes/kubernetes-config.js'
export { manifestsToYaml } from '../../internal/kubernetes/rbac.js'
export type { RbacManifest, RbacRule, ServiceAccountName } from '../../internal/kubernetes/rbac.js'
export type { FetchFunction } from '../../internal/http.js'

/** A {@link Deployer} that can say which rights it needs. */
export interface KubernetesSecretDeployer extends Deployer {
  /**
   * The Roles, and RoleBindings if an account is given, for exactly this configuration: `get`, `patch` and `create` on this
   * Secret and no other, `get` on the Secret with the keystore's password.
   *
   * @throws `TypeError` if an option is unknown or wrong.
   */
  requiredPermissions(options?: PermissionOptions): readonly RbacManifest[]
}

/**
 * A deployer that keeps a Secret of type `kubernetes.io/tls` up to date, by server-side apply: certificate and key change at
 * once, and entries, labels, annotations and owners of others stay as they are.
 *
 * It takes the place of cert-manager's last step: Ingress controllers, Emissary, Gateways and Pods take the Secret up as they
 * do now. A placeholder (`placeholder: true` of the managed certificate) is written only where there is no certificate yet.
 *
 * @example
 *
 * ```ts
 * import { kubernetesSecretDeployer } from 'evercert/deployers/kubernetes-secret'
 *
 * const deployer = kubernetesSecretDeployer({ secretName: 'www-tls', namespaces: ['web', 'emissary'] })
 * ```
 *
 * @example With a configuration of your own
 *
 * ```ts
 * import { kubernetesSecretDeployer } from 'evercert/deployers/kubernetes-secret'
 * import { KubeConfig } from '@kubernetes/client-node'
 *
 * const kubeConfig = new KubeConfig()
 * kubeConfig.loadFromCluster()
 * const deployer = kubernetesSecretDeployer({ secretName: 'www-tls', namespaces: ['web'], kubeConfig })
 * ```
 *
 * @remarks
 * `tls.crt` holds leaf and intermediates, without the root; `tls.key` is PKCS#8. A Secret that exists keeps its type, also
 * `Opaque`. The write holds only for the version that was read: whoever changed the Secret meanwhile is read first. Namespaces
 * are independent of each other; when some fail, the error names each, and the others have the certificate.
 *
 * Rejects with `ERR_DEPLOY_REJECTED` when the API server, or what is in the Secret, forbids it: missing rights or namespace,
 * an immutable Secret, one of cert-manager, entries that another field manager has written, a webhook; with
 * `ERR_DEPLOY_UNAVAILABLE` when the server is away, silent or overloaded (`retryAt` from its `Retry-After`); with
 * `ERR_DEPLOY_VERIFY_FAILED` when something changed what was written; `ERR_CERT_KEY_MISMATCH` when the pair is none. What the
 * server says is shown without anything that could be key, password or token.
 *
 * @param options - See {@link KubernetesSecretDeployerOptions}. Validated and copied; later changes have no effect.
 * @throws `TypeError` if an option is missing, unknown or wrong.
 *
 * @see {@link https://kubernetes.io/docs/concepts/configuration/secret/#tls-secrets | Kubernetes: TLS Secrets}
 * @see {@link https://kubernetes.io/docs/reference/using-api/server-side-apply/ | Kubernetes: Server-Side Apply}
 */
export function kubernetesSecretDeployer(options: KubernetesSecretDeployerOptions): KubernetesSecretDeployer {
  const settings = checkKubernetesOptions(options)
  const { name, secretName, namespaces, fieldManager, takeOver, keystore } = settings

  const rejected = (why: string, retryable = false): DeployError =>
    new DeployError({ code: 'ERR_DEPLOY_REJECTED', message: `${name}: ${why}`, deployer: name, retryable })

  /** The Secret, or nothing; whatever else the server answers is an error. */
  async function read(visit: Visit, wanted = secretName): Promise<SecretResource | undefined> {
    const { ask, namespace } = visit
    const call: ApiCall = { deployer: name, action: 'read', namespace, secretName: wanted }
    const answer = await ask({ method: 'GET', path: secretPath(namespace, wanted) })
    if (answer.status === 404) return undefined
    return checkedSecret(call, answer, visit, [])
  }

  async function wantedContent(bundle: CertificateBundle, visit: Visit): Promise<SecretContent> {
    const password = keystore && (await readPassword(visit, keystore.passwordSecret))
    return secretContent(bundle, settings, password)
  }

  async function readPassword(visit: Visit, from: { name: string; key: string }): Promise<string> {
    const entry = `${from.key} of Secret ${visit.namespace}/${from.name}`
    const secret = await read(visit, from.name)
    const encoded = secret?.data[from.key]
    if (encoded === undefined) throw rejected(`there is no entry ${entry}, which holds the password of the keystore`)
    const password = Buffer.from(encoded, 'base64').toString('utf8')
    if (!/^[\x20-\x7e]{1,1024}$/.test(password)) {
      const hint = 'a line end at its end comes from "--from-file"; use "--from-literal"'
      throw rejected(`the password of the keystore (${entry}) must be printable ASCII; ${hint}`)
    }
    return password
  }

  /** Writes what was decided. Returns the conflict when somebody was faster, who is to be looked at first. */
  async function apply(decision: Apply, content: SecretContent, visit: Visit): Promise<DeployError | undefined> {
    const { ask, namespace, context } = visit
    const call: ApiCall = { deployer: name, action: 'write', namespace, secretName }
    const query = new URLSearchParams({ fieldManager, ...(decision.force ? { force: 'true' } : {}) })
    const answer = await ask({
      method: 'PATCH',
      path: `${secretPath(namespace, secretName)}?${query.toString()}`,
      // JSON is YAML.
      contentType: 'application/apply-patch+yaml',
      body: JSON.stringify(manifestOf(decision, content, namespace)),
    })
    if (answer.status === 409) {
      const status = readStatus(answer, content.secrets)
      // Fields that others own are their business, unless the Secret has only just appeared and nobody has read it yet.
      const unseen = status.conflicts.length === 0 || decision.resourceVersion === undefined
      if (unseen) return apiFailure(call, answer, status, context.clock.now())
    }
    const written = checkedSecret(call, answer, visit, content.secrets)
    if (secretState(written, content, fieldManager) === 'current') return undefined
    throw new DeployError({
      code: 'ERR_DEPLOY_VERIFY_FAILED',
      message: `${name}: Secret ${namespace}/${secretName} does not hold what was written; does a webhook change it?`,
      deployer: name,
    })
  }

  function manifestOf({ type, resourceVersion }: Apply, content: SecretContent, namespace: string): object {
    const { data, labels, annotations } = content
    const metadata = {
      name: secretName,
      namespace,
      resourceVersion,
      // An empty object would make all of them ours.
      ...(Object.keys(labels).length === 0 ? {} : { labels }),
      ...(Object.keys(annotations).length === 0 ? {} : { annotations }),
    }
    return { apiVersion: 'v1', kind: 'Secret', metadata, type, data }
  }

  function checkedSecret(
    call: ApiCall,
    answer: HttpResponse,
    { context }: Visit,
    secrets: readonly string[],
  ): SecretResource {
    if (answer.status < 200 || answer.status > 299) {
      throw apiFailure(call, answer, readStatus(answer, secrets), context.clock.now())
    }
    const secret = readSecret(answer.text(), call.secretName, call.namespace)
    if (secret !== undefined) return secret
    throw new DeployError({
      code: 'ERR_DEPLOY_UNAVAILABLE',
      message: `${name}: cannot ${call.action} Secret ${call.namespace}/${call.secretName}: the answer is no such Secret`,
      deployer: name,
    })
  }

  async function deployTo(visit: Visit, bundle: CertificateBundle): Promise<'deployed' | 'unchanged' | 'kept'> {
    const content = await wantedContent(bundle, visit)
    for (let attempt = 1; ; attempt += 1) {
      const secret = await read(visit)
      const facts = { fieldManager, takeOver, placeholder: bundle.placeholder }
      const decision = decideSecret(secret, content, facts)
      if (decision.action === 'none') return 'unchanged'
      if (decision.action === 'keep') return 'kept'
      if (decision.action === 'refuse') {
        throw rejected(`cannot write Secret ${visit.namespace}/${secretName}: ${decision.why}`)
      }
      const conflict = await apply(decision, content, visit)
      if (conflict === undefined) return 'deployed'
      if (attempt === maxAttempts) throw conflict
      await visit.context.clock.sleep(attempt * conflictPauseMs, { signal: visit.context.signal })
    }
  }

  async function inspectIn(visit: Visit, bundle: CertificateBundle): Promise<DeploymentState> {
    const secret = await read(visit)
    // Without the certificate nobody needs the password.
    if (secret?.data['tls.crt'] === undefined) return 'absent'
    return secretState(secret, await wantedContent(bundle, visit), fieldManager)
  }

  /** Runs in every namespace, a few at once; one that fails stops no other. */
  async function inAllNamespaces<Result>(
    context: OperationContext,
    run: (visit: Visit) => Promise<Result>,
  ): Promise<readonly Outcome<Result>[]> {
    return withKubernetesApi(settings, context, async (ask) => {
      const slots = new Semaphore(concurrency)
      const results = await Promise.allSettled(
        namespaces.map((namespace) => slots.run(() => run({ namespace, ask, context }), context.signal)),
      )
      context.signal.throwIfAborted()
      return results.map((result, index) => ({ namespace: namespaces[index] ?? '', result }))
    })
  }

  return {
    name,
    scope: 'cluster',
    exclusive: true,
    async deploy(bundle, context) {
      context.signal.throwIfAborted()
      checkedLeaf(bundle)
      const outcomes = await inAllNamespaces(context, (visit) => deployTo(visit, bundle))
      const statuses = valuesOf(outcomes, name)
      if (statuses.every(([, status]) => status === 'kept')) {
        throw rejected(`Secret ${secretName} holds a certificate already, which a placeholder never replaces`, true)
      }
      if (!statuses.some(([, status]) => status === 'deployed')) return { status: 'unchanged' }
      return { status: 'deployed', details: Object.fromEntries(statuses) }
    },
    async inspect(bundle, context) {
      context.signal.throwIfAborted()
      checkedLeaf(bundle)
      const outcomes = await inAllNamespaces(context, (visit) => inspectIn(visit, bundle))
      // One namespace that has none yet is reason enough to bring it there, a placeholder included: what others hold, or
      // that they cannot be read, must not keep it out of service. deploy() then says what is wrong with those.
      if (outcomes.some(({ result }) => result.status === 'fulfilled' && result.value === 'absent')) return 'absent'
      const states = valuesOf(outcomes, name).map(([, state]) => state)
      return states.includes('stale') ? 'stale' : 'current'
    },
    requiredPermissions: (permissionOptions = {}) => permissionManifests(settings, permissionOptions),
  }
}

/** Reads and writes of one deployment to one namespace, when others write as well. */
const maxAttempts = 5
const conflictPauseMs = 100
/** Namespaces at once. */
const concurrency = 4

type Apply = Extract<SecretDecision, { readonly action: 'apply' }>

/** One namespace during one operation. */
interface Visit {
  readonly namespace: string
  readonly ask: AskApi
  readonly context: OperationContext
}

interface Outcome<Result> {
  readonly namespace: string
  readonly result: PromiseSettledResult<Result>
}

function secretPath(namespace: string, secretName: string): string {
  return `/api/v1/namespaces/${namespace}/secrets/${secretName}`
}

/** What each namespace gave; throws when some failed. */
function valuesOf<Value>(
  outcomes: readonly Outcome<Value>[],
  deployer: string,
): readonly (readonly [namespace: string, value: Value])[] {
  const failures = outcomes.flatMap(({ result }) => (result.status === 'rejected' ? [result.reason as unknown] : []))
  if (failures.length === 0) {
    return outcomes.flatMap(({ namespace, result }) =>
      result.status === 'fulfilled' ? [[namespace, result.value] as const] : [],
    )
  }
  const [first] = failures
  if (outcomes.length === 1) throw first
  const errors = failures.filter((failure): failure is CertError => CertError.isInstance(failure))
  // A defect, not a failure of a namespace.
  if (errors.length < failures.length) throw failures.find((failure) => !CertError.isInstance(failure))
  const instants = errors.flatMap(({ retryAt }) => (retryAt === undefined ? [] : [retryAt.getTime()]))
  const reasons = errors.map(({ message }) => message.replace(`${deployer}: `, '')).join('; ')
  const count = `${String(failures.length)} of ${String(outcomes.length)} namespaces`
  throw new DeployError({
    code: errors.some(({ code }) => code === 'ERR_DEPLOY_UNAVAILABLE')
      ? 'ERR_DEPLOY_UNAVAILABLE'
      : 'ERR_DEPLOY_REJECTED',
    message: `${deployer}: ${count} failed: ${reasons.slice(0, 2_000)}`,
    deployer,
    retryable: errors.some(({ retryable }) => retryable),
    ...(instants.length === 0 ? {} : { retryAt: new Date(Math.max(...instants)) }),
    cause: first,
  })
}
