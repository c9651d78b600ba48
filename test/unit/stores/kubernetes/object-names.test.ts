import { describe, expect, it } from 'vitest'
import { assertObjectName, labelValuePattern } from '../../../../src/internal/kubernetes/kubernetes-names.js'
import { storeKey } from '../../../../src/stores/cert-store.js'
import { objectNames } from '../../../../src/stores/kubernetes/object-names.js'

const { nameOf, metadataOf, keyOf, selectorOf } = objectNames('evercert')

describe('names of objects', () => {
  it('say which key it is, as far as a name can', () => {
    expect(nameOf('certificates/www.example.com')).toMatch(/^evercert-certificates-www\.example\.com-[0-9a-f]{32}$/)
    expect(nameOf('certificates/*.Example.com')).toMatch(/^evercert-certificates\.example\.com-[0-9a-f]{32}$/)
  })

  it('are names that Kubernetes takes, and no two keys have one', () => {
    const odd = ['*.a', '..', '-', '.-.', 'A', 'a', '~', '', '%2E', 'a/b', 'a.b', 'a-b', 'a.', '.a', 'a..b', 'a-.-b']
    const long = [
      'x'.repeat(253),
      'x'.repeat(254),
      `${'x'.repeat(253)}y`,
      `${'a.'.repeat(120)}b`,
      `${'a-'.repeat(120)}b`,
    ]
    const keys = [...odd, ...long].flatMap((name) => [`certificates/${name}`, `lock ${name}`, name])
    const names = keys.map(nameOf)
    for (const name of names) {
      expect(() => {
        assertObjectName(name, 'name')
      }, name).not.toThrow()
    }
    expect(new Set(names).size).toBe(new Set(keys).size)
  })

  it('are others in a store with another prefix, also where one prefix begins with the other', () => {
    expect(nameOf('certificates/a')).not.toBe(objectNames('evercert-certificates').nameOf('a'))
    expect(objectNames('a').nameOf('b-c')).not.toBe(objectNames('a-b').nameOf('c'))
  })

  it('lead back to the key only where the object is the one that was made for it', () => {
    const key = storeKey('certificates', 'Straße')
    const { annotations } = metadataOf(key)
    expect(keyOf({ name: nameOf(key), annotations })).toBe(key)
    expect(keyOf({ name: 'a-copy', annotations })).toBeUndefined()
    expect(keyOf({ name: nameOf(key), annotations: {} })).toBeUndefined()
    expect(keyOf({ name: objectNames('other').nameOf(key), annotations })).toBeUndefined()
  })

  it('are selected by the space of the key, or all of them', () => {
    expect(selectorOf('certificates/a')).toBe('evercert.dev/store=evercert,evercert.dev/space=certificates')
    expect(selectorOf('cert')).toBe('evercert.dev/store=evercert')
    for (const label of Object.values(metadataOf('lock certificates/a').labels))
      expect(label).toMatch(labelValuePattern)
  })
})
