import { expect } from "bun:test"
import { Deferred, type Duration, Effect, Fiber, Stream, SubscriptionRef } from "effect"
import { TestClock } from "effect/testing"
import { until as become } from "../../src/queue/kept.ts"
import type { Note, ParkedDelivery, Verdict } from "../../src/queue/walk.ts"
import { live } from "../effect.ts"
import { declareQueues, onLink } from "../rig/producer.ts"
import { startProxy } from "../rig/proxy.ts"
import { sharedNode, vhost, victim } from "../rig/rabbit.ts"
import { until } from "../rig/until.ts"
import { delivery, isOpen, isReady, type Parking, putInto, queueParked, startParked, takeAll } from "./parked.ts"

const types = ["classic", "quorum"] as const

const textOf = ({ incoming }: ParkedDelivery) => Buffer.from(incoming.body).toString()

const noteOf = (ticket: number, deadline?: number): Note => ({ ticket, since: 1_000, deadline })

/** Parks a request for each text, one ticket after the other. */
const parkAll = (parking: Parking, texts: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const tickets = yield* Effect.forEach(texts, () => parking.ticket)
    const parks = texts.map((text, n) => parking.park(delivery(text), noteOf(tickets[n] ?? 0)))
    yield* Effect.all(parks, { concurrency: "unbounded", discard: true })
    return tickets
  })

/** Walks, and tells what was shown. */
const walkOnce = (parking: Parking, verdict: (shown: ParkedDelivery) => Verdict = () => "keep") =>
  Effect.gen(function* () {
    const shown: Array<ParkedDelivery> = []
    const walked = yield* parking.walk((one) => {
      shown.push(one)
      return verdict(one)
    })
    return { shown, texts: shown.map(textOf), ...walked }
  })

const numbers = (count: number) => Array.from({ length: count }, (_, n) => String(n))

for (const type of types) {
  live(`2,000 requests on a ${type} queue: some join, the rest keep their order`, () =>
    Effect.gen(function* () {
      const { url, queueDepth } = yield* vhost
      yield* declareQueues(url, { in: queueParked, type })
      const parking = yield* startParked(url)
      yield* isReady(parking)
      const texts = numbers(2_000)
      const parkStarted = performance.now()
      const tickets = yield* parkAll(parking, texts)
      const parked = performance.now()
      expect(yield* parking.held).toBe(2_000)
      const idle = yield* walkOnce(parking)
      const walked = performance.now()
      expect(idle).toMatchObject({ joined: 0, kept: 2_000, dropped: 0, whole: true, texts })
      expect(idle.shown.map(({ ticket, since, deadline }) => [ticket, since, deadline])).toEqual(
        tickets.map((ticket) => [ticket, 1_000, undefined])
      )
      // Every fifth one joins, twice as many as may be in the window do not.
      const first = yield* walkOnce(parking, (one) => (Number(textOf(one)) % 5 === 0 ? "join" : "keep"))
      expect(first).toMatchObject({ joined: 400, kept: 1_600, whole: true, texts })
      expect(yield* parking.held).toBe(1_600)
      const joined = first.shown.filter((one) => Number(textOf(one)) % 5 === 0)
      // Those that have joined are not shown while they are in hand, nor after they were acknowledged.
      const rest = texts.filter((text) => Number(text) % 5 !== 0)
      expect(yield* walkOnce(parking)).toMatchObject({ kept: 1_600, texts: rest })
      for (const one of joined.slice(100)) one.ack()
      for (const one of joined.slice(0, 100)) one.putBack()
      const last = yield* walkOnce(parking, () => "keep")
      expect(last).toMatchObject({ joined: 0, kept: 1_700, dropped: 0, whole: true })
      expect(new Set(last.texts)).toEqual(new Set([...rest, ...joined.slice(0, 100).map(textOf)]))
      expect(last.texts.filter((text) => Number(text) % 5 !== 0)).toEqual(rest)
      expect(yield* parking.held).toBe(1_700)
      yield* until(
        "the queue says so, too",
        Effect.map(queueDepth(queueParked), ({ ready, unacked }) => ready + unacked === 1_700)
      )
      const rate = (ms: number) => Math.round(2_000_000 / ms)
      console.log(
        JSON.stringify({ type, parksASecond: rate(parked - parkStarted), walkedASecond: rate(walked - parked) })
      )
    })
  )
}

