/**
 * What a server says about an error, made fit for a log.
 *
 * An error of Marathon may repeat what it was sent, and what it was sent is the whole environment of an app, private key
 * included. So nothing of a body is quoted but the texts in which Marathon explains itself, short, printable, and cleared
 * of everything we know to be secret and everything that looks like it.
 *
 * @module
 */
import { isRecord } from './marathon-app.js'

const longestText = 300
/** Letters and digits without a break: base64 and tokens are, ids and paths of Marathon are not that long. */
const opaque = /[A-Za-z0-9+/=_.-]{24,}/g
/** Ids and paths of Marathon: lower case, and no part that could be hexadecimal digits of a secret. */
const harmless = /^(?!.*[0-9a-f]{13})[a-z0-9/_.-]{1,100}$/

/**
 * What an error body says, or nothing.
 *
 * @param data - the body as JSON; anything else is never quoted
 * @param secrets - texts that must not be shown, such as every value of the environment
 */
export function serverMessage(data: unknown, secrets: readonly string[]): string | undefined {
  if (!isRecord(data)) return undefined
  const texts = [data['message'], ...detailTexts(data['details'])]
  const shown = texts.flatMap((text) => (typeof text === 'string' ? (harmlessText(text, secrets) ?? []) : []))
  return shown.length === 0 ? undefined : [...new Set(shown)].join('; ').slice(0, 2 * longestText)
}

/** A text of another's, cleared; `undefined` when too little would be left, or it is not to be shown at all. */
export function harmlessText(text: string, secrets: readonly string[]): string | undefined {
  // PEM anywhere: the rest is not worth the risk.
  if (text.length > 10_000 || /-----|PRIVATE KEY/i.test(text)) return undefined
  let shown = text
  for (const secret of secretSpellings(secrets)) shown = shown.replaceAll(secret, '[hidden]')
  shown = shown
    .replace(opaque, (token) => (harmless.test(token) ? token : '[hidden]'))
    .replace(/[^\x20-\x7e]+/g, ' ')
    .replace(/ {2,}/g, ' ')
    .trim()
    .slice(0, longestText)
  return shown === '' || hasPieceOfKey(shown, secrets) ? undefined : shown
}

/** Letters and digits in a row that nobody says by chance. */
const piece = 12

/** Whether a piece of a private key is left, whatever stands between its letters: escapes, blanks, `%2F`. */
function hasPieceOfKey(text: string, secrets: readonly string[]): boolean {
  const bare = (value: string): string => value.replace(/[^A-Za-z0-9]/g, '')
  const letters = bare(text)
  const keys = secrets.filter((secret) => secret.includes('PRIVATE KEY')).map(bare)
  for (let at = 0; at + piece <= letters.length; at += 1) {
    const part = letters.slice(at, at + piece)
    if (keys.some((key) => key.includes(part))) return true
  }
  return false
}

/** `details` is an array of `{ path, errors }`, or a text. */
function detailTexts(details: unknown): readonly unknown[] {
  if (!Array.isArray(details)) return [details]
  return details.slice(0, 3).flatMap((detail) => {
    if (!isRecord(detail)) return []
    const errors = Array.isArray(detail['errors']) ? (detail['errors'] as readonly unknown[]).slice(0, 3) : []
    return [detail['path'], ...errors]
  })
}

/** As they are, line by line, and as JSON writes them; the longest first, so that none hides a part of another. */
function secretSpellings(secrets: readonly string[]): readonly string[] {
  const spellings = secrets.flatMap((secret) => [
    secret,
    JSON.stringify(secret).slice(1, -1),
    ...secret.split(/\r?\n|\\n/),
    ...secret.split(/[\s,;=&:]+/),
  ])
  // Shorter ones are numbers and words that are everywhere.
  return [...new Set(spellings.filter(({ length }) => length >= 4))].sort((one, other) => other.length - one.length)
}
