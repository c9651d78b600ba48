import { describe, expect, it } from 'vitest'
import { decideGatewayRequest } from '../../../../src/solvers/challenge-gateway/gateway-request.js'

const challenge = '/.well-known/acme-challenge/'
const decide = (path: string, authority: string | undefined = 'www.example.com', method = 'GET', port?: number) =>
  decideGatewayRequest({ method, authority, path }, port)

describe('a challenge', () => {
  it.each([
    ['www.example.com', 'www.example.com'],
    ['WWW.Example.com.:80', 'www.example.com'],
    ['192.0.2.7', '192.0.2.7'],
    ['[2001:DB8::7]:80', '2001:db8::7'],
  ])('is looked up for %s', (authority, host) => {
    expect(decide(`${challenge}abc_-1`, authority)).toEqual({ action: 'look-up', host, token: 'abc_-1' })
    expect(decide(`${challenge}abc`, authority, 'HEAD')).toMatchObject({ action: 'look-up' })
  })

  it.each(['', 'a/b', '../x', '%2e%2e', 'a.b', 'a?b', 'a%00', 'a b', 'a'.repeat(513), 'ä'])(
    'is no look-up, and no redirect, with the token %j',
    (token) => {
      expect(decide(challenge + token, 'www.example.com', 'GET', 443)).toEqual({ action: 'refuse', status: 404 })
    },
  )

  it.each([undefined, '', 'a b', 'a/b', 'a@b', '[::', '[1.2.3.4]', 'x'.repeat(301)])(
    'is refused for Host %j',
    (host) => {
      expect(decideGatewayRequest({ method: 'GET', authority: host, path: `${challenge}abc` }, 443)).toEqual({
        action: 'refuse',
        status: 400,
      })
    },
  )

  it.each(['POST', 'PUT', 'DELETE', 'OPTIONS', ''])('is refused by %s', (method) => {
    expect(decide(`${challenge}abc`, 'www.example.com', method)).toEqual({ action: 'refuse', status: 405 })
  })
})

describe('anything else', () => {
  it.each([
    ['/', 443, 'https://www.example.com/'],
    ['/a?b=c&d', 443, 'https://www.example.com/a?b=c&d'],
    ['/a', 8443, 'https://www.example.com:8443/a'],
    ['//evil.example/', 443, 'https://www.example.com//evil.example/'],
    ['/.well-known/acme-challeng', 443, 'https://www.example.com/.well-known/acme-challeng'],
  ])('is redirected: %s', (path, port, location) => {
    expect(decide(path, 'www.example.com:80', 'GET', port)).toEqual({ action: 'redirect', status: 301, location })
  })

  it('keeps the method of a POST', () => {
    expect(decide('/', 'www.example.com', 'POST', 443)).toMatchObject({ status: 308 })
  })

  it('spells IPv6 with brackets', () => {
    expect(decide('/', '[2001:db8::7]:80', 'GET', 443)).toMatchObject({ location: 'https://[2001:db8::7]/' })
  })

  it.each([
    ['a Host with a path', '/', 'www.example.com/x'],
    ['a line feed', '/a\nb', 'www.example.com'],
    ['no slash', '*', 'www.example.com'],
  ])('is refused with %s', (_, path, authority) => {
    expect(decide(path, authority, 'GET', 443)).toEqual({ action: 'refuse', status: 400 })
  })

  it('is left alone without a port to redirect to', () => {
    expect(decide('/')).toEqual({ action: 'leave' })
  })
})
