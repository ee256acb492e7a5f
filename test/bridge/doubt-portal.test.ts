import { NodeServices } from "@effect/platform-node"
import { describe, expect } from "bun:test"
import { Clock, Duration, Effect, Layer, Result, type Scope } from "effect"
import { type Means, type Doubt, resolve } from "../../src/bridge/doubt.ts"
import type { Answer } from "../../src/message/answer.ts"
import { readRequest, type Request } from "../../src/message/request.ts"
import { Portal as Client } from "../../src/portal/client.ts"
import type { FinalOutcome } from "../../src/portal/outcome.ts"
import { finders } from "../../src/portal/finders.ts"
import { keyOf, remedyFor, repeats } from "../../src/portal/remedies.ts"
import { stamped } from "../../src/portal/stamp.ts"
import { Refusal } from "../../src/sandbox/portal/envelope.ts"
import type { Fault } from "../../src/sandbox/portal/faults.ts"
import { openPortal, type Portal } from "../../src/sandbox/portal/server.ts"
import { type OwnRemedy, Settings } from "../../src/settings.ts"
import { live } from "../effect.ts"

// A write is cut off on a real socket, after or before the portal ran it, and has to be resolved.

const portalLimit = Duration.millis(30)
const tooOld = () => Effect.die("nothing is too old here")
const pause: Means["pause"] = (duration) => Effect.as(Effect.sleep(duration), true)

interface Write {
  readonly method: string
  readonly params: unknown
  readonly messageId?: string | undefined
}

interface Scene {
  readonly portal: Portal
  readonly third?: boolean
  readonly own?: ReadonlyArray<OwnRemedy>
  readonly stamp?: boolean
}

const requestOf = ({ method, params, ...rest }: Write): Request => {
  const read = readRequest(
    {
      messageId: "messageId" in rest ? rest.messageId : "m-1",
      correlationId: undefined,
      timestamp: undefined,
      headers: { method, user: "1", token: "sandbox" },
      body: Buffer.from(JSON.stringify(params))
    },
    1e6
  )
  if (Result.isFailure(read)) throw new Error(read.failure.description)
  return read.success
}

const cutAfter: Fault = { kind: "reset", executed: true }
const cutBefore: Fault = { kind: "reset" }

const clientOf = ({ portal, third }: Scene) =>
  Client.layer.pipe(
    Layer.provide(
      Settings.layerOf({
        AMPQURL: "amqp://127.0.0.1",
        B24REST: third ? `${portal.origin}/rest/api/` : portal.url,
        B24RMQ_PORTAL_LIMIT: "1"
      })
    ),
    Layer.provide(NodeServices.layer)
  )

/** Asks as the dispatcher does: what is not final is asked again, and so is a read. */
const asker =
  (client: Client["Service"], third: boolean): Means["ask"] =>
  (request, isRead) =>
    Effect.gen(function* () {
      const key = isRead || !third ? undefined : keyOf(request)
      for (let attempts = 1; ; attempts++) {
        const outcome = yield* client.call({ ...request, key })
        if (outcome._tag === "Limited" || outcome._tag === "Unavailable") continue
        if (outcome._tag === "Unknown" && isRead && attempts < 3) continue
        return {
          _tag: "Sent",
          outcome: outcome satisfies FinalOutcome,
          attempts,
          packed: false,
          sentAt: 0,
          endedAt: yield* Clock.currentTimeMillis
        } as const
      }
    })

/** Sends a write into faults, one for each of its sendings, and resolves what is then in doubt. */
const resolved = Effect.fnUntraced(function* (scene: Scene, write: Write, faults: ReadonlyArray<Fault>) {
  const { portal, third = false, own = [] } = scene
  const client = yield* Effect.provide(Client, clientOf(scene))
  const request = scene.stamp ? stamped(requestOf(write)) : requestOf(write)
  let left = faults
  let off = () => {}
  const ask: Means["ask"] = (asked, reading) =>
    Effect.suspend(() => {
      const [fault, ...rest] = reading ? [] : left
      if (!reading) left = rest
      if (fault !== undefined) off = portal.fault(fault)
      return Effect.ensuring(
        asker(client, third)(asked, reading),
        Effect.sync(() => off())
      )
    })
  const sentAt = yield* Clock.currentTimeMillis
  const first = yield* ask(request, false)
  if (first._tag !== "Sent" || first.outcome._tag !== "Unknown") throw new Error(`no doubt: ${JSON.stringify(first)}`)
  const doubt: Doubt = {
    request,
    remedy: remedyFor(request, own, third),
    sentAt,
    latestStart: sentAt,
    inherited: false,
    attempts: 1,
    reason: first.outcome.reason,
    status: first.outcome.status,
    packed: false
  }
  const answer = yield* resolve(doubt, { portalLimit, pause, ask, tooOld })
  if (answer === undefined) throw new Error("not resolved")
  return answer
})

