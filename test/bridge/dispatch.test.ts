import { expect } from "bun:test"
import {
  Clock,
  Deferred,
  Duration,
  Effect,
  Exit,
  Fiber,
  Layer,
  MutableRef,
  Queue,
  Redacted,
  SubscriptionRef
} from "effect"
import { TestClock } from "effect/testing"
import { Dispatch } from "../../src/bridge/dispatch.ts"
import type { Asker, Reply } from "../../src/bridge/room.ts"
import { Journal } from "../../src/journal/journal.ts"
import { Overtaken } from "../../src/journal/known.ts"
import { Portal } from "../../src/portal/client.ts"
import {
  Done,
  judge,
  Limited,
  type Outcome,
  oversized,
  Refused,
  Unavailable,
  Unknown
} from "../../src/portal/outcome.ts"
import { Outlet } from "../../src/queue/outlet.ts"
import { type Live, type Rate, Settings } from "../../src/settings.ts"
import { effect } from "../effect.ts"

const done = Done({ status: 200, body: Buffer.from("{}"), time: undefined })
const refused = Refused({ status: 400, body: Buffer.from("{}"), code: "", alarm: undefined })
const silent = Unknown({ reason: "HTTP 502 without JSON", status: 502, silent: true, timedOut: false })
const timedOut = Unknown({ reason: "no answer in time", status: undefined, silent: true, timedOut: true })
const broken = Unknown({ reason: "INTERNAL_SERVER_ERROR", status: 500, silent: false, timedOut: false })
const away = Unavailable({ reason: "ECONNREFUSED", alarm: undefined })

/** A call that the portal has got, to be ended by hand. */
interface Got {
  readonly method: string
  readonly credential: string
  /** The commands of a batch, or none. */
  readonly commands: ReadonlyArray<string>
  readonly end: (outcome: Outcome) => Effect.Effect<unknown>
}

/** A portal whose every call is answered by the test, and whose probes say what the test wants. */
interface Stage {
  readonly dispatch: Dispatch["Service"]
  /** Waits for the next call, to end it by hand. */
  readonly next: Effect.Effect<Got>
  readonly inFlight: () => number
  readonly calls: () => number
  readonly probes: () => number
  alive: boolean
  readonly outlet: SubscriptionRef.SubscriptionRef<string | undefined>
  readonly live: MutableRef.MutableRef<Live>
}

