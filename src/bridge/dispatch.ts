import {
  Cause,
  Clock,
  Context,
  Duration,
  Effect,
  FiberSet,
  Layer,
  MutableRef,
  Pull,
  Queue,
  Schedule,
  Stream,
  SubscriptionRef
} from "effect"
import { tell } from "../events.ts"
import type { Request } from "../message/request.ts"
import { Portal } from "../portal/client.ts"
import * as Limits from "../portal/limits.ts"
import { type Outcome, provesLife, Unknown } from "../portal/outcome.ts"
import { Outlet } from "../queue/outlet.ts"
import { probe as probeSchedule, readAgain } from "../schedules.ts"
import { Settings } from "../settings.ts"

/** How a request left the waiting room. */
export type Reply =
  | { readonly _tag: "Sent"; readonly outcome: FinalOutcome; readonly attempts: number }
  | { readonly _tag: "NotSent"; readonly reason: "its delivery was lost" | "the bridge stops" }

export type FinalOutcome = Extract<Outcome, { _tag: "Done" | "Refused" | "Unknown" }>

/** Who waits for a call, and what must be known of it to decide. */
export interface Asker {
  readonly request: Request
  readonly isRead: boolean
  /** A request whose delivery is lost and that was not sent is dropped: the broker brings it again. */
  readonly isLost: () => boolean
}

export type Health = "well" | "away"

/** The waiting room: who waits, why, and what leaves next. The only one who calls the portal. */
export class Dispatch extends Context.Service<
  Dispatch,
  {
    /** Decides who goes, until it is interrupted. To be run once, and to be joined: nothing moves without it. */
    readonly run: Effect.Effect<never>
    /** Waits for its turn, calls, and repeats what was not executed and reads whose outcome is unknown. */
    readonly ask: (asker: Asker) => Effect.Effect<Reply>
    /** Looks again at those who wait: deliveries were lost. */
    readonly look: Effect.Effect<void>
    /** Starts nothing any more; who waits is told so, what is in flight goes on. */
    readonly close: Effect.Effect<void>
    /** `away` while the portal answers neither calls nor probes. */
    readonly health: SubscriptionRef.SubscriptionRef<Health>
  }
>()("b24rmq/Dispatch") {
  static readonly layer = Layer.effect(
    Dispatch,
    Effect.suspend(() => open)
  )
}

interface Waiting extends Asker {
  /** Method and credential, as the portal counts run time. */
  readonly key: string
  readonly leave: (reply: Reply) => void
  attempts: number
  notBefore: number
  /** Its last outcome, while the probe decides whether that counts as an attempt. */
  undecided: Extract<Outcome, { _tag: "Unknown" }> | undefined
  pause: ReadPause | undefined
}

/** Stands for a call whose handling broke: whether it was executed is as unknown as can be. */
const broken: FinalOutcome = Unknown({
  reason: "a defect of the bridge",
  status: undefined,
  silent: false,
  timedOut: false
})

/** The next wait of the reading schedule in milliseconds, or undefined at its end. */
type ReadPause = Effect.Effect<number | undefined>

const readPause: Effect.Effect<ReadPause> = Effect.map(Schedule.toStep(Schedule.jittered(readAgain)), (step) =>
  Effect.gen(function* () {
    const next = yield* step(yield* Clock.currentTimeMillis, undefined).pipe(
      Effect.map(([, wait]) => Duration.toMillis(wait)),
      Pull.catchDone(() => Effect.void)
    )
    return next ?? undefined
  }).pipe(Effect.orDie)
)

