import { expect, test } from "bun:test"
import { createRequire } from "node:module"
import { dirname, join } from "node:path"
import type { GetMessage, MessageProperties, Options } from "amqplib"
import { Effect } from "effect"
import fc from "fast-check"
import { copyOf, rawOf } from "../../src/queue/raw.ts"
import type { ParkedDelivery } from "../../src/queue/walk.ts"
import { live } from "../effect.ts"
import { declareQueues, onLink } from "../rig/producer.ts"
import { sharedNode, vhost } from "../rig/rabbit.ts"
import { delivery, isReady, type Parking, putInto, queueIn, queueParked, startParked, takeAll } from "./parked.ts"

type Table = Readonly<Record<string, unknown>>

// The library's own encoder and decoder, so that thousands of tables go over the wire without a broker.
const require = createRequire(import.meta.url)
const codec = require(join(dirname(require.resolve("amqplib")), "lib/codec.js")) as {
  readonly encodeTable: (buffer: Buffer, table: object, offset: number) => number
  readonly decodeFields: (bytes: Buffer) => Table
}

const overTheWire = (table: object): Table => {
  const buffer = Buffer.alloc(65_536)
  const end = codec.encodeTable(buffer, table, 0)
  return codec.decodeFields(Buffer.from(buffer.subarray(4, end)))
}

/** What a value is by its own keys alone: a table named __proto__ becomes a prototype when it is decoded. */
const plain = (value: unknown): unknown => {
  if (typeof value !== "object" || value === null || ArrayBuffer.isView(value)) return value
  if (Array.isArray(value)) return value.map(plain)
  return Object.fromEntries(Object.entries(value).map(([key, field]) => [key, plain(field)]))
}

const typed = (type: string, value: fc.Arbitrary<unknown>) => value.map((value) => ({ "!": type, value }))
const bigInts = (min: bigint, max: bigint) => fc.bigInt({ min, max })

/** The names of a table. The library writes an own key "!" as a type, and inherited ones as they are. */
const asTable = (entries: ReadonlyArray<readonly [string, unknown]>): object =>
  Object.create(Object.fromEntries(entries))

const named = [
  "method",
  "user",
  "token",
  "CC",
  "BCC",
  "!",
  "value",
  "__proto__",
  "constructor",
  "x-death",
  "x-first-death-queue",
  "x-last-death-reason",
  "x-delivery-count",
  "x-acquired-count",
  "x-b24rmq-ticket",
  "x-b24rmq-deadline",
  "x-b24rmq-marker",
  "cc",
  "x-deaths"
]
const name = fc.oneof(
  fc.constantFrom(...named),
  fc.string({ unit: "binary", maxLength: 60 }).filter((text) => text.isWellFormed())
)

/** Every type that RabbitMQ has in its tables. */
const fieldWith = (double: fc.Arbitrary<number>, float: fc.Arbitrary<number>) =>
  fc.letrec((tie) => ({
    field: fc.oneof(
      { depthSize: "small", withCrossShrink: true },
      typed(
        "int64",
        fc.oneof(bigInts(-(2n ** 63n), 2n ** 63n - 1n), fc.constantFrom(2n ** 63n - 1n, -(2n ** 63n), 2n ** 53n + 1n))
      ),
      typed("int8", fc.integer({ min: -128, max: 127 })),
      typed("uint8", fc.integer({ min: 0, max: 255 })),
      typed("int16", fc.integer({ min: -(2 ** 15), max: 2 ** 15 - 1 })),
      typed("uint16", fc.integer({ min: 0, max: 2 ** 16 - 1 })),
      typed("int32", fc.integer()),
      typed("uint32", fc.integer({ min: 0, max: 2 ** 32 - 1 })),
      typed("double", fc.oneof(double, fc.constantFrom(-0, 2 ** 50 + 0.5, -1e300, 5))),
      typed("float", float),
      typed("timestamp", bigInts(0n, 2n ** 64n - 1n)),
      typed("decimal", fc.record({ places: fc.nat(255), digits: fc.nat(2 ** 31 - 1) })),
      fc.string({ unit: "binary" }).filter((text) => text.isWellFormed()),
      fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
      fc.boolean(),
      fc.constant(null),
      fc.array(tie("field"), { maxLength: 5 }),
      fc.array(fc.tuple(name, tie("field")), { maxLength: 5 }).map(asTable)
    )
  })).field

