import { expect } from "bun:test"
import { Deferred, Effect, Fiber, type Scope } from "effect"
import { openPortal, type Portal } from "../../src/sandbox/portal/server.ts"
import { type Bridge, startBridge } from "../rig/bridge.ts"
import { checkAnswers, type Collector, collector, type Message, publishAll, requests } from "../rig/producer.ts"
import type { Vhost } from "../rig/rabbit.ts"
import { RigFailed, until } from "../rig/until.ts"

/** How many times as long as in `npm test` an experiment takes; `full.ts` sets it. */
export const scale = Number(process.env["B24RMQ_FAULTS_SCALE"] ?? 1)

/**
 * The promise: how soon after the broker is ready the bridge consumes, in milliseconds, where the outage took less than a
 * minute. A machine that others use may stall for longer than that; only the full run holds the bridge to the figure.
 */
export const promised = scale > 1 ? 2_000 : 8_000

export const queueIn = "bitrix24in"
export const queueOut = "bitrix24out"

/** Half reads, half writes. Each write has a key of its own, by which the portal counts how often it ran. */
export const deals = (count: number): ReadonlyArray<Message> =>
  requests(count, (index) => {
    const messageId = crypto.randomUUID()
    return index % 2 === 0
      ? { messageId, method: "crm.deal.add", params: { fields: { TITLE: "Deal", ORIGIN_ID: messageId } } }
      : { messageId, method: "crm.deal.list" }
  })

export const isWrite = (message: Message) => message.options.headers?.["method"] === "crm.deal.add"

export interface Options {
  /** The broker as the bridge sees it; the vhost's own address otherwise. */
  readonly url?: string
  /** More settings of the bridge. */
  readonly env?: Readonly<Record<string, string>>
  /** Messages in a second. */
  readonly rate?: number
  /** Milliseconds that a call takes. */
  readonly latency?: number
  /** The watch may find that work stalls. */
  readonly stalls?: boolean
}

/** A bridge between a broker and a portal, with requests on their way. */
export interface Load {
  readonly bridge: Bridge
  readonly portal: Portal
  readonly answers: Collector
  /** Waits until so many more requests have been answered: whatever was broken works again. */
  readonly answered: (more: number) => Effect.Effect<unknown, RigFailed>
  /** Does something that ends the bridge's consumer; once it is done the bridge has two seconds to consume again. */
  readonly interrupted: <E>(fault: Effect.Effect<unknown, E>) => Effect.Effect<void, E | RigFailed>
  /** What `interrupted` measured, in milliseconds. */
  readonly times: ReadonlyArray<number>
}

/**
 * Runs a fault while requests are published, called and answered, and holds the bridge to its promises: nothing is
 * lost, no write runs twice, the process lives, one consumer and one connection are left, nothing is unacknowledged,
 * and it stops in good order.
 */
export const underLoad = <E>(
  name: string,
  vhost: Vhost,
  options: Options,
  fault: (load: Load) => Effect.Effect<unknown, E, Scope.Scope>
) =>
  Effect.gen(function* () {
    const portal = yield* openPortal({ latency: options.latency ?? 5 })
    const bridge = yield* startBridge({
      env: { AMPQURL: options.url ?? vhost.url, B24REST: portal.url, ...options.env }
    })
    // Where it fails the log says more.
    yield* Effect.addFinalizer((exit) =>
      Effect.sync(() => {
        if (exit._tag === "Failure") console.log(bridge.output().slice(-5_000))
      })
    )
    const answers = yield* collector(vhost.url, queueOut)
    const times: Array<number> = []
    const load: Load = {
      bridge,
      portal,
      answers,
      answered: (more) => Effect.suspend(() => answers.has(answers.answers.size + more)),
      interrupted: (fault) =>
        Effect.gen(function* () {
          const mark = bridge.mark()
          yield* fault
          const ready = performance.now()
          yield* bridge.consuming({ after: mark, within: "90 seconds" })
          times.push(Math.round(performance.now() - ready))
        }),
      times
    }
    const sent: Array<Message> = []
    const enough = yield* Deferred.make<void>()
    const rate = options.rate ?? 300
    const publishing = yield* Effect.gen(function* () {
      while (!Deferred.isDoneUnsafe(enough)) {
        const some = deals(Math.max(1, Math.round(rate / 4)))
        sent.push(...some)
        yield* publishAll(vhost.url, queueIn, some, { rate, within: "10 minutes" })
      }
    }).pipe(Effect.forkScoped)
    yield* load.answered(50)
    yield* fault(load)
    yield* Deferred.succeed(enough, undefined)
    yield* Fiber.join(publishing)
    const got = yield* answers.has(sent.length)
    yield* settled(vhost)
    const checked = checkAnswers(sent, got)
    const writes = sent.filter(isWrite)
    const report = {
      fault: name,
      sent: sent.length,
      lost: checked.lost.length,
      "answered twice": checked.duplicated.length,
      "writes run twice": portal.doubles().length,
      "ms to consuming": times.join(" "),
      "rss MB": Math.round(bridge.rss() / 1e6)
    }
    console.log(JSON.stringify(report))
    expect(bridge.ended()).toBeUndefined()
    // Whatever the fault was, it was a reason to wait, but for what the watch may notice before a heartbeat does.
    const unwanted = new Set(["broken", ...(options.stalls ? [] : ["stalled"])])
    expect(bridge.lines().filter(({ event }) => event !== undefined && unwanted.has(event))).toEqual([])
    expect(checked).toMatchObject({ lost: [], unasked: [] })
    expect(Object.keys(checked.byOutcome)).toEqual(["done"])
    expect(portal.doubles()).toEqual([])
    expect(portal.count("crm.deal.add")).toBe(writes.length)
    for (const { id } of writes) {
      const [first, ...others] = got.get(id ?? "") ?? []
      for (const other of others) expect(other.body).toEqual(first?.body ?? Buffer.alloc(0))
    }
    expect(Math.max(0, ...times)).toBeLessThan(promised)
    yield* stopped(bridge)
  })

/** Waits until one consumer and two connections (the bridge's and the collector's) are there, and nothing is unacked. */
export const settled = (vhost: Vhost) =>
  Effect.gen(function* () {
    yield* until(
      "everything is acknowledged, one consumer is there",
      Effect.map(
        Effect.orElseSucceed(vhost.queueDepth(queueIn), () => undefined),
        (depth) => depth?.ready === 0 && depth.unacked === 0 && depth.consumers === 1
      )
    )
    yield* until(
      "one connection of the bridge, and the collector's",
      Effect.map(
        Effect.orElseSucceed(vhost.connections, () => undefined),
        (open) => open === 2
      )
    )
  })

/** Stops the bridge as systemd does. */
export const stopped = (bridge: Bridge) =>
  Effect.gen(function* () {
    yield* bridge.kill("SIGTERM")
    const ended = yield* Effect.timeoutOrElse(bridge.exited, {
      duration: "20 seconds",
      orElse: () => Effect.fail(new RigFailed({ what: `the bridge does not stop: ${bridge.output().slice(-2_000)}` }))
    })
    expect(ended).toEqual({ code: 0, signal: null })
  })
