/**
 * Structured logging seam. `console` satisfies {@link Logger}; an adapter for pino or winston is three lines.
 *
 * @module
 */

/** Data beside a log message. Never holds keys, tokens or credentials. */
export type LogFields = Readonly<Record<string, unknown>>

/** What evercert logs to. Messages are constant lower-case strings; the data is in the fields. */
export interface Logger {
  debug(message: string, fields?: LogFields): void
  info(message: string, fields?: LogFields): void
  warn(message: string, fields?: LogFields): void
  error(message: string, fields?: LogFields): void
}

/** Drops everything: the default. */
export const silentLogger: Logger = {
  debug() {},
  info() {},
  warn() {},
  error() {},
}

/** A logger as it may be written: an `async` function is assignable to one that returns nothing. */
type Sink = Readonly<Record<keyof Logger, (message: string, fields: LogFields) => unknown>>

/**
 * A logger that adds `fields` to every message, and that cannot throw into its caller.
 *
 * @internal
 */
export function boundLogger(logger: Logger, fields: LogFields): Logger {
  const bind =
    (level: keyof Logger) =>
    (message: string, more?: LogFields): void => {
      // A broken log sink (closed pipe, full disk) must not break a renewal, nor kill the process by a rejection.
      try {
        const outcome = (logger as Sink)[level](message, { ...fields, ...more })
        if (outcome instanceof Promise) outcome.catch(() => undefined)
      } catch {
        // There is nowhere left to report it.
      }
    }
  return { debug: bind('debug'), info: bind('info'), warn: bind('warn'), error: bind('error') }
}