const headersWith = (field: fc.Arbitrary<unknown>) =>
  fc.array(fc.tuple(name, field), { maxLength: 12, size: "max" }).map(asTable)

/** NaN and infinity exist on the wire, but RabbitMQ ends the connection over them. */
const isFinite = { noNaN: true, noDefaultInfinity: true }
const finite = fieldWith(fc.double(isFinite), fc.float(isFinite))
const any = fieldWith(fc.oneof(fc.double(), fc.constantFrom(Number.NaN, Infinity, -Infinity)), fc.float())

const forbidden = [
  "CC",
  "BCC",
  "x-death",
  "x-first-death-queue",
  "x-last-death-reason",
  "x-delivery-count",
  "x-acquired-count"
]

const without = (table: Table, names: ReadonlyArray<string>) =>
  Object.fromEntries(Object.entries(table).filter(([name]) => !names.includes(name)))

test("what is written of a header is read again as it was, whatever its type; what must not be copied is not", () => {
  const own = { "x-b24rmq-ticket": { "!": "int64", value: 5 }, "x-b24rmq-marker": undefined }
  fc.assert(
    fc.property(headersWith(any), (table) => {
      const before = overTheWire(table)
      const { headers } = copyOf({ headers: before } as unknown as MessageProperties, own)
      const after = overTheWire(Object.create(headers as object))
      const expected = without(before, [...forbidden, ...Object.keys(own)])
      expect(plain(after)).toEqual(plain({ ...expected, "x-b24rmq-ticket": 5 }))
      // A second time, for a walk copies what was copied.
      const twice = copyOf({ headers: after } as unknown as MessageProperties, own)
      expect(plain(overTheWire(Object.create(twice.headers as object)))).toEqual(plain(after))
    }),
    { numRuns: 5_000 }
  )
})

test("a hostile table named __proto__ does not become headers", () => {
  const hostile = asTable([
    ["a", 1],
    ["__proto__", asTable([["CC", ["elsewhere"]]])],
    ["deep", asTable([["__proto__", asTable([["b", 2]])]])]
  ])
  const before = overTheWire(hostile)
  const copy = copyOf({ headers: before } as unknown as MessageProperties, {})
  expect(overTheWire(Object.create(copy.headers as object))).toEqual({ a: 1, deep: {} })
})

/** Walks once, and gives what was shown. */
const shown = (parking: Parking) =>
  Effect.gen(function* () {
    const all: Array<ParkedDelivery> = []
    yield* parking.walk((one) => {
      all.push(one)
      return "keep"
    })
    return all
  })

/** Parks the messages as the intake would have got them. */
const parkMessages = (parking: Parking, messages: ReadonlyArray<GetMessage>) =>
  Effect.forEach(
    messages,
    (message) =>
      Effect.flatMap(parking.ticket, (ticket) =>
        parking.park({ ...delivery(""), incoming: rawOf(message) }, { ticket, since: 1, deadline: undefined })
      ),
    { concurrency: "unbounded" }
  )

const shortText = fc
  .string({ unit: "grapheme", minLength: 1, maxLength: 40 })
  .filter((text) => Buffer.byteLength(text) <= 255 && !text.includes("\0"))

const options: fc.Arbitrary<Options.Publish> = fc.record(
  {
    contentType: shortText,
    contentEncoding: shortText,
    headers: headersWith(finite).map((table) => Object.create(without(Object.getPrototypeOf(table), ["CC", "BCC"]))),
    priority: fc.nat(255),
    correlationId: shortText,
    replyTo: shortText,
    messageId: shortText,
    timestamp: fc.nat(2 ** 31),
    type: shortText,
    appId: shortText,
    deliveryMode: fc.constantFrom(1, 2)
  },
  { requiredKeys: [] }
)

