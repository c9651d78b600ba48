/**
 * What is to be done about a Secret. Pure.
 *
 * @module
 */
import type { DeploymentState } from '../deployer.js'
import type { SecretContent } from './secret-content.js'
import type { SecretResource } from './secret-resource.js'

/** What {@link decideSecret} says. */
export type SecretDecision =
  | { readonly action: 'none' }
  /** A placeholder has no business here. */
  | { readonly action: 'keep' }
  /** `resourceVersion`: only if the Secret is still the one that was read. */
  | {
      readonly action: 'apply'
      readonly type: string
      readonly resourceVersion: string | undefined
      readonly force: boolean
    }
  | { readonly action: 'refuse'; readonly why: string }

const certificateName = 'cert-manager.io/certificate-name'

/** What is there, compared with what is wanted. A Secret without certificate or key is as good as none. */
export function secretState(
  secret: SecretResource | undefined,
  content: SecretContent,
  fieldManager: string,
): DeploymentState {
  if (secret === undefined || !holdsPair(secret)) return 'absent'
  const same =
    includes(secret.data, content.data) &&
    includes(secret.labels, content.labels) &&
    includes(secret.annotations, content.annotations) &&
    !holdsLeftovers(secret, content, fieldManager)
  return same ? 'current' : 'stale'
}

/** Decides about one Secret. */
export function decideSecret(
  secret: SecretResource | undefined,
  content: SecretContent,
  facts: { readonly fieldManager: string; readonly takeOver: boolean; readonly placeholder: boolean },
): SecretDecision {
  const refuse = (why: string): SecretDecision => ({ action: 'refuse', why })
  if (secret === undefined) {
    // Whoever creates it in this moment has other fields, or a conflict is reported: nothing is forced here.
    return { action: 'apply', type: 'kubernetes.io/tls', resourceVersion: undefined, force: false }
  }
  const { type, resourceVersion, annotations, immutable } = secret
  const owner = annotations[certificateName]
  if (owner !== undefined) {
    return refuse(
      `it belongs to cert-manager's Certificate ${JSON.stringify(owner.slice(0, 253))}, which would write it again and again; ` +
        `delete that Certificate, then the annotation (kubectl annotate secret ... ${certificateName}-), and set the option "takeOver"`,
    )
  }
  // Types the API server, or the kubelet, reads other things from.
  if (/^(?:bootstrap\.)?kubernetes\.io\//.test(type) && type !== 'kubernetes.io/tls') {
    return refuse(
      `it is of type ${JSON.stringify(type.slice(0, 100))}, which holds no certificates; use another "secretName"`,
    )
  }
  const state = secretState(secret, content, facts.fieldManager)
  if (state === 'current') return { action: 'none' }
  if (facts.placeholder && state === 'stale') return { action: 'keep' }
  if (immutable) {
    return refuse(
      'it is immutable, and stays so: delete it, and it is made anew by the next attempt; or use another "secretName"',
    )
  }
  return { action: 'apply', type, resourceVersion, force: facts.takeOver }
}

function holdsPair({ data }: SecretResource): boolean {
  return Boolean(data['tls.crt']) && Boolean(data['tls.key'])
}

function includes(all: Readonly<Record<string, string>>, wanted: Readonly<Record<string, string>>): boolean {
  return Object.entries(wanted).every(([key, value]) => all[key] === value)
}

/** Entries, labels or annotations that we have written and that are no longer wanted: the next apply removes them. */
function holdsLeftovers(secret: SecretResource, content: SecretContent, fieldManager: string): boolean {
  const ours = secret.managers.filter(({ name, operation }) => name === fieldManager && operation === 'Apply')
  const beyond = (keys: readonly string[], wanted: Readonly<Record<string, string>>): boolean =>
    keys.some((key) => !Object.hasOwn(wanted, key))
  return ours.some(
    ({ dataKeys, labelKeys, annotationKeys }) =>
      beyond(dataKeys, content.data) ||
      beyond(labelKeys, content.labels) ||
      beyond(annotationKeys, content.annotations),
  )
}
