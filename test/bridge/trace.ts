import { Clock, Duration, Effect, Layer, MutableRef, Redacted, SubscriptionRef } from "effect"
import { TestClock } from "effect/testing"
import { Dispatch } from "../../src/bridge/dispatch.ts"
import { Journal } from "../../src/journal/journal.ts"
import { Outlet } from "../../src/queue/outlet.ts"
import { type Live, Settings } from "../../src/settings.ts"
import { type Manner, parametersOf, portalOnClock } from "./portal-on-clock.ts"

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

/** Who asks, what the bridge is told, and how the portal is. */
export interface Trace extends Omit<Live, "logLevel">, Pick<Manner, "limits" | "phase" | "takes" | "way"> {
  readonly asked: ReadonlyArray<Asked>
}

/** Told of all that happens, before anything follows from it. Requests are known by their numbers. */
export interface Watcher extends Pick<Manner, "departs" | "returns"> {
  readonly comes: (at: number, which: number) => void
  readonly answered: (at: number, which: number) => void
}

/** Nobody waits for longer than this. */
const horizon = 24 * 3_600_000

/** Lets the requests of a trace come one after the other on the test clock, until all are answered. */
export const follow = (trace: Trace, watcher: Watcher) =>
  Effect.gen(function* () {
    const { asked } = trace
    const clock = yield* Clock.Clock
    const now = () => clock.currentTimeMillisUnsafe()
    const portal = portalOnClock({
      ...trace,
      methodOf: (which) => asked[which]?.method ?? "",
      departs: (at, members) => watcher.departs(at, members),
      returns: (at, members) => watcher.returns(at, members)
    })
    /** When each was answered. */
    const answered = new Map<number, number>()

    const ask = Effect.fnUntraced(function* (which: number, { line, user, method, queue, isRead, plain }: Asked) {
      const dispatch = yield* Dispatch
      const place = line === undefined ? undefined : dispatch.lines.join(`${user} ${line}`, String(which))
      const parameters = parametersOf(which, plain ? {} : { filter: null })
      yield* dispatch.ask({
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
        isLost: () => false,
        deadline: undefined,
        most: 50
      })
      watcher.answered(now(), which)
      answered.set(which, now())
      if (place !== undefined) dispatch.lines.leave(place)
    })

    const come = Effect.gen(function* () {
      // The clock waits for what follows from the end of a sleep, and for nothing else.
      yield* Effect.sleep(1)
      for (const [which, one] of asked.entries()) {
        yield* Effect.sleep(one.gap)
        watcher.comes(now(), which)
        yield* Effect.forkScoped(ask(which, one), { startImmediately: true })
      }
    })

    const outlet = Layer.mock(Outlet, { closed: yield* SubscriptionRef.make<string | undefined>(undefined) })
    const settings = {
      live: MutableRef.make<Live>({ ...trace, logLevel: "info" }),
      b24Rest: new URL("https://box.example/rest/"),
      portalLimit: Duration.seconds(60)
    } as unknown as Settings["Service"]

    yield* Effect.gen(function* () {
      const dispatch = yield* Dispatch
      yield* Effect.forkScoped(dispatch.run)
      // By then it has come to its first wait.
      yield* Effect.repeat(Effect.yieldNow, { times: 10 })
      yield* Effect.forkScoped(come, { startImmediately: true })
      while (answered.size < asked.length && now() < horizon) yield* TestClock.adjust("10 seconds")
    }).pipe(
      Effect.provide(
        Dispatch.layer.pipe(
          Layer.provide(portal.layer),
          Layer.provide(Journal.layerMemory),
          Layer.provide(outlet),
          Layer.provide(Layer.succeed(Settings, settings))
        )
      )
    )
    return { ...portal.record, answered }
  }).pipe(Effect.scoped, Effect.provide(TestClock.layer()))
