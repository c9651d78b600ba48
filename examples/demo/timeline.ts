/** Prints what a scheduler announces, one readable line each. */
import type { RenewalScheduler } from 'evercert'

export interface Timeline {
  /** One line, with the time by the clock of the run. */
  say(what: string, details?: string): void
  /** A heading. */
  chapter(title: string): void
}

const bold = (text: string): string => (process.stdout.isTTY ? `\u001b[1m${text}\u001b[0m` : text)

export function createTimeline(now: () => number): Timeline {
  return {
    say: (what, details = '') => {
      console.log(`  ${new Date(now()).toISOString().slice(0, 19)}Z  ${what.padEnd(10)} ${details}`)
    },
    chapter: (title) => {
      console.log(`\n${bold(title)}`)
    },
  }
}

export function follow(scheduler: RenewalScheduler, { say }: Timeline): void {
  scheduler.on('certificate-issued', ({ certificate, issuer, reason, fingerprintSha256 }) => {
    say('issued', `${certificate} by ${issuer} (${reason}), sha256 ${short(fingerprintSha256)}`)
  })
  scheduler.on('certificate-stored', ({ certificate, notAfter }) => {
    say('stored', `${certificate}, valid until ${notAfter.toISOString().slice(0, 10)}`)
  })
  scheduler.on('certificate-deployed', ({ deployer, fingerprintSha256, placeholder }) => {
    say('deployed', `${placeholder ? 'placeholder' : 'certificate'} ${short(fingerprintSha256)} to ${deployer}`)
  })
  scheduler.on('certificate-served', ({ endpoint, addresses, fingerprintSha256 }) => {
    say('served', `${short(fingerprintSha256)} at ${endpoint}, proved by handshake with ${addresses.join(', ')}`)
  })
  scheduler.on('renewal-planned', ({ certificate, at, source }) => {
    const by = source === 'renewal-info' ? "inside the CA's window" : 'by the share of life left'
    say('planned', `${certificate} will be renewed ${at.toISOString().slice(0, 16).replace('T', ' ')}Z, ${by}`)
  })
  scheduler.on('issuance-failed', ({ error, nextAttemptAt }) => {
    say('FAILED', `${messageOf(error)}; next attempt ${nextAttemptAt.toISOString().slice(11, 19)}Z`)
  })
  scheduler.on('deployment-failed', ({ error, nextAttemptAt }) => {
    say('FAILED', `${messageOf(error)}; next attempt ${nextAttemptAt.toISOString().slice(11, 19)}Z`)
  })
  scheduler.on('verification-failed', ({ error, nextAttemptAt }) => {
    say('FAILED', `${messageOf(error)}; next look ${nextAttemptAt.toISOString().slice(11, 19)}Z`)
  })
  scheduler.on('pass-failed', ({ error }) => {
    say('FAILED', messageOf(error))
  })
}

export function short(fingerprint: string): string {
  return `${fingerprint.slice(0, 12)}…`
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
