import { describe, expect, it } from 'vitest'
import { boundLogger, silentLogger, type Logger } from '../../../src/core/logger.js'
import { recordingLogger } from '../../../src/testing/recording-logger.js'

const levels = ['debug', 'info', 'warn', 'error'] as const

/** A logger that does the same for every level. */
const every = (log: (...parameters: unknown[]) => unknown): Logger =>
  Object.fromEntries(levels.map((level) => [level, log])) as unknown as Logger

describe('boundLogger', () => {
  it.each(levels)('adds its fields at level %s; those of the message win', (level) => {
    const recorder = recordingLogger()
    const bound = boundLogger(boundLogger(recorder, { certificate: 'www', at: 1 }), { plugin: 'file', at: 2 })
    bound[level]('stored', { at: 3 })
    bound[level]('removed')
    expect(recorder.entries).toEqual([
      { level, message: 'stored', fields: { certificate: 'www', plugin: 'file', at: 3 } },
      { level, message: 'removed', fields: { certificate: 'www', plugin: 'file', at: 2 } },
    ])
  })

  it('calls the logger as a method: an adapter may need its `this`', () => {
    class Adapter {
      readonly lines: string[] = []
      debug(message: string): void {
        this.lines.push(message)
      }
      info = this.debug
      warn = this.debug
      error = this.debug
    }
    const adapter = new Adapter()
    boundLogger(adapter, {}).info('said')
    expect(adapter.lines).toEqual(['said'])
  })

  it.each(levels)('survives a sink that throws at level %s', (level) => {
    let thrown = 0
    const broken = every(() => {
      thrown += 1
      throw new Error('EPIPE')
    })
    expect(() => boundLogger(broken, {})[level]('said')).not.toThrow()
    expect(thrown).toBe(1)
  })

  it('survives a logger without methods, and fields that cannot be read', () => {
    expect(() => boundLogger({} as Logger, {}).warn('said')).not.toThrow()
    const fields = {
      get broken(): never {
        throw new Error('getter')
      },
    }
    expect(() => boundLogger(silentLogger, {}).warn('said', fields)).not.toThrow()
  })

  it('survives a sink that rejects later: nobody else would catch it, and the process would end', async () => {
    const unhandled: unknown[] = []
    const onUnhandled = (reason: unknown): void => {
      unhandled.push(reason)
    }
    process.on('unhandledRejection', onUnhandled)
    try {
      let called = 0
      const rejecting = every(async () => {
        called += 1
        throw new Error('ENOSPC')
      })
      for (const level of levels) boundLogger(rejecting, {})[level]('said')
      await new Promise((resolve) => setImmediate(resolve))
      await new Promise((resolve) => setImmediate(resolve))
      expect(called).toBe(4)
      expect(unhandled).toEqual([])
    } finally {
      process.off('unhandledRejection', onUnhandled)
    }
  })
})

it.each(levels)('the silent logger does nothing at level %s', (level) => {
  expect(() => {
    silentLogger[level]('said', { a: 1 })
  }).not.toThrow()
})

it('console is a logger', () => {
  const logger: Logger = console
  expect(levels.every((level) => typeof logger[level] === 'function')).toBe(true)
})
