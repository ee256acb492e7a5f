import { mostCommands } from "../portal/batch.ts"
import * as Limits from "../portal/limits.ts"
import { commandFor, type Waiting, type WaitingRoom } from "./room.ts"

/** Why a request waits. */
export type WaitReason = Limits.WaitReason | "journal" | "order" | "broker" | "repetition" | "company" | "pause"

/** All that one decision rests on. */
export interface Scene {
  readonly room: WaitingRoom
  readonly limits: Limits.Limits
  /** Milliseconds of the monotonic clock. */
  readonly at: number
  readonly inFlight: number
  /** Seconds of operating time that calls in flight will take, by method and for `batch`. */
  readonly underWay: ReadonlyMap<string, number>
  /** Calls in flight at most. */
  readonly ceiling: number
  readonly pack: "reads" | "all" | "off"
  /** It can be written down that a write leaves. */
  readonly mayWrite: boolean
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

/** Milliseconds for which writes rest while the journal cannot be written. */
export const withoutJournal = 10_000

/** Milliseconds that a request which comes alone to an idle bridge need not wait for company. */
const unfelt = 100

/** A request that takes no more than so many times as long as the lightest is not heavy beside it. */
const alike = 4

/** Seconds that a batch may always take, and those that a command takes of which nothing is known. */
const quicklyDone = 0.5
const usualCost = 0.05

/**
 * Parts of the portal's own time limit that the commands of a batch may take together, as observed so far. A write of
 * which nothing was observed is taken for a slow one (bitrix24/b24restdocs:crm-lead-add.md shows 4.2 s), for a batch that
 * the portal ends in its middle leaves all its writes in doubt.
 */
const readShare = 1 / 2
const writeShare = 1 / 4
const slowWrite = 5

/** The method of a batch, as the portal counts operating time. */
export const batchOf = (one: Waiting) => `${one.request.credential} batch`

/** Seconds of operating time that a call will take: of its methods, and of `batch`, for nobody knows which of them pays. */
export const duesOf = (limits: Limits.Limits, members: ReadonlyArray<Waiting>): ReadonlyMap<string, number> => {
  const dues = new Map<string, number>()
  for (const one of members) {
    const cost = Limits.costOf(limits, one.method)
    for (const method of members.length > 1 ? [one.method, batchOf(one)] : [one.method])
      dues.set(method, (dues.get(method) ?? 0) + cost)
  }
  return dues
}

/** One decision over all who wait: who leaves now, alone or together, and when to decide again. */
export class Turn {
  private readonly scene: Scene
  private soonest = Infinity
  /** Seconds that further calls of a method may take in this turn. */
  private readonly left = new Map<string, number>()
  /** Methods that are closed for longer than is bearable, and when they open. */
  private readonly closed = new Map<string, number>()
  /** Who leaves. */
  private readonly gone = new Set<Waiting>()
  /** Heavy ones that were passed over for others behind them in their lane. */
  private readonly overtaken = new Set<Waiting>()

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
    if (!one.isRead && !this.scene.mayWrite) return "journal"
    return this.allowance(one.method) < Limits.costOf(limits, one.method) ? "operating time" : undefined
  }

