import { mostCommands } from "../../src/portal/batch.ts"
import type { Asked, Trace, Watcher } from "./trace.ts"

interface Told {
  readonly rate: number
  readonly depth: number
}

/** Looks on, and finds those who wait though nothing holds them. Who is excused may have reasons that are not looked at. */
export class Onlooker implements Watcher {
  readonly idle: Array<string> = []
  readonly scattered: Array<string> = []
  readonly overtaking: Array<string> = []
  private readonly trace: Trace
  private readonly told: Told | undefined
  private readonly isExcused: (one: Asked) => boolean
  private readonly waiting = new Set<number>()
  private readonly since = new Map<number, number>()
  private readonly lines = new Map<string, Array<number>>()
  /** Methods of users that were answered: by then it is known how long they take. */
  private readonly known = new Set<string>()
  private level = 0
  private at = 0
  private inFlight = 0

  constructor(trace: Trace, isExcused: (one: Asked) => boolean = () => false) {
    this.trace = trace
    this.isExcused = isExcused
    this.told = typeof trace.rate === "object" ? trace.rate : undefined
  }

  comes(at: number, which: number) {
    this.passes(at)
    this.waiting.add(which)
    this.since.set(which, at)
    const line = this.lineOf(which)
    if (line !== undefined) this.lines.set(line, [...(this.lines.get(line) ?? []), which])
  }

  departs(at: number, members: ReadonlyArray<number>) {
    this.passes(at)
    for (const which of members) {
      this.waiting.delete(which)
      if (!this.isFirst(which)) this.overtaking.push(`${which} leaves at ${at}`)
    }
    this.level++
    this.inFlight++
    this.scatters(at, members)
  }

  returns(at: number, members: ReadonlyArray<number>) {
    this.passes(at)
    this.inFlight--
    // Those who are not answered wait again.
    for (const which of members) this.waiting.add(which)
  }

  answered(at: number, which: number) {
    this.passes(at)
    this.waiting.delete(which)
    this.known.add(this.methodOf(which))
    const line = this.lineOf(which)
    if (line !== undefined) this.lines.set(line, this.lines.get(line)?.filter((other) => other !== which) ?? [])
  }

  private lineOf(which: number) {
    const { line, user } = this.of(which)
    return line === undefined ? undefined : `${user} ${line}`
  }

  private methodOf(which: number) {
    const { method, user } = this.of(which)
    return `${user} ${method}`
  }

  /** A write of which it is not known how long it takes: few of them travel together. */
  private isDaring(which: number) {
    return !this.of(which).isRead && !this.known.has(this.methodOf(which))
  }

  private of(which: number): Asked {
    const one = this.trace.asked[which]
    if (one === undefined) throw new Error(`there is no request ${which}`)
    return one
  }

  private isFirst(which: number) {
    const line = this.lineOf(which)
    return line === undefined || this.lines.get(line)?.[0] === which
  }

  private mayBePacked(which: number) {
    const { pack } = this.trace
    const { isRead, plain } = this.of(which)
    return plain && (pack === "all" || (pack === "reads" && isRead))
  }

  /** It could leave now with others of this user, as far as is known here. */
  private mayShare(which: number, user: string) {
    const one = this.of(which)
    return one.user === user && this.mayBePacked(which) && !this.isExcused(one)
  }

  /** Calls for which the rate has room: a second's worth of the depth is left free, for it may fall in steps. */
  private room(at: number) {
    if (this.told === undefined) return Infinity
    const { rate, depth } = this.told
    const level = Math.max(0, this.level - ((at - this.at) * rate) / 1_000)
    return Math.floor(depth - Math.min(rate, depth / 2) - level + 1e-9)
  }

  /** How long one may wait for company: the less room is left, the longer, and no longer than the next call takes to come. */
  private patience(room: number) {
    return this.told === undefined ? 0 : (1 - room / this.told.depth) * (1_000 / this.told.rate)
  }

  /**
   * Something happens now. Until a moment ago nothing has changed since the last time but for what time brings, and that
   * lets more and more of them go: so whoever is still there and could have gone then has waited in vain.
   */
  private passes(at: number) {
    // The bridge counts whole milliseconds, and lets one pass where it waits.
    const moment = at - 2
    if (moment >= this.at) {
      const room = this.room(moment)
      if (room >= 1 && this.inFlight < this.trace.concurrency) this.finds(moment, room)
    }
    if (this.told !== undefined) this.level = Math.max(0, this.level - ((at - this.at) * this.told.rate) / 1_000)
    this.at = at
  }

  private finds(moment: number, room: number) {
    const ready = [...this.waiting].filter((which) => this.isFirst(which))
    // As long as it was when somebody has last looked, by a clock of whole milliseconds.
    const patience = this.patience(this.room(this.at - 1))
    const isAlone = ready.length === 1 && this.inFlight === 0 && patience <= 100
    for (const which of ready) {
      if (this.isExcused(this.of(which))) continue
      const since = this.since.get(which) ?? 0
      const { user } = this.of(which)
      const company = ready.filter((other) => this.mayShare(other, user)).length
      const mayGather = this.mayBePacked(which) && company < mostCommands && moment < since + patience && !isAlone
      if (!mayGather)
        this.idle.push(
          `${which} waits since ${since} at ${moment}, with room for ${room} and ${this.inFlight} in flight`
        )
    }
  }

  /** While calls are scarce none leaves with places that another could have taken. */
  private scatters(at: number, members: ReadonlyArray<number>) {
    const [first] = members
    if (first === undefined || this.told === undefined) return
    if (!this.mayBePacked(first) || members.length === mostCommands || members.some((one) => this.isDaring(one))) return
    const { user } = this.of(first)
    const lines = new Set(members.map((which) => this.lineOf(which)))
    for (const which of this.waiting) {
      const line = this.lineOf(which)
      if (this.of(which).user !== user || !this.mayBePacked(which) || !this.isFirst(which)) continue
      if (this.isDaring(which)) continue
      if (line === undefined || !lines.has(line))
        this.scattered.push(`${members.join()} leave at ${at}, and ${which} does not`)
    }
  }
}
