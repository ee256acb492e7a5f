import { mostCommands } from "../portal/batch.ts"
import * as Limits from "../portal/limits.ts"
import { commandFor, type Waiting, type WaitingRoom } from "./room.ts"

/** Why a request waits. */
export type WaitReason = Limits.WaitReason | "order" | "broker" | "repetition" | "company"

/** All that one decision rests on. */
export interface Scene {
  readonly room: WaitingRoom
  readonly limits: Limits.Limits
  /** Milliseconds of the monotonic clock. */
  readonly at: number
  readonly inFlight: number
  /** Calls in flight of each method, those inside batches included. */
  readonly underWay: ReadonlyMap<string, number>
  /** Calls in flight at most. */
  readonly ceiling: number
  readonly pack: "reads" | "all" | "off"
  /** The portal's own time limit in seconds. */
  readonly portalLimit: number
}

export interface Decision {
  /** Who leaves, those of one call together. */
  readonly departures: ReadonlyArray<ReadonlyArray<Waiting>>
  /** When time alone will have changed something; Infinity if only an event can. */
  readonly soonest: number
}

/** Milliseconds for which a closed method is waited for where others could be. */
const bearable = 2_000

/** Milliseconds that a request which comes alone to an idle bridge need not wait for company. */
const unfelt = 100

/** Seconds that a batch may always take, and those that a command takes of which nothing is known. */
const quicklyDone = 0.5
const usualCost = 0.05

/** Parts of the portal's own time limit that the commands of a batch may take together, as observed so far. */
const readShare = 1 / 2
const writeShare = 1 / 4

/** The method of a batch, as the portal counts operating time. */
export const batchOf = (one: Waiting) => `${one.request.credential} batch`

/** One decision over all who wait: who leaves now, alone or together, and when to decide again. */
export class Turn {
  private readonly scene: Scene
  private soonest = Infinity
  /** How many more calls of a method may go in this turn. */
  private readonly left = new Map<string, number>()
  /** Methods that are closed for longer than is bearable, and when they open. */
  private readonly closed = new Map<string, number>()

  constructor(scene: Scene) {
    this.scene = scene
  }

  /** Why a request cannot go now, or undefined if nothing but the portal's room holds it. */
  obstacle(one: Waiting): WaitReason | undefined {
    const { at, limits, room } = this.scene
    if (one.undecided !== undefined) return "portal unavailable"
    if (at < one.notBefore) {
      this.later(one.notBefore)
      return "repetition"
    }
    if (!room.isFirst(one)) return "order"
    if (!one.isRead && !Limits.steady(limits)) return "portal unavailable"
    return this.allowance(one.method) < 1 ? "operating time" : undefined
  }

  decide(): Decision {
    const { at, ceiling, inFlight, limits, room } = this.scene
    const free = Limits.room(limits, at, inFlight, ceiling)
    if (free.calls < 1) return { departures: [], soonest: free.until ?? Infinity }
    const ready = this.readyByLane(free.calls)
    const departures: Array<ReadonlyArray<Waiting>> = []
    let total = [...ready.values()].reduce((sum, { length }) => sum + length, 0)
    const patience = Limits.linger(limits, at)
    while (departures.length < free.calls && ready.size > 0) {
      const [name, these] = ready.entries().next().value ?? ["", []]
      ready.delete(name)
      const rest = these.filter((one) => this.obstacle(one) === undefined)
      const [first] = rest
      if (first === undefined) continue
      const alone = total === 1 && inFlight === 0 && patience <= unfelt
      if (!alone && rest.length < mostCommands && first.since + patience > at && this.mayBePacked(first)) {
        this.later(first.since + patience)
        continue
      }
      const most = patience > 0 ? mostCommands : this.fairShare(first, total, free.calls - departures.length)
      const members = this.company(first, rest, most)
      departures.push(members)
      total -= members.length
      const gone = new Set(members)
      const others = rest.filter((one) => !gone.has(one))
      if (others.length > 0) ready.set(name, others)
      room.serveLast(name)
    }
    // Others may be left, who go with the next call that ends, or with the next that the rate lets go.
    if (departures.length === free.calls) {
      const after = departures.reduce((state) => Limits.left(state, at), limits)
      this.later(Limits.room(after, at, inFlight + departures.length, ceiling).until)
    }
    return { departures, soonest: this.soonest }
  }

