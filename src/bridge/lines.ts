import { Effect } from "effect"

/** A place in a line: requests of one line are executed one after another. */
export interface Place {
  readonly line: string
  /** The request's identity; empty for one that was found by its ticket. */
  readonly id: string
  /** The ticket of one that was to be parked: a later one of its line has a higher one. */
  ticket: number | undefined
  /** It lies in the queue of parked requests. */
  resting: boolean
  /** It cannot be left yet: what was sent from it may still land. */
  held: boolean
}

/** Who stands where in which line. A place is taken when a request arrives, and left when its outcome is known. */
export class Lines {
  private readonly lines = new Map<string, Array<Place>>()
  /** By the identity of the request. */
  private readonly awaited = new Map<string, Place>()
  private readonly changed: () => void

  /** `changed` is told when it may be another's turn, or another's to rest. */
  constructor(changed: () => void) {
    this.changed = changed
  }

  /** The place that waits for this request, or the last one of its line. */
  join(line: string, id: string): Place {
    const waiting = this.awaited.get(id)
    this.awaited.delete(id)
    if (waiting !== undefined) return waiting
    const place = { line, id, ticket: undefined, resting: false, held: false }
    this.of(line).push(place)
    return place
  }

  /** The place of a parked request by its ticket; one that is met for the first time gets its place among the others. */
  find(line: string, ticket: number): Place {
    const places = this.of(line)
    const known = places.find((place) => place.ticket === ticket)
    if (known !== undefined) return known
    const place = { line, id: "", ticket, resting: false, held: false }
    const later = places.findIndex((other) => other.ticket === undefined || other.ticket > ticket)
    places.splice(later < 0 ? places.length : later, 0, place)
    return place
  }

  /**
   * The request of this place was lost with its channel before it was called. The broker brings it again, though not always
   * before later ones: quorum queues do not where the broker was killed. So its place waits for it.
   */
  await(place: Place): void {
    if (!this.lines.get(place.line)?.includes(place)) return
    if (place.id === "" || this.awaited.has(place.id)) this.leave(place)
    else this.awaited.set(place.id, place)
  }

  /** Waits no longer for those that have not come again: they were removed from their queue. */
  giveUp(): void {
    for (const place of this.awaited.values()) this.leave(place)
    this.awaited.clear()
  }

  rest(place: Place): void {
    place.resting = true
    this.changed()
  }

  leave(place: Place): void {
    if (place.held) return
    const others = this.of(place.line).filter((other) => other !== place)
    if (others.length === 0) this.lines.delete(place.line)
    else {
      this.lines.set(place.line, others)
      this.changed()
    }
  }

  /** Keeps a place from being left until something has ended, and leaves it then. */
  hold(place: Place, ending: Effect.Effect<unknown>): Effect.Effect<void> {
    place.held = true
    return Effect.andThen(
      ending,
      Effect.sync(() => {
        place.held = false
        this.leave(place)
      })
    )
  }

  /** Moves a place forward, to stand right before another of its line. */
  advance(place: Place, before: Place): void {
    const places = this.of(place.line)
    const from = places.indexOf(place)
    const to = places.indexOf(before)
    if (to < 0 || from <= to) return
    places.splice(from, 1)
    places.splice(to, 0, place)
    this.changed()
  }

  isFirst(place: Place): boolean {
    return this.lines.get(place.line)?.[0] === place
  }

  /** One before it rests. */
  isBehindResting(place: Place): boolean {
    for (const before of this.lines.get(place.line) ?? []) {
      if (before === place) return false
      if (before.resting) return true
    }
    return false
  }

  /** All before it rest, so it has to follow them. Not before all do, or it might get there ahead of one of them. */
  mustRest(place: Place): boolean {
    for (const before of this.lines.get(place.line) ?? []) {
      if (before === place) return !this.isFirst(place)
      if (!before.resting) return false
    }
    return false
  }

  /** All that rest. */
  get resting(): ReadonlyArray<Place> {
    return [...this.lines.values()].flat().filter(({ resting }) => resting)
  }

  private of(line: string): Array<Place> {
    const known = this.lines.get(line)
    if (known !== undefined) return known
    const places: Array<Place> = []
    this.lines.set(line, places)
    return places
  }
}