const onStage = <E>(
  play: (stage: Stage) => Effect.Effect<unknown, E>,
  rate: Rate = "off",
  journal = Journal.layerMemory,
  maxAge?: Duration.Duration
) =>
  Effect.gen(function* () {
    const calls = yield* Queue.unbounded<Got>()
    const outlet = yield* SubscriptionRef.make<string | undefined>(undefined)
    const live = MutableRef.make<Live>({ rate, concurrency: 4, pack: "off", logLevel: "info" })
    const settings = {
      live,
      rate,
      b24Rest: new URL("https://box.example/rest/"),
      maxAge,
      portalLimit: Duration.seconds(60)
    } as unknown as Settings["Service"]
    let inFlight = 0
    let sent = 0
    let probes = 0
    const stage = { alive: true }
    const portal = Layer.succeed(Portal, {
      call: ({ method, user, body }) =>
        Effect.gen(function* () {
          inFlight++
          sent++
          const ended = yield* Deferred.make<Outcome>()
          yield* Queue.offer(calls, {
            method,
            credential: user,
            commands: method === "batch" ? commandsIn(body) : [],
            end: (outcome) => Deferred.succeed(ended, outcome)
          })
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
      // Whatever those wait for who are left, it is a reason: nobody should think that they could leave.
      yield* TestClock.adjust("1 minute")
      expect(dispatch.activity.couldLeave()).toBe(false)
    })
    yield* played.pipe(
      Effect.provide(
        Dispatch.layer.pipe(
          Layer.provide(portal),
          Layer.provide(journal),
          Layer.provide(Layer.mock(Outlet, { closed: outlet })),
          Layer.provide(Layer.succeed(Settings, settings))
        )
      )
    )
  })

const commandsIn = (body: Uint8Array): ReadonlyArray<string> =>
  Object.values(JSON.parse(Buffer.from(body).toString("utf8")).cmd)

/** The answer of a batch whose every command got its own text back. */
const doneBatch = ({ commands }: Got) =>
  judge(
    200,
    Buffer.from(
      JSON.stringify({
        result: {
          result: Object.fromEntries(commands.map((command, n) => [`m${n}`, command])),
          result_error: [],
          result_total: [],
          result_next: [],
          result_time: {}
        }
      })
    )
  )

/** The answer of a batch that tells of each command what it took, in seconds, with a sum of 5 s in ten minutes. */
const timedBatch = (took: ReadonlyArray<number>) => {
  const time = (operating: number, processing: number) => ({
    finish: 1_000,
    processing,
    operating,
    operating_reset_at: 1_600
  })
  const members = <A>(of: (seconds: number) => A) =>
    Object.fromEntries(took.map((seconds, n) => [`m${n}`, of(seconds)]))
  const result = { result: members(() => []), result_error: [], result_time: members((seconds) => time(5, seconds)) }
  return judge(200, Buffer.from(JSON.stringify({ result, time: time(0, 1) })))
}

const times = (count: number) => Array.from({ length: count }, (_, n) => n)

const asker = (over: Partial<Asker> & { readonly method?: string; readonly user?: string } = {}): Asker => ({
  request: {
    id: "id",
    messageId: "m",
    correlationId: undefined,
    method: over.method ?? "crm.deal.list",
    user: over.user ?? "1",
    token: Redacted.make("secret"),
    credential: `${over.user ?? "1"}#abc`,
    body: Buffer.from("{}"),
    parameters: {},
    order: undefined
  },
  isRead: over.isRead ?? true,
  queue: over.queue ?? "in",
  place: over.place,
  mayRest: over.mayRest ?? (() => false),
  crowds: over.crowds ?? (() => false),
  deadline: over.deadline,
  most: over.most ?? 50,
  isLost: over.isLost ?? (() => false)
})

/** Asks as the bridge does: with a place in a line, which it leaves when its outcome is known. */
const inLine = ({ dispatch }: Stage, line: string, over: Parameters<typeof asker>[0] = {}) =>
  Effect.suspend(() => {
    const place = dispatch.lines.join(line, crypto.randomUUID())
    return Effect.ensuring(
      dispatch.ask(asker({ ...over, place })),
      Effect.sync(() => dispatch.lines.leave(place))
    )
  })

const write = () => asker({ method: "crm.deal.add", isRead: false })

const attemptsOf = (reply: Reply) => (reply._tag === "Sent" ? reply.attempts : reply)
const tagOf = (reply: Reply) =>
  reply._tag === "Sent" ? reply.outcome._tag : reply._tag === "NotSent" ? reply.reason : reply._tag

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
      MutableRef.update(stage.live, (live): Live => ({ ...live, concurrency: 1, pack: "off" }))
      yield* Effect.forEach([1, 2, 3], () => Effect.forkChild(stage.dispatch.ask(asker())))
      const first = yield* stage.next
      MutableRef.update(stage.live, (live): Live => ({ ...live, concurrency: 2, pack: "off" }))
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
      yield* TestClock.adjust("1900 millis")
      expect(stage.calls()).toBe(2)
      yield* TestClock.adjust("100 millis")
      expect((yield* stage.next).method).toBe("crm.deal.list")
    })
  )
)

effect("what another bridge has taken up does not leave, stamped or not, and those beside it do", () => {
  let isFirst = true
  const overtaking = Layer.effect(
    Journal,
    Effect.map(Journal, (journal) => ({
      ...journal,
      intend: (departing: Parameters<Journal["Service"]["intend"]>[0]) => {
        if (!isFirst) return Effect.void
        isFirst = false
        const [one] = departing
        return Effect.fail(new Overtaken({ requests: one === undefined ? [] : [{ ...one.request }] }))
      }
    }))
  ).pipe(Layer.provide(Journal.layerMemory))
  return onStage(
    (stage) =>
      Effect.gen(function* () {
        expect(tagOf(yield* stage.dispatch.ask(write()))).toBe("overtaken")
        expect(stage.calls()).toBe(0)
        const asked = yield* Effect.forkChild(stage.dispatch.ask(write()))
        yield* (yield* stage.next).end(done)
        expect(tagOf(yield* Fiber.join(asked))).toBe("Done")
      }),
    "off",
    overtaking
  )
})

