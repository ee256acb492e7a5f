import { Clock, Context, Data, Duration, Effect, FiberHandle, Latch, Layer } from "effect"
import { tell } from "../events.ts"
import type { Answer } from "../message/answer.ts"
import { errorIn, refusalOfWebhook } from "../portal/outcome.ts"
import { type Entry, type Filter, fits, isOurs, replayedCopy, replayOf, type Why } from "../queue/entry.ts"
import type { Delivery } from "../queue/held.ts"
import { type Looked, mostLent, type Taken, type Verdict } from "../queue/look.ts"
import { nothingKept, RejectedQueue } from "../queue/rejected.ts"
import { Settings } from "../settings.ts"
import * as Pace from "./pace.ts"

/** What a replay has come to. */
export interface Replayed {
  /** `stopped`: it can be resumed. `finished`: nothing is left that it means. */
  readonly state: "running" | "stopped" | "finished"
  /** Why it stopped. */
  readonly reason: string | undefined
  readonly filter: Filter
  /** Requests a second that it moves at most. */
  readonly rate: number
  /** Requests that are in their queue again, or were. */
  readonly moved: number
  /** Of these, those that were answered, */
  readonly answered: number
  /** and of these, those that were rejected or refused again, and are kept again. */
  readonly again: number
}

/** A replay cannot be begun, or there is none to go on with. */
export class CannotReplay extends Data.TaggedError("CannotReplay")<{ readonly reason: string }> {
  override get message() {
    return this.reason
  }
}

/**
 * Keeps requests that an operator may mend, and moves them back into their queues when he asks for it: slowly at first,
 * twice as fast with each second's worth that none comes back of, and no further once many do. A request is published and
 * confirmed there before it is removed here. If the link or the process is lost in between it is moved twice, and the
 * journal knows it by its identity.
 */
export class Replay extends Context.Service<
  Replay,
  {
    /** After the answer to a delivery was confirmed and before it is acknowledged: keeps it, if an operator may mend it. */
    readonly settled: (delivery: Delivery, answer: Answer) => Effect.Effect<void>
    /** Begins with `rate` requests a second. */
    readonly start: (filter: Filter, rate: number) => Effect.Effect<void, CannotReplay>
    readonly resume: Effect.Effect<void, CannotReplay>
    /** Moves no more; what is moved already takes its way. */
    readonly stop: Effect.Effect<void>
    /** Of the last replay of this process; undefined if there was none. */
    readonly last: Effect.Effect<Replayed | undefined>
  }
>()("b24rmq/Replay") {
  static readonly layer = Layer.effect(
    Replay,
    Effect.suspend(() => open)
  )
}

/** One replay, from its start to its end. */
interface Run {
  readonly id: string
  readonly filter: Filter
  readonly first: number
  state: Replayed["state"]
  reason: string | undefined
  pace: Pace.Pace
  /** Moved, confirmed, and not answered yet. */
  readonly open: Set<string>
  /** Moved and answered. One that is still kept was moved without a confirm that reached us. */
  readonly answered: Set<string>
  again: number
  /** How many of those that are kept it looks at: more, where what it means lies behind others. */
  depth: number
}

/** A replay of which nothing was answered for so long goes on when an operator says so. */
const silence = "10 minutes"