live("a request comes back from parking as it was", () =>
  Effect.gen(function* () {
    const { url } = yield* vhost
    yield* declareQueues(url, { in: queueIn })
    const parking = yield* startParked(url)
    yield* isReady(parking)
    const sent = fc.sample(fc.record({ options, content: fc.uint8Array({ maxLength: 2_000 }).map(Buffer.from) }), 100)
    yield* putInto(url, queueIn, sent)
    const messages = yield* takeAll(url, queueIn)
    yield* parkMessages(parking, messages)
    // Twice, for the first walk publishes them again.
    yield* shown(parking)
    const back = yield* shown(parking)
    expect(back.length).toBe(sent.length)
    const names = [...forbidden, "x-b24rmq-ticket", "x-b24rmq-deadline", "x-b24rmq-marker"]
    for (const [n, { incoming }] of back.entries()) {
      const before = rawOf(messages[n] ?? ({} as GetMessage))
      expect(Buffer.from(incoming.body)).toEqual(Buffer.from(before.body))
      expect(plain(incoming.headers)).toEqual(plain(without(before.headers, names)))
      const ofAll = { headers: undefined, deliveryMode: 2 }
      expect<object>({ ...incoming.properties, ...ofAll }).toEqual({ ...before.properties, ...ofAll })
      expect(incoming.properties.deliveryMode).toBe(2)
      expect([incoming.messageId, incoming.correlationId]).toEqual([before.messageId, before.correlationId])
    }
  })
)

live("another user's message that was dead-lettered, that expires, and that went to further queues", () =>
  Effect.gen(function* () {
    const own = yield* vhost
    const { evaluate } = yield* sharedNode
    const binary = (text: string) => `<<"${text}">>`
    const alice = `alice-${process.pid}`
    const user = [binary(alice), binary("secret"), binary("rig")].join(",")
    yield* Effect.acquireRelease(
      evaluate(
        `ok = rabbit_auth_backend_internal:add_user(${user}), rabbit_auth_backend_internal:set_permissions(${binary(alice)}, ${binary(own.name)}, ${binary(".*")}, ${binary(".*")}, ${binary(".*")}, ${binary("rig")})`
      ),
      () => Effect.ignore(evaluate(`rabbit_auth_backend_internal:delete_user(${binary(alice)}, ${binary("rig")})`))
    )
    yield* declareQueues(own.url, { in: queueIn, out: "elsewhere" })
    yield* declareQueues(own.url, { in: "hidden" })
    yield* onLink(own.url, async (link) => {
      const channel = await link.createChannel()
      const arguments_ = { "x-message-ttl": 1, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": queueIn }
      await channel.assertQueue("first", { durable: true, arguments: arguments_ })
    })
    const parking = yield* startParked(own.url)
    yield* isReady(parking)
    const url = own.url.replace("guest:guest", `${alice}:secret`)
    const headers = { method: "profile" }
    const content = Buffer.from("{}")
    yield* putInto(url, "first", [{ content, options: { userId: alice, headers } }])
    yield* putInto(url, queueIn, [
      { content, options: { userId: alice, headers, expiration: "60000", CC: "elsewhere", BCC: "hidden" } }
    ])
    const messages: Array<GetMessage> = []
    while (messages.length < 2) messages.push(...(yield* takeAll(own.url, queueIn)))
    // They are what they are meant to be.
    const found = messages.flatMap(({ properties }) => [
      ...Object.keys(properties.headers ?? {}),
      ...Object.entries(properties).flatMap(([key, value]) => (value === undefined ? [] : [key]))
    ])
    expect(found).toEqual(expect.arrayContaining(["x-death", "x-first-death-queue", "CC", "expiration", "userId"]))
    expect(yield* takeAll(own.url, "elsewhere")).toHaveLength(1)
    expect(yield* takeAll(own.url, "hidden")).toHaveLength(1)
    yield* parkMessages(parking, messages)
    yield* shown(parking)
    for (const { incoming } of yield* shown(parking)) {
      expect(incoming.headers).toEqual(headers)
      expect(incoming.properties).toMatchObject({ userId: undefined, expiration: undefined, deliveryMode: 2 })
    }
    expect(yield* takeAll(own.url, "elsewhere")).toHaveLength(0)
    expect(yield* takeAll(own.url, "hidden")).toHaveLength(0)
    expect(parking.told.map(({ event }) => event)).toEqual(["link-up", "queue-declared"])
    expect(yield* own.queueDepth(queueParked)).toMatchObject({ consumers: 1 })
  })
)