const bodyOf = ({ body }: Answer): Readonly<Record<string, unknown>> => JSON.parse(Buffer.from(body).toString())
const resultOf = (answer: Answer): unknown => bodyOf(answer).result
const textOf = (answer: Answer): string => String(bodyOf(answer).error_description)

/** Keys and types of a value. */
const shapeOf = (value: unknown): unknown =>
  typeof value === "object" && value !== null
    ? Object.fromEntries(
        Object.entries(value)
          .map(([key, inside]) => [key, shapeOf(inside)] as const)
          .toSorted(([a], [b]) => (a < b ? -1 : 1))
      )
    : typeof value

const onPortal = <E>(name: string, body: (portal: Portal) => Effect.Effect<unknown, E, Scope.Scope>) =>
  live(name, () => Effect.flatMap(openPortal(), body))

/** What is there before a write, for those that need it. */
const furnish = (portal: Portal) => {
  portal.crm.table("deal").add({ TITLE: "before" })
  portal.crm.table("contact").add({ NAME: "before" })
  portal.crm.table("company").add({ TITLE: "before" })
  portal.crm.table("dynamic_1042").add({ TITLE: "before" })
  portal.crm.table("activity").add({ SUBJECT: "before" })
  portal.crm.table("comment").add({ COMMENT: "before" })
  portal.crm.table("requisite").add({ NAME: "before" })
  portal.crm.table("task").add({ TITLE: "before" })
  portal.crm.table("list_47").add({ CODE: "before" })
}

const origin = { ORIGINATOR_ID: "shop", ORIGIN_ID: "m-118" }

/** One for each row of the table; `result` is what the answer says of what was made. */
const creators: ReadonlyArray<Write & { readonly result: unknown }> = [
  { method: "crm.lead.add", params: { fields: { TITLE: "Заявка", ...origin } }, result: 1 },
  { method: "crm.deal.add", params: { fields: { TITLE: "Сделка", ...origin } }, result: 2 },
  { method: "crm.contact.add.json", params: { FIELDS: { NAME: "Иван", ORIGIN_ID: 118 } }, result: 2 },
  { method: "crm.company.add", params: { fields: { TITLE: "ООО", ...origin } }, result: 2 },
  {
    method: "crm.item.add",
    params: { entityTypeId: 2, fields: { title: "Сделка", originId: "m-118", originatorId: "shop" } },
    result: { item: { id: 2, originId: "m-118", title: "Сделка" } }
  },
  {
    method: "crm.item.add",
    params: { entityTypeId: "1042", fields: { title: "Акт", xmlId: "m-118", ufCrm7_Paid: "Y" } },
    result: { item: { id: 2, xmlId: "m-118", title: "Акт", ufCrm7_Paid: "Y" } }
  },
  {
    method: "crm.activity.add",
    params: { fields: { OWNER_ID: 1, OWNER_TYPE_ID: 2, TYPE_ID: 1, ...origin } },
    result: 2
  },
  {
    method: "crm.requisite.add",
    params: { fields: { ENTITY_TYPE_ID: 4, ENTITY_ID: 1, PRESET_ID: 1, NAME: "ООО", XML_ID: "r-1" } },
    result: 2
  },
  { method: "crm.requisite.bankdetail.add", params: { fields: { ENTITY_ID: 1, XML_ID: "b-1" } }, result: 1 },
  { method: "crm.status.add", params: { fields: { ENTITY_ID: "SOURCE", STATUS_ID: "FAIR", NAME: "a" } }, result: 1 },
  {
    method: "lists.element.add",
    params: { IBLOCK_TYPE_ID: "lists", IBLOCK_ID: 47, ELEMENT_CODE: "e-1", FIELDS: { NAME: "Акт" } },
    result: 2
  },
  {
    method: "catalog.measure.add",
    params: { fields: { code: 715, measureTitle: "Пара" } },
    result: { measure: { id: 1, code: 715, measureTitle: "Пара", isDefault: "N" } }
  }
]

