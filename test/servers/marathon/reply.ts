/**
 * What Marathon and Jetty answer with. Marathon's MarathonExceptionMapper.
 */

export interface Reply {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

/** Thrown by whatever refuses a request. */
export class Refusal extends Error {
  readonly reply: Reply

  constructor(reply: Reply) {
    super(`${String(reply.status)} ${reply.body}`)
    this.reply = reply
  }
}

export interface InvalidField {
  /** As in `/upgradeStrategy/minimumHealthCapacity`. */
  readonly path: string
  readonly errors: readonly string[]
}

export function json(status: number, value: unknown, headers: Readonly<Record<string, string>> = {}): Reply {
  return { status, headers: { 'content-type': 'application/json', ...headers }, body: JSON.stringify(value) }
}

/** An error page of the servlet container. */
export function htmlPage(status: number, message: string, headers: Readonly<Record<string, string>> = {}): Reply {
  const body = [
    '<html><head><meta http-equiv="Content-Type" content="text/html;charset=utf-8"/>',
    `<title>Error ${String(status)} ${message}</title></head>`,
    `<body><h2>HTTP ERROR ${String(status)}</h2><p>Reason: <pre>    ${message}</pre></p></body></html>\n`,
  ].join('\n')
  return { status, headers: { 'content-type': 'text/html;charset=utf-8', ...headers }, body }
}

export function refusal(status: number, message: string, more: object = {}): Refusal {
  return new Refusal(json(status, { message, ...more }))
}

export function unknownApp(id: string): Refusal {
  return refusal(404, `App '${id}' does not exist`)
}

export function appLocked(deploymentIds: readonly string[]): Refusal {
  const message =
    'App is locked by one or more deployments. ' +
    "Override with the option '?force=true'. " +
    "View details at '/v2/deployments/<DEPLOYMENT_ID>'."
  return refusal(409, message, { deployments: deploymentIds.map((id) => ({ id })) })
}

export function invalidObject(details: readonly InvalidField[]): Refusal {
  return refusal(422, 'Object is not valid', { details })
}

/** Fields of the wrong type: another message, the same status. */
export function invalidTypes(details: readonly InvalidField[]): Refusal {
  return refusal(422, 'Invalid JSON', { details })
}

export function parseJson(text: string): unknown {
  if (text.trim() === '') {
    const details = 'No content to map due to end-of-input\n at [Source: (byte[])[0 bytes]; line: 1, column: 0]'
    throw refusal(400, 'Please specify data in JSON format', { details })
  }
  try {
    return JSON.parse(text)
  } catch (error) {
    throw refusal(400, 'Invalid JSON', { details: (error as Error).message })
  }
}
