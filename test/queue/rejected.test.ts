import { NodeServices } from "@effect/platform-node"
import { describe, expect } from "bun:test"
import { Context, Effect, Layer, Logger, References } from "effect"
import { Connection, Dial } from "../../src/queue/connection.ts"
import { type Entry, replayedCopy } from "../../src/queue/entry.ts"
import type { Looked, Verdict } from "../../src/queue/look.ts"
import { RejectedQueue } from "../../src/queue/rejected.ts"
import { Topology } from "../../src/queue/topology.ts"
import { Settings } from "../../src/settings.ts"
import { live } from "../effect.ts"
import { declareQueues } from "../rig/producer.ts"
import { vhost } from "../rig/rabbit.ts"
import { until } from "../rig/until.ts"
import { delivery, putInto, queueIn, takeAll } from "./parked.ts"

const queue = `${queueIn}.rejected`

/** The queue of rejected requests on a broker, for as long as the scope lasts, and what it tells. */
const start = (url: string, env: Readonly<Record<string, string>> = {}) =>
  Effect.gen(function* () {
    const told: Array<Readonly<Record<string, unknown>>> = []
    const keep = Logger.make(({ fiber }) => void told.push(fiber.getRef(References.CurrentLogAnnotations)))
    const settings = Settings.layerOf({
      AMPQURL: url,
      B24REST: "https://example.com/rest/",
      AMPQIN: queueIn,
      B24RMQ_REJECTED: "yes",
      ...env
    })
    const layer = RejectedQueue.layer.pipe(
      Layer.provide(Topology.layer),
      Layer.provide(Connection.layer),
      Layer.provide(Dial.layer),
      Layer.provide(settings),
      Layer.provide(NodeServices.layer),
      Layer.provide(Logger.layer([keep]))
    )
    const rejected = Context.get(yield* Layer.build(layer), RejectedQueue)
    const keepTelling: typeof rejected.keep = (...asked) =>
      Effect.provide(rejected.keep(...asked), Logger.layer([keep]))
    return { ...rejected, keep: keepTelling, told }
  })

type Rejected = Effect.Success<ReturnType<typeof start>>

const why = { code: "B24RMQ_BAD_JSON", text: "The body is not valid JSON." }

const keepAll = (rejected: Rejected, from: number, to: number) =>
  Effect.gen(function* () {
    for (let n = from; n <= to; n++) {
      const asked = delivery(`${n}`, { messageId: `m${n}`, headers: { method: "crm.deal.add" } })
      expect(yield* rejected.keep(asked, why)).toBe(true)
    }
  })

const nothing = () => Effect.void

/** The message_ids that are kept, in their order. */
const ids = (rejected: Rejected, most = 1_000) => {
  const seen: Array<string | undefined> = []
  const visit = ({ messageId }: Entry): Verdict => {
    seen.push(messageId)
    return "leave"
  }
  return Effect.as(rejected.look(most, visit, nothing), seen)
}

const numbers = (from: number, to: number, step = 1) =>
  Array.from({ length: Math.floor((to - from) / step) + 1 }, (_, n) => `m${from + n * step}`)