describe("creators that name what they create", () => {
  for (const { result, ...write } of creators) {
    const method = write.method.replace(".json", "")
    onPortal(`${method}: cut after execution, it is found`, (portal) =>
      Effect.gen(function* () {
        furnish(portal)
        const answer = yield* resolved({ portal }, write, [cutAfter])
        expect(answer).toMatchObject({ outcome: "done", status: 200, attempts: 1, resolved: "found" })
        expect([resultOf(answer)]).toMatchObject([result])
        // In the very form of the creator's own answer, which a second portal gives.
        const twin = yield* openPortal()
        furnish(twin)
        const own = yield* resolved({ portal: twin }, write, [cutBefore])
        expect(shapeOf(resultOf(answer))).toEqual(shapeOf(resultOf(own)))
        expect(bodyOf(answer).time).toMatchObject({ processing: expect.any(Number) })
        expect([portal.count(method), portal.doubles()]).toEqual([1, []])
      })
    )
    onPortal(`${method}: cut before execution, it is sent once more`, (portal) =>
      Effect.gen(function* () {
        furnish(portal)
        const answer = yield* resolved({ portal }, write, [cutBefore])
        expect(answer).toMatchObject({ outcome: "done", status: 200, attempts: 2, resolved: "repeated" })
        expect([resultOf(answer)]).toMatchObject([result])
        expect([portal.count(method), portal.doubles()]).toEqual([1, []])
      })
    )
    onPortal(`${method}: cut before, and then after execution`, (portal) =>
      Effect.gen(function* () {
        furnish(portal)
        const answer = yield* resolved({ portal }, write, [cutBefore, cutAfter])
        expect(answer).toMatchObject({ outcome: "done", attempts: 2, resolved: "found" })
        expect([resultOf(answer)]).toMatchObject([result])
        expect([portal.count(method), portal.doubles()]).toEqual([1, []])
      })
    )
  }

  live("every row of the table has its example", () =>
    Effect.sync(() => {
      const covered = (finder: (typeof finders)[number]) =>
        creators.some((write) => {
          const remedy = remedyFor(requestOf(write), [], false)
          return remedy._tag === "LookUp" && remedy.handle.finder === finder
        })
      expect(finders.filter((finder) => !covered(finder))).toEqual([])
    })
  )
})

