import { expect } from "bun:test"
import { Effect } from "effect"
import { connect, createServer, type Socket } from "node:net"
import { openPortal, type Portal } from "../../src/sandbox/portal/server.ts"
import { live } from "../effect.ts"
import { type Bridge, startBridge } from "../rig/bridge.ts"
import { type Break, type BreakingBroker, frames, startBreakingBroker } from "../rig/fake-broker.ts"
import { freePort } from "../rig/ports.ts"
import { checkAnswers, collector, publishAll, requests } from "../rig/producer.ts"
import { startProxy } from "../rig/proxy.ts"
import { type Vhost, vhost } from "../rig/rabbit.ts"
import { type RigFailed, until } from "../rig/until.ts"
import { deals, queueIn, queueOut, scale, settled, stopped, underLoad } from "./load.ts"

const limit = 90_000 * Math.max(1, scale)
const full = scale > 1

/** Numbers that look random and are the same in each run (mulberry32). */
const generator = (seed: number) => {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** The bridge lives, and answers what is asked now. */
const works = (own: Vhost, bridge: Bridge) =>
  Effect.scoped(
    Effect.gen(function* () {
      const sent = deals(20)
      const answers = yield* collector(own.url, queueOut)
      yield* publishAll(own.url, queueIn, sent)
      const checked = checkAnswers(sent, yield* answers.has(20))
      expect(checked).toMatchObject({ lost: [], byOutcome: { done: 20 } })
      yield* settled(own)
      expect(bridge.ended()).toBeUndefined()
      expect(bridge.lines().filter(({ event }) => event === "broken")).toEqual([])
    })
  )

const start = (url: string, portal: Portal, env: Readonly<Record<string, string>> = {}) =>
  startBridge({ env: { AMPQURL: url, B24REST: portal.url, ...env }, within: "60 seconds" })

/** Every frame of a client from the protocol header to its first consumer, each with its number among its like. */
const stepsOf = (broker: BreakingBroker) => {
  const counts = new Map<string, number>()
  const steps: Array<Pick<Break, "step" | "nth">> = []
  for (const { name: step } of broker.seen()) {
    const nth = (counts.get(step) ?? 0) + 1
    counts.set(step, nth)
    if (step !== "heartbeat") steps.push({ step, nth })
    if (step === "basic.consume-ok") break
  }
  return steps
}

/** Breaks the line in one way after another, and waits each time until the bridge consumes again. */
const breakEach = Effect.fnUntraced(function* (portal: Portal, own: Vhost, breaks: ReadonlyArray<Break>) {
  const broker = yield* startBreakingBroker(own.url)
  const bridge = yield* start(broker.url, portal)
  for (const at of breaks) {
    yield* broker.breakAt(at)
    const mark = bridge.mark()
    yield* broker.reset
    yield* until(
      `${at.how} ${at.when} ${at.step}`,
      Effect.sync(() => broker.broken() === 1)
    )
    // What was said before the break may be a `consuming` of the link that broke right after it.
    yield* bridge.consuming({ after: at.when === "after" && at.step === "basic.consume-ok" ? bridge.mark() : mark })
  }
  yield* broker.breakAt(undefined)
  yield* works(own, bridge)
  yield* stopped(bridge)
}, Effect.scoped)

/** The steps of a start that finds its queues. */
const stepsOfStart = Effect.fnUntraced(function* (portal: Portal, own: Vhost) {
  const broker = yield* startBreakingBroker(own.url)
  const bridge = yield* start(broker.url, portal)
  const mark = bridge.mark()
  yield* broker.reset
  yield* bridge.consuming({ after: mark })
  const second = broker.seen().filter(({ connection }) => connection === broker.connections())
  return stepsOf({ ...broker, seen: () => second })
}, Effect.scoped)

const breakAtEachStep = (portal: Portal, own: Vhost) =>
  Effect.gen(function* () {
    const steps = yield* stepsOfStart(portal, own)
    expect(steps.length).toBeGreaterThan(20)
    const breaks: Array<Break> = []
    for (const at of steps) {
      for (const when of ["before", "after"] as const) {
        for (const how of ["reset", "fin"] as const) breaks.push({ ...at, when, how })
      }
    }
    const random = generator(7)
    const rounds = full ? breaks : breaks.filter(() => random() < 24 / breaks.length)
    // A bridge whose link breaks for minutes waits longer each time, as it should; so a new one takes over.
    for (let from = 0; from < rounds.length; from += 24) yield* breakEach(portal, own, rounds.slice(from, from + 24))
    console.log(JSON.stringify({ fault: "reset or FIN at each step", steps: steps.length, rounds: rounds.length }))
  })

/** A short string, a long one, and a method frame of AMQP 0-9-1 on channel 0. */
const short = (text: string) => Buffer.concat([Buffer.from([text.length]), Buffer.from(text)])
const long = (text: string) => {
  const length = Buffer.alloc(4)
  length.writeUInt32BE(text.length)
  return Buffer.concat([length, Buffer.from(text)])
}
const method = (name: number, ...parts: ReadonlyArray<Buffer>) => {
  const payload = Buffer.concat([Buffer.from([0, 10, 0, name]), ...parts])
  const head = Buffer.from([1, 0, 0, 0, 0, 0, 0])
  head.writeUInt32BE(payload.length, 3)
  return Buffer.concat([head, payload, Buffer.from([0xce])])
}
const startFrame = method(10, Buffer.from([0, 9, 0, 0, 0, 0]), long("PLAIN"), long("en_US"))
const tune = method(30, Buffer.from([0, 0, 0, 2, 0, 0, 0, 10]))
const openOk = method(41, short(""))
const closing = method(50, Buffer.from([320 >> 8, 320 & 255]), short("CONNECTION_FORCED"), Buffer.alloc(4))

/** Opens the first connections and closes them in the same write; passes the later ones on to the broker. */
const startClosingBroker = (target: string, times: number) =>
  Effect.gen(function* () {
    const port = yield* freePort
    const address = new URL(target)
    const { hostname, port: behind } = address
    let seen = 0
    const deceive = (client: Socket) => {
      const replies = [startFrame, tune, undefined, Buffer.concat([openOk, closing])]
      client.on(
        "data",
        frames(() => {
          const reply = replies.shift()
          if (reply !== undefined) client.write(reply)
        })
      )
    }
    yield* Effect.acquireRelease(
      Effect.promise(
        () =>
          new Promise<ReturnType<typeof createServer>>((done) => {
            const server = createServer((client) => {
              client.on("error", () => undefined)
              if (++seen <= times) return deceive(client)
              const broker = connect(Number(behind), hostname)
              broker.on("error", () => undefined)
              client.on("close", () => broker.destroy())
              broker.on("close", () => client.destroy())
              client.pipe(broker).pipe(client)
            })
            server.listen(port, "127.0.0.1", () => done(server))
          })
      ),
      (server) => Effect.sync(() => server.close())
    )
    address.port = `${port}`
    return address.href
  })

live(
  "a connection that is closed in the same breath in which it is opened",
  () =>
    Effect.gen(function* () {
      const own = yield* vhost
      const portal = yield* openPortal()
      const url = yield* startClosingBroker(own.url, 3)
      const bridge = yield* start(url, portal)
      yield* works(own, bridge)
      yield* stopped(bridge)
    }),
  limit
)

/** Questions that are asked of the node at the same time sometimes find no way in. */
const answered = <A>(ask: Effect.Effect<A, RigFailed>) => Effect.retry(ask, { times: 5 })

live(
  "a line that is reset, ended or silent at a step of the handshake and the setup; a queue that is gone for good",
  () =>
    Effect.gen(function* () {
      const portal = yield* openPortal()
      const silent = (at: Pick<Break, "step" | "nth" | "when">, own: Vhost) =>
        Effect.gen(function* () {
          const broker = yield* startBreakingBroker(`${own.url}?heartbeat=5`)
          yield* broker.breakAt({ ...at, how: "silence" })
          const bridge = yield* start(broker.url, portal)
          yield* works(own, bridge)
          yield* stopped(bridge)
        })
      const first = yield* vhost
      const redeclared = Effect.gen(function* () {
        const own = first
        const bridge = yield* start(own.url, portal)
        const mark = bridge.mark()
        yield* answered(own.deleteQueue(queueIn))
        const missing = yield* bridge.waitForLine("queue-missing", { after: mark })
        const before = performance.now()
        yield* bridge.waitForLine("queue-declared", { after: mark, within: "40 seconds" })
        expect(performance.now() - before).toBeGreaterThan(28_000)
        expect(missing.text).toContain("declared again")
        yield* works(own, bridge)
        yield* stopped(bridge)
      })
      const second = yield* vhost
      const undeclared = Effect.gen(function* () {
        const own = second
        const bridge = yield* startBridge({
          env: { AMPQURL: own.url, B24REST: portal.url, B24RMQ_DECLARE: "no" },
          ready: false
        })
        const missing = yield* bridge.waitForLine("queue-missing")
        expect(missing.text).toContain("B24RMQ_DECLARE=yes")
        // By then the other bridge has declared what it lost.
        yield* Effect.sleep("31 seconds")
        expect(yield* answered(own.queues)).toEqual([])
        expect(bridge.lines().filter(({ event }) => event === "queue-missing").length).toBe(2)
        yield* stopped(bridge)
      })
      const steps: ReadonlyArray<Pick<Break, "step" | "nth" | "when">> = full
        ? [
            "protocol.header",
            "connection.start",
            "connection.start-ok",
            "connection.tune",
            "connection.tune-ok",
            "connection.open",
            "connection.open-ok",
            "channel.open",
            "channel.open-ok",
            "queue.declare",
            "queue.declare-ok",
            "channel.close",
            "confirm.select",
            "basic.qos",
            "basic.qos-ok",
            "basic.consume",
            "basic.consume-ok"
          ].flatMap((step) => (["before", "after"] as const).map((when) => ({ step, when })))
        : [
            { step: "protocol.header", when: "before" },
            { step: "queue.declare", when: "after" }
          ]
      const silences = yield* Effect.forEach(steps, (at) => Effect.map(vhost, (own) => silent(at, own)))
      const third = yield* vhost
      // All of them wait most of the time, and each has a vhost of its own.
      yield* Effect.all([redeclared, undeclared, breakAtEachStep(portal, third), ...silences].map(Effect.scoped), {
        concurrency: 5
      })
    }),
  limit
)

live(
  "a line that is dead in both directions, or in one",
  () =>
    Effect.gen(function* () {
      const own = yield* vhost
      const proxy = yield* startProxy(own.url)
      const url = full ? proxy.url : `${proxy.url}?heartbeat=2`
      // Where only the way to the broker is dead its heartbeats come: the missing confirms are noticed before it gives up.
      yield* underLoad("half-open line", own, { url, stalls: true }, (load) =>
        Effect.gen(function* () {
          for (const direction of full ? ([undefined, "up", "down"] as const) : ([undefined, "up"] as const)) {
            yield* load.interrupted(
              Effect.gen(function* () {
                const mark = load.bridge.mark()
                yield* proxy.halfOpen("drop", direction)
                yield* load.bridge.waitForLine("link-lost", { after: mark, within: "60 seconds" })
                yield* proxy.halfOpen(false)
                // What was dialled through the dead line has lost bytes.
                yield* proxy.cut
              })
            )
            yield* load.answered(50)
          }
        })
      )
    }),
  limit
)

live(
  "the line is reset at random bytes",
  () =>
    Effect.gen(function* () {
      const own = yield* vhost
      const proxy = yield* startProxy(own.url)
      const random = generator(5)
      yield* underLoad("reset at random bytes", own, { url: proxy.url }, (load) =>
        Effect.gen(function* () {
          for (let round = 0; round < 8 * scale; round++) {
            yield* proxy.resetAfter(200 + Math.floor(random() * 30_000), random() < 0.5 ? "up" : "down")
            const { total } = proxy.connections()
            yield* proxy.cut
            // The next one is reset, and the one after it serves.
            yield* until(
              "another connection was needed",
              Effect.sync(() => proxy.connections().total >= total + 2),
              { within: "60 seconds" }
            )
          }
          const mark = load.bridge.mark()
          yield* proxy.cut
          yield* load.bridge.consuming({ after: mark })
          yield* load.answered(100)
        })
      )
    }),
  limit
)

live(
  "the bridge is frozen until the broker has given it up",
  () =>
    Effect.gen(function* () {
      const own = yield* vhost
      const url = full ? own.url : `${own.url}?heartbeat=1`
      yield* underLoad("SIGSTOP of the bridge", own, { url, latency: 50, rate: 100 }, (load) =>
        Effect.gen(function* () {
          for (let round = 0; round < (full ? 3 : 1); round++) {
            yield* load.interrupted(
              Effect.gen(function* () {
                yield* load.bridge.kill("SIGSTOP")
                // Its consumer proves nothing: there is none for a moment whenever the window grows.
                yield* until(
                  "its connection is gone",
                  Effect.map(own.bridges, (open) => open === 0),
                  { within: "90 seconds" }
                )
                yield* load.bridge.kill("SIGCONT")
              })
            )
            yield* load.answered(100)
          }
        })
      )
    }),
  limit
)

live(
  "a socket that takes nothing while answers are large: memory is bounded, and all comes through",
  () =>
    Effect.gen(function* () {
      const own = yield* vhost
      const proxy = yield* startProxy(own.url)
      const portal = yield* openPortal()
      portal.fault({ kind: "huge", bytes: 4_000_000, when: { method: "crm.deal.list" } })
      const bridge = yield* start(proxy.url, portal, { B24RMQ_PACK: "off" })
      const before = bridge.rss()
      yield* proxy.stall(true, "up")
      const sent = requests(60 * scale, () => ({ method: "crm.deal.list" }))
      yield* publishAll(own.url, queueIn, sent)
      yield* portal.until(({ requests }) => requests > 0)
      // Calls stop before all that were taken have been made: answers wait for the socket.
      let asked = 0
      let since = performance.now()
      yield* until(
        "no call is made any more",
        Effect.sync(() => {
          if (portal.requests !== asked || portal.inFlight > 0) since = performance.now()
          asked = portal.requests
          return performance.now() - since > 1_000
        })
      )
      const stalled = bridge.rss() - before
      yield* proxy.stall(false, "up")
      const answers = yield* collector(own.url, queueOut)
      const checked = checkAnswers(sent, yield* answers.has(sent.length))
      expect(checked).toMatchObject({ lost: [], byOutcome: { done: sent.length } })
      console.log(
        JSON.stringify({ fault: "stalled socket", sent: sent.length, asked, "MB more": Math.round(stalled / 1e6) })
      )
      expect(asked).toBeLessThan(40)
      expect(stalled).toBeLessThan(300e6)
      yield* settled(own)
      yield* stopped(bridge)
    }),
  limit
)
