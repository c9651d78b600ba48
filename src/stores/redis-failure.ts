/**
 * What Redis, or the way to it, says when it does not do what is asked; and what a person does about it.
 *
 * @module
 */

/** By the first word of the reply. */
const reasons: Readonly<Record<string, string>> = {
  READONLY: 'this server is a read-only replica; let the client connect to the primary, it follows a fail-over then',
  LOADING: 'the server is starting and still loads its data; wait',
  MASTERDOWN: 'this replica has lost its primary and serves no stale data; let the client connect to the primary',
  OOM: 'the server has used up its maxmemory; free memory or raise the limit, nothing was written',
  MISCONF: 'the server cannot write to its disk and takes no writes until it can; look at its log and its disk',
  NOREPLICAS: 'too few replicas are connected (min-replicas-to-write), nothing was written; look at the replicas',
  NOAUTH: 'the server wants a password; give the client one',
  WRONGPASS: 'the server refuses the user name or password of the client',
  NOPERM:
    'the user of the client may not do this; it needs +@read +@write +@scripting +info +wait on its keys and channel',
  WRONGTYPE: 'a key of this prefix holds something that is not evercert’s; choose another "prefix"',
  MOVED: 'the server is part of a cluster; give the store a cluster client',
  CLUSTERDOWN: 'the cluster does not serve this slot; look at its state (redis-cli cluster info)',
  TRYAGAIN: 'the slot is being moved in the cluster; wait',
  BUSY: 'a script keeps the server busy; SCRIPT KILL ends it',
}

/** Continues "cannot write certificates/www: ". */
export function redisFailure({ message, code }: Error & { readonly code?: string | undefined }): string {
  // An error inside a script comes with a prefix of its own in old versions, and with the plain code in new ones.
  const word = /^(?:ERR Error running script [^:]*: )?-?([A-Z]+)\b/.exec(message)?.[1] ?? ''
  const reason = reasons[word]
  if (reason !== undefined) return `${reason} (${word})`
  if (/max number of clients/i.test(message)) return 'the server has too many connections; raise its maxclients'
  // The server repeats the command in this message.
  if (/^ERR unknown command/i.test(message))
    return 'the server does not know a command that is needed (EVAL, HMGET, ZRANGEBYLEX)'
  return `the connection to the server failed: ${message}${code === undefined ? '' : ` (${code})`}`
}