const open = Effect.gen(function* () {
  const settings = yield* Settings
  const portal = yield* Portal
  const outlet = yield* Outlet
  const clock = yield* Clock.Clock
  const start = yield* FiberSet.makeRuntime<never>()
  const health = yield* SubscriptionRef.make<Health>("well")
  const wakes = yield* Queue.sliding<void>(1)
  const suspicions = yield* Queue.sliding<string>(1)

  const waiting = new Set<Waiting>()
  let inFlight = 0
  let closing = false
  const now = () => Number(clock.monotonicTimeNanosUnsafe() / 1_000_000n)
  let limits = Limits.atStart(now())
  const ceiling = () => MutableRef.get(settings.live).concurrency
  const wake = () => void Queue.offerUnsafe(wakes, undefined)

  const leave = (one: Waiting, reply: Reply) => {
    waiting.delete(one)
    one.leave(reply)
  }

  const alarmed = new Map<string, number>()
  /** The same alarm again is one event for ten minutes. */
  const alarm = (event: "credential-refused" | "account-blocked" | "method-closed", about: string, reason: string) =>
    Effect.suspend(() => {
      const key = `${event} ${about} ${reason}`
      if (now() < (alarmed.get(key) ?? -Infinity)) return Effect.void
      alarmed.set(key, now() + 600_000)
      return tell(event, { about, reason })
    })

  /** Decides once over all who wait, starts who may go, and returns when time alone will change something. */
  const turn = (): number => {
    let soonest = Infinity
    const at = now()
    const canAnswer = SubscriptionRef.getUnsafe(outlet.closed) === undefined
    for (const one of waiting) {
      if (one.isLost()) leave(one, { _tag: "NotSent", reason: "its delivery was lost" })
      else if (closing) leave(one, { _tag: "NotSent", reason: "the bridge stops" })
      else if (one.undecided !== undefined || !canAnswer) continue
      else if (at < one.notBefore) soonest = Math.min(soonest, one.notBefore)
      else {
        const permission = Limits.next(limits, at, one.key, inFlight, ceiling())
        if (permission._tag === "Go") depart(one)
        else soonest = Math.min(soonest, permission.until ?? Infinity)
      }
    }
    return soonest - at
  }

  const depart = (one: Waiting) => {
    waiting.delete(one)
    inFlight++
    one.attempts++
    start(
      Effect.flatMap(portal.call(one.request), (outcome) => arrive(one, outcome)).pipe(
        Effect.catchCause((cause) => {
          leave(one, { _tag: "Sent", outcome: broken, attempts: one.attempts })
          return tell("broken", { message_id: one.request.messageId, cause: Cause.pretty(cause) })
        })
      )
    )
  }

  const arrive = Effect.fnUntraced(function* (one: Waiting, outcome: Outcome) {
    inFlight--
    const before = limits
    limits = Limits.learn(limits, now(), one.key, outcome, ceiling())
    wake()
    switch (outcome._tag) {
      case "Done":
        return one.leave({ _tag: "Sent", outcome, attempts: one.attempts })
      case "Refused":
        one.leave({ _tag: "Sent", outcome, attempts: one.attempts })
        if (outcome.alarm === "credential") yield* alarm("credential-refused", one.request.credential, outcome.code)
        return
      case "Limited":
        waiting.add(one)
        if (limits.pausedUntil !== before.pausedUntil) {
          return yield* tell("rate-refused", { pause_ms: Math.round(limits.pausedUntil - now()) })
        }
        if (limits.closed !== before.closed) yield* alarm("method-closed", one.key, "OPERATION_TIME_LIMIT")
        return
      case "Unavailable":
        waiting.add(one)
        Queue.offerUnsafe(suspicions, outcome.reason)
        if (outcome.alarm === "account") yield* alarm("account-blocked", "", outcome.reason)
        return
      case "Unknown":
        if (outcome.silent) Queue.offerUnsafe(suspicions, outcome.reason)
        if (!one.isRead) return one.leave({ _tag: "Sent", outcome, attempts: one.attempts })
        waiting.add(one)
        if (outcome.silent) one.undecided = outcome
        else yield* count(one, outcome)
    }
  })

  /** An attempt to read failed though the portal lives: wait and try again, or give up at the end of the schedule. */
  const count = Effect.fnUntraced(function* (one: Waiting, outcome: Extract<Outcome, { _tag: "Unknown" }>) {
    one.undecided = undefined
    one.pause ??= yield* readPause
    if (outcome.timedOut) yield* one.pause
    const wait = yield* one.pause
    if (wait === undefined) leave(one, { _tag: "Sent", outcome, attempts: one.attempts })
    else one.notBefore = now() + wait
    wake()
  })

  /** Probes after each suspicion until the portal answers; only its verdict makes the portal unavailable. */
  const watch = Effect.gen(function* () {
    const reason = yield* Queue.take(suspicions)
    const awaySince = now()
    const pause = yield* Schedule.toStepWithSleep(Schedule.jittered(probeSchedule))
    while (!provesLife(yield* portal.probe)) {
      if (limits.health !== "away") yield* tell("portal-away", { reason })
      limits = Limits.probed(limits, false)
      // An outage is nobody's attempt.
      for (const one of waiting) one.undecided = undefined
      yield* SubscriptionRef.set(health, "away")
      yield* Effect.orDie(pause(undefined))
    }
    const wasAway = limits.health === "away"
    limits = Limits.probed(limits, true)
    for (const one of waiting) if (one.undecided !== undefined) yield* count(one, one.undecided)
    wake()
    if (!wasAway) return
    yield* SubscriptionRef.set(health, "well")
    yield* tell("portal-back", { seconds: Math.round((now() - awaySince) / 1_000) })
  })

  const decide = Effect.gen(function* () {
    const wait = turn()
    if (wait === Infinity) yield* Queue.take(wakes)
    else yield* Effect.timeoutOption(Queue.take(wakes), Math.max(1, wait))
  })

  const followOutlet = Stream.runForEach(SubscriptionRef.changes(outlet.closed), () => Effect.sync(wake))

  return Dispatch.of({
    run: Effect.forever(decide).pipe(
      Effect.raceFirst(Effect.forever(watch)),
      Effect.raceFirst(Effect.andThen(followOutlet, Effect.never))
    ),
    ask: (asker) =>
      Effect.callback((resume) => {
        const { method, credential } = asker.request
        const one: Waiting = {
          ...asker,
          key: `${credential} ${method.toLowerCase()}`,
          leave: (reply) => resume(Effect.succeed(reply)),
          attempts: 0,
          notBefore: 0,
          undecided: undefined,
          pause: undefined
        }
        waiting.add(one)
        wake()
        return Effect.sync(() => void waiting.delete(one))
      }),
    look: Effect.sync(wake),
    close: Effect.sync(() => {
      closing = true
      wake()
    }),
    health
  })
})
