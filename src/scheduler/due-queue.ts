/**
 * Names ordered by when they are due: a binary heap, so that cost follows what is due and not what is managed.
 *
 * @module
 */

interface Entry {
  readonly name: string
  readonly at: number
}

/** A set of names, each with one instant (epoch milliseconds). */
export class DueQueue {
  readonly #heap: Entry[] = []
  /** The valid instant of each name; heap entries that disagree are stale and dropped when they surface. */
  readonly #instants = new Map<string, number>()

  /** Sets or moves a name. */
  set(name: string, at: number): void {
    if (this.#instants.get(name) === at) return
    this.#instants.set(name, at)
    // Names that are moved without ever being taken would fill the heap with stale entries.
    if (this.#heap.length > 2 * this.#instants.size + 64) {
      this.#heap.length = 0
      for (const [each, instant] of this.#instants) this.#push({ name: each, at: instant })
    } else this.#push({ name, at })
  }

  delete(name: string): void {
    this.#instants.delete(name)
  }

  get(name: string): number | undefined {
    return this.#instants.get(name)
  }

  /** When the first one is due, `Infinity` when there is none. */
  nextAt(): number {
    return this.#first()?.at ?? Infinity
  }

  /** Takes the first name that is due, or `undefined`. */
  takeDue(now: number): string | undefined {
    const first = this.#first()
    if (first === undefined || first.at > now) return undefined
    this.#dropFirst()
    this.#instants.delete(first.name)
    return first.name
  }

  #push(entry: Entry): void {
    this.#heap.push(entry)
    this.#rise(this.#heap.length - 1)
  }

  #first(): Entry | undefined {
    for (;;) {
      const [first] = this.#heap
      if (first === undefined || this.#instants.get(first.name) === first.at) return first
      this.#dropFirst()
    }
  }

  #dropFirst(): void {
    const last = this.#heap.pop()
    if (last === undefined || this.#heap.length === 0) return
    this.#heap[0] = last
    this.#sink(0)
  }

  #rise(index: number): void {
    for (let at = index; at > 0;) {
      const parent = (at - 1) >> 1
      if (!this.#swapIfEarlier(at, parent)) return
      at = parent
    }
  }

  #sink(index: number): void {
    for (let at = index; ;) {
      const left = 2 * at + 1
      const right = left + 1
      const child = this.#isEarlier(right, left) ? right : left
      if (!this.#swapIfEarlier(child, at)) return
      at = child
    }
  }

  #isEarlier(one: number, other: number): boolean {
    const first = this.#heap[one]
    const second = this.#heap[other]
    return first !== undefined && (second === undefined || first.at < second.at)
  }

  #swapIfEarlier(one: number, other: number): boolean {
    const first = this.#heap[one]
    const second = this.#heap[other]
    if (first === undefined || second === undefined || first.at >= second.at) return false
    this.#heap[one] = second
    this.#heap[other] = first
    return true
  }
}
