import { Clock, Duration, Effect, Fiber, Layer, MutableRef, Redacted, SubscriptionRef } from "effect"
import { TestClock } from "effect/testing"
import { Dispatch } from "../../src/bridge/dispatch.ts"
import type { Reply } from "../../src/bridge/room.ts"
import { Journal } from "../../src/journal/journal.ts"
import { Portal } from "../../src/portal/client.ts"
import { judge, type Outcome } from "../../src/portal/outcome.ts"
import { Outlet } from "../../src/queue/outlet.ts"
import type { Credential } from "../../src/sandbox/portal/credentials.ts"
import { type Ledger, limitsOf, OperatingSums, RateBuckets } from "../../src/sandbox/portal/limits.ts"
import { type Rate, Settings } from "../../src/settings.ts"

/** One request of a trace. */
export interface Asked {
  /** Milliseconds after the one before it. */
  readonly gap: number
  readonly user: string
  readonly queue: string
  readonly method: string
  readonly isRead: boolean
  /** Its body survives packing. */
  readonly plain: boolean
  readonly line: string | undefined
}

/** Who asks, under which settings, and how the portal is. Times are milliseconds. */
export interface Trace {
  readonly asked: ReadonlyArray<Asked>
  /** What the bridge is told. */
  readonly rate: Rate
  readonly pack: "reads" | "all" | "off"
  readonly concurrency: number
  /** What each method takes. */
  readonly takes: Readonly<Record<string, number>>
  /** To the portal, and back again. */
  readonly way: number
  readonly bucket: { readonly burst: number; readonly fall: number }
  readonly stepwise: boolean
  readonly countsRefused: boolean
  /** When in a second the bucket falls, if it does that in steps. */
  readonly phase: number
  readonly operating?: { readonly limit: number; readonly bucket: number; readonly payer: "methods" | "batch" }
}

export interface Call {
  readonly at: number
  /** Their numbers in the trace. */
  readonly members: ReadonlyArray<number>
}

/** What has come of a trace. */
export interface Traced {
  readonly calls: ReadonlyArray<Call>
  /** When each was answered. */
  readonly answered: ReadonlyMap<number, number>
  /** Answers in the order in which they came. */
  readonly replies: ReadonlyArray<readonly [number, Reply]>
  /** When the portal refused a call for the rate, and one request for its operating time. */
  readonly tooMany: ReadonlyArray<number>
  readonly tooLong: ReadonlyArray<number>
  readonly mostInFlight: number
}

/** Told of all that happens, before it does. */
export interface Watcher {
  readonly asked: (at: number, which: number) => void
  readonly departs: (at: number, members: ReadonlyArray<number>) => void
  readonly returns: (at: number, members: ReadonlyArray<number>) => void
  readonly answered: (at: number, which: number) => void
}

/** Nobody waits for longer than this. */
const horizon = 24 * 3_600_000

const jsonOf = (which: number, plain: boolean) => (plain ? { n: String(which) } : { n: String(which), filter: null })

/** Which request a command or a body is of. */
const numberIn = (text: string) => Number(/n(?:=|":")(\d+)/.exec(text)?.[1])

const credentialOf = (user: string) => ({ kind: "webhook", user, secret: "s" }) as unknown as Credential