live("the queue is declared durable and without arguments, and nothing is left of a walk in it", () =>
  Effect.gen(function* () {
    const { url, name } = yield* vhost
    const parking = yield* startParked(url)
    yield* isReady(parking)
    yield* parkAll(parking, ["a", "b"])
    yield* walkOnce(parking)
    // Whoever declares it otherwise is refused (406).
    yield* onLink(url, async (link) => {
      const channel = await link.createChannel()
      await channel.assertQueue(queueParked, { durable: true })
    })
    expect(yield* takeAll(url, queueParked)).toEqual([])
    expect(name).not.toBe("")
  })
)

live("a walk that begins while requests are parked sees what was there, and ends", () =>
  Effect.gen(function* () {
    const { url } = yield* vhost
    const parking = yield* startParked(url)
    yield* isReady(parking)
    yield* parkAll(parking, numbers(500))
    const parks = yield* Effect.forkChild(parkAll(parking, numbers(2_000)), { startImmediately: true })
    const seen = yield* Effect.forEach(numbers(5), () => walkOnce(parking))
    for (const { shown, whole } of seen) {
      expect(whole).toBe(true)
      expect(shown.length).toBeGreaterThanOrEqual(500)
      expect(new Set(shown.map(({ ticket }) => ticket)).size).toBe(shown.length)
    }
    yield* Fiber.join(parks)
    const { shown } = yield* walkOnce(parking)
    expect(new Set(shown.map(({ ticket }) => ticket)).size).toBe(2_500)
  })
)

live("as many join as the window holds; the walk goes on when there is room", () =>
  Effect.gen(function* () {
    const { url } = yield* vhost
    const parking = yield* startParked(url, { B24RMQ_PREFETCH: "10" })
    yield* isReady(parking)
    yield* parkAll(parking, numbers(35))
    const sizes: Array<number> = []
    const order: Array<string> = []
    for (let whole = false; !whole;) {
      const walk = yield* walkOnce(parking, () => "join")
      sizes.push(walk.joined)
      order.push(...walk.texts)
      for (const one of walk.shown) one.ack()
      whole = walk.whole
    }
    expect(sizes).toEqual([10, 10, 10, 5])
    expect(order).toEqual(numbers(35))
    expect(yield* parking.held).toBe(0)
  })
)

live("a walk ends when it is not wanted any more, and the next one goes on from there", () =>
  Effect.gen(function* () {
    const { url } = yield* vhost
    const parking = yield* startParked(url)
    yield* isReady(parking)
    yield* parkAll(parking, numbers(1_000))
    let count = 0
    const first = yield* parking.walk(
      () => {
        count++
        return "keep"
      },
      () => count < 300
    )
    expect(first).toEqual({ joined: 0, kept: 300, dropped: 0, whole: false })
    const { texts, whole } = yield* walkOnce(parking)
    expect(whole).toBe(true)
    expect(texts).toEqual([...numbers(1_000).slice(300), ...numbers(300)])
  })
)

live("what has joined comes back when its channel is lost, unless it was answered", () =>
  Effect.gen(function* () {
    const own = yield* vhost
    const parking = yield* startParked(own.url)
    yield* isReady(parking)
    yield* parkAll(parking, numbers(30))
    const { shown } = yield* walkOnce(parking, () => "join")
    expect(shown[0]?.isLost()).toBe(false)
    const losses = SubscriptionRef.getUnsafe(parking.losses)
    yield* own.closeConnections
    yield* become(parking.losses, (count) => count > losses)
    expect(shown.every((one) => one.isLost())).toBe(true)
    // The first ten were answered when their channel was gone already; these do nothing on the broker.
    for (const one of shown.slice(0, 10)) one.ack()
    for (const one of shown.slice(10, 20)) one.putBack()
    yield* isOpen(parking)
    const again = yield* walkOnce(parking, () => "join")
    expect(again).toMatchObject({ joined: 20, dropped: 10, whole: true })
    expect(again.texts.toSorted()).toEqual(numbers(30).slice(10).toSorted())
  })
)

