/**
 * A logger that remembers, and that notices secrets.
 *
 * @module
 */
import { inspect, type InspectOptions } from 'node:util'
import type { LogFields, Logger } from '../core/logger.js'

/** One remembered message. */
export interface LogEntry {
  readonly level: keyof Logger
  readonly message: string
  readonly fields: LogFields
}

/** A {@link Logger} for tests. */
export interface RecordingLogger extends Logger {
  readonly entries: readonly LogEntry[]
  /** Everything that was logged, as a reader of the log would see it. */
  text(): string
}

/** Nothing is cut short: a secret in the 101st entry is a secret. */
const unlimited: InspectOptions = { depth: 20, maxArrayLength: null, maxStringLength: null }

/** Makes a {@link RecordingLogger}. */
export function recordingLogger(): RecordingLogger {
  const entries: LogEntry[] = []
  const record =
    (level: keyof Logger) =>
    (message: string, fields: LogFields = {}): void => {
      entries.push({ level, message, fields })
    }
  return {
    entries,
    text: () => entries.map((entry) => inspect(entry, unlimited)).join('\n'),
    debug: record('debug'),
    info: record('info'),
    warn: record('warn'),
    error: record('error'),
  }
}

/**
 * Throws when `value`, printed in any of the usual ways, shows a private key or one of the given secrets.
 *
 * @param value - a log, an error, an event, a result
 */
export function assertNoSecrets(value: unknown, secrets: readonly string[] = []): void {
  const shown = [
    typeof value === 'string' ? value : '',
    inspect(value, { ...unlimited, showHidden: true }),
    safeJson(value),
    value instanceof Error ? value.stack : '',
  ].join('\n')
  const pattern = /-----BEGIN [A-Z ]*PRIVATE KEY-----/.exec(shown)
  if (pattern !== null) throw new Error(`a private key is shown: ${pattern[0]}`)
  const index = secrets.findIndex((secret) => spellings(secret).some((spelling) => shown.includes(spelling)))
  if (index !== -1) throw new Error(`secret number ${String(index + 1)} is shown`)
}

/** How a secret may look once printed: as it is, escaped, line by line, and as the octets of a buffer. */
function spellings(secret: string): readonly string[] {
  const escaped = JSON.stringify(secret).slice(1, -1)
  // `inspect` breaks texts at their line ends; a line that is short may be anything.
  const lines = secret.split('\n').filter((line) => line.length >= 16)
  const octets = secret.length >= 8 ? [[...Buffer.from(secret)].join(',')] : []
  return [secret, escaped, ...lines, ...octets].filter((spelling) => spelling !== '')
}

function safeJson(value: unknown): string | undefined {
  try {
    return JSON.stringify(value)
  } catch {
    return undefined
  }
}