describe("what may be repeated", () => {
  const call = { USER_ID: 1, PHONE_NUMBER: "79990001122", TYPE: 2, EXTERNAL_CALL_ID: "pbx-1" }
  const examples: ReadonlyArray<Write & { readonly table: string; readonly rows: number; readonly result: unknown }> = [
    { method: "telephony.externalcall.register", params: call, table: "externalcall", rows: 1, result: {} },
    {
      method: "im.notify.system.add",
      params: { USER_ID: 1, MESSAGE: "a", TAG: "t-1", CLIENT_ID: "shop" },
      table: "notification",
      rows: 1,
      result: expect.any(Number)
    },
    {
      method: "im.notify.personal.add",
      params: { USER_ID: 1, MESSAGE: "a", TAG: "t-1", CLIENT_ID: "shop" },
      table: "notification",
      rows: 1,
      result: expect.any(Number)
    },
    { method: "crm.deal.update", params: { id: 1, fields: { TITLE: "b" } }, table: "deal", rows: 1, result: true },
    {
      method: "crm.item.update",
      params: { entityTypeId: 1042, id: 1, fields: { title: "b" } },
      table: "dynamic_1042",
      rows: 1,
      result: { item: { id: 1, title: "b" } }
    },
    {
      method: "crm.item.productrow.set",
      params: { ownerType: "D", ownerId: 1, productRows: [{ productName: "a", price: 3 }] },
      table: "productrow",
      rows: 1,
      result: { productRows: [{ ownerId: 1, price: 3 }] }
    },
    {
      method: "tasks.task.update",
      params: { taskId: 1, fields: { TITLE: "b" } },
      table: "task",
      rows: 1,
      result: { task: { id: "1", title: "b" } }
    }
  ]
  for (const { table, rows, result, ...write } of examples)
    for (const fault of [cutAfter, cutBefore])
      onPortal(
        `${write.method}: cut ${fault === cutAfter ? "after" : "before"} execution, it is sent again`,
        (portal) =>
          Effect.gen(function* () {
            furnish(portal)
            const answer = yield* resolved({ portal }, write, [fault])
            expect(answer).toMatchObject({ outcome: "done", attempts: 2, resolved: "repeated" })
            expect([resultOf(answer)]).toMatchObject([result])
            expect(portal.crm.table(table).size).toBe(rows)
          })
      )

  live("every row of the table has its example", () =>
    Effect.sync(() =>
      expect(repeats.filter(({ method }) => !examples.some((one) => one.method === method))).toEqual([])
    )
  )

  const deletes: ReadonlyArray<Write & { readonly table: string; readonly result: unknown }> = [
    { method: "crm.deal.delete", params: { id: 1 }, table: "deal", result: true },
    { method: "crm.contact.delete", params: { id: 1 }, table: "contact", result: true },
    { method: "crm.company.delete", params: { id: 1 }, table: "company", result: true },
    { method: "crm.item.delete", params: { entityTypeId: 1042, id: 1 }, table: "dynamic_1042", result: [] },
    { method: "crm.activity.delete", params: { id: 1 }, table: "activity", result: true },
    { method: "crm.timeline.comment.delete", params: { id: 1 }, table: "comment", result: null },
    { method: "crm.requisite.delete", params: { id: 1 }, table: "requisite", result: true }
  ]
  for (const { table, result, ...write } of deletes) {
    onPortal(`${write.method}: cut after execution, finds nothing and is done`, (portal) =>
      Effect.gen(function* () {
        furnish(portal)
        const answer = yield* resolved({ portal }, write, [cutAfter])
        expect(answer).toMatchObject({ outcome: "done", attempts: 2, resolved: "gone" })
        expect(bodyOf(answer)).toEqual({ result })
        expect(portal.crm.table(table).size).toBe(0)
      })
    )
    onPortal(`${write.method}: cut before execution, deletes`, (portal) =>
      Effect.gen(function* () {
        furnish(portal)
        const answer = yield* resolved({ portal }, write, [cutBefore])
        expect(answer).toMatchObject({ outcome: "done", attempts: 2, resolved: "repeated" })
        expect(bodyOf(answer)).toMatchObject({ result })
        expect(portal.crm.table(table).size).toBe(0)
      })
    )
  }
  onPortal("a delete whose refusal could mean both is told", (portal) =>
    Effect.gen(function* () {
      furnish(portal)
      const answer = yield* resolved({ portal }, { method: "tasks.task.delete", params: { taskId: 1 } }, [cutAfter])
      expect(answer.outcome).toBe("unknown")
      expect(textOf(answer)).toContain("Sent again, it was refused (1048582), which says nothing of the first time.")
    })
  )
  onPortal("an update that is refused is refused", (portal) =>
    Effect.gen(function* () {
      const write = { method: "crm.deal.update", params: { id: 9, fields: {} } }
      const answer = yield* resolved({ portal }, write, [cutAfter])
      expect(answer).toMatchObject({ outcome: "refused", status: 400, attempts: 2, resolved: "repeated" })
      expect(bodyOf(answer)).toEqual({ error: "", error_description: "Not found" })
    })
  )
  onPortal("an update whose webhook is refused by then is told", (portal) =>
    Effect.gen(function* () {
      furnish(portal)
      const answer = yield* resolved(
        { portal },
        { method: "crm.deal.update", params: { id: 1, fields: { TITLE: "b" } } },
        [cutAfter, { kind: "answer", status: 401, body: { error: "INVALID_CREDENTIALS", error_description: "no" } }]
      )
      expect(answer.outcome).toBe("unknown")
      expect(textOf(answer)).toContain("refused (INVALID_CREDENTIALS)")
      expect(textOf(answer)).toContain("look in the portal whether the change is there before you send it again")
    })
  )
})

