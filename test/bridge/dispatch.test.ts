import { expect } from "bun:test"
import { Deferred, Effect, Exit, Fiber, Layer, MutableRef, Queue, Redacted, SubscriptionRef } from "effect"
import { TestClock } from "effect/testing"
import { type Asker, Dispatch, type Reply } from "../../src/bridge/dispatch.ts"
import { Portal } from "../../src/portal/client.ts"
import { Done, Limited, type Outcome, Refused, Unavailable, Unknown } from "../../src/portal/outcome.ts"
import { Outlet } from "../../src/queue/outlet.ts"
import { Settings } from "../../src/settings.ts"
import { effect } from "../effect.ts"

const done = Done({ status: 200, body: Buffer.from("{}") })
const refused = Refused({ status: 400, body: Buffer.from("{}"), code: "", alarm: undefined })
const silent = Unknown({ reason: "HTTP 502 without JSON", status: 502, silent: true, timedOut: false })
const timedOut = Unknown({ reason: "no answer in time", status: undefined, silent: true, timedOut: true })
const broken = Unknown({ reason: "INTERNAL_SERVER_ERROR", status: 500, silent: false, timedOut: false })
const away = Unavailable({ reason: "ECONNREFUSED", alarm: undefined })

/** A portal whose every call is answered by the test, and whose probes say what the test wants. */
interface Stage {
  readonly dispatch: Dispatch["Service"]
  /** Waits for the next call, to end it by hand. */
  readonly next: Effect.Effect<{ readonly method: string; readonly end: (outcome: Outcome) => Effect.Effect<unknown> }>
  readonly inFlight: () => number
  readonly calls: () => number
  readonly probes: () => number
  alive: boolean
  readonly outlet: SubscriptionRef.SubscriptionRef<string | undefined>
  readonly live: MutableRef.MutableRef<{ readonly concurrency: number }>
}

const onStage = <E>(play: (stage: Stage) => Effect.Effect<unknown, E>) =>
  Effect.gen(function* () {
    const calls = yield* Queue.unbounded<{
      readonly method: string
      readonly end: (outcome: Outcome) => Effect.Effect<unknown>
    }>()
    const outlet = yield* SubscriptionRef.make<string | undefined>(undefined)
    const live = MutableRef.make({ concurrency: 4 })
    let inFlight = 0
    let sent = 0
    let probes = 0
    const stage = { alive: true }
    const portal = Layer.succeed(Portal, {
      call: ({ method }) =>
        Effect.gen(function* () {
          inFlight++
          sent++
          const ended = yield* Deferred.make<Outcome>()
          yield* Queue.offer(calls, { method, end: (outcome) => Deferred.succeed(ended, outcome) })
          const outcome = yield* Deferred.await(ended)
          inFlight--
          return outcome
        }),
      probe: Effect.sync(() => {
        probes++
        return stage.alive ? refused : silent
      })
    })
    const played = Effect.gen(function* () {
      const dispatch = yield* Dispatch
      yield* Effect.forkScoped(dispatch.run)
      yield* play(
        Object.assign(stage, {
          dispatch,
          next: Queue.take(calls),
          inFlight: () => inFlight,
          calls: () => sent,
          probes: () => probes,
          outlet,
          live
        })
      )
    })
    yield* played.pipe(
      Effect.provide(
        Dispatch.layer.pipe(
          Layer.provide(portal),
          Layer.provide(Layer.mock(Outlet, { closed: outlet })),
          Layer.provide(Layer.succeed(Settings, { live } as Settings["Service"]))
        )
      )
    )
  })

const asker = (over: Partial<Asker> & { readonly method?: string } = {}): Asker => ({
  request: {
    id: "id",
    messageId: "m",
    correlationId: undefined,
    method: over.method ?? "crm.deal.list",
    user: "1",
    token: Redacted.make("secret"),
    credential: "1#abc",
    body: Buffer.from("{}")
  },
  isRead: over.isRead ?? true,
  isLost: over.isLost ?? (() => false)
})

const write = () => asker({ method: "crm.deal.add", isRead: false })

const attemptsOf = (reply: Reply) => (reply._tag === "Sent" ? reply.attempts : reply.reason)
const tagOf = (reply: Reply) => (reply._tag === "Sent" ? reply.outcome._tag : reply.reason)

