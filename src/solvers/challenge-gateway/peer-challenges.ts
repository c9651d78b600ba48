/**
 * The open challenges of another gateway.
 *
 * A peer is asked what it has open, not for a token: then a thousand guessed tokens cost what one costs, a dead peer holds
 * up one question instead of a thousand, and nothing a client sends travels on.
 *
 * @module
 */
import type { Clock } from '../../core/clock.js'
import type { Logger } from '../../core/logger.js'
import { coalesce } from '../../internal/coalesce.js'
import type { HttpClient } from '../../internal/http.js'
import type { OpenChallenge } from '../challenge-source.js'
import { isChallengeToken, isKeyAuthorization } from '../http-challenge.js'

/** Where a gateway tells its peers what it has open. */
export const openChallengesPath = '/open-challenges'
/** About five thousand challenges. */
export const largestListBytes = 1_048_576
/** At most forty questions a second, however many ask... */
const shortestPaceMs = 25
/** ...and fewer when lists are long: about ten megabytes a second are read. */
const bytesPerMs = 10_000
/** A peer that did not answer last time is given this long: it may be back. */
const suspectMs = 500

/** Parts of {@link peerChallenges}. */
export interface PeerOptions {
  /** `http://192.0.2.12:31080` */
  readonly origin: string
  readonly http: HttpClient
  readonly clock: Clock
  readonly logger: Logger
  readonly timeoutMs: number
  /** Ends the questions that are under way when the gateway is closed. */
  readonly closed: AbortSignal
}

/** One peer. */
export interface PeerChallenges {
  /** The key authorization it has open for a host and token; `undefined` also when it is away. Never rejects. */
  find(host: string, token: string): Promise<string | undefined>
}

type OpenList = ReadonlyMap<string, string>

const nothing: OpenList = new Map()

/** Makes a {@link PeerChallenges}. */
export function peerChallenges({ origin, http, clock, logger, timeoutMs, closed }: PeerOptions): PeerChallenges {
  let failing = false
  let askedAt = Number.NEGATIVE_INFINITY
  let paceMs = shortestPaceMs
  /** The list that is on its way, for as long as anybody is to wait for it. */
  let underWay: Promise<OpenList> | undefined

  const ask = coalesce(() => {
    const question = askPeer().finally(() => {
      underWay = undefined
    })
    underWay = failing ? withoutMuchPatience(question) : question
    return question
  })

  async function askPeer(): Promise<OpenList> {
    const wait = Math.min(paceMs, askedAt + paceMs - clock.now())
    if (wait > 0) await clock.sleep(wait)
    askedAt = clock.now()
    try {
      const response = await http.request({
        url: origin + openChallengesPath,
        method: 'GET',
        // The question is everybody's: it does not end because one of them has gone.
        signal: closed,
        timeoutMs,
        maxBodyBytes: largestListBytes,
      })
      if (response.status !== 200) throw new Error(`status ${String(response.status)}`)
      paceMs = Math.max(shortestPaceMs, response.body.length / bytesPerMs)
      const open = parseOpenChallenges(response.text())
      if (failing) logger.info('peer answers again', { peer: origin })
      failing = false
      return open
    } catch (error) {
      if (!failing && !closed.aborted) logger.warn('peer does not answer', { peer: origin, error })
      failing = true
      return nothing
    }
  }

  /** The question goes on without those who gave up: a peer that is merely slow is to be heard again. */
  async function withoutMuchPatience(question: Promise<OpenList>): Promise<OpenList> {
    const answered = new AbortController()
    const gaveUp = clock.sleep(suspectMs, { signal: answered.signal }).then(
      () => nothing,
      () => nothing,
    )
    try {
      return await Promise.race([question, gaveUp])
    } finally {
      answered.abort()
    }
  }

  return {
    async find(host, token) {
      const pick = (open: OpenList): string | undefined => open.get(`${host}/${token}`) ?? open.get(`/${token}`)
      const earlier = underWay
      const later = ask()
      if (earlier === undefined) return pick(await (underWay ?? later))
      // What a list names that was asked for before is no less open, and a slow peer is not waited for twice.
      const found = pick(await earlier)
      return found !== undefined || failing ? found : pick(await later)
    },
  }
}

/** Writes what {@link parseOpenChallenges} reads; what would not fit is left out. */
export function formatOpenChallenges(challenges: readonly OpenChallenge[]): string {
  let room = largestListBytes - 100
  const fitting = challenges.filter(({ host = '', token, keyAuthorization }) => {
    room -= host.length + token.length + keyAuthorization.length + 60
    return room > 0
  })
  return JSON.stringify({ challenges: fitting })
}

/** By `host/token`, `/token` where any host will do. Entries that are none are passed over. */
export function parseOpenChallenges(text: string): ReadonlyMap<string, string> {
  const document: unknown = JSON.parse(text)
  const list: unknown = (document as { readonly challenges?: unknown } | null)?.challenges
  if (!Array.isArray(list)) throw new Error('not a list of challenges')
  return new Map(
    list.flatMap((entry: unknown): [string, string][] => {
      const { host = '', token, keyAuthorization } = (entry ?? {}) as Readonly<Record<string, unknown>>
      const sound =
        typeof host === 'string' &&
        /^[a-z0-9._:-]{0,253}$/.test(host) &&
        typeof token === 'string' &&
        isChallengeToken(token) &&
        typeof keyAuthorization === 'string' &&
        isKeyAuthorization(keyAuthorization, token)
      return sound ? [[`${host}/${token}`, keyAuthorization]] : []
    }),
  )
}