describe("what nothing proves", () => {
  const examples: ReadonlyArray<Write> = [
    {
      method: "crm.timeline.comment.add",
      params: { fields: { ENTITY_ID: 1, ENTITY_TYPE: "deal", COMMENT: "a" } }
    },
    { method: "im.notify.system.add", params: { USER_ID: 1, MESSAGE: "a", TAG: "t-1" } },
    { method: "tasks.task.add", params: { fields: { TITLE: "a", XML_ID: "m-1" } } },
    { method: "task.commentitem.add", params: [1, { POST_MESSAGE: "a" }] },
    { method: "crm.deal.add", params: { fields: { TITLE: "a" } } },
    { method: "crm.contact.update", params: { id: 1, fields: { PHONE: [{ VALUE: "+7999", VALUE_TYPE: "WORK" }] } } },
    { method: "bizproc.workflow.start", params: { TEMPLATE_ID: 14 } },
    { method: "batch", params: { cmd: { a: "crm.deal.add?fields[TITLE]=a" } } },
    { method: "erp.order.push", params: { order: 1 } }
  ]
  for (const write of examples)
    for (const fault of [cutAfter, cutBefore])
      onPortal(`${write.method}: cut ${fault === cutAfter ? "after" : "before"} execution, it is told`, (portal) =>
        Effect.gen(function* () {
          furnish(portal)
          portal.define("erp.order.push", () => ({ accepted: true }))
          const before = portal.requests
          const answer = yield* resolved({ portal }, write, [fault])
          expect(answer).toMatchObject({ outcome: "unknown", attempts: 1 })
          expect(bodyOf(answer).error).toBe("B24RMQ_OUTCOME_UNKNOWN")
          expect(textOf(answer)).toMatch(
            /^[\w.]+ was sent at \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ, and no answer came \(\w+\)\. It may or may not have been executed: look in the portal .* before you send it again with a new message_id\.$/
          )
          expect(portal.requests - before).toBe(1)
        })
      )
})

describe("what a look-up proves", () => {
  const deal = (fields: object): Write => ({ method: "crm.deal.add", params: { fields: { TITLE: "a", ...fields } } })
  const ago = (ms: number) => new Date(Date.now() - ms).toISOString().replace(/\.\d+Z$/, "+00:00")
  const minute = 60_000

  onPortal("one that is two hours older was there before", (portal) =>
    Effect.gen(function* () {
      for (const faults of [[cutBefore], [cutAfter]]) {
        portal.reset()
        portal.crm.table("deal").add({ TITLE: "old", DATE_CREATE: ago(120 * minute), ...origin })
        const answer = yield* resolved({ portal }, deal(origin), faults)
        expect([answer.outcome, resultOf(answer), portal.count("crm.deal.add")]).toEqual(["done", 2, 1])
      }
    })
  )
  for (const [name, made] of [
    ["a little older", ago(10 * minute)],
    ["younger than the send and the portal's limit", ago(-10 * minute)],
    ["of no time that can be read", "10.03.2026 12:00:00"]
  ] as const)
    onPortal(`one that is ${name} proves nothing`, (portal) =>
      Effect.gen(function* () {
        portal.crm.table("deal").add({ DATE_CREATE: made, ...origin })
        const answer = yield* resolved({ portal }, deal(origin), [cutBefore])
        expect([answer.outcome, portal.count("crm.deal.add")]).toEqual(["unknown", 0])
        expect(textOf(answer)).toContain(
          "It was looked for by ORIGIN_ID m-118, ORIGINATOR_ID shop, and what has this name was made at another time: 1."
        )
      })
    )
  onPortal("two of the same time prove nothing", (portal) =>
    Effect.gen(function* () {
      portal.crm.table("deal").add({ DATE_CREATE: ago(0), ...origin })
      const answer = yield* resolved({ portal }, deal(origin), [cutAfter])
      expect(textOf(answer)).toContain("and more than one has this name: 2, 1.")
      expect([answer.outcome, portal.count("crm.deal.add")]).toEqual(["unknown", 1])
    })
  )
  onPortal("a list that ignores the filter proves nothing", (portal) =>
    Effect.gen(function* () {
      furnish(portal)
      const all = () => [...portal.crm.table("deal").all()].map((row) => Object.fromEntries(row))
      portal.define("crm.deal.list", all, { scope: "crm", write: false })
      const answer = yield* resolved({ portal }, deal(origin), [cutBefore])
      expect([answer.outcome, portal.count("crm.deal.add")]).toEqual(["unknown", 0])
      expect(textOf(answer)).toContain("and crm.deal.list does not look at this name.")
      // And yet: what carries the name is what was made.
      const found = yield* resolved({ portal }, deal(origin), [cutAfter])
      expect([found.outcome, found.resolved, resultOf(found)]).toEqual(["done", "found", 2])
    })
  )
  onPortal("a list that is refused or never answers proves nothing", (portal) =>
    Effect.gen(function* () {
      portal.define("crm.deal.list", () => new Refusal(400, "", "Access denied."), { scope: "crm", write: false })
      const refused = yield* resolved({ portal }, deal(origin), [cutAfter])
      expect(textOf(refused)).toContain("and crm.deal.list was refused.")
      portal.fault({ kind: "html", status: 502, when: { method: "crm.lead.list" } })
      const lead = { method: "crm.lead.add", params: { fields: origin } }
      const unanswered = yield* resolved({ portal }, lead, [cutAfter])
      expect(textOf(unanswered)).toContain("and crm.lead.list was not answered (HTTP 502 without JSON).")
      expect([portal.count("crm.deal.add"), portal.count("crm.lead.add")]).toEqual([1, 1])
    })
  )
  onPortal("without a source, another source's row of the same name is none, if it is old", (portal) =>
    Effect.gen(function* () {
      portal.crm.table("deal").add({ DATE_CREATE: ago(120 * minute), ...origin })
      const answer = yield* resolved({ portal }, deal({ ORIGIN_ID: "m-118" }), [cutBefore])
      expect([answer.outcome, resultOf(answer), answer.resolved]).toEqual(["done", 2, "repeated"])
      portal.crm.table("deal").add({ DATE_CREATE: ago(0), ORIGINATOR_ID: "shop", ORIGIN_ID: "m-119" })
      const recent = yield* resolved({ portal }, deal({ ORIGIN_ID: "m-119" }), [cutBefore])
      expect(textOf(recent)).toContain("what was found is written another way: 3.")
      expect(portal.count("crm.deal.add")).toBe(1)
    })
  )
  onPortal("a request that sets the time of creation cannot be told by it", (portal) =>
    Effect.gen(function* () {
      const write = deal({ ...origin, DATE_CREATE: ago(120 * minute) })
      const answer = yield* resolved({ portal }, write, [cutAfter])
      expect([answer.outcome, portal.count("crm.deal.add")]).toEqual(["unknown", 1])
    })
  )
  onPortal("what is not there and refused when it is sent once more is refused", (portal) =>
    Effect.gen(function* () {
      const answer = yield* resolved({ portal }, deal({ ...origin, CURRENCY_ID: "roubles" }), [cutAfter])
      expect([answer.outcome, answer.resolved, answer.status]).toEqual(["refused", "repeated", 400])
    })
  )
  onPortal("what is never answered is told after four sendings", (portal) =>
    Effect.gen(function* () {
      const answer = yield* resolved({ portal }, deal(origin), [cutBefore, cutBefore, cutBefore, cutBefore])
      expect(answer).toMatchObject({ outcome: "unknown", attempts: 4 })
      expect(textOf(answer)).toContain("Sent 4 times, it was never answered.")
      expect(portal.count("crm.deal.add")).toBe(0)
    })
  )
})