live("what was there before, under tickets of an earlier bridge or of none, is walked; new tickets are higher", () =>
  Effect.gen(function* () {
    const { url } = yield* vhost
    yield* declareQueues(url, { in: queueParked })
    const far = Date.now() * 1_000 + 3_600_000_000
    const header = (ticket: unknown, others = {}) => ({ headers: { "x-b24rmq-ticket": ticket, ...others } })
    const put = (text: string, options: object) => ({ content: Buffer.from(text), options })
    yield* putInto(url, queueParked, [
      put("earlier", header({ "!": "int64", value: far }, { "x-b24rmq-deadline": 5_000, "x-b24rmq-parked-since": 7 })),
      put("", { headers: { "x-b24rmq-marker": true, "x-b24rmq-walk": { "!": "int64", value: far - 1 } } }),
      put("foreign", { messageId: "m" }),
      put("odd", header("no number")),
      put("again", header({ "!": "int64", value: far })),
      put("mine", header({ "!": "int64", value: far }))
    ])
    const parking = yield* startParked(url)
    yield* isOpen(parking)
    const { shown, kept, dropped } = yield* walkOnce(parking)
    expect({ kept, dropped }).toEqual({ kept: 3, dropped: 2 })
    expect(shown.map(textOf)).toEqual(["earlier", "foreign", "odd"])
    expect(shown[0]).toMatchObject({ ticket: far, deadline: 5_000, since: 7 })
    expect(shown[1]?.incoming).toMatchObject({ messageId: "m", headers: {} })
    const second = yield* walkOnce(parking)
    expect(second.shown.map(({ ticket }) => ticket)).toEqual(shown.map(({ ticket }) => ticket))
    expect(yield* parking.ticket).toBeGreaterThan(far)
    expect(yield* parking.held).toBe(3)
  })
)

live("where the queue may not be declared nothing is parked until somebody declares it; said once", () =>
  Effect.gen(function* () {
    const own = yield* vhost
    const proxy = yield* startProxy(own.url)
    const parking = yield* startParked(proxy.url, { B24RMQ_DECLARE: "no" })
    expect(yield* become(parking.state, (state) => state !== "opening")).toBe("absent")
    const ticket = yield* parking.ticket
    const refused = yield* Effect.flip(parking.park(delivery("a"), noteOf(ticket)))
    expect(refused._tag).toBe("NotParked")
    expect((yield* Effect.flip(parking.walk(() => "keep"))).message).toContain(`${queueParked} does not exist`)
    const { up } = proxy.bytes()
    yield* until(
      "it has looked again and again",
      Effect.sync(() => proxy.bytes().up - up > 300)
    )
    yield* declareQueues(own.url, { in: queueParked })
    yield* isOpen(parking)
    // What somebody may have put there has to be known first.
    expect((yield* Effect.flip(parking.park(delivery("a"), noteOf(ticket)))).message).toContain("not walked yet")
    yield* isReady(parking)
    yield* parking.park(delivery("a"), noteOf(ticket))
    const events = parking.told.map(({ event }) => event)
    expect(events.filter((event) => event.startsWith("parking"))).toEqual(["parking-off", "parking-on"])
  })
)

live("where the broker refuses the queue nothing is parked either", () =>
  Effect.gen(function* () {
    const own = yield* vhost
    const { evaluate } = yield* sharedNode
    const binary = (text: string) => `<<"${text}">>`
    yield* evaluate(
      `rabbit_auth_backend_internal:set_permissions(${binary("guest")}, ${binary(own.name)}, ${binary("^in$")}, ${binary(".*")}, ${binary(".*")}, ${binary("rig")})`
    )
    const parking = yield* startParked(own.url)
    expect(yield* become(parking.state, (state) => state !== "opening")).toBe("absent")
    expect((yield* Effect.flip(parking.walk(() => "keep"))).message).toContain("ACCESS_REFUSED")
  })
)

