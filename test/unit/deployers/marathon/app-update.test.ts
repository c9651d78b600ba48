import { describe, expect, it } from 'vitest'
import { decideUpdate, foreseeDeadlock } from '../../../../src/deployers/marathon/app-update.js'
import { readApp, type MarathonApp } from '../../../../src/deployers/marathon/marathon-app.js'

const app = (fields: Record<string, unknown> = {}): MarathonApp =>
  readApp({ app: { id: '/lb', instances: 1, ...fields } })!
const decide = (fields: Record<string, unknown>, options: Partial<Parameters<typeof decideUpdate>[1]> = {}) =>
  decideUpdate(app(fields), {
    variable: 'HAPROXY_SSL_CERT',
    value: { text: 'NEW', matches: (value) => value === 'NEW' },
    replaceSecret: false,
    spareAgent: false,
    ...options,
  })
const running = (version: string) => ({
  versionInfo: { lastConfigChangeAt: '2026-01-02T00:00:00.000Z' },
  tasks: [{ id: 'a', version, state: 'TASK_RUNNING' }],
})

describe('the next step', () => {
  it.each<[string, Record<string, unknown>, string]>([
    ['nothing when it is there', { env: { HAPROXY_SSL_CERT: 'NEW' } }, 'none'],
    [
      'nothing when tasks are new',
      { env: { HAPROXY_SSL_CERT: 'NEW' }, ...running('2026-01-02T00:00:00.000Z') },
      'none',
    ],
    ['to join when it is on its way', { env: { HAPROXY_SSL_CERT: 'NEW' }, deployments: [{ id: 'a' }] }, 'join'],
    [
      'a restart when old tasks are left',
      { env: { HAPROXY_SSL_CERT: 'NEW' }, ...running('2026-01-01T00:00:00.000Z') },
      'restart',
    ],
    ['an update without env', {}, 'update'],
    ['an update of another value', { env: { HAPROXY_SSL_CERT: 'OLD' } }, 'update'],
    ['an update while locked, which Marathon then refuses', { env: {}, deployments: [{ id: 'a' }] }, 'update'],
  ])('is %s', (_, fields, action) => {
    expect(decide(fields)).toMatchObject({ action })
  })

  it('writes back everything but the one entry as it was', () => {
    const step = decide({
      env: {
        HAPROXY_SSL_CERT: 'OLD',
        DCOS_SERVICE_ACCOUNT_CREDENTIAL: { secret: 'credential' },
        NUMBER: 7,
        constructor: 'x',
      },
      secrets: { credential: { source: 'marathon-lb/sa' } },
      resourceLimits: { cpus: 'unlimited' },
      executorResources: { cpus: 0.1 },
      labels: { A: 'b' },
    })
    expect(step).toEqual({
      action: 'update',
      body: {
        env: {
          HAPROXY_SSL_CERT: 'NEW',
          DCOS_SERVICE_ACCOUNT_CREDENTIAL: { secret: 'credential' },
          NUMBER: 7,
          constructor: 'x',
        },
        secrets: { credential: { source: 'marathon-lb/sa' } },
        resourceLimits: { cpus: 'unlimited' },
        executorResources: { cpus: 0.1 },
      },
    })
  })

  it('keeps an entry called __proto__', () => {
    const env: unknown = JSON.parse('{"__proto__":"kept"}')
    expect(JSON.stringify(decide({ env }))).toContain('"__proto__":"kept"')
  })

  it.each<[string, Record<string, unknown>, Partial<Parameters<typeof decideUpdate>[1]>, string]>([
    ['a secret', { env: { HAPROXY_SSL_CERT: { secret: 'tls' } } }, {}, 'secret-reference'],
    ['a number without its base', {}, { variable: 'HAPROXY_SSL_CERT0' }, 'base-variable-missing'],
    [
      'a number with an empty base',
      { env: { HAPROXY_SSL_CERT: '' } },
      { variable: 'HAPROXY_SSL_CERT100' },
      'base-variable-missing',
    ],
  ])('is a refusal of %s', (_, fields, options, reason) => {
    expect(decide(fields, options)).toMatchObject({ action: 'refuse', reason })
  })

  it.each<[Record<string, unknown>, Partial<Parameters<typeof decideUpdate>[1]>]>([
    [{ env: { HAPROXY_SSL_CERT: { secret: 'tls' } } }, { replaceSecret: true }],
    [{ env: { HAPROXY_SSL_CERT: { secret: 'tls' } } }, { variable: 'HAPROXY_SSL_CERT7' }],
    [{ env: { HAPROXY_SSL_CERT: 'PEM' } }, { variable: 'HAPROXY_SSL_CERT0' }],
    [{}, { variable: 'OTHER_CERT0' }],
  ])('is an update of %j with %j', (fields, options) => {
    expect(decide(fields, options)).toMatchObject({ action: 'update' })
  })

  it.each([
    [131_054, 'update'],
    [131_055, 'refuse'],
  ])('with a value of %i bytes is %s: NAME=, value and NUL have to fit', (length, action) => {
    const text = 'x'.repeat(length)
    expect(decide({}, { value: { text, matches: () => false } })).toMatchObject({ action })
  })
})

