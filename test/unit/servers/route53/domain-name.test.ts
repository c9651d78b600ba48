import { describe, expect, test } from 'vitest'
import { isWithin, sortKey, storedName, wireName } from '../../../servers/route53/domain-name.js'

describe('a stored name', () => {
  test.each([
    ['Example.COM', 'example.com.'],
    ['example.com.', 'example.com.'],
    ['*.example.com', '\\052.example.com.'],
    ['\\052.example.com.', '\\052.example.com.'],
    ['_acme-challenge.example.com', '_acme-challenge.example.com.'],
    ['a b.example.com', 'a\\040b.example.com.'],
    ['ex\\344mple.com', 'ex\\344mple.com.'],
    ['.', '.'],
  ])('%s is kept as %s', (name, stored) => {
    expect(storedName(name)).toBe(stored)
  })

  test('has no escapes on the wire', () => {
    expect(wireName('\\052.example.com.')).toBe('*.example.com')
  })

  test('is within a zone by whole labels', () => {
    expect(isWithin('example.com.', 'example.com.')).toBe(true)
    expect(isWithin('a.example.com.', 'example.com.')).toBe(true)
    expect(isWithin('notexample.com.', 'example.com.')).toBe(false)
  })

  test('is ordered by its labels from the right, with the final dot', () => {
    expect(sortKey('www.example.com.')).toBe('com.example.www.')
    // `-` comes before `.`, so that a sibling comes between a name and what is below it.
    const names = ['a.b.example.com.', 'b-1.example.com.', 'b.example.com.', 'example.com.']
    const ordered = [...names].sort((left, right) => (sortKey(left) < sortKey(right) ? -1 : 1))
    expect(ordered).toEqual(['example.com.', 'b-1.example.com.', 'b.example.com.', 'a.b.example.com.'])
  })
})