live("what is kept can be seen as it came, and goes back as it came", () =>
  Effect.gen(function* () {
    const { url } = yield* vhost
    yield* declareQueues(url, { in: queueIn })
    const rejected = yield* start(url)
    const headers = { method: "crm.deal.add", user: 7, token: "canary", own: { list: [1, "two"] }, CC: ["elsewhere"] }
    const asked = delivery("not JSON", {
      messageId: "m1",
      correlationId: "c1",
      expiration: "60000",
      userId: "guest",
      priority: 3,
      headers
    })
    const said = { code: "INVALID_CREDENTIALS", text: "canary is no token" }
    expect(yield* rejected.keep(asked, said)).toBe(true)
    const shown: Array<Entry> = []
    const visit = (entry: Entry): Verdict => {
      shown.push(entry)
      return "take"
    }
    const moveBack = ({ taken }: Looked) =>
      Effect.forEach(taken, ({ entry, move, raw }) =>
        move(entry.queue, replayedCopy(raw, `run.${entry.id}`, 1_800_000_000_500))
      )
    yield* rejected.look(10, visit, moveBack)
    expect(shown).toEqual([
      {
        id: expect.stringMatching(/^[a-z0-9]{10}$/),
        code: "INVALID_CREDENTIALS",
        text: "... is no token",
        at: expect.any(Number),
        queue: queueIn,
        messageId: "m1",
        correlationId: "c1",
        method: "crm.deal.add",
        user: "7",
        credential: expect.stringMatching(/^7#[0-9a-f]{8}$/),
        bytes: 8,
        replay: undefined
      }
    ])
    expect(Math.abs((shown[0]?.at ?? 0) - Date.now())).toBeLessThan(10_000)
    expect(yield* ids(rejected)).toEqual([])
    const [back, ...others] = yield* takeAll(url, queueIn)
    expect(others).toEqual([])
    expect(back?.content.toString()).toBe("not JSON")
    const { CC: _, ...kept } = headers
    expect(back?.properties).toMatchObject({
      messageId: "m1",
      correlationId: "c1",
      priority: 3,
      deliveryMode: 2,
      timestamp: 1_800_000_000
    })
    expect(back?.properties.headers).toEqual({ ...kept, "x-b24rmq-replay": `run.${shown[0]?.id}` })
    expect([back?.properties.expiration, back?.properties.userId]).toEqual([undefined, undefined])
  })
)

for (const type of ["classic", "quorum"] as const) {
  describe(type, () => {
    live("what stays keeps its place, whatever is removed or moved before it", () =>
      Effect.gen(function* () {
        const { url } = yield* vhost
        yield* declareQueues(url, { in: queue, out: queueIn, type })
        const rejected = yield* start(url)
        yield* keepAll(rejected, 1, 40)
        let n = 0
        const everyFourth = (): Verdict => {
          n++
          return n % 4 === 0 ? "drop" : n % 4 === 2 && n < 20 ? "take" : "leave"
        }
        // Of what was taken only a part is moved.
        const looked = yield* rejected.look(30, everyFourth, (looked) =>
          Effect.as(
            Effect.forEach(looked.taken.slice(0, 3), ({ move, raw }) =>
              move(queueIn, replayedCopy(raw, "r", 1_800_000_000_500))
            ),
            looked
          )
        )
        expect([looked.taken.length, looked.beyond, looked.left()]).toEqual([5, 10, 30])
        yield* keepAll(rejected, 41, 42)
        const gone = new Set([...numbers(4, 28, 4), "m2", "m6", "m10"])
        expect(yield* ids(rejected)).toEqual(numbers(1, 42).filter((id) => !gone.has(id)))
        const moved = yield* takeAll(url, queueIn)
        expect(moved.map(({ properties }) => properties.messageId)).toEqual(["m2", "m6", "m10"])
      })
    )
  })
}

for (const type of ["classic", "quorum"] as const) {
  live(`what was removed by the hundred does not come back: ${type}`, () =>
    Effect.gen(function* () {
      const { queueDepth, url } = yield* vhost
      yield* declareQueues(url, { in: queue, out: queueIn, type })
      const one = (n: number) => ({ content: Buffer.from(`${n}`), options: { messageId: `m${n}` } })
      yield* putInto(
        url,
        queue,
        Array.from({ length: 600 }, (_, n) => one(n + 1))
      )
      const rejected = yield* start(url)
      let n = 0
      const moveAll = ({ taken }: Looked) =>
        Effect.forEach(taken, ({ move, raw }) => move(queueIn, replayedCopy(raw, "r", 1_800_000_000_500)), {
          concurrency: "unbounded"
        })
      yield* rejected.look(500, () => (n++ % 2 === 0 ? "drop" : n % 4 === 0 ? "take" : "leave"), moveAll)
      // Another process, for this one would not show them again.
      const left = yield* ids(yield* start(url))
      expect(left).toEqual([...numbers(2, 498, 4), ...numbers(501, 600)])
      const moved = yield* takeAll(url, queueIn)
      expect(moved.map(({ properties }) => properties.messageId)).toEqual(numbers(4, 500, 4))
      yield* until(
        "all are counted",
        Effect.map(queueDepth(queue), ({ ready }) => ready === left.length)
      )
    })
  )
}

live("a quorum queue that drops what comes back too often loses nothing to looks, nor its order", () =>
  Effect.gen(function* () {
    const { policy, queueDepth, url } = yield* vhost
    // RabbitMQ 4 has 20 by default, before there was none.
    yield* policy("limit", queue, { "delivery-limit": 12 })
    yield* declareQueues(url, { in: queue, type: "quorum" })
    const rejected = yield* start(url)
    yield* keepAll(rejected, 1, 120)
    for (let n = 0; n < 16; n++) expect(yield* ids(rejected, 110)).toEqual(numbers(1, 110))
    expect(yield* ids(rejected)).toEqual(numbers(1, 120))
    yield* until(
      "all are counted",
      Effect.map(queueDepth(queue), ({ ready }) => ready === 120)
    )
  })
)

live("where nothing can be kept, the log says so once, and again after it could", () =>
  Effect.gen(function* () {
    const { url } = yield* vhost
    yield* declareQueues(url, { in: queue, arguments: { "x-max-length": 2, "x-overflow": "reject-publish" } })
    const rejected = yield* start(url)
    yield* keepAll(rejected, 1, 2)
    const third = delivery("3", { messageId: "m3" })
    expect(yield* rejected.keep(third, why)).toBe(false)
    expect(yield* rejected.keep(third, why)).toBe(false)
    const said = {
      event: "rejected-not-kept",
      queue,
      reason: "its queue takes no more messages (is it full?)",
      message_id: "m3",
      code: why.code
    }
    const notKept = () => rejected.told.filter(({ event }) => event === "rejected-not-kept")
    expect(notKept()).toEqual([said])
    yield* rejected.look(10, () => "drop", nothing)
    yield* keepAll(rejected, 4, 5)
    expect(yield* rejected.keep(third, why)).toBe(false)
    expect(notKept()).toEqual([said, said])
    expect(yield* ids(rejected)).toEqual(["m4", "m5"])
  })
)

live("a queue that may not be declared costs no request more than a line in the log", () =>
  Effect.gen(function* () {
    const { url } = yield* vhost
    const rejected = yield* start(url, { B24RMQ_DECLARE: "no" })
    expect(yield* rejected.keep(delivery("1"), why)).toBe(false)
    const said = rejected.told.find(({ event }) => event === "rejected-not-kept")
    expect(said?.["reason"]).toContain("declare it, or set B24RMQ_DECLARE=yes")
    const failed = yield* Effect.flip(rejected.look(10, () => "leave", nothing))
    expect(failed.message).toBe(`the queue ${queue} does not exist`)
    // Once it is there, it is used.
    yield* declareQueues(url, { in: queue })
    yield* until("it is kept", rejected.keep(delivery("2", { messageId: "m2" }), why))
    expect(yield* ids(rejected)).toContain("m2")
  })
)

live("what somebody else has put there is shown, and can be told by a name that stays", () =>
  Effect.gen(function* () {
    const { url } = yield* vhost
    yield* declareQueues(url, { in: queue })
    const rejected = yield* start(url)
    const alike = { content: Buffer.from("?"), options: { headers: { method: "../admin" } } }
    yield* putInto(url, queue, [alike, alike, alike])
    const seen: Array<Entry> = []
    const visit = (entry: Entry): Verdict => (seen.push(entry), "leave")
    yield* rejected.look(1, visit, nothing)
    yield* rejected.look(1, visit, nothing)
    expect(seen[0]).toMatchObject({ code: "", queue: "", at: undefined, method: undefined })
    expect(seen[1]).toEqual(seen[0])
    // Though all of them have one name, one is removed.
    yield* rejected.look(1, () => "drop", nothing)
    expect(yield* ids(rejected)).toHaveLength(2)
  })
)
