/**
 * Errors of the file system, as deployers report them.
 *
 * @module
 */
import { CertError, DeployError } from '../errors.js'
import { errorCode } from './atomic-file.js'

/** What a person does about it. Retrying changes nothing until then. */
const permanent: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file or directory; create the directory',
  ENOTDIR: 'a part of the path is not a directory',
  EISDIR: 'it is a directory',
  EACCES: 'this process may not; check owner and mode of the directory',
  EPERM: 'this process may not; changing owners needs the right to',
  EROFS: 'the file system is read-only',
  ELOOP: 'symbolic links lead in a circle',
  ENAMETOOLONG: 'the name is too long',
}

/** What an error of the file system says to a person, and whether it may pass. `undefined` for any other error. */
export function fileFailure(error: unknown): { readonly why: string; readonly passing: boolean } | undefined {
  const code = errorCode(error)
  if (code === undefined || CertError.isInstance(error) || !(error instanceof Error)) return undefined
  const reason = permanent[code]
  return { why: `${reason ?? error.message} (${code})`, passing: reason === undefined }
}

/** Turns an error of the system into a {@link DeployError}; others, and abort reasons, pass through. */
export function deployFailure(deployer: string, action: string, error: unknown, signal?: AbortSignal): unknown {
  if (signal?.aborted === true && error === signal.reason) return error
  const failure = fileFailure(error)
  if (failure === undefined) return error
  return new DeployError({
    code: failure.passing ? 'ERR_DEPLOY_UNAVAILABLE' : 'ERR_DEPLOY_REJECTED',
    message: `${deployer}: cannot ${action}: ${failure.why}`,
    deployer,
    cause: error,
  })
}

/** Waits for a result and turns its errors by {@link deployFailure}. */
export async function deployStep<Result>(
  deployer: string,
  action: string,
  run: () => Promise<Result>,
  signal?: AbortSignal,
): Promise<Result> {
  try {
    return await run()
  } catch (error) {
    throw deployFailure(deployer, action, error, signal)
  }
}