effect("the portal's limit counts from the call, not from when it began to be written down", () => {
  const begun = Deferred.makeUnsafe<void>()
  const intend = () => Effect.andThen(Deferred.succeed(begun, undefined), Effect.sleep("3 seconds"))
  const slow = Layer.effect(
    Journal,
    Effect.map(Journal, (journal) => ({ ...journal, intend }))
  ).pipe(Layer.provide(Journal.layerMemory))
  return onStage(
    (stage) =>
      Effect.gen(function* () {
        const asked = yield* Effect.forkChild(stage.dispatch.ask(write()))
        yield* Deferred.await(begun)
        yield* TestClock.adjust("3 seconds")
        const call = yield* stage.next
        yield* TestClock.adjust("2 seconds")
        yield* call.end(timedOut)
        expect(yield* Fiber.join(asked)).toMatchObject({ _tag: "Sent", sentAt: 3_000, endedAt: 5_000 })
      }),
    "off",
    slow
  )
})

effect("who waits or is called is known, and who could leave though nobody decides", () =>
  onStage((stage) =>
    Effect.gen(function* () {
      const { activity } = stage.dispatch
      MutableRef.update(stage.live, (live): Live => ({ ...live, concurrency: 1, pack: "off" }))
      yield* Effect.forEach([1, 2], () => Effect.forkChild(stage.dispatch.ask(asker())))
      const one = yield* stage.next
      expect([activity.left(), activity.ended(), activity.couldLeave()]).toEqual([1, 0, false])
      expect([...activity.held()]).toEqual(["id"])
      const before = activity.oldestCall()
      yield* TestClock.adjust("1 second")
      expect(activity.oldestCall()).toBe(before)
      // As if a wake had been missed: there is room now, and nobody has heard of it.
      MutableRef.update(stage.live, (live): Live => ({ ...live, concurrency: 2, pack: "off" }))
      expect(activity.couldLeave()).toBe(true)
      yield* stage.dispatch.look
      yield* (yield* stage.next).end(done)
      expect(activity.couldLeave()).toBe(false)
      yield* one.end(done)
      yield* TestClock.adjust(0)
      expect([activity.left(), activity.ended(), activity.oldestCall()]).toEqual([2, 2, undefined])
      expect([...activity.held()]).toEqual([])
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
      MutableRef.update(stage.live, (live): Live => ({ ...live, concurrency: 1, pack: "off" }))
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
      MutableRef.update(stage.live, (live): Live => ({ ...live, concurrency: 1, pack: "off" }))
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

/** A stage on which requests become too old. */
const whereAgeCounts = <E>(play: (stage: Stage) => Effect.Effect<unknown, E>) =>
  onStage(play, "off", Journal.layerMemory, Duration.seconds(10))

/** Lets one wait whose deadline is in 10 s, and gives what it came to at that moment and not before. */
const atDeadline = (stage: Stage, over: Parameters<typeof asker>[0] = {}) =>
  Effect.gen(function* () {
    const deadline = (yield* Clock.currentTimeMillis) + 10_000
    const asked = yield* Effect.forkChild(stage.dispatch.ask(asker({ ...over, deadline })), { startImmediately: true })
    yield* TestClock.setTime(deadline - 1)
    expect(asked.pollUnsafe()).toBeUndefined()
    yield* TestClock.setTime(deadline)
    return yield* Fiber.join(asked)
  })

/** The pause after a refusal grows with each: after the last of so many it is longer than 10 s. */
const refusedSoOften = Effect.fnUntraced(function* (stage: Stage, scope: "portal" | "method", count: number) {
  yield* Effect.forkChild(stage.dispatch.ask(asker()))
  for (const n of times(count)) {
    yield* (yield* stage.next).end(Limited({ scope }))
    if (n < count - 1) yield* TestClock.adjust("9 seconds")
  }
})

const waits: Readonly<Record<string, (stage: Stage) => Effect.Effect<Parameters<typeof asker>[0] | void>>> = {
  "a call in flight to end": (stage) =>
    Effect.gen(function* () {
      MutableRef.update(stage.live, (live): Live => ({ ...live, concurrency: 1, pack: "off" }))
      yield* Effect.forkChild(stage.dispatch.ask(asker()))
      yield* stage.next
    }),
  "a portal that is away": (stage) =>
    Effect.gen(function* () {
      stage.alive = false
      yield* Effect.forkChild(stage.dispatch.ask(asker()))
      yield* (yield* stage.next).end(silent)
    }),
  "the rate": (stage) => refusedSoOften(stage, "portal", 7),
  "its method to open": (stage) => refusedSoOften(stage, "method", 4),
  "one before it in its line": (stage) =>
    Effect.gen(function* () {
      yield* Effect.forkChild(inLine(stage, "a"))
      yield* stage.next
      return { place: stage.dispatch.lines.join("a", "later") }
    }),
  "answers to go out": ({ outlet }) => SubscriptionRef.set(outlet, "the broker takes no messages")
}

for (const [what, wait] of Object.entries(waits)) {
  effect(`one that waits for ${what} is too old at its deadline`, () =>
    whereAgeCounts((stage) =>
      Effect.gen(function* () {
        const over = yield* wait(stage)
        const calls = stage.calls()
        expect(yield* atDeadline(stage, over ?? {})).toEqual({ _tag: "Expired", attempts: 0 })
        expect(stage.calls()).toBe(calls)
      })
    )
  )
}

effect("what has left is answered however old it becomes; what comes back from that is too old", () =>
  whereAgeCounts((stage) =>
    Effect.gen(function* () {
      const replies = yield* Effect.forEach([done, silent, away, Limited({ scope: "portal" })], (outcome) =>
        Effect.gen(function* () {
          const asked = yield* Effect.forkChild(stage.dispatch.ask({ ...write(), deadline: 1_000 }))
          return { asked, end: (yield* stage.next).end(outcome) }
        })
      )
      yield* TestClock.adjust("2 seconds")
      expect(replies.map(({ asked }) => asked.pollUnsafe())).toEqual(times(4).map(() => undefined))
      yield* Effect.forEach(replies, ({ end }) => end)
      const ended = yield* Effect.forEach(replies, ({ asked }) => Fiber.join(asked))
      expect(ended.map(tagOf)).toEqual(["Done", "Unknown", "Expired", "Expired"])
      expect(ended.slice(2)).toEqual([1, 1].map((attempts) => ({ _tag: "Expired", attempts })))
    })
  )
)

effect("one that comes too old never leaves, and those beside it do", () =>
  whereAgeCounts((stage) =>
    Effect.gen(function* () {
      yield* TestClock.adjust("1 hour")
      const old = yield* Effect.forkChild(stage.dispatch.ask(asker({ deadline: 3_600_000 })))
      const young = yield* Effect.forkChild(stage.dispatch.ask(asker({ deadline: 3_600_001 })))
      yield* (yield* stage.next).end(done)
      expect([tagOf(yield* Fiber.join(old)), tagOf(yield* Fiber.join(young)), stage.calls()]).toEqual([
        "Expired",
        "Done",
        1
      ])
    })
  )
)

effect("timeouts and silence halve what may be in flight; a second brings one back", () =>
  onStage((stage) =>
    Effect.gen(function* () {
      MutableRef.update(stage.live, (live): Live => ({ ...live, concurrency: 8, pack: "off" }))
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
      MutableRef.update(stage.live, (live): Live => ({ ...live, concurrency: 1, pack: "off" }))
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

effect("those that must wait anyway leave together, and each gets its own answer", () =>
  onStage((stage) =>
    Effect.gen(function* () {
      MutableRef.update(stage.live, (live): Live => ({ ...live, concurrency: 1, pack: "reads" }))
      const first = yield* Effect.forkChild(stage.dispatch.ask(asker({ method: "crm.deal.list" })))
      const call = yield* stage.next
      const waiting = yield* Effect.forEach(times(60), () => Effect.forkChild(stage.dispatch.ask(asker())))
      yield* TestClock.adjust("1 seconds")
      yield* call.end(done)
      expect(tagOf(yield* Fiber.join(first))).toBe("Done")
      const batch = yield* stage.next
      expect([batch.method, batch.commands.length]).toEqual(["batch", 50])
      yield* batch.end(doneBatch(batch))
      const rest = yield* stage.next
      expect([rest.method, rest.commands.length]).toEqual(["batch", 10])
      yield* rest.end(doneBatch(rest))
      const replies = yield* Effect.forEach(waiting, Fiber.join)
      expect(replies.every((reply) => reply._tag === "Sent" && reply.packed && reply.outcome._tag === "Done")).toBe(
        true
      )
    })
  )
)

effect("calls that may go at once share the load instead of filling one batch", () =>
  onStage((stage) =>
    Effect.gen(function* () {
      MutableRef.update(stage.live, (live): Live => ({ ...live, concurrency: 4, pack: "reads" }))
      yield* SubscriptionRef.set(stage.outlet, "not yet")
      yield* Effect.forEach(times(40), () => Effect.forkChild(stage.dispatch.ask(asker())))
      yield* TestClock.adjust("1 seconds")
      yield* SubscriptionRef.set(stage.outlet, undefined)
      const calls = yield* Effect.forEach(times(4), () => stage.next)
      expect(calls.map(({ commands }) => commands.length)).toEqual([10, 10, 10, 10])
    })
  )
)

effect("those who can all go at once go alone, for company would only make them slower", () =>
  onStage((stage) =>
    Effect.gen(function* () {
      MutableRef.update(stage.live, (live): Live => ({ ...live, concurrency: 8, pack: "reads" }))
      yield* SubscriptionRef.set(stage.outlet, "not yet")
      yield* Effect.forEach(times(8), () => Effect.forkChild(stage.dispatch.ask(asker())))
      yield* TestClock.adjust("1 seconds")
      yield* SubscriptionRef.set(stage.outlet, undefined)
      const calls = yield* Effect.forEach(times(8), () => stage.next)
      expect(calls.map(({ method }) => method)).toEqual(times(8).map(() => "crm.deal.list"))
    })
  )
)

for (const [seconds, waiting, size] of [
  [0.01, 20, 20],
  [0.01, 200, 50],
  [0.1, 12, 5],
  [0.1, 80, 20],
  [0.1, 800, 50],
  [3, 12, 3]
] as const) {
  effect(`of ${waiting} that take ${seconds} s each and have four calls, ${size} leave together`, () =>
    onStage((stage) =>
      Effect.gen(function* () {
        MutableRef.update(stage.live, (live): Live => ({ ...live, concurrency: 4, pack: "reads" }))
        yield* Effect.forkChild(stage.dispatch.ask(asker()))
        const first = yield* stage.next
        yield* SubscriptionRef.set(stage.outlet, "not yet")
        yield* first.end(judge(200, Buffer.from(`{"result":1,"time":{"duration":${seconds}}}`)))
        yield* Effect.forEach(times(waiting), () => Effect.forkChild(stage.dispatch.ask(asker())))
        yield* TestClock.adjust("1 seconds")
        yield* SubscriptionRef.set(stage.outlet, undefined)
        expect((yield* stage.next).commands.length).toBe(size)
      })
    )
  )
}

effect("writes are packed where that is allowed, few together until it is known what they take", () =>
  onStage((stage) =>
    Effect.gen(function* () {
      MutableRef.update(stage.live, (live): Live => ({ ...live, concurrency: 1, pack: "reads" }))
      yield* SubscriptionRef.set(stage.outlet, "not yet")
      yield* Effect.forEach(times(84), () => Effect.forkChild(stage.dispatch.ask(write())))
      yield* TestClock.adjust("1 seconds")
      yield* SubscriptionRef.set(stage.outlet, undefined)
      const alone = yield* stage.next
      expect(alone.method).toBe("crm.deal.add")
      MutableRef.update(stage.live, (live): Live => ({ ...live, concurrency: 1, pack: "all" }))
      yield* alone.end(done)
      // A quarter of the portal's limit of 60 s, at 5 s each, and then at what they take.
      const few = yield* stage.next
      expect(few.commands.length).toBe(3)
      yield* few.end(timedBatch(times(3).map(() => 0.25)))
      const many = yield* stage.next
      expect(many.commands.length).toBe(50)
      yield* many.end(timedBatch(times(50).map(() => 1.45)))
      expect((yield* stage.next).commands.length).toBe(10)
    })
  )
)

effect("requests of one line are executed one after another, at most one of them in a batch", () =>
  onStage((stage) =>
    Effect.gen(function* () {
      MutableRef.update(stage.live, (live): Live => ({ ...live, concurrency: 1, pack: "all" }))
      yield* SubscriptionRef.set(stage.outlet, "not yet")
      const order: Array<string> = []
      for (const line of ["a", "a", "b", "a", "b", "c"]) {
        yield* Effect.forkChild(
          Effect.andThen(
            inLine(stage, line),
            Effect.sync(() => order.push(line))
          )
        )
      }
      yield* TestClock.adjust("1 seconds")
      yield* SubscriptionRef.set(stage.outlet, undefined)
      for (const size of [3, 2]) {
        const batch = yield* stage.next
        expect(batch.commands.length).toBe(size)
        yield* batch.end(doneBatch(batch))
      }
      const last = yield* stage.next
      expect(last.method).toBe("crm.deal.list")
      yield* last.end(done)
      yield* TestClock.adjust("1 seconds")
      expect(order).toEqual(["a", "b", "c", "a", "b", "a"])
    })
  )
)

effect("a line waits for its first while that one is repeated", () =>
  onStage((stage) =>
    Effect.gen(function* () {
      yield* Effect.forkChild(inLine(stage, "a", { method: "crm.deal.get" }))
      yield* Effect.forkChild(inLine(stage, "a", { method: "crm.deal.list" }))
      const first = yield* stage.next
      yield* first.end(broken)
      yield* TestClock.adjust("500 millis")
      expect(stage.calls()).toBe(1)
      const { waiting } = yield* stage.dispatch.seen
      expect(waiting.get("repetition")).toMatchObject({ count: 1, until: expect.any(Number) })
      expect(waiting.get("order")).toMatchObject({ count: 1, until: undefined })
      expect(waiting.size).toBe(2)
      yield* TestClock.adjust("2 seconds")
      const again = yield* stage.next
      expect(again.method).toBe("crm.deal.get")
      yield* again.end(done)
      expect((yield* stage.next).method).toBe("crm.deal.list")
    })
  )
)

effect("credentials are served in turn, whoever came first", () =>
  onStage((stage) =>
    Effect.gen(function* () {
      MutableRef.update(stage.live, (live): Live => ({ ...live, concurrency: 1, pack: "off" }))
      yield* SubscriptionRef.set(stage.outlet, "not yet")
      for (const user of ["1", "1", "1", "1", "2", "3", "2"]) {
        yield* Effect.forkChild(stage.dispatch.ask(asker({ user })))
      }
      yield* TestClock.adjust("1 seconds")
      yield* SubscriptionRef.set(stage.outlet, undefined)
      const served: Array<string> = []
      for (const _ of times(7)) {
        const call = yield* stage.next
        served.push(call.credential)
        yield* call.end(done)
      }
      expect(served).toEqual(["1", "2", "3", "1", "2", "1", "1"])
    })
  )
)

effect("queues are served in turn, and the places that one leaves in a batch are filled from the other", () =>
  onStage((stage) =>
    Effect.gen(function* () {
      MutableRef.update(stage.live, (live): Live => ({ ...live, concurrency: 1, pack: "reads" }))
      yield* SubscriptionRef.set(stage.outlet, "not yet")
      const ask = (queue: string) => Effect.forkChild(stage.dispatch.ask(asker({ queue, method: `${queue}.list` })))
      yield* Effect.forEach(times(150), () => ask("crm.bulk"))
      yield* Effect.forEach(times(2), () => ask("crm.urgent"))
      yield* TestClock.adjust("1 seconds")
      yield* SubscriptionRef.set(stage.outlet, undefined)
      const urgent = (call: Got) => call.commands.filter((command) => command === "crm.urgent.list").length
      for (const [size, ofUrgent] of [
        [50, 0],
        [50, 2],
        [50, 0],
        [2, 0]
      ] as const) {
        const call = yield* stage.next
        expect([call.commands.length, urgent(call)]).toEqual([size, ofUrgent])
        yield* call.end(doneBatch(call))
      }
    })
  )
)

effect("what has to go alone does not wait for the company that others before it wait for", () =>
  onStage(
    (stage) =>
      Effect.gen(function* () {
        MutableRef.update(stage.live, (live): Live => ({ ...live, concurrency: 4, pack: "reads" }))
        yield* Effect.forEach([asker(), write(), write()], (one) => Effect.forkChild(stage.dispatch.ask(one)))
        expect([(yield* stage.next).method, (yield* stage.next).method]).toEqual(["crm.deal.add", "crm.deal.add"])
        yield* TestClock.adjust("39 millis")
        expect(stage.calls()).toBe(2)
        // There is room for 46 of 50, and it waits for the rest of the half second in which the next call may go.
        yield* TestClock.adjust("1 millis")
        expect((yield* stage.next).method).toBe("crm.deal.list")
      }),
    { rate: 2, depth: 50 }
  )
)

effect("a batch is filled past those that have to go alone", () =>
  onStage(
    (stage) =>
      Effect.gen(function* () {
        MutableRef.update(stage.live, (live): Live => ({ ...live, concurrency: 1, pack: "reads" }))
        yield* SubscriptionRef.set(stage.outlet, "not yet")
        const asked = times(60).map((n) => (n % 6 === 5 ? write() : asker()))
        yield* Effect.forEach(asked, (one) => Effect.forkChild(stage.dispatch.ask(one)))
        yield* TestClock.adjust("1 seconds")
        yield* SubscriptionRef.set(stage.outlet, undefined)
        expect((yield* stage.next).commands.length).toBe(50)
      }),
    { rate: 2, depth: 50 }
  )
)

effect("who has waited long enough for company takes along those of another queue who have not", () =>
  onStage(
    (stage) =>
      Effect.gen(function* () {
        MutableRef.update(stage.live, (live): Live => ({ ...live, concurrency: 4, pack: "reads" }))
        stage.dispatch.lines.join("a", "earlier")
        // The queue that is looked at first has nobody at first who may go.
        yield* Effect.forkChild(inLine(stage, "a", { queue: "one" }))
        yield* Effect.forkChild(stage.dispatch.ask(asker({ queue: "two" })))
        yield* TestClock.adjust("150 millis")
        yield* Effect.forkChild(stage.dispatch.ask(asker({ queue: "one" })))
        yield* TestClock.adjust("49 millis")
        expect(stage.calls()).toBe(0)
        yield* TestClock.adjust("1 millis")
        expect((yield* stage.next).commands.length).toBe(2)
      }),
    { rate: 1, depth: 5 }
  )
)

effect("a lost batch makes its reads travel in smaller ones", () =>
  onStage((stage) =>
    Effect.gen(function* () {
      MutableRef.update(stage.live, (live): Live => ({ ...live, concurrency: 1, pack: "reads" }))
      yield* SubscriptionRef.set(stage.outlet, "not yet")
      yield* Effect.forEach(times(20), () => Effect.forkChild(stage.dispatch.ask(asker())))
      yield* TestClock.adjust("1 seconds")
      yield* SubscriptionRef.set(stage.outlet, undefined)
      const lost = yield* stage.next
      expect(lost.commands.length).toBe(20)
      yield* lost.end(timedOut)
      yield* TestClock.adjust("10 seconds")
      expect((yield* stage.next).commands.length).toBe(10)
    })
  )
)

effect("of a batch whose answer could not be read the reads go alone, and that is no attempt", () =>
  onStage((stage) =>
    Effect.gen(function* () {
      MutableRef.update(stage.live, (live): Live => ({ ...live, concurrency: 1, pack: "reads" }))
      yield* SubscriptionRef.set(stage.outlet, "not yet")
      const asked = yield* Effect.forEach(times(3), () => Effect.forkChild(stage.dispatch.ask(asker())))
      yield* TestClock.adjust("1 seconds")
      yield* SubscriptionRef.set(stage.outlet, undefined)
      const batch = yield* stage.next
      expect(batch.commands.length).toBe(3)
      yield* batch.end(oversized(200))
      for (const _ of times(3)) {
        const call = yield* stage.next
        expect(call.method).toBe("crm.deal.list")
        yield* call.end(done)
      }
      expect((yield* Effect.forEach(asked, Fiber.join)).map(tagOf)).toEqual(["Done", "Done", "Done"])
    })
  )
)

effect("of a batch whose answer could not be read the writes are unknown, and not sent again", () =>
  onStage((stage) =>
    Effect.gen(function* () {
      MutableRef.update(stage.live, (live): Live => ({ ...live, concurrency: 1, pack: "all" }))
      yield* SubscriptionRef.set(stage.outlet, "not yet")
      const asked = yield* Effect.forEach(times(2), () => Effect.forkChild(stage.dispatch.ask(write())))
      yield* TestClock.adjust("1 seconds")
      yield* SubscriptionRef.set(stage.outlet, undefined)
      yield* (yield* stage.next).end(oversized(200))
      expect((yield* Effect.forEach(asked, Fiber.join)).map(tagOf)).toEqual(["Unknown", "Unknown"])
      yield* TestClock.adjust("1 hour")
      expect(stage.calls()).toBe(1)
    })
  )
)

effect("a batch that is refused as such sends its members alone", () =>
  onStage((stage) =>
    Effect.gen(function* () {
      MutableRef.update(stage.live, (live): Live => ({ ...live, concurrency: 1, pack: "reads" }))
      yield* SubscriptionRef.set(stage.outlet, "not yet")
      yield* Effect.forEach(times(3), () => Effect.forkChild(stage.dispatch.ask(asker())))
      yield* TestClock.adjust("1 seconds")
      yield* SubscriptionRef.set(stage.outlet, undefined)
      const batch = yield* stage.next
      yield* batch.end(refused)
      for (const _ of times(3)) {
        const call = yield* stage.next
        expect(call.method).toBe("crm.deal.list")
        yield* call.end(done)
      }
    })
  )
)

effect("under a rate, calls that take long do not hold those for which there is room", () =>
  onStage(
    (stage) =>
      Effect.gen(function* () {
        MutableRef.update(stage.live, (live): Live => ({ ...live, concurrency: 16, pack: "off" }))
        yield* SubscriptionRef.set(stage.outlet, "not yet")
        yield* Effect.forEach(times(20), () => Effect.forkChild(stage.dispatch.ask(asker())))
        yield* TestClock.adjust("1 seconds")
        yield* SubscriptionRef.set(stage.outlet, undefined)
        yield* Effect.forEach(times(6), () => stage.next)
        for (let half = 1; half <= 8; half++) {
          yield* TestClock.adjust("500 millis")
          expect(stage.inFlight()).toBe(6 + half)
        }
      }),
    { rate: 2, depth: 8 }
  )
)

effect("under a rate, a backlog leaves in full batches and never faster than the rate", () =>
  onStage(
    (stage) =>
      Effect.gen(function* () {
        MutableRef.update(stage.live, (live): Live => ({ ...live, concurrency: 16, pack: "reads" }))
        yield* SubscriptionRef.set(stage.outlet, "not yet")
        yield* Effect.forEach(times(500), () => Effect.forkChild(stage.dispatch.ask(asker())))
        yield* TestClock.adjust("1 seconds")
        yield* SubscriptionRef.set(stage.outlet, undefined)
        // A second's worth of the depth is left free, for it is not known how the portal's bucket falls.
        const burst = yield* Effect.forEach(times(6), () => stage.next)
        expect(burst.map(({ commands }) => commands.length)).toEqual(times(6).map(() => 50))
        for (const call of burst) yield* call.end(doneBatch(call))
        for (let half = 1; half <= 4; half++) {
          yield* TestClock.adjust("499 millis")
          expect(stage.calls()).toBe(5 + half)
          yield* TestClock.adjust("1 millis")
          const call = yield* stage.next
          expect(call.commands.length).toBe(50)
          yield* call.end(doneBatch(call))
        }
      }),
    { rate: 2, depth: 8 }
  )
)

effect("heavy requests that crowd and are passed over for light ones rest, and those that have a share go", () =>
  onStage(
    (stage) =>
      Effect.gen(function* () {
        MutableRef.update(stage.live, (live): Live => ({ ...live, concurrency: 4, pack: "reads" }))
        yield* SubscriptionRef.set(stage.outlet, "not yet")
        const crowd = { mayRest: () => true, crowds: () => true }
        const ask = (method: string) => Effect.forkChild(stage.dispatch.ask(asker({ ...crowd, method })))
        yield* ask("crm.item.list")
        yield* ask("crm.deal.list")
        yield* TestClock.adjust("2 seconds")
        yield* SubscriptionRef.set(stage.outlet, undefined)
        yield* (yield* stage.next).end(timedBatch([0.5, 0.002]))
        const heavy = yield* Effect.forEach(times(20), () => ask("crm.item.list"))
        yield* Effect.forEach(times(60), () => ask("crm.deal.list"))
        yield* TestClock.adjust("2 seconds")
        // A call each second gets 0.8 s.
        const { commands } = yield* stage.next
        expect([commands.length, commands.filter((command) => command === "crm.item.list").length]).toEqual([50, 1])
        const rested = yield* Effect.forEach(heavy.slice(1), Fiber.join)
        expect(rested).toEqual(times(19).map(() => ({ _tag: "Closed", until: undefined })))
      }),
    { rate: 1, depth: 3 }
  )
)
