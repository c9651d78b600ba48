import { describe, expect, it } from 'vitest'
import { decideSecret, secretState } from '../../../../src/deployers/kubernetes-secret/decide-secret.js'
import type { SecretContent } from '../../../../src/deployers/kubernetes-secret/secret-content.js'
import type { SecretResource } from '../../../../src/deployers/kubernetes-secret/secret-resource.js'

const content: SecretContent = {
  data: { 'tls.crt': 'new', 'tls.key': 'new' },
  labels: { app: 'www' },
  annotations: {},
  secrets: [],
}
const current: SecretResource = {
  resourceVersion: '7',
  type: 'kubernetes.io/tls',
  immutable: false,
  data: { ...content.data, other: 'theirs' },
  labels: { app: 'www', team: 'web' },
  annotations: { note: 'theirs' },
  managers: [],
}
const stale: SecretResource = { ...current, data: { 'tls.crt': 'old', 'tls.key': 'old' } }
const facts = { fieldManager: 'evercert', takeOver: false, placeholder: false }
const wrote = (name: string, operation: string, dataKeys: readonly string[]) => ({
  managers: [{ name, operation, dataKeys, labelKeys: [], annotationKeys: [] }],
})

describe('secretState', () => {
  it.each<[string, SecretResource | undefined, string]>([
    ['no Secret', undefined, 'absent'],
    ['an empty Secret', { ...current, data: {} }, 'absent'],
    ['a Secret with empty entries', { ...current, data: { 'tls.crt': '', 'tls.key': '' } }, 'absent'],
    ['a Secret without a key', { ...current, data: { 'tls.crt': 'new' } }, 'absent'],
    ['another certificate', stale, 'stale'],
    ['everything wanted, and more', current, 'current'],
    ['another label', { ...current, labels: { app: 'other' } }, 'stale'],
    ['an entry of ours that is not wanted any more', { ...current, ...wrote('evercert', 'Apply', ['gone']) }, 'stale'],
    ['an entry of somebody else', { ...current, ...wrote('helm', 'Apply', ['other']) }, 'current'],
    ['an entry that our name has written otherwise', { ...current, ...wrote('evercert', 'Update', ['x']) }, 'current'],
  ])('of %s', (_, secret, expected) => {
    expect(secretState(secret, content, 'evercert')).toBe(expected)
  })
})

describe('decideSecret', () => {
  const owned = { 'cert-manager.io/certificate-name': 'www' }
  it.each<[string, SecretResource | undefined, Partial<typeof facts>, object]>([
    [
      'nothing there',
      undefined,
      {},
      { action: 'apply', type: 'kubernetes.io/tls', resourceVersion: undefined, force: false },
    ],
    ['nothing there, to be taken over', undefined, { takeOver: true }, { action: 'apply', force: false }],
    ['current', current, {}, { action: 'none' }],
    ['stale', stale, {}, { action: 'apply', type: 'kubernetes.io/tls', resourceVersion: '7', force: false }],
    ['stale, to be taken over', stale, { takeOver: true }, { action: 'apply', resourceVersion: '7', force: true }],
    ['Opaque', { ...stale, type: 'Opaque' }, {}, { action: 'apply', type: 'Opaque' }],
    [
      "somebody's type",
      { ...stale, type: 'istio.io/key-and-cert' },
      {},
      { action: 'apply', type: 'istio.io/key-and-cert' },
    ],
    ['a service account token', { ...stale, type: 'kubernetes.io/service-account-token' }, {}, { action: 'refuse' }],
    ['a bootstrap token', { ...stale, type: 'bootstrap.kubernetes.io/token' }, {}, { action: 'refuse' }],
    ['of cert-manager', { ...stale, annotations: owned }, { takeOver: true }, { action: 'refuse' }],
    ['of cert-manager, and current', { ...current, annotations: owned }, {}, { action: 'refuse' }],
    ['immutable', { ...stale, immutable: true }, { takeOver: true }, { action: 'refuse' }],
    ['immutable and current', { ...current, immutable: true }, {}, { action: 'none' }],
    ['a placeholder, nothing there', undefined, { placeholder: true }, { action: 'apply' }],
    ['a placeholder, empty', { ...stale, data: {} }, { placeholder: true }, { action: 'apply', resourceVersion: '7' }],
    ['a placeholder, where something is served', stale, { placeholder: true }, { action: 'keep' }],
  ])('%s', (_, secret, more, expected) => {
    expect(decideSecret(secret, content, { ...facts, ...more })).toMatchObject(expected)
  })
})