/** Lets the requests of a trace come one after the other on the test clock, until all are answered. */
export const follow = (trace: Trace, watcher: Watcher) =>
  Effect.gen(function* () {
    const { asked, takes, way } = trace
    const clock = yield* Clock.Clock
    const now = () => clock.currentTimeMillisUnsafe()
    const { stepwise, countsRefused, phase } = trace
    const rules = limitsOf({
      rate: { ...trace.bucket, stepwise, countsRefused },
      ...(trace.operating === undefined ? {} : { operating: trace.operating })
    })
    // The portal is older than we are, and its clock is another one.
    const age = 1_000_000
    const rate = new RateBuckets(rules.rate)
    rate.admits("us", phase)
    const sums = new OperatingSums(rules.operating)
    const batchPays = trace.operating?.payer === "batch"
    const calls: Array<Call> = []
    const answered = new Map<number, number>()
    const replies: Array<readonly [number, Reply]> = []
    const tooMany: Array<number> = []
    const tooLong: Array<number> = []
    let inFlight = 0
    let mostInFlight = 0

    const time = (user: string, method: string, ledger: Ledger, took: number) => {
      const at = now() + age
      const told = sums.operating(credentialOf(user), method, ledger, at)
      return {
        finish: at / 1_000,
        processing: took,
        ...(told === undefined ? {} : { operating: told.sum, operating_reset_at: told.resetAt })
      }
    }

    const overTime = { error: "OPERATION_TIME_LIMIT", error_description: "" }

    /** Runs one command after another, as the portal does, and says what it answers. */
    const execute = Effect.fnUntraced(function* (user: string, members: ReadonlyArray<number>) {
      const credential = credentialOf(user)
      const isBatch = members.length > 1
      const ledger: Ledger = new Map()
      if (isBatch && batchPays && sums.blocks(credential, "batch", ledger, now() + age)) {
        tooLong.push(now())
        return judge(429, Buffer.from(JSON.stringify(overTime)))
      }
      const began = now()
      const frozen = time(user, "batch", ledger, 0)
      const answers: Array<object> = []
      for (const which of members) {
        const method = asked[which]?.method ?? ""
        const took = takes[method] ?? 0
        const payer = isBatch && batchPays ? undefined : method
        if (payer !== undefined && sums.blocks(credential, payer, ledger, now() + age)) {
          tooLong.push(now())
          answers.push(overTime)
          continue
        }
        if (took > 0) yield* Effect.sleep(took)
        if (payer !== undefined) sums.note(ledger, payer, took / 1_000)
        const told =
          payer === undefined ? { ...frozen, processing: took / 1_000 } : time(user, method, ledger, took / 1_000)
        answers.push({ result: which, time: told })
      }
      if (isBatch && batchPays) sums.note(ledger, "batch", (now() - began) / 1_000)
      const whole = time(user, "batch", ledger, (now() - began) / 1_000)
      sums.book(credential, ledger, now() + age)
      const [alone] = answers
      if (!isBatch)
        return judge(alone !== undefined && "error" in alone ? 429 : 200, Buffer.from(JSON.stringify(alone)))
      const maps = { result: {}, result_error: {}, result_time: {} } as Record<string, Record<string, unknown>>
      const into = (map: string, n: number, value: unknown) => Object.assign(maps[map] ?? {}, { [`m${n}`]: value })
      for (const [n, answer] of answers.entries()) {
        if ("error" in answer) into("result_error", n, answer)
        else
          for (const [map, value] of Object.entries(answer)) into(map === "time" ? "result_time" : "result", n, value)
      }
      return judge(200, Buffer.from(JSON.stringify({ result: maps, time: whole })))
    })

    const call = Effect.fnUntraced(function* (user: string, members: ReadonlyArray<number>) {
      watcher.departs(now(), members)
      calls.push({ at: now(), members })
      mostInFlight = Math.max(mostInFlight, ++inFlight)
      if (way > 0) yield* Effect.sleep(way)
      let outcome: Outcome
      if (rate.admits("us", now() + age)) outcome = yield* execute(user, members)
      else {
        tooMany.push(now())
        outcome = judge(503, Buffer.from('{"error":"QUERY_LIMIT_EXCEEDED","error_description":"Too many requests"}'))
      }
      if (way > 0) yield* Effect.sleep(way)
      watcher.returns(now(), members)
      inFlight--
      return outcome
    })

    const portal = Layer.succeed(Portal, {
      call: ({ body, method, user }) => {
        const text = Buffer.from(body).toString("utf8")
        const commands: ReadonlyArray<string> = method === "batch" ? Object.values(JSON.parse(text).cmd) : [text]
        return call(user, commands.map(numberIn))
      },
      probe: Effect.die("nothing is silent here")
    })

    const ask = Effect.fnUntraced(function* (which: number, { line, user, method, queue, isRead, plain }: Asked) {
      const dispatch = yield* Dispatch
      const place = line === undefined ? undefined : dispatch.lines.join(`${user} ${line}`, String(which))
      const parameters = jsonOf(which, plain)
      const reply = yield* dispatch.ask({
        request: {
          id: String(which),
          messageId: String(which),
          correlationId: undefined,
          method,
          user,
          token: Redacted.make("s"),
          credential: `${user}#s`,
          body: Buffer.from(JSON.stringify(parameters)),
          parameters,
          order: undefined
        },
        isRead,
        queue,
        place,
        mayRest: () => false,
        crowds: () => false,
        isLost: () => false
      })
      watcher.answered(now(), which)
      answered.set(which, now())
      replies.push([which, reply])
      if (place !== undefined) dispatch.lines.leave(place)
    })

    const come = Effect.gen(function* () {
      // What a sleep that ends sets in motion has come to rest before the clock goes on.
      yield* Effect.sleep(1)
      for (const [which, one] of asked.entries()) {
        if (one.gap > 0) yield* Effect.sleep(one.gap)
        watcher.asked(now(), which)
        yield* Effect.forkScoped(ask(which, one), { startImmediately: true })
      }
    })

    const outlet = Layer.effect(
      Outlet,
      Effect.map(SubscriptionRef.make<string | undefined>(undefined), (closed) =>
        Outlet.of({ closed, publish: () => Effect.void })
      )
    )
    const settings = {
      live: MutableRef.make({ concurrency: trace.concurrency, pack: trace.pack }),
      rate: trace.rate,
      b24Rest: new URL("https://box.example/rest/"),
      portalLimit: Duration.seconds(60)
    } as unknown as Settings["Service"]

    yield* Effect.gen(function* () {
      const dispatch = yield* Dispatch
      yield* Effect.forkScoped(dispatch.run)
      // Whoever decides has come to its first wait by then.
      yield* Effect.repeat(Effect.yieldNow, { times: 10 })
      const coming = yield* Effect.forkScoped(come, { startImmediately: true })
      while (answered.size < asked.length && now() < horizon) yield* TestClock.adjust("10 seconds")
      yield* Fiber.join(coming)
    }).pipe(
      Effect.provide(
        Dispatch.layer.pipe(
          Layer.provide(portal),
          Layer.provide(Journal.layerMemory),
          Layer.provide(outlet),
          Layer.provide(Layer.succeed(Settings, settings))
        )
      )
    )
    return { calls, answered, replies, tooMany, tooLong, mostInFlight } satisfies Traced
  }).pipe(Effect.scoped, Effect.provide(TestClock.layer()))