for (const type of types) {
  live(`a second bridge waits until the first is gone, and gets all that it had in hand: ${type}`, () =>
    Effect.gen(function* () {
      const { url } = yield* vhost
      yield* declareQueues(url, { in: queueParked, type })
      const texts = numbers(50)
      const waits = yield* Deferred.make<void>()
      const second = yield* Effect.scoped(
        Effect.gen(function* () {
          const first = yield* startParked(url)
          yield* isReady(first)
          yield* parkAll(first, texts)
          yield* walkOnce(first, (one) => (Number(textOf(one)) < 20 ? "join" : "keep"))
          const second = yield* Effect.forkDetach(
            Effect.scoped(
              Effect.gen(function* () {
                const parking = yield* startParked(url)
                yield* until(
                  "it says why it waits",
                  Effect.sync(() => parking.told.some(({ event }) => event === "parked-in-use"))
                )
                yield* Deferred.succeed(waits, undefined)
                yield* isOpen(parking)
                return yield* walkOnce(parking)
              })
            ),
            { startImmediately: true }
          )
          yield* Deferred.await(waits)
          expect(second.pollUnsafe()).toBeUndefined()
          return second
        })
      )
      const walk = yield* Fiber.join(second)
      expect(walk).toMatchObject({ kept: 50, whole: true })
      expect(walk.texts.toSorted()).toEqual(texts.toSorted())
    })
  )
}

live("what no message can hold cannot be parked, and harms nobody else", () =>
  Effect.gen(function* () {
    const { url } = yield* vhost
    const parking = yield* startParked(url)
    yield* isReady(parking)
    const long = (bytes: number) => delivery("long", { headers: { long: "x".repeat(bytes) } })
    const refused = yield* Effect.flip(parking.park(long(65_500), noteOf(yield* parking.ticket)))
    expect(refused._tag).toBe("CannotBeParked")
    expect(refused.message).toContain("65536")
    // The longest that fits goes round and round: no copy is longer than the one before.
    yield* parking.park(long(65_350), noteOf(yield* parking.ticket))
    yield* parking.park(delivery("short"), noteOf(yield* parking.ticket))
    for (let round = 0; round < 3; round++) {
      expect(yield* walkOnce(parking)).toMatchObject({ texts: ["long", "short"], kept: 2, whole: true })
    }
    expect(parking.told.map(({ event }) => event)).toEqual(["link-up", "queue-declared"])
  })
)

live("a message of somebody else that no copy can hold rests where it is, and is shown in every walk", () =>
  Effect.gen(function* () {
    const { url } = yield* vhost
    yield* declareQueues(url, { in: queueParked })
    const put = (text: string, headers: object) => ({ content: Buffer.from(text), options: { headers } })
    yield* putInto(url, queueParked, [put("long", { long: "x".repeat(65_500) }), put("short", {})])
    const parking = yield* startParked(url)
    yield* isOpen(parking)
    for (let round = 0; round < 3; round++) expect((yield* walkOnce(parking)).texts).toEqual(["long", "short"])
    const { shown } = yield* walkOnce(parking, () => "join")
    for (const one of shown) one.ack()
    expect(yield* takeAll(url, queueParked)).toEqual([])
  })
)

live("a queue that is full refuses what is parked; nothing that is in it is lost, and it can be emptied", () =>
  Effect.gen(function* () {
    const own = yield* vhost
    const parking = yield* startParked(own.url, { B24RMQ_PREFETCH: "5" })
    yield* isReady(parking)
    yield* own.policy("full", `^${queueParked}$`, { "max-length": 50, overflow: "reject-publish" })
    const results = yield* Effect.forEach(numbers(400), (text) =>
      Effect.flatMap(parking.ticket, (ticket) => Effect.result(parking.park(delivery(text), noteOf(ticket))))
    )
    const parked = numbers(400).filter((_, n) => results[n]?._tag === "Success")
    expect(parked.length).toBeGreaterThanOrEqual(50)
    expect(parked.length).toBeLessThan(400)
    const answered: Array<string> = []
    for (let whole = false; !whole;) {
      const walk = yield* walkOnce(parking, () => "join")
      answered.push(...walk.texts)
      for (const one of walk.shown) one.ack()
      whole = walk.whole
    }
    expect(answered).toEqual(parked)
  })
)

live("what cannot be published again is not acknowledged", () =>
  Effect.gen(function* () {
    const own = yield* vhost
    const parking = yield* startParked(own.url, { B24RMQ_PREFETCH: "10" })
    yield* isReady(parking)
    yield* parkAll(parking, numbers(60))
    yield* own.policy("full", `^${queueParked}$`, { "max-length": 5, overflow: "reject-publish" })
    // All lie here already, so that the queue takes five copies and no more.
    const cut = yield* Effect.flip(walkOnce(parking))
    expect(cut.message).toContain("its queue takes no more messages")
    yield* own.clearPolicy("full")
    const { texts, whole, dropped } = yield* walkOnce(parking)
    expect({ texts: texts.toSorted(), whole, dropped }).toEqual({
      texts: numbers(60).toSorted(),
      whole: true,
      dropped: 0
    })
  })
)