effect("no more calls are in flight than configured, and each one that ends makes room", () =>
  onStage((stage) =>
    Effect.gen(function* () {
      const fibers = yield* Effect.forEach([1, 2, 3, 4, 5, 6], () => Effect.forkChild(stage.dispatch.ask(asker())))
      const first = yield* stage.next
      yield* stage.next
      yield* stage.next
      yield* stage.next
      yield* TestClock.adjust("10 seconds")
      expect(stage.inFlight()).toBe(4)
      yield* first.end(done)
      yield* stage.next
      expect(stage.inFlight()).toBe(4)
      yield* Effect.forEach(fibers, Fiber.interrupt)
    })
  )
)

effect("concurrency that is changed while running applies at once to what leaves next", () =>
  onStage((stage) =>
    Effect.gen(function* () {
      MutableRef.set(stage.live, { concurrency: 1 })
      yield* Effect.forEach([1, 2, 3], () => Effect.forkChild(stage.dispatch.ask(asker())))
      const first = yield* stage.next
      MutableRef.set(stage.live, { concurrency: 2 })
      yield* first.end(done)
      yield* stage.next
      yield* stage.next
      expect(stage.inFlight()).toBe(2)
    })
  )
)

effect("a read whose outcome is unknown is repeated, six attempts in all, then answered unknown", () =>
  onStage((stage) =>
    Effect.gen(function* () {
      const asked = yield* Effect.forkChild(stage.dispatch.ask(asker()))
      for (let attempt = 1; attempt <= 6; attempt++) {
        const call = yield* stage.next
        yield* call.end(broken)
        yield* TestClock.adjust("20 seconds")
      }
      const reply = yield* Fiber.join(asked)
      expect([tagOf(reply), attemptsOf(reply)]).toEqual(["Unknown", 6])
      expect(stage.probes()).toBe(0)
    })
  )
)

effect("an attempt that ran into the time limit counts double", () =>
  onStage((stage) =>
    Effect.gen(function* () {
      const asked = yield* Effect.forkChild(stage.dispatch.ask(asker()))
      for (let attempt = 1; attempt <= 3; attempt++) {
        const call = yield* stage.next
        yield* call.end(timedOut)
        yield* TestClock.adjust("20 seconds")
      }
      const reply = yield* Fiber.join(asked)
      expect([tagOf(reply), attemptsOf(reply)]).toEqual(["Unknown", 3])
    })
  )
)

effect("a write whose outcome is unknown is never sent again", () =>
  onStage((stage) =>
    Effect.gen(function* () {
      const asked = yield* Effect.forkChild(stage.dispatch.ask(write()))
      const call = yield* stage.next
      yield* call.end(silent)
      expect(tagOf(yield* Fiber.join(asked))).toBe("Unknown")
      yield* TestClock.adjust("1 hour")
      expect(stage.calls()).toBe(1)
    })
  )
)

effect("what was not executed is repeated until it is, writes too", () =>
  onStage((stage) =>
    Effect.gen(function* () {
      const asked = yield* Effect.forkChild(stage.dispatch.ask(write()))
      for (const outcome of [away, Limited({ scope: "portal" }), Limited({ scope: "method" }), away, done]) {
        const call = yield* stage.next
        yield* call.end(outcome)
        yield* TestClock.adjust("2 minutes")
      }
      expect(tagOf(yield* Fiber.join(asked))).toBe("Done")
    })
  )
)

effect("nothing leaves while the probe fails, nobody is answered because of it, and an outage is no attempt", () =>
  onStage((stage) =>
    Effect.gen(function* () {
      stage.alive = false
      const asked = yield* Effect.forkChild(stage.dispatch.ask(asker()))
      const call = yield* stage.next
      yield* call.end(silent)
      yield* TestClock.adjust("1 hour")
      expect(stage.calls()).toBe(1)
      expect(stage.probes()).toBeGreaterThan(100)
      expect(yield* SubscriptionRef.get(stage.dispatch.health)).toBe("away")
      stage.alive = true
      yield* TestClock.adjust("20 seconds")
      expect(yield* SubscriptionRef.get(stage.dispatch.health)).toBe("well")
      // All six attempts are still there.
      for (let attempt = 1; attempt <= 6; attempt++) {
        const again = yield* stage.next
        yield* again.end(broken)
        yield* TestClock.adjust("20 seconds")
      }
      expect(attemptsOf(yield* Fiber.join(asked))).toBe(7)
    })
  )
)