describe("a stamp", () => {
  const unnamed: ReadonlyArray<Write> = [
    { method: "crm.lead.add", params: { fields: { TITLE: "a" } } },
    { method: "crm.deal.add", params: { fields: { TITLE: "a", ORIGINATOR_ID: "shop" } } },
    { method: "crm.contact.add", params: { fields: { NAME: "a" } } },
    { method: "crm.company.add", params: { fields: { TITLE: "a" } } },
    { method: "crm.item.add", params: { entityTypeId: 2, fields: { title: "a" } } },
    { method: "crm.item.add", params: { entityTypeId: 31, fields: { title: "a" } } },
    { method: "crm.activity.add", params: { fields: { OWNER_ID: 1, OWNER_TYPE_ID: 2, TYPE_ID: 1 } } },
    // Its own time of creation does not matter: no other has this name.
    { method: "crm.deal.add", params: { fields: { TITLE: "a", DATE_CREATE: "2020-01-01T00:00:00+03:00" } } }
  ]
  for (const write of unnamed)
    for (const fault of [cutAfter, cutBefore])
      onPortal(`makes ${write.method} resolvable, cut ${fault === cutAfter ? "after" : "before"} execution`, (portal) =>
        Effect.gen(function* () {
          const answer = yield* resolved({ portal, stamp: true }, write, [fault])
          expect([answer.outcome, answer.resolved]).toEqual(["done", fault === cutAfter ? "found" : "repeated"])
          expect([portal.count(write.method), portal.doubles()]).toEqual([1, []])
        })
      )
})