live("parked without a confirm: the copy is removed while the request is still where it was", () =>
  Effect.gen(function* () {
    const own = yield* vhost
    const proxy = yield* startProxy(own.url)
    const parking = yield* startParked(proxy.url)
    yield* isReady(parking)
    const ticket = yield* parking.ticket
    const request = delivery("a")
    const losses = SubscriptionRef.getUnsafe(parking.losses)
    yield* proxy.halfOpen("drop", "down")
    const late = yield* Effect.forkChild(Effect.flip(parking.park(request, noteOf(ticket))), { startImmediately: true })
    yield* until(
      "the broker has it",
      Effect.map(own.queueDepth(queueParked), ({ ready, unacked }) => ready + unacked === 1)
    )
    yield* proxy.cut
    yield* proxy.halfOpen(false)
    expect((yield* Fiber.join(late))._tag).toBe("NotParked")
    yield* become(parking.losses, (count) => count > losses)
    yield* isOpen(parking)
    expect(yield* walkOnce(parking)).toMatchObject({ texts: [], dropped: 1 })
    yield* parking.park(request, noteOf(ticket))
    expect(yield* walkOnce(parking)).toMatchObject({ texts: ["a"], dropped: 0 })
  })
)

live("the queue is deleted: what has joined is answered all the same, what lies here is parked again", () =>
  Effect.gen(function* () {
    const own = yield* vhost
    const parking = yield* startParked(own.url)
    yield* isReady(parking)
    yield* parkAll(parking, numbers(20))
    const { shown } = yield* walkOnce(parking, (one) => (Number(textOf(one)) < 10 ? "join" : "keep"))
    yield* own.deleteQueue(queueParked)
    yield* become(parking.state, (state) => state === "opening")
    expect(shown.slice(0, 10).map((one) => one.isLost())).toEqual(Array(10).fill(false))
    expect((yield* Effect.flip(parking.park(delivery("x"), noteOf(1))))._tag).toBe("NotParked")
    yield* declareQueues(own.url, { in: queueParked })
    yield* isOpen(parking)
    // Here they are again, as if their queue had only been moved: the loans' own messages are not ours any more.
    yield* putInto(
      own.url,
      queueParked,
      shown.map(({ ticket }) => ({
        content: Buffer.from("moved"),
        options: { headers: { "x-b24rmq-ticket": ticket } }
      }))
    )
    expect(yield* walkOnce(parking)).toMatchObject({ texts: numbers(20).slice(10), kept: 20, dropped: 10 })
    for (const one of shown.slice(0, 10)) one.ack()
    expect(yield* walkOnce(parking)).toMatchObject({ texts: numbers(20).slice(10), dropped: 10, whole: true })
  })
)

live("one whose delivery was lost is not parked: the broker has it again", () =>
  Effect.gen(function* () {
    const { url } = yield* vhost
    const parking = yield* startParked(url)
    yield* isReady(parking)
    const lost = { ...delivery("a"), isLost: () => true }
    expect((yield* Effect.flip(parking.park(lost, noteOf(1))))._tag).toBe("NotParked")
    expect((yield* walkOnce(parking)).texts).toEqual([])
  })
)

live("nothing is parked or walked while the broker takes no messages", () =>
  Effect.gen(function* () {
    const node = yield* victim
    const { url } = yield* node.vhost()
    const parking = yield* startParked(url)
    yield* isReady(parking)
    yield* parkAll(parking, ["a"])
    yield* node.memoryAlarm(true)
    // The broker blocks those who publish, once they do.
    const late = yield* Effect.forkChild(parkAll(parking, ["b"]), { startImmediately: true })
    yield* become(parking.connection.blocked, (reason) => reason !== undefined)
    const refused = yield* Effect.flip(parking.park(delivery("c"), noteOf(yield* parking.ticket)))
    expect(refused.message).toContain("takes no messages")
    expect((yield* Effect.flip(parking.walk(() => "keep"))).message).toContain("takes no messages")
    yield* node.memoryAlarm(false)
    yield* Fiber.join(late)
    yield* become(parking.connection.blocked, (reason) => reason === undefined)
    expect((yield* walkOnce(parking)).texts).toEqual(["a", "b"])
  })
)