effect("a closed method does not hold another one", () =>
  onStage((stage) =>
    Effect.gen(function* () {
      yield* Effect.forkChild(stage.dispatch.ask(asker({ method: "crm.deal.list" })))
      const heavy = yield* stage.next
      yield* heavy.end(Limited({ scope: "method" }))
      const other = yield* Effect.forkChild(stage.dispatch.ask(asker({ method: "user.get" })))
      const light = yield* stage.next
      expect(light.method).toBe("user.get")
      yield* light.end(done)
      yield* Fiber.join(other)
      yield* TestClock.adjust("59 seconds")
      expect(stage.calls()).toBe(2)
      yield* TestClock.adjust("1 seconds")
      expect((yield* stage.next).method).toBe("crm.deal.list")
    })
  )
)

effect("no call starts while answers cannot go out", () =>
  onStage((stage) =>
    Effect.gen(function* () {
      yield* SubscriptionRef.set(stage.outlet, "the broker takes no messages")
      yield* Effect.forkChild(stage.dispatch.ask(asker()))
      yield* TestClock.adjust("1 minute")
      expect(stage.calls()).toBe(0)
      yield* SubscriptionRef.set(stage.outlet, undefined)
      yield* stage.next
    })
  )
)

effect("who waits is dropped when its delivery is lost, and what has departed goes on", () =>
  onStage((stage) =>
    Effect.gen(function* () {
      MutableRef.set(stage.live, { concurrency: 1 })
      let lost = false
      const departed = yield* Effect.forkChild(stage.dispatch.ask(asker({ isLost: () => lost })))
      const call = yield* stage.next
      const waiting = yield* Effect.forkChild(stage.dispatch.ask(asker({ isLost: () => lost })))
      yield* TestClock.adjust("1 seconds")
      lost = true
      yield* stage.dispatch.look
      expect(yield* Fiber.join(waiting)).toEqual({ _tag: "NotSent", reason: "its delivery was lost" })
      yield* call.end(done)
      expect(tagOf(yield* Fiber.join(departed))).toBe("Done")
    })
  )
)

effect("closing sends back who waits and lets what is in flight end", () =>
  onStage((stage) =>
    Effect.gen(function* () {
      MutableRef.set(stage.live, { concurrency: 1 })
      const departed = yield* Effect.forkChild(stage.dispatch.ask(asker()))
      const call = yield* stage.next
      const waiting = yield* Effect.forkChild(stage.dispatch.ask(asker()))
      yield* TestClock.adjust("1 seconds")
      yield* stage.dispatch.close
      expect(tagOf(yield* Fiber.join(waiting))).toBe("the bridge stops")
      yield* call.end(refused)
      expect(tagOf(yield* Fiber.join(departed))).toBe("Refused")
      expect(tagOf(yield* stage.dispatch.ask(asker()))).toBe("the bridge stops")
    })
  )
)

effect("timeouts and silence halve what may be in flight; a second brings one back", () =>
  onStage((stage) =>
    Effect.gen(function* () {
      MutableRef.set(stage.live, { concurrency: 8 })
      yield* Effect.forEach(Array.from({ length: 30 }), () => Effect.forkChild(stage.dispatch.ask(asker())))
      const calls = yield* Effect.forEach(Array.from({ length: 8 }), () => stage.next)
      for (const call of calls) yield* call.end(silent)
      yield* TestClock.adjust("10 millis")
      expect(stage.inFlight()).toBe(4)
      yield* TestClock.adjust("1 seconds")
      expect(stage.inFlight()).toBe(5)
      yield* TestClock.adjust("3 seconds")
      expect(stage.inFlight()).toBe(8)
    })
  )
)

effect("an interrupted asker leaves the waiting room", () =>
  onStage((stage) =>
    Effect.gen(function* () {
      MutableRef.set(stage.live, { concurrency: 1 })
      yield* Effect.forkChild(stage.dispatch.ask(asker()))
      const call = yield* stage.next
      const waiting = yield* Effect.forkChild(stage.dispatch.ask(asker({ method: "user.get" })))
      yield* TestClock.adjust("1 seconds")
      expect(Exit.hasInterrupts(yield* Effect.andThen(Fiber.interrupt(waiting), Fiber.await(waiting)))).toBe(true)
      yield* call.end(done)
      yield* TestClock.adjust("1 seconds")
      expect(stage.calls()).toBe(1)
    })
  )
)
