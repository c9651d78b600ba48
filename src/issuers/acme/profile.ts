/**
 * Which CA profile to ask for. Pure. draft-ietf-acme-profiles.
 *
 * @module
 */
import { AcmeError } from '../../errors.js'

/** `prefer`: asked for where the CA offers it. `require`: without it there is no order. */
export type ProfileChoice = { readonly prefer: string } | { readonly require: string }

/**
 * The profile to ask for; `undefined` for the CA's default.
 *
 * @throws `AcmeError` with `ERR_ACME_PROFILE_UNAVAILABLE` when a required one is not offered
 */
export function chooseProfile(choice: ProfileChoice | undefined, offered: readonly string[]): string | undefined {
  if (choice === undefined) return undefined
  if ('prefer' in choice) return offered.includes(choice.prefer) ? choice.prefer : undefined
  if (offered.includes(choice.require)) return choice.require
  const names = offered.filter((name) => /^[\w.-]{1,60}$/.test(name))
  throw new AcmeError({
    code: 'ERR_ACME_PROFILE_UNAVAILABLE',
    message:
      `profile ${JSON.stringify(choice.require)} is not offered by the CA, which offers ` +
      `${names.join(', ') || 'no profiles'}; a certificate of another kind was not asked for`,
    retryable: false,
  })
}