const fixedPorts = { requirePorts: true, tasksRunning: 1 }
const strategy = (minimumHealthCapacity: number, maximumOverCapacity: number) => ({
  upgradeStrategy: { minimumHealthCapacity, maximumOverCapacity },
})

describe('a deadlock', () => {
  it.each<[string, Record<string, unknown>, boolean]>([
    ['one instance, 0.5 and 0.2', { ...fixedPorts, ...strategy(0.5, 0.2) }, true],
    ['one instance, Marathon defaults', fixedPorts, true],
    ['one instance, 0 and 0', { ...fixedPorts, ...strategy(0, 0) }, false],
    ['two instances, 0.5 and 0', { ...fixedPorts, instances: 2, tasksRunning: 2, ...strategy(0.5, 0) }, false],
    ['two instances, 1 and 0', { ...fixedPorts, instances: 2, tasksRunning: 2, ...strategy(1, 0) }, true],
    ['three instances, 0.67', { ...fixedPorts, instances: 3, tasksRunning: 3, ...strategy(0.67, 0) }, true],
    ['no instances', { ...fixedPorts, instances: 0 }, false],
    ['nothing runs, and every port is free', { ...fixedPorts, tasksRunning: 0 }, false],
    ['no fixed ports', { tasksRunning: 1 }, false],
    ['host network', { tasksRunning: 1, networks: [{ mode: 'host' }] }, true],
    ['host network, older', { tasksRunning: 1, container: { docker: { network: 'HOST' } } }, true],
    ['bridge with a fixed port', { tasksRunning: 1, container: { portMappings: [{ hostPort: 443 }] } }, true],
    [
      'bridge with a fixed port, older',
      { tasksRunning: 1, container: { docker: { portMappings: [{ hostPort: 443 }] } } },
      true,
    ],
    ['bridge with any port', { tasksRunning: 1, container: { portMappings: [{ hostPort: 0 }] } }, false],
    ['one per host', { tasksRunning: 1, constraints: [['hostname', 'UNIQUE']] }, true],
    ['persistent volumes, where Marathon kills one', { ...fixedPorts, ...strategy(1, 0), residency: {} }, false],
    ['persistent volumes and room for more', { ...fixedPorts, ...strategy(1, 1), residency: {} }, true],
  ])('is foreseen or not: %s', (_, fields, foreseen) => {
    expect(foreseeDeadlock(app(fields)) !== undefined).toBe(foreseen)
    expect(decide(fields)).toMatchObject(foreseen ? { action: 'refuse', reason: 'deadlock' } : { action: 'update' })
    expect(decide(fields, { spareAgent: true })).toMatchObject({ action: 'update' })
  })

  it('is told with its remedies', () => {
    expect(foreseeDeadlock(app(fixedPorts))).toMatch(
      /one instance .*fixed ports.*"minimumHealthCapacity": 0.*"spareAgent"/,
    )
  })
})