const open = Effect.gen(function* () {
  const { ampqIn } = yield* Settings
  const rejected = yield* RejectedQueue
  const fiber = yield* FiberHandle.make<void>()
  /** Opened whenever something was answered, or the replay is to stop. */
  const news = Latch.makeUnsafe(false)
  let run: Run | undefined

  const stopFor = (run: Run, reason: string) => {
    if (run.state !== "running") return
    run.state = "stopped"
    run.reason = reason
    news.openUnsafe()
  }

  const learn = (name: string, cameBack: boolean) => {
    const [id, entry = ""] = name.split(".")
    if (run === undefined || id !== run.id || run.answered.has(entry)) return
    run.open.delete(entry)
    run.answered.add(entry)
    if (cameBack) run.again++
    run.pace = Pace.learn(run.pace, cameBack)
    news.openUnsafe()
  }

  const mayGoOn = (run: Run) => {
    if (Pace.mustStop(run.pace)) stopFor(run, Pace.whyStopped(run.pace))
    return run.state === "running"
  }

  const settled = Effect.fnUntraced(function* (delivery: Delivery, why: Why | undefined, name: string | undefined) {
    if (why !== undefined) yield* rejected.keep(delivery, why)
    // A lost one comes again, and is counted then.
    if (name !== undefined && !delivery.isLost()) learn(name, why !== undefined)
  })

  /** Waits until all that was moved is answered, or `goesOn` says no. */
  const outcomes = Effect.fnUntraced(function* (run: Run, goesOn: () => boolean) {
    while (goesOn() && run.open.size > 0) {
      news.closeUnsafe()
      yield* Effect.timeoutOrElse(news.await, {
        duration: silence,
        orElse: () =>
          Effect.sync(() =>
            stopFor(run, `${run.open.size} of those that were moved were not answered within ${silence}`)
          )
      })
    }
  })

  /** Which of those that are kept go next, `count` at most. */
  const choose = (run: Run, count: number) => {
    let chosen = 0
    return (entry: Entry): Verdict => {
      if (run.answered.has(entry.id) && isOurs(entry)) return "drop"
      const isBack = entry.replay?.startsWith(`${run.id}.`)
      if (chosen === count || isBack || !fits(run.filter, entry)) return "leave"
      chosen++
      return "take"
    }
  }

  const move = Effect.fnUntraced(function* (run: Run, { entry, move, raw }: Taken) {
    if (!mayGoOn(run)) return
    const to = ampqIn.includes(entry.queue) ? entry.queue : ampqIn[0]
    yield* move(to, replayedCopy(raw, `${run.id}.${entry.id}`, yield* Clock.currentTimeMillis)).pipe(
      Effect.tap(() =>
        Effect.sync(() => {
          if (!run.answered.has(entry.id)) run.open.add(entry.id)
        })
      ),
      Effect.catch(({ reason }) => Effect.sync(() => stopFor(run, `${to} did not take a request: ${reason}`)))
    )
  })

  /** Moves as many as go in a second. */
  const step = (run: Run) => {
    const { rate } = run.pace
    const each = ({ beyond, taken }: Looked) =>
      Effect.forEach(taken.entries(), ([n, one]) => Effect.delay(move(run, one), (n * 1_000) / rate), {
        concurrency: "unbounded",
        discard: true
      }).pipe(Effect.as({ beyond, taken: taken.length }))
    return rejected.look(Math.max(rate, run.depth), choose(run, rate), each)
  }

  const go = Effect.fnUntraced(function* (run: Run) {
    // What comes of those that were moved before says nothing of those that are moved from now on.
    yield* outcomes(run, () => run.state === "running")
    run.pace = Pace.begin(run.first)
    while (run.state === "running") {
      const { again, pace } = run
      const [took, { beyond, taken }] = yield* Effect.timed(
        Effect.tap(step(run), () => outcomes(run, () => mayGoOn(run)))
      )
      if (!mayGoOn(run)) return
      const isDeepest = beyond === 0 || run.depth >= mostLent
      if (taken === 0 && isDeepest) {
        run.state = "finished"
        return yield* tell("replay-finished", countsOf(run))
      }
      if (taken < pace.rate && !isDeepest) run.depth = Math.min(mostLent, Math.max(run.depth, pace.rate) * 4)
      run.pace = Pace.next(run.pace, run.again - again)
      if (taken > 0) yield* Effect.sleep(Math.max(0, 1_000 - Duration.toMillis(took)))
    }
  })

  const begin = Effect.fnUntraced(function* (run: Run) {
    run.state = "running"
    run.reason = undefined
    const whole = go(run).pipe(
      Effect.catch(({ reason }) => Effect.sync(() => stopFor(run, reason))),
      Effect.andThen(
        Effect.suspend(() =>
          run.state === "stopped" ? tell("replay-stopped", { reason: run.reason, ...countsOf(run) }) : Effect.void
        )
      )
    )
    yield* tell("replay-started", { queue: rejected.queue, ...countsOf(run) })
    yield* FiberHandle.run(fiber, whole)
  })

  return Replay.of({
    settled: (delivery, answer) => {
      if (rejected.queue === undefined) return Effect.void
      const why = whyKept(answer)
      const name = replayOf(delivery.incoming)
      return why === undefined && name === undefined ? Effect.void : settled(delivery, why, name)
    },
    start: (filter, rate) =>
      Effect.gen(function* () {
        if (rejected.queue === undefined) return yield* new CannotReplay({ reason: nothingKept })
        if (run?.state === "running") return yield* new CannotReplay({ reason: "a replay is under way; stop it first" })
        const id = (yield* Clock.currentTimeMillis).toString(36)
        run = {
          id,
          filter,
          first: rate,
          state: "running",
          reason: undefined,
          pace: Pace.begin(rate),
          open: new Set(),
          answered: new Set(),
          again: 0,
          depth: 0
        }
        yield* begin(run)
      }),
    resume: Effect.suspend(() => {
      if (run?.state === "running") return Effect.void
      if (run?.state === "stopped") return begin(run)
      return Effect.fail(
        new CannotReplay({ reason: "no replay has stopped since the bridge was started; begin a new one" })
      )
    }),
    stop: Effect.sync(() => {
      if (run !== undefined) stopFor(run, "stopped by command")
    }),
    last: Effect.sync(
      () =>
        run && {
          state: run.state,
          reason: run.reason,
          filter: run.filter,
          rate: run.pace.rate,
          ...countsOf(run)
        }
    )
  })
})

const countsOf = ({ again, answered, open }: Run) => ({
  moved: answered.size + open.size,
  answered: answered.size,
  again
})

/** Why a request is kept after this answer; undefined if it is not. */
const whyKept = ({ body, outcome, status }: Answer): Why | undefined => {
  if (outcome === "rejected") return errorIn(body)
  return outcome === "refused" && status !== undefined ? refusalOfWebhook(status, body) : undefined
}
