import { Effect } from "effect"

/** A place in a line: requests of one line are executed one after another. */
export interface Place {
  readonly line: string
  /** The request's identity; empty for one that was found by its ticket. */
  readonly id: string
  /** The ticket of one that was to be parked: a later one of its line has a higher one. */
  readonly ticket: number | undefined
  /** It lies in the queue of parked requests. */
  readonly resting: boolean
}

/** A place and its neighbours: a line is as long as what is parked of it, and nothing may take longer for that. */
interface Link extends Place {
  ticket: number | undefined
  resting: boolean
  /** It cannot be left yet: what was sent from it may still land. */
  held: boolean
  left: boolean
  before: Link | undefined
  after: Link | undefined
}

interface Line {
  first: Link | undefined
  last: Link | undefined
  /** The first that does not rest. */
  awake: Link | undefined
  readonly byTicket: Map<number, Link>
}

/** This one or the next after it that does not rest. */
const awakeFrom = (place: Link | undefined): Link | undefined => {
  let one = place
  while (one?.resting) one = one.after
  return one
}

/** Who stands where in which line. A place is taken when a request arrives, and left when its outcome is known. */
export class Lines {
  private readonly lines = new Map<string, Line>()
  /** By the identity of the request. */
  private readonly awaited = new Map<string, Link>()
  private readonly changed: () => void

  /** `changed` is told when it may be another's turn, or another's to rest. */
  constructor(changed: () => void) {
    this.changed = changed
  }

  /** The place that waits for this request, or the last one of its line. */
  join(line: string, id: string): Place {
    const waiting = this.awaited.get(id)
    this.awaited.delete(id)
    return waiting ?? this.insert({ line, id, ticket: undefined }, undefined)
  }

  /** The place of a parked request by its ticket; one that is met for the first time gets its place among the others. */
  find(line: string, ticket: number): Place {
    const { byTicket, last } = this.of(line)
    const known = byTicket.get(ticket)
    if (known !== undefined) return known
    let later: Link | undefined
    for (let one = last; one !== undefined && (one.ticket === undefined || one.ticket > ticket); one = one.before)
      later = one
    const place = this.insert({ line, id: "", ticket }, later)
    byTicket.set(ticket, place)
    return place
  }

  /** It is to be parked under this ticket. */
  number(place: Place, ticket: number): void {
    const link = place as Link
    if (link.left) return
    link.ticket = ticket
    this.of(place.line).byTicket.set(ticket, link)
  }

  /**
   * The request of this place was lost with its channel before it was called. The broker brings it again, though not always
   * before later ones: quorum queues do not where the broker was killed. So its place waits for it.
   */
  await(place: Place): void {
    const link = place as Link
    if (link.left) return
    if (place.id === "" || this.awaited.has(place.id)) this.leave(place)
    else this.awaited.set(place.id, link)
  }

  /** Waits no longer for those that have not come again: they were removed from their queue. */
  giveUp(): void {
    for (const place of this.awaited.values()) this.leave(place)
    this.awaited.clear()
  }

  rest(place: Place): void {
    const link = place as Link
    if (link.resting || link.left) return
    link.resting = true
    const line = this.of(place.line)
    if (line.awake === link) line.awake = awakeFrom(link.after)
    this.changed()
  }

  /** It does not lie in the queue of parked requests any more: it was fetched. */
  wake(place: Place): void {
    const link = place as Link
    if (!link.resting || link.left) return
    link.resting = false
    const line = this.of(place.line)
    line.awake = awakeFrom(line.first)
  }

  leave(place: Place): void {
    const link = place as Link
    if (link.held || link.left) return
    link.left = true
    const line = this.remove(link)
    if (link.ticket !== undefined) line.byTicket.delete(link.ticket)
    if (line.first === undefined) this.lines.delete(place.line)
    else this.changed()
  }

  /** Keeps a place from being left until something has ended, and leaves it then. */
  hold(place: Place, ending: Effect.Effect<unknown>): Effect.Effect<void> {
    const link = place as Link
    link.held = true
    return Effect.andThen(
      ending,
      Effect.sync(() => {
        link.held = false
        this.leave(place)
      })
    )
  }

  /** Moves a place forward, to stand right before another of its line. */
  advance(place: Place, before: Place): void {
    const next = before as Link
    let one = next.left ? undefined : next.after
    while (one !== undefined && one !== place) one = one.after
    if (one === undefined) return
    this.remove(one)
    this.put(one, next)
    this.changed()
  }

  isFirst(place: Place): boolean {
    return this.lines.get(place.line)?.first === place
  }

  /** One before it rests. */
  isBehindResting(place: Place): boolean {
    let one = this.lines.get(place.line)?.first
    while (one !== undefined && one !== place && !one.resting) one = one.after
    return one !== undefined && one !== place
  }

  /** All before it rest, so it has to follow them. Not before all do, or it might get there ahead of one of them. */
  mustRest(place: Place): boolean {
    const line = this.lines.get(place.line)
    return line !== undefined && line.awake === place && line.first !== place
  }

  /** All that rest. */
  get resting(): ReadonlyArray<Place> {
    const places: Array<Place> = []
    for (const { first } of this.lines.values())
      for (let one = first; one !== undefined; one = one.after) if (one.resting) places.push(one)
    return places
  }

  private of(name: string): Line {
    const known = this.lines.get(name)
    if (known !== undefined) return known
    const line = { first: undefined, last: undefined, awake: undefined, byTicket: new Map() }
    this.lines.set(name, line)
    return line
  }

  private insert(place: Pick<Place, "line" | "id" | "ticket">, before: Link | undefined): Link {
    const link = { ...place, resting: false, held: false, left: false, before: undefined, after: undefined }
    this.put(link, before)
    return link
  }

  /** Links one in before another, or as the last. */
  private put(one: Link, next: Link | undefined): void {
    const line = this.of(one.line)
    one.after = next
    one.before = next === undefined ? line.last : next.before
    if (one.before === undefined) line.first = one
    else one.before.after = one
    if (next === undefined) line.last = one
    else next.before = one
    // At the end it is the first awake only if nobody else is.
    line.awake = next === undefined ? (line.awake ?? awakeFrom(one)) : awakeFrom(line.first)
  }

  private remove(one: Link): Line {
    const line = this.of(one.line)
    if (line.awake === one) line.awake = awakeFrom(one.after)
    if (one.before === undefined) line.first = one.after
    else one.before.after = one.after
    if (one.after === undefined) line.last = one.before
    else one.after.before = one.before
    return line
  }
}
