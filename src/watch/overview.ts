import { Clock, Context, Effect, Layer, MutableRef, Redacted, Schedule, SubscriptionRef } from "effect"
import packaged from "../../package.json" with { type: "json" }
import { Dispatch } from "../bridge/dispatch.ts"
import type { Seen } from "../bridge/waits.ts"
import { Pause } from "../bridge/pause.ts"
import { type Done, Tally } from "../bridge/tally.ts"
import { Journal } from "../journal/journal.ts"
import * as Limits from "../portal/limits.ts"
import { Connection } from "../queue/connection.ts"
import { Intake } from "../queue/intake.ts"
import { Outlet } from "../queue/outlet.ts"
import { Parked } from "../queue/parked.ts"
import { lookAtWith } from "../queue/topology.ts"
import { Settings } from "../settings.ts"
import { causeOf } from "./cause.ts"
import { estimate, outlookOf } from "./estimate.ts"
import { Tail } from "./log.ts"
import { Progress } from "./progress.ts"
import type { Point, Refusal, Status } from "./status.ts"

/** Gathers what an operator sees. Costs nothing while nobody asks, but a look at the queues every few seconds. */
export class Overview extends Context.Service<
  Overview,
  {
    readonly status: Effect.Effect<Status>
    /** The last hour, in steps of five seconds. */
    readonly history: Effect.Effect<ReadonlyArray<typeof Point.Type>>
    /** Somebody looks: for the next seconds the queues are looked at more often. */
    readonly attend: Effect.Effect<void>
  }
>()("b24rmq/Overview") {
  static readonly layer = Layer.effect(
    Overview,
    Effect.suspend(() => open)
  )
}

/** How often the depths of the queues are asked for, while somebody looks and otherwise, and how long that is remembered. */
const often = 1_000
const seldom = 5_000
const attention = 5_000

/** For how many milliseconds a depth is good when the broker does not answer. */
const memory = 15_000

/** Methods whose budget is shown. */
const mostBudgets = 50

/** A queue's depth when it was last looked at, and how many deliveries had come from it then. */
interface Depth {
  readonly ready: number
  readonly taken: number
  /** Milliseconds of the monotonic clock. */
  readonly at: number
}