live("what came back from the broker again and again is published anew, before a quorum queue drops it", () =>
  Effect.gen(function* () {
    const own = yield* vhost
    const queue = { in: queueParked, type: "quorum" as const, arguments: { "x-delivery-limit": 12 } }
    yield* declareQueues(own.url, queue)
    const parking = yield* startParked(own.url)
    yield* isReady(parking)
    yield* parkAll(parking, numbers(40))
    for (let round = 0; round < 15; round++) {
      const losses = SubscriptionRef.getUnsafe(parking.losses)
      // Half of them in hand, the others lying here.
      const walk = yield* parking.walk((one) => (Number(textOf(one)) < 20 ? "join" : "keep"))
      expect(walk.joined + walk.kept).toBeLessThanOrEqual(40)
      yield* own.closeConnections
      yield* become(parking.losses, (count) => count > losses)
      yield* isOpen(parking)
    }
    const seen = new Set<string>()
    for (let whole = false; !whole;) {
      const walk = yield* walkOnce(parking)
      for (const text of walk.texts) seen.add(text)
      whole = walk.whole
    }
    expect([...seen].toSorted()).toEqual(numbers(40).toSorted())
  })
)

live("what the broker finds too long is told apart, at the latest when it is to be parked again", () =>
  Effect.gen(function* () {
    const node = yield* victim
    const own = yield* node.vhost()
    const parking = yield* startParked(own.url)
    yield* isReady(parking)
    // RabbitMQ 4 keeps it elsewhere.
    const limitTo = (bytes: number) =>
      node.evaluate(
        `application:set_env(rabbit, max_message_size, ${bytes}), persistent_term:put(max_message_size, ${bytes})`
      )
    yield* Effect.acquireRelease(limitTo(10_000), () => Effect.ignore(limitTo(16_777_216)))
    // A channel takes the limit when it is opened.
    yield* own.closeConnections
    yield* become(parking.state, (state) => state === "opening")
    yield* isOpen(parking)
    const ticket = yield* parking.ticket
    const long = delivery("x".repeat(20_000))
    // The broker closes the channel over it, and says why.
    expect((yield* Effect.flip(parking.park(long, noteOf(ticket))))._tag).toBe("NotParked")
    yield* until(
      "the reason is known",
      Effect.map(Effect.flip(parking.park(long, noteOf(ticket))), ({ _tag }) => _tag === "CannotBeParked")
    )
    yield* parkAll(parking, ["short"])
    expect((yield* walkOnce(parking)).texts).toEqual(["short"])
  })
)

live("what lies here for long is published anew, for the broker takes back what is open for 30 minutes", () =>
  Effect.gen(function* () {
    const { url } = yield* vhost
    const proxy = yield* startProxy(url)
    const parking = yield* startParked(proxy.url)
    yield* isReady(parking)
    yield* parkAll(parking, numbers(30))
    const { shown } = yield* walkOnce(parking, (one) => (Number(textOf(one)) < 10 ? "join" : "keep"))
    for (const one of shown.slice(0, 10)) one.putBack()
    /** Bytes that are published when so much time has passed, and one request more. */
    const published = (time: Duration.Input) =>
      Effect.gen(function* () {
        const { up } = proxy.bytes()
        yield* TestClock.adjust(time)
        yield* parkAll(parking, ["another"])
        return proxy.bytes().up - up
      })
    const one = yield* published("9 minutes")
    expect(one).toBeLessThan(1_000)
    // A copy has more than a hundred.
    expect(yield* published("2 minutes")).toBeGreaterThan(one + 30 * 100)
    expect(yield* walkOnce(parking)).toMatchObject({ kept: 32, dropped: 0 })
  }).pipe(Effect.provide(TestClock.layer()))
)

live("the state can be followed", () =>
  Effect.gen(function* () {
    const own = yield* vhost
    const parking = yield* startParked(own.url)
    const seen = yield* SubscriptionRef.changes(parking.state).pipe(
      Stream.takeUntil((state) => state === "open"),
      Stream.runCollect
    )
    expect([...seen].at(-1)).toBe("open")
  })
)
