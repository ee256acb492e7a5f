import { mostCommands } from "../portal/batch.ts"
import * as Limits from "../portal/limits.ts"
import type { Waiting } from "./room.ts"
import { type Scene, Turn, type WaitReason } from "./turn.ts"

/**
 * Who waits, why, and until when, for those who look on. Pure; looks at everybody who waits: for a few times a second.
 */

export type Health = "well" | "away"

/** The waiting room and the portal's limits at one moment. Times are milliseconds of the monotonic clock. */
export interface Seen {
  readonly at: number
  readonly limits: Limits.Limits
  /** Calls that are under way, and the requests in them. */
  readonly calls: number
  readonly requests: number
  /** Calls that may be under way. */
  readonly allowed: number
  readonly waiting: ReadonlyMap<WaitReason, Waits>
  /** Seconds of operating time that those who wait will take, by method, and how many there are. */
  readonly methods: ReadonlyMap<string, { readonly count: number; readonly seconds: number }>
  /** Requests in one call, when the rate is scarce. */
  readonly perCall: number
  /** Milliseconds that a call takes; undefined before one was answered. */
  readonly callTakes: number | undefined
  readonly health: { readonly state: Health; readonly since: number; readonly reason: string | undefined }
  /** The portal refuses the whole account, not only this bridge's calls. */
  readonly accountBlocked: boolean
}

export interface Waits {
  readonly count: number
  /** Since when the oldest of them waits, for whatever reason. */
  readonly since: number
  /** When the first of them may go, as far as is known. */
  readonly until: number | undefined
}

export interface Whereabouts {
  readonly at: number
  readonly waiting: ReadonlyArray<{
    readonly method: string
    readonly credential: string
    readonly reason: WaitReason
    readonly since: number
    readonly until: number | undefined
  }>
}

/** Calls that left while the rate was scarce, and the requests in them. */
export interface Batched {
  readonly calls: number
  readonly requests: number
}

/** What the waiting room lets expect counts like so many calls. */
const expected = 5
/** Those who are looked at for that. */
const sample = 200

/** Tells why one waits, and until when as far as is known. `all`: why nobody leaves. */
const reasonsIn = (scene: Scene, turn: Turn, all: WaitReason | undefined) => {
  const { at, ceiling, inFlight, limits, underWay } = scene
  const free = Limits.room(limits, at, inFlight, ceiling)
  const untilOf = (one: Waiting, reason: WaitReason) => {
    if (reason === "repetition") return one.notBefore
    if (reason === "operating time")
      return Limits.methodTime(limits, at, one.method, underWay.get(one.method) ?? 0).until
    return reason === free.reason ? free.until : undefined
  }
  return (one: Waiting) => {
    const reason: WaitReason = all ?? turn.obstacle(one) ?? (free.calls < 1 ? free.reason : "company")
    return { reason, until: untilOf(one, reason) }
  }
}

/** Why they wait, and when the first for the same reason may go. */
export const waitsIn = (scene: Scene, turn: Turn, all: WaitReason | undefined): ReadonlyMap<WaitReason, Waits> => {
  const why = reasonsIn(scene, turn, all)
  const waiting = new Map<WaitReason, Waits>()
  for (const one of scene.room.everyone) {
    const { reason, until } = why(one)
    const before = waiting.get(reason)
    waiting.set(reason, {
      count: (before?.count ?? 0) + 1,
      since: Math.min(before?.since ?? Infinity, one.since),
      until: until === undefined ? before?.until : Math.min(before?.until ?? Infinity, until)
    })
  }
  return waiting
}

/** Seconds of operating time that those who wait will take, by method, and how many there are. */
export const methodsIn = ({ limits, room }: Scene): Seen["methods"] => {
  const methods = new Map<string, { count: number; seconds: number }>()
  for (const { method } of room.everyone) {
    const { count, seconds } = methods.get(method) ?? { count: 0, seconds: 0 }
    methods.set(method, { count: count + 1, seconds: seconds + Limits.costOf(limits, method) })
  }
  return methods
}

/** Requests in one call, when the rate is scarce: as it was, and as the waiting room lets expect. */
export const perCallIn = ({ room }: Scene, turn: Turn, batched: Batched): number => {
  const some = room.everyone.slice(0, sample)
  const together = some.filter((one) => turn.mayBePacked(one)).length
  const calls = some.length - together + together / mostCommands
  const prior = some.length === 0 ? 1 : some.length / calls
  return (batched.requests + prior * expected) / (batched.calls + expected)
}

/** Those of a message_id who wait, and why. */
export const whereaboutsIn = (scene: Scene, all: WaitReason | undefined, messageId: string): Whereabouts => {
  const why = reasonsIn(scene, new Turn(scene), all)
  const waiting = scene.room.everyone
    .filter(({ request }) => request.messageId === messageId)
    .map((one) => {
      const { reason, until } = why(one)
      const { method, credential } = one.request
      return { method, credential, reason, since: one.since, until }
    })
  return { at: scene.at, waiting }
}