const open = Effect.gen(function* () {
  const settings = yield* Settings
  const connection = yield* Connection
  const intake = yield* Intake
  const outlet = yield* Outlet
  const dispatch = yield* Dispatch
  const parked = yield* Parked
  const journal = yield* Journal
  const pause = yield* Pause
  const tally = yield* Tally
  const tail = yield* Tail
  const watch = yield* Progress
  const since = yield* Clock.currentTimeMillis
  const depths = new Map<string, Depth>()
  let attendedAt = -Infinity
  let askedAt = -Infinity

  const now = Effect.map(Clock.monotonicTimeNanos, (nanos) => Number(nanos / 1_000_000n))

  const askDepths = Effect.gen(function* () {
    const link = SubscriptionRef.getUnsafe(connection.link)
    if (link === undefined) return depths.clear()
    const at = yield* now
    const isKnown = settings.ampqIn.every((queue) => depths.has(queue))
    if (at - askedAt < (at - attendedAt < attention || !isKnown ? often : seldom)) return
    askedAt = at
    // A broker or a bridge that is busy answers late, and the last depth is good for a while: what is taken is known.
    for (const [queue, depth] of depths) if (at - depth.at > memory) depths.delete(queue)
    yield* Effect.forEach(
      [...settings.ampqIn, settings.ampqOut],
      (queue) =>
        lookAtWith(link, queue, ({ messageCount }) =>
          Effect.map(intake.seen, ({ queues }) => {
            const taken = queues.find((one) => one.queue === queue)?.taken ?? 0
            depths.set(queue, { ready: messageCount, taken, at })
          })
        ).pipe(Effect.catch(({ code }) => Effect.sync(() => void (code === 404 && depths.delete(queue))))),
      { concurrency: "unbounded", discard: true }
    )
  })
  yield* askDepths.pipe(Effect.repeat(Schedule.spaced("500 millis")), Effect.forkScoped)

  /** How many messages lie in a queue now: those that came since it was looked at are not known, those that were taken are. */
  const readyIn = (queue: string, takenNow: number) => {
    const depth = depths.get(queue)
    return depth === undefined ? null : Math.max(0, depth.ready - Math.max(0, takenNow - depth.taken))
  }

  const journalKind = (text: string) => (text === "off" ? "off" : text.startsWith("postgres") ? "postgres" : "file")

  const status = Effect.gen(function* (): Effect.fn.Return<Status> {
    const at = yield* Clock.currentTimeMillis
    const seen = yield* dispatch.seen
    const done = yield* tally.done
    const taking = yield* intake.seen
    const held = yield* parked.held
    const history = yield* connection.history
    const trouble = yield* outlet.trouble
    const live = MutableRef.get(settings.live)
    const up = SubscriptionRef.getUnsafe(connection.link) !== undefined
    const lastChange = history.findLast(({ what }) => what === "up" || what === "lost" || what === "failed")
    const firstOfOutage = history.findLast(({ what }) => what === "lost") ?? history[0]
    const wall = (mono: number | undefined) => (mono === undefined ? null : Math.round(at + mono - seen.at))
    const rate = Limits.rateOf(seen.limits, seen.at)
    const queues = taking.queues.map(({ queue, consuming, trouble, taken }) => ({
      queue,
      consuming,
      trouble: trouble ?? null,
      taken,
      ready: readyIn(queue, taken)
    }))
    // What has come and was not begun yet is only open; what was parked and fetched again has only begun.
    const here = Math.max(taking.open, done.open)
    const left = queues.reduce((sum, { ready }) => sum + (ready ?? 0), here + held)
    const state = SubscriptionRef.getUnsafe(journal.state)
    const withoutEstimate: Status = {
      version: packaged.version,
      at,
      since,
      settings: {
        in: settings.ampqIn,
        out: settings.ampqOut,
        portal: settings.b24Rest.host,
        rate: typeof live.rate === "string" ? live.rate : `${live.rate.rate}/${live.rate.depth}`,
        concurrency: live.concurrency,
        pack: live.pack,
        logLevel: live.logLevel,
        prefetch: settings.prefetch,
        declare: settings.declare
      },
      broker: {
        up,
        since: (up ? lastChange?.at : firstOfOutage?.at) ?? null,
        reason: up ? null : (lastChange?.reason ?? null),
        blocked: SubscriptionRef.getUnsafe(connection.blocked) ?? null,
        history: history.map(({ at, what, reason, times }) => ({ at, what, reason: reason ?? null, times }))
      },
      intake: {
        wanted: SubscriptionRef.getUnsafe(intake.wanted),
        consuming: SubscriptionRef.getUnsafe(intake.consuming),
        queues,
        open: taking.open,
        oldest: wall(taking.oldest)
      },
      answers: {
        queue: settings.ampqOut,
        ready: readyIn(settings.ampqOut, 0),
        closed: SubscriptionRef.getUnsafe(outlet.closed) ?? null,
        trouble: trouble ?? null
      },
      portal: {
        health: seen.limits.health,
        since: wall(seen.health.since) ?? at,
        reason: seen.health.reason ?? null,
        accountBlocked: seen.accountBlocked
      },
      inFlight: {
        calls: seen.calls,
        requests: seen.requests,
        allowed: seen.allowed,
        takes: seen.callTakes === undefined ? null : seen.callTakes / 1_000
      },
      waiting: Array.from(seen.waiting, ([reason, waits]) => ({
        reason,
        count: waits.count,
        since: wall(waits.since) ?? at,
        until: wall(waits.until)
      })).toSorted((a, b) => b.count - a.count),
      rate: {
        perSecond: finite(rate.perSecond),
        depth: finite(rate.depth),
        level: rate.level,
        pausedUntil: seen.limits.pausedUntil > seen.at ? wall(seen.limits.pausedUntil) : null
      },
      budgets: budgetsOf(seen, wall),
      parked: { state: SubscriptionRef.getUnsafe(parked.state), count: held },
      journal: {
        kind: journalKind(Redacted.value(settings.journal)),
        state: state._tag,
        reason: "reason" in state ? state.reason : null
      },
      stalls: SubscriptionRef.getUnsafe(watch.stalls),
      paused: SubscriptionRef.getUnsafe(pause.since) ?? null,
      backlog: { left, known: up && queues.every(({ ready }) => ready !== null), seconds: null },
      pace: {
        answers: done.answers,
        outcomes: done.outcomes,
        moment: sumOf(done.moment),
        minute: sumOf(done.minute),
        hour: sumOf(done.hour)
      },
      refusals: done.refusals.map(refusalOf),
      refusedCredentials: done.refusedCredentials.map(refusalOf),
      errors: yield* tail.noted
    }
    if (!causeOf(withoutEstimate).moves || left === 0 || !withoutEstimate.backlog.known) return withoutEstimate
    const seconds = estimate(outlookOf(seen, done, left))
    return {
      ...withoutEstimate,
      backlog: { ...withoutEstimate.backlog, seconds: Number.isFinite(seconds) ? seconds : null }
    }
  })

  return Overview.of({
    status,
    history: Effect.map(tally.history, (points) => points.map(({ at, sum }) => ({ at, sum: sumOf(sum) }))),
    attend: Effect.map(now, (at) => void (attendedAt = at))
  })
})

const finite = (value: number) => (Number.isFinite(value) ? value : null)

const seconds = (ms: number | undefined) => (ms === undefined ? null : ms / 1_000)

const sumOf = ({ answers, refused, half, most }: Done["minute"]) => ({
  answers,
  refused,
  half: seconds(half),
  most: seconds(most)
})

const refusalOf = ({ at, times, code, method, credential, messageId }: Done["refusals"][number]): Refusal => ({
  at,
  times,
  code,
  method: method ?? null,
  credential: credential ?? null,
  messageId: messageId ?? null
})

/** Method and credential as the portal's budgets name them. */
const split = (name: string) => {
  const [credential = "", method = ""] = name.split(" ")
  return { credential, method }
}

const budgetsOf = ({ at, limits, methods }: Seen, wall: (mono: number | undefined) => number | null) =>
  Limits.usesOf(limits, at)
    .map(({ method, sum, allowed, cost, resetAt, until }) => ({
      credential: split(method).credential,
      method: split(method).method,
      used: sum,
      allowed: allowed ?? null,
      cost,
      resetAt: resetAt !== undefined && resetAt > at ? wall(resetAt) : null,
      closedUntil: until !== undefined && until > at ? wall(until) : null,
      waiting: methods.get(method)?.count ?? 0
    }))
    .toSorted(
      (a, b) =>
        Number(b.closedUntil !== null) - Number(a.closedUntil !== null) ||
        b.used / (b.allowed ?? Infinity) - a.used / (a.allowed ?? Infinity) ||
        b.used - a.used
    )
    .slice(0, mostBudgets)
