/**
 * Lists, page by page.
 *
 * @module
 */
import type { KubernetesObject, KubernetesObjects, ObjectPage, Step } from './kubernetes-objects.js'

/** Objects per page: some two megabytes of entries with their certificates, or of names and labels. */
const pageSizes = { whole: 500, metadata: 2_000 }

/** How often a list is begun anew before it counts as impossible. */
const maxRestarts = 10

/** Which objects, and how each page is asked for: with a limit of its own. */
export interface Listing {
  readonly objects: KubernetesObjects
  readonly selector: string
  readonly metadataOnly: boolean
  readonly attempt: <Result>(run: (step: Step) => Promise<Result>) => Promise<Result>
}

/**
 * The pages of a list: of one moment, unless it takes so long (minutes) that the server forgets that moment. Then it goes on
 * with how things are by now, and an object may come twice.
 */
export async function* listPages(listing: Listing): AsyncGenerator<ObjectPage> {
  const { objects, selector, metadataOnly, attempt } = listing
  let limit = metadataOnly ? pageSizes.metadata : pageSizes.whole
  let next: string | undefined
  let restarts = 0
  for (;;) {
    const page = await attempt(async (step) => {
      const query = { selector, limit, next, metadataOnly }
      const answer = await objects.page(query, step)
      if (answer !== 'too long' && 'expired' in answer && (restarts += 1) > maxRestarts) {
        throw step.unavailable('the list became too old again and again before its end was read')
      }
      return answer
    })
    if (page === 'too long') limit = Math.ceil(limit / 8)
    else if ('expired' in page) next = page.next === '' ? undefined : page.next
    else {
      yield page
      if (page.next === undefined) return
      next = page.next
    }
  }
}

/** The objects of all pages, each once. */
export async function* listObjects(listing: Listing): AsyncGenerator<KubernetesObject> {
  const told = new Set<string>()
  for await (const { items } of listPages(listing)) {
    for (const object of items) {
      if (told.has(object.name)) continue
      told.add(object.name)
      yield object
    }
  }
}
