import { commandOf } from "../portal/batch.ts"
import type { FinalOutcome, Outcome } from "../portal/outcome.ts"
import type { Request } from "../message/request.ts"
import type { Effect } from "effect"
import { Lines, type Place } from "./lines.ts"

/** How a request left the waiting room. */
export type Reply =
  | {
      readonly _tag: "Sent"
      readonly outcome: FinalOutcome
      readonly attempts: number
      readonly packed: boolean
      /** When it left for the last time, in milliseconds since 1970. */
      readonly sentAt: number
      /** When that call ended, in milliseconds since 1970: the portal cannot have begun with it later. */
      readonly endedAt: number
    }
  | { readonly _tag: "NotSent"; readonly reason: "its delivery was lost" | "the bridge stops" | "overtaken" }
  /** It became too old, and is certainly not executed by then: it was not sent, or in vain. */
  | { readonly _tag: "Expired"; readonly attempts: number }
  /**
   * It was not sent and had better rest elsewhere: until this time of the monotonic clock, or for a while, behind one that
   * rests or until a call has room to spare.
   */
  | { readonly _tag: "Closed"; readonly until: number | undefined }

/** Who waits for a call, and what must be known of it to decide. */
export interface Asker {
  readonly request: Request
  readonly isRead: boolean
  /** The queue that it came from: queues are served in turn, and in each its credentials. */
  readonly queue: string
  /** Its place among requests that are executed one after another. */
  readonly place: Place | undefined
  /** There is somewhere else where it can rest. */
  readonly mayRest: () => boolean
  /** Its room here is needed for others. */
  readonly crowds: () => boolean
  /** Until when it may leave, in milliseconds since 1970; for ever if undefined. */
  readonly deadline: number | undefined
  /** The largest batch that it may travel in. */
  readonly most: number
  /** A request whose delivery is lost and that was not sent is dropped: the broker brings it again. */
  readonly isLost: () => boolean
}

/** The next wait of the reading schedule in milliseconds, or undefined at its end. */
export type ReadPause = Effect.Effect<number | undefined>

/** One who waits, or is under way. */
export interface Waiting extends Asker {
  /** Queue and credential: those who are served in turn. */
  readonly lane: string
  /** Method with its credential, as the portal counts operating time. */
  readonly method: string
  /** When it came, in milliseconds of the monotonic clock. */
  readonly since: number
  readonly leave: (reply: Reply) => void
  attempts: number
  sentAt: number
  notBefore: number
  /** Its last outcome, while the probe decides whether that counts as an attempt. */
  undecided: Extract<Outcome, { _tag: "Unknown" }> | undefined
  pause: ReadPause | undefined
  /** The largest batch that it may travel in: less after one was lost. */
  most: number
  /** Its command in a batch, null if it cannot travel in one; made when it is first needed. */
  command: string | null | undefined
}

/** The command of a request in a batch, or undefined if it would not survive that unchanged. */
export const commandFor = (one: Waiting): string | undefined => {
  one.command ??= commandOf(one.request.method, one.request.body) ?? null
  return one.command ?? undefined
}

/** Who waits and in what order, and nothing of why. */
export class WaitingRoom {
  /** By queue and credential; those who were served last stand last. */
  readonly lanes = new Map<string, Set<Waiting>>()
  /** Who names the same entity: only the first of them may go. */
  readonly lines: Lines
  private closing = false
  private swept = true
  /** Nobody who waits becomes too old before this; milliseconds since 1970. */
  private soonest = Infinity

  /** `wake`: it may be somebody's turn. */
  constructor(wake: () => void) {
    this.lines = new Lines(() => {
      this.swept = false
      wake()
    })
  }

  /** Waits, or waits again. */
  enter(one: Waiting): void {
    if (this.closing || one.isLost() || this.mustRest(one)) this.swept = false
    this.soonest = Math.min(this.soonest, one.deadline ?? Infinity)
    const lane = this.lanes.get(one.lane)
    if (lane === undefined) this.lanes.set(one.lane, new Set([one]))
    else lane.add(one)
  }

  /** Departs, or is gone for good. */
  exit(one: Waiting): void {
    const lane = this.lanes.get(one.lane)
    lane?.delete(one)
    if (lane?.size === 0) this.lanes.delete(one.lane)
  }

  leave(one: Waiting, reply: Reply): void {
    this.exit(one)
    one.leave(reply)
  }

  isFirst({ place }: Waiting): boolean {
    return place === undefined || this.lines.isFirst(place)
  }

  private mustRest({ place, mayRest }: Waiting): boolean {
    return place !== undefined && this.lines.mustRest(place) && mayRest()
  }

  serveLast(name: string): void {
    const lane = this.lanes.get(name)
    if (lane === undefined) return
    this.lanes.delete(name)
    this.lanes.set(name, lane)
  }

  /** How many wait. */
  get size(): number {
    let size = 0
    for (const lane of this.lanes.values()) size += lane.size
    return size
  }

  get everyone(): ReadonlyArray<Waiting> {
    return Array.from(this.lanes.values(), (lane) => Array.from(lane)).flat()
  }

  /** From now on nobody may wait. */
  close(): void {
    this.closing = true
    this.swept = false
  }

  get isClosing(): boolean {
    return this.closing
  }

  /** Deliveries were lost: the next sweep looks for them. */
  look(): void {
    this.swept = false
  }

  /** Sends away those who need not or must not wait any more. */
  sweep(): void {
    if (this.swept) return
    this.swept = true
    for (const lane of this.lanes.values()) {
      for (const one of lane) {
        if (one.isLost()) this.leave(one, { _tag: "NotSent", reason: "its delivery was lost" })
        else if (this.closing) this.leave(one, { _tag: "NotSent", reason: "the bridge stops" })
        else if (this.mustRest(one)) this.leave(one, { _tag: "Closed", until: undefined })
      }
    }
  }

  /** Somebody who waits may be too old; milliseconds since 1970. */
  mayExpire(now: number): boolean {
    return now >= this.soonest
  }

  /** Sends away those who are too old. */
  expire(now: number): void {
    if (!this.mayExpire(now)) return
    this.soonest = Infinity
    for (const lane of this.lanes.values()) {
      for (const one of lane) {
        const { deadline = Infinity, attempts } = one
        if (deadline <= now) this.leave(one, { _tag: "Expired", attempts })
        else this.soonest = Math.min(this.soonest, deadline)
      }
    }
  }
}