describe("what a user's table says", () => {
  const own: ReadonlyArray<OwnRemedy> = [
    { method: "erp.order.add", remedy: { list: "erp.order.list", fields: ["NUMBER"] } },
    { method: "erp.order.sync", remedy: "again" },
    { method: "crm.deal.*", remedy: "tell" }
  ]
  const erp = (portal: Portal) => {
    const orders: Array<{ readonly id: number; readonly NUMBER: unknown }> = []
    const numberIn = (params: unknown) => (params as { NUMBER?: unknown }).NUMBER
    portal.define("erp.order.add", ({ params }) => orders.push({ id: 70 + orders.length, NUMBER: numberIn(params) }))
    portal.define("erp.order.sync", () => true)
    portal.define("erp.order.list", ({ params }) => {
      const wanted = numberIn((params as { filter?: unknown }).filter)
      return { orders: orders.filter(({ NUMBER }) => NUMBER === wanted) as never, count: 1 }
    })
    return orders
  }
  const order = { method: "erp.order.add", params: { NUMBER: "A-7" } }
  onPortal("looks up where it says", (portal) =>
    Effect.gen(function* () {
      const orders = erp(portal)
      const found = yield* resolved({ portal, own }, order, [cutAfter])
      expect([found.outcome, found.resolved, resultOf(found)]).toEqual(["done", "found", 70])
      orders.length = 0
      const again = yield* resolved({ portal, own }, order, [cutBefore])
      expect([again.outcome, again.resolved, orders.length]).toEqual(["done", "repeated", 1])
    })
  )
  onPortal("sends again, and tells", (portal) =>
    Effect.gen(function* () {
      erp(portal)
      const again = yield* resolved({ portal, own }, { method: "erp.order.sync", params: {} }, [cutAfter])
      expect([again.outcome, again.resolved, portal.count("erp.order.sync")]).toEqual(["done", "repeated", 2])
      const told = yield* resolved({ portal, own }, { method: "crm.deal.delete", params: { id: 1 } }, [cutAfter])
      expect(told.outcome).toBe("unknown")
    })
  )
})

describe("the third version", () => {
  const add: Write = { method: "tasks.task.add", params: { fields: { title: "a", responsibleId: 1, creatorId: 1 } } }
  for (const fault of [cutAfter, cutBefore])
    onPortal(
      `cut ${fault === cutAfter ? "after" : "before"} execution, the repeat is recognised by its key`,
      (portal) =>
        Effect.gen(function* () {
          const answer = yield* resolved({ portal, third: true }, add, [fault])
          expect(answer).toMatchObject({ outcome: "done", attempts: 2, resolved: "repeated" })
          expect(resultOf(answer)).toMatchObject({ item: { id: 1, title: "a" } })
          expect(portal.count("tasks.task.add")).toBe(1)
        })
    )
  onPortal("a delete that finds nothing is done", (portal) =>
    Effect.gen(function* () {
      furnish(portal)
      const write = { method: "tasks.task.delete", params: { id: 1 }, messageId: undefined }
      const answer = yield* resolved({ portal, third: true }, write, [cutAfter])
      expect([answer.outcome, answer.resolved, bodyOf(answer)]).toEqual(["done", "gone", { result: { result: true } }])
    })
  )
  onPortal("a key travels as a header, and only where there is one", (portal) =>
    Effect.gen(function* () {
      const keyIn: Parameters<Portal["define"]>[1] = ({ request }) => request.headers.get("idempotency-key") ?? "none"
      portal.define("erp.order.push", keyIn)
      const client = yield* Effect.provide(Client, clientOf({ portal }))
      const said = (key: string | undefined) =>
        Effect.map(client.call({ ...requestOf({ method: "erp.order.push", params: {} }), key }), (outcome) =>
          outcome._tag === "Done" ? JSON.parse(Buffer.from(outcome.body).toString()).result : outcome._tag
        )
      expect([yield* said("b24rmq-A_-z"), yield* said(undefined)]).toEqual(["b24rmq-A_-z", "none"])
    })
  )
  onPortal("a nameless request and a batch have no key, and are told", (portal) =>
    Effect.gen(function* () {
      for (const write of [
        { ...add, messageId: undefined },
        { method: "batch", params: [] }
      ]) {
        const answer = yield* resolved({ portal, third: true }, write, [cutAfter])
        expect(answer.outcome).toBe("unknown")
      }
      expect(portal.count("tasks.task.add")).toBe(1)
    })
  )
})
