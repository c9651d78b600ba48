/**
 * A client that follows redirects whatever certificate it meets, as `curl -kL` and the CAs' validators do.
 */
import { once } from 'node:events'
import { request as httpRequest, type IncomingHttpHeaders, type IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { text } from 'node:stream/consumers'

export interface Page {
  readonly url: string
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: string
}

export interface BrowseOptions {
  /** Where every name leads to. @defaultValue '127.0.0.1' */
  readonly address?: string | undefined
}

/** The page at the URL and those that it redirects to; the last one is what the client ends up with. */
export async function browse(url: string, { address = '127.0.0.1' }: BrowseOptions = {}): Promise<Page[]> {
  const pages: Page[] = []
  for (let next: string | undefined = url; next !== undefined;) {
    if (pages.length === 10) throw new Error(`${url}: more than 10 redirects`)
    const page = await visit(new URL(next), address)
    pages.push(page)
    const { location } = page.headers
    next = location === undefined ? undefined : new URL(location, next).href
  }
  return pages
}

async function visit(url: URL, address: string): Promise<Page> {
  const isSecure = url.protocol === 'https:'
  const request = (isSecure ? httpsRequest : httpRequest)({
    host: address,
    port: url.port === '' ? (isSecure ? 443 : 80) : url.port,
    path: url.pathname + url.search,
    headers: { host: url.host },
    agent: false,
    ...(isSecure ? { servername: url.hostname, rejectUnauthorized: false } : {}),
  })
  request.end()
  const [response] = (await once(request, 'response')) as [IncomingMessage]
  return { url: url.href, status: response.statusCode ?? 0, headers: response.headers, body: await text(response) }
}