  decide(): Decision {
    const { at, ceiling, inFlight, limits, room } = this.scene
    const free = Limits.room(limits, at, inFlight, ceiling)
    if (free.calls < 1) return { departures: [], soonest: free.until ?? Infinity }
    const patience = Limits.linger(limits, at)
    const ready = this.readyByLane(free.calls, patience)
    const departures: Array<ReadonlyArray<Waiting>> = []
    let total = [...ready.values()].reduce((sum, { length }) => sum + length, 0)
    /** Lanes in which everybody waits for company: of them nobody goes but with others. */
    const gathering = new Set<string>()
    const nextLane = () => [...ready].find(([name]) => !gathering.has(name))
    for (let lane = nextLane(); lane !== undefined && departures.length < free.calls; lane = nextLane()) {
      const [name, these] = lane
      const rest = these.filter((one) => !this.gone.has(one) && this.obstacle(one) === undefined)
      const fellows = [...ready].flatMap(([other, those]) =>
        other !== name && those[0]?.request.credential === these[0]?.request.credential
          ? those.filter((one) => !this.gone.has(one))
          : []
      )
      const alone = total === 1 && inFlight + departures.length === 0 && patience <= unfelt
      const together = patience > 0 ? [...rest, ...fellows].filter((one) => this.mayBePacked(one)).length : 0
      const first = rest.find((one) => alone || !this.waitsForCompany(one, patience, together))
      if (first === undefined) {
        gathering.add(name)
        continue
      }
      const most = patience > 0 ? mostCommands : this.fairShare(first, total, free.calls - departures.length)
      const members = this.company(first, rest, fellows, most)
      departures.push(members)
      total -= members.length
      const others = rest.filter((one) => !this.gone.has(one))
      ready.delete(name)
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

  /**
   * Those who had better rest elsewhere than crowd, and until when: their method is closed for long, or lighter ones
   * behind them went first, and they go when a call has room to spare; or nobody can write down that they leave.
   */
  get resting(): ReadonlyArray<readonly [Waiting, number | undefined]> {
    const { at, mayWrite, room } = this.scene
    if (this.closed.size === 0 && this.overtaken.size === 0 && mayWrite) return []
    return room.everyone.flatMap((one) => {
      if (this.gone.has(one) || !one.crowds() || !one.mayRest()) return []
      const reason = this.obstacle(one)
      if (reason === "journal") return [[one, at + withoutJournal]]
      const until = reason === "operating time" ? this.closed.get(one.method) : undefined
      return until !== undefined || this.overtaken.has(one) ? [[one, until]] : []
    })
  }

  /**
   * By lane, those that nothing holds but the portal's room: while the rate is scarce all of them, for there may be many
   * that have to go alone among those that fill a batch, and else as many as could leave.
   */
  private readyByLane(calls: number, patience: number) {
    const { pack, room } = this.scene
    const most = pack === "off" ? calls : patience > 0 ? Infinity : calls * mostCommands
    const ready = new Map<string, ReadonlyArray<Waiting>>()
    for (const [name, lane] of room.lanes) {
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
    const quick = Math.ceil(quicklyDone / (Limits.learnedCost(limits, first.method) || usualCost))
    return Math.min(mostCommands, Math.max(quick, Math.ceil(room.size / ceiling)))
  }

  /**
   * Who travels with the first of a lane: at most `most`, within the time that a batch may take, from its lane, and where
   * places are left, from others of its credential. First go those for whose operating time there is a share in each
   * call, so that heavy ones do not take it from light ones; in the places that are left, whoever comes next.
   */
  private company(
    first: Waiting,
    lane: ReadonlyArray<Waiting>,
    fellows: ReadonlyArray<Waiting>,
    most: number
  ): ReadonlyArray<Waiting> {
    const { limits, portalLimit } = this.scene
    const members = [first]
    this.take(first)
    let took = Limits.costOf(limits, first.method)
    let lasts = this.durationOf(first)
    let part = first.isRead ? readShare : writeShare
    let largest = Math.min(most, first.most)
    const longest = Math.min(this.allowance(batchOf(first)), Limits.longestOf(limits))
    if (most === 1 || !this.mayBePacked(first) || longest < took) return members
    const all = [...lane, ...fellows]
    const share = Limits.shareOf(limits)
    const least = Math.min(...all.map(({ method }) => Limits.costOf(limits, method)))
    const fair = Math.max(share / mostCommands, least * alike)
    // Within the share first, but for light ones, for which there is always time.
    for (const within of share === Infinity ? [share] : [share, Infinity]) {
      for (const one of all) {
        if (members.length >= largest) break
        const cost = Limits.costOf(limits, one.method)
        const ofLimit = one.isRead ? part : writeShare
        const duration = this.durationOf(one)
        if (took + cost > longest || lasts + duration > portalLimit * ofLimit) continue
        if (took + cost > within && cost > fair) continue
        if (this.gone.has(one) || one.most <= members.length || !this.mayBePacked(one)) continue
        if (this.obstacle(one) !== undefined) continue
        this.take(one)
        members.push(one)
        took += cost
        lasts += duration
        part = ofLimit
        largest = Math.min(largest, one.most)
      }
    }
    if (members.length > 1) this.spend(batchOf(first), took)
    if (members.length >= largest) this.noteOvertaken(lane, fair)
    return members
  }

  /** Whether it had better wait for others than leave: `together` could share a call now. */
  private waitsForCompany(one: Waiting, patience: number, together: number): boolean {
    if (patience === 0 || !this.mayBePacked(one)) return false
    if (together < mostCommands && one.since + patience > this.scene.at) {
      this.later(one.since + patience)
      return true
    }
    // While the rate is scarce, better wait for a batch than go alone.
    return together > 1 && this.mayBatchSoon(one)
  }

  /** Seconds that it is taken to last in a batch. */
  private durationOf({ isRead, method }: Waiting): number {
    const { limits } = this.scene
    return isRead ? Limits.costOf(limits, method) : Limits.learnedCost(limits, method) || slowWrite
  }

  /** No batch may leave with it now, for lack of operating time, and yet before long. */
  private mayBatchSoon(one: Waiting): boolean {
    const batch = batchOf(one)
    return this.allowance(batch) < Limits.costOf(this.scene.limits, one.method) && !this.closed.has(batch)
  }

  /** Notes the heavy ones, which take more than `fair` seconds, before the last of their lane who leaves. */
  private noteOvertaken(lane: ReadonlyArray<Waiting>, fair: number): void {
    const last = lane.findLastIndex((one) => this.gone.has(one))
    for (const one of lane.slice(0, last))
      if (!this.gone.has(one) && Limits.costOf(this.scene.limits, one.method) > fair) this.overtaken.add(one)
  }

  mayBePacked(one: Waiting): boolean {
    const { pack } = this.scene
    return pack !== "off" && (pack === "all" || one.isRead) && one.most > 1 && commandFor(one) !== undefined
  }

  /** Seconds. */
  private allowance(method: string): number {
    const known = this.left.get(method)
    if (known !== undefined) return known
    const { at, limits, underWay } = this.scene
    const { seconds, until } = Limits.methodTime(limits, at, method, underWay.get(method) ?? 0)
    if (until !== undefined) {
      this.later(until)
      if (until - at > bearable) this.closed.set(method, until)
    }
    this.left.set(method, seconds)
    return seconds
  }

  private spend(method: string, seconds: number): void {
    this.left.set(method, this.allowance(method) - seconds)
  }

  private take(one: Waiting): void {
    this.gone.add(one)
    this.spend(one.method, Limits.costOf(this.scene.limits, one.method))
  }

  private later(until: number | undefined): void {
    if (until !== undefined && until < this.soonest) this.soonest = until
  }
}