  /** Those for whose method it was decided that it is closed for too long, with the time when it opens. */
  get tooLong(): ReadonlyArray<readonly [Waiting, number]> {
    if (this.closed.size === 0) return []
    return this.scene.room.everyone.flatMap((one) => {
      const until = this.closed.get(one.method)
      if (until === undefined || !one.crowds() || !one.mayRest()) return []
      return this.obstacle(one) === "operating time" ? [[one, until]] : []
    })
  }

  /** The first of each lane that nothing holds but the portal's room: no more than could leave now. */
  private readyByLane(calls: number) {
    const most = calls * (this.scene.pack === "off" ? 1 : mostCommands)
    const ready = new Map<string, ReadonlyArray<Waiting>>()
    for (const [name, lane] of this.scene.room.lanes) {
      const these: Array<Waiting> = []
      for (const one of lane) {
        if (these.length >= most) break
        if (this.obstacle(one) === undefined) these.push(one)
      }
      if (these.length > 0) ready.set(name, these)
    }
    return ready
  }

  /**
   * How many travel together where no rate is scarce. All calls that can be under way share those who wait, so that the last
   * ones end together; less than is quickly done is not worth a call of its own, for a limit may not be known yet.
   */
  private fairShare(first: Waiting, ready: number, free: number): number {
    if (ready <= free) return 1
    const { ceiling, limits, room } = this.scene
    const quick = Math.ceil(quicklyDone / (Limits.costOf(limits, first.method) || usualCost))
    return Math.min(mostCommands, Math.max(quick, Math.ceil(room.size / ceiling)))
  }

  /** Who travels with the first of the ready: at most `most`, within the time that a batch may take. */
  private company(first: Waiting, ready: ReadonlyArray<Waiting>, most: number): ReadonlyArray<Waiting> {
    const { at, limits, portalLimit } = this.scene
    const members = [first]
    this.take(first)
    const mayBatch = most > 1 && this.mayBePacked(first) && Limits.methodRoom(limits, at, batchOf(first), 0).calls >= 1
    if (!mayBatch) return members
    let took = Limits.costOf(limits, first.method)
    let share = first.isRead ? readShare : writeShare
    let largest = Math.min(most, first.most)
    for (const one of ready) {
      if (members.length >= largest) break
      const cost = took + Limits.costOf(limits, one.method)
      const part = one.isRead ? share : writeShare
      if (one === first || cost > portalLimit * part || one.most <= members.length || !this.mayBePacked(one)) continue
      if (this.obstacle(one) !== undefined) continue
      this.take(one)
      members.push(one)
      took = cost
      share = part
      largest = Math.min(largest, one.most)
    }
    return members
  }

  private mayBePacked(one: Waiting): boolean {
    const { pack } = this.scene
    return pack !== "off" && (pack === "all" || one.isRead) && one.most > 1 && commandFor(one) !== undefined
  }

  private allowance(method: string): number {
    const known = this.left.get(method)
    if (known !== undefined) return known
    const { at, limits, underWay } = this.scene
    const free = Limits.methodRoom(limits, at, method, underWay.get(method) ?? 0)
    if (free.calls < 1 && free.until !== undefined) {
      this.later(free.until)
      if (free.until - at > bearable) this.closed.set(method, free.until)
    }
    this.left.set(method, free.calls)
    return free.calls
  }

  private take(one: Waiting): void {
    this.left.set(one.method, this.allowance(one.method) - 1)
  }

  private later(until: number | undefined): void {
    if (until !== undefined && until < this.soonest) this.soonest = until
  }
}
