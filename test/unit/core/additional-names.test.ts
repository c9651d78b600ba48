import { describe, expect, it } from 'vitest'
import { additionalNameKey, parseAdditionalName } from '../../../src/core/additional-names.js'

describe('parseAdditionalName', () => {
  it.each([
    'uri:spiffe://cluster.local/ns/default/sa/agent',
    'uri:https://a.example/?b=c#d',
    'uri:urn:uuid:7d444840-9dc0-11d1-b245-5ffdce74fad2',
    'email:ops+tls@example.com',
    'email:root@localhost',
  ])('reads %s', (text) => {
    expect(additionalNameKey(parseAdditionalName(text))).toBe(text)
  })

  it.each([
    'spiffe://cluster.local/agent',
    'uri:relative/path',
    'uri:',
    'uri:a:',
    'uri:https://a.example/\n',
    'uri:https://b\u00fccher.example/',
    `uri:a:${'b'.repeat(1000)}`,
    'email:@example.com',
    'email:ops@Example.com',
    'email:ops@-a.example',
    'email:a@b@c',
    'dns:a.example',
    '',
    7,
    undefined,
  ])('refuses %j', (text) => {
    expect(() => parseAdditionalName(text)).toThrow(TypeError)
  })
})
