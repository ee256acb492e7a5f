import { expect } from "bun:test"
import { Effect } from "effect"
import fc from "fast-check"
import { commandOf, type Member, mostCommands, pack, unpack } from "../../src/portal/batch.ts"
import { openPortal, type Portal } from "../../src/sandbox/portal/server.ts"
import { live } from "../effect.ts"
import { ask } from "../sandbox/portal/client.ts"

/** A method and the JSON text of its parameters. */
type Asked = readonly [method: string, body: string]

const asked = (method: string, body: unknown): Asked => [method, JSON.stringify(body)]

const post = (portal: Portal, method: string, body: string | Uint8Array) =>
  Effect.map(
    ask(portal.webhook() + method, { method: "POST", headers: { "content-type": "application/json" }, body }),
    ({ text }) => text
  )

const textOf = (member: Member | undefined) => (member === undefined ? undefined : Buffer.from(member.body).toString())

/** The answers of single calls, one after another. */
const alone = (portal: Portal, requests: ReadonlyArray<Asked>) =>
  Effect.forEach(requests, ([method, body]) => post(portal, method, body))

/** The answers of the same calls, in the same order, as many in one batch as can be; and how many were in batches. */
const together = Effect.fnUntraced(function* (portal: Portal, requests: ReadonlyArray<Asked>) {
  const answers: Array<string | undefined> = []
  let waiting: Array<string> = []
  let packed = 0
  const send = Effect.suspend(() => {
    if (waiting.length === 0) return Effect.void
    const commands = waiting
    waiting = []
    packed += commands.length
    return Effect.map(post(portal, "batch", pack(commands)), (answer) => {
      answers.push(...(unpack(Buffer.from(answer), commands.length) ?? commands.map(() => undefined)).map(textOf))
    })
  })
  for (const [method, body] of requests) {
    const command = commandOf(method, Buffer.from(body))
    if (command === undefined) {
      yield* send
      answers.push(yield* post(portal, method, body))
    } else if (waiting.push(command) === mostCommands) yield* send
  }
  yield* send
  return { answers, packed }
})

/** What no two calls share: the time block, which ends an answer, and the instants that a portal writes by itself. */
const timeless = (answer: string | undefined) =>
  answer
    ?.replace(/,"time":\{"start":[^{}]*"date_finish":[^{}]*\}\}$/, "}")
    .replaceAll(/"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+]\d\d:\d\d"/g, '"then"')
    .replaceAll(/externalCall\.(\d+)\.[\d.]+/g, "externalCall.$1")

/** Two portals, one for each way. */
const both = (name: string, body: (first: Portal, second: Portal) => Effect.Effect<unknown, string>) =>
  live(
    name,
    () => Effect.flatMap(Effect.all([openPortal(), openPortal()]), ([first, second]) => body(first, second)),
    60_000
  )

const compare = Effect.fnUntraced(function* (first: Portal, second: Portal, requests: ReadonlyArray<Asked>) {
  const singly = yield* alone(first, requests)
  const { answers, packed } = yield* together(second, requests)
  expect(answers).toHaveLength(requests.length)
  for (const [at, request] of requests.entries()) {
    expect([request, timeless(answers[at])]).toEqual([request, timeless(singly[at])])
  }
  // A member has a time of its own, unless it failed: then it has none either way.
  for (const [at, answer] of answers.entries())
    expect(answer?.includes('"time":{')).toBe(singly[at]?.includes('"time":{'))
  return { singly, packed }
})

const seed = (portal: Portal) => {
  for (let at = 1; at <= 120; at++) {
    portal.crm.table("deal").add({ TITLE: `Поставка ${at}`, STAGE_ID: "C1:NEW", OPPORTUNITY: "1.10" })
  }
  portal.crm.table("task").add({ TITLE: "Позвонить", STATUS: "2", RESPONSIBLE_ID: "6" })
}

const lead = {
  TITLE: "Заявка 118",
  NAME: "Ольга",
  PHONE: [{ VALUE: "+79990001122", VALUE_TYPE: "WORK" }],
  ORIGINATOR_ID: "b24rmq",
  ORIGIN_ID: "m-118"
}
const element = { IBLOCK_TYPE_ID: "lists", IBLOCK_ID: 47, ELEMENT_CODE: "m-25", FIELDS: { NAME: "Акт" } }
const contact = (address: string) => ({
  NAME: "Иван",
  EMAIL: [{ VALUE: address, VALUE_TYPE: "WORK" }],
  PHONE: lead.PHONE
})
const item = { title: "Акт 5", xmlId: "m-5", ufCrm7_Paid: "Y" }

/** The requests of the documentation with each of their answers; those below go alone. */
const pairs: ReadonlyArray<Asked> = [
  asked("crm.lead.add", { fields: lead }),
  asked("crm.lead.get", { id: "x" }),
  asked("crm.lead.get", { id: 1 }),
  asked("crm.lead.list", {
    filter: { ORIGINATOR_ID: "b24rmq", ORIGIN_ID: "m-118" },
    select: ["ID", "TITLE"],
    start: -1
  }),
  asked("crm.deal.list", {
    filter: { "%TITLE": "Поставка" },
    select: ["ID", "TITLE", "STAGE_ID"],
    order: { ID: "ASC" },
    start: 0
  }),
  asked("crm.deal.list", { filter: { "%TITLE": "Поставка" }, start: 100 }),
  asked("crm.deal.list", { filter: { "%TITLE": "Поставка" }, start: "50" }),
  asked("crm.deal.list", { filter: "TITLE" }),
  asked("crm.deal.list", { filter: { NOPE: 1 } }),
  asked("crm.deal.get", { id: 999_999 }),
  asked("crm.deal.add", { fields: { TITLE: "Счёт 9", OPPORTUNITY: 1500.5, CURRENCY_ID: "RUB" } }),
  asked("crm.deal.add", { fields: { TITLE: "Счёт 9", OPPORTUNITY: 1500.5, CURRENCY_ID: "roubles" } }),
  asked("crm.deal.update", { id: 121, fields: { STAGE_ID: "WON" } }),
  asked("crm.deal.get", { id: 121 }),
  asked("crm.deal.update", { id: 121, fields: "WON" }),
  asked("crm.deal.update", { id: 812, fields: { STAGE_ID: "WON" } }),
  asked("crm.deal.delete", { id: 121 }),
  asked("crm.deal.delete", { id: 121 }),
  asked("crm.contact.add", { fields: contact("ivan@") }),
  asked("crm.contact.add", { fields: contact("ivan@example.com") }),
  asked("crm.duplicate.findbycomm", { type: "PHONE", values: ["+79990001122"], entity_type: "CONTACT" }),
  asked("crm.duplicate.findbycomm", { type: "PHONE", values: ["+7"], entity_type: "CONTACT" }),
  asked("crm.duplicate.findbycomm", { values: ["+7"] }),
  asked("crm.item.add", { entityTypeId: 1042, fields: item }),
  asked("crm.item.add", { entityTypeId: 1044, fields: item }),
  asked("crm.item.list", { entityTypeId: 2, filter: { "%title": "Поставка", nope: 1 } }),
  asked("crm.item.list", { entityTypeId: 2, filter: { "%title": "Поставка 1" }, select: ["id"] }),
  asked("crm.item.get", { entityTypeId: 2, id: 1 }),
  asked("crm.item.get", { entityTypeId: 2, id: 999_999 }),
  asked("crm.item.update", { entityTypeId: 2, id: 1, fields: { assignedById: "abc" } }),
  asked("crm.item.update", { entityTypeId: 2, id: 1, fields: { contactIds: "5" } }),
  asked("crm.item.update", { entityTypeId: 2, id: 1, fields: { contactIds: ["5", "6"], title: "Новое «имя»" } }),
  asked("crm.item.delete", { entityTypeId: 1042, id: 1 }),
  asked("crm.timeline.comment.add", { fields: { ENTITY_ID: 812, ENTITY_TYPE: "deal", COMMENT: "" } }),
  asked("crm.timeline.comment.add", { fields: { ENTITY_ID: 812, ENTITY_TYPE: "deal", COMMENT: "да" } }),
  asked("crm.activity.add", { fields: { OWNER_ID: 812, OWNER_TYPE_ID: 2 } }),
  asked("crm.activity.add", { fields: { OWNER_ID: 812, OWNER_TYPE_ID: 2, TYPE_ID: 2 } }),
  asked("crm.activity.list", { filter: { OWNER_ID: 812 } }),
  asked("tasks.task.add", { fields: { TITLE: "Позвонить", RESPONSIBLE_ID: 6, XML_ID: "m-19" } }),
  asked("tasks.task.add", { fields: { RESPONSIBLE_ID: 6 } }),
  asked("tasks.task.add", {}),
  asked("tasks.task.get", { taskId: 99 }),
  asked("tasks.task.list", { filter: { RESPONSIBLE_ID: 6 } }),
  asked("user.get", { FILTER: { ACTIVE: true }, start: 0 }),
  asked("user.get", { FILTER: { ACTIVE: false } }),
  asked("im.notify.system.add", { USER_ID: 0, MESSAGE: "Готово" }),
  asked("im.notify.system.add", { USER_ID: 1, MESSAGE: "Готово" }),
  asked("bizproc.workflow.start", { TEMPLATE_ID: "0", DOCUMENT_ID: ["crm", "CCrmDocumentDeal", "DEAL_812"] }),
  asked("bizproc.event.send", { EVENT_TOKEN: "old", RETURN_VALUES: { ok: "Y" } }),
  asked("bizproc.event.send", { EVENT_TOKEN: "new", RETURN_VALUES: { ok: "Y" } }),
  asked("lists.element.add", element),
  asked("lists.element.add", element),
  asked("lists.element.get", { IBLOCK_ID: 47, ELEMENT_CODE: "m-25" }),
  asked("erp.order.push", { order: "9" }),
  asked("erp.order.push", { order: "1001" }),
  asked("erp.order.push", { order: "0" }),
  asked("no.such.method", {}),
  asked("CRM.Deal.Fields.json", {}),
  asked("telephony.externalcall.register", { PHONE_NUMBER: "+7", EXTERNAL_CALL_ID: "c-1", USER_ID: 1 }),
  asked("telephony.externalcall.register", { PHONE_NUMBER: "+7", EXTERNAL_CALL_ID: "c-1", USER_ID: 1 }),
  asked("method.get", { name: "crm.deal.add" }),
  asked("app.info", {}),
  asked("scope", { full: true }),
  asked("profile", {}),
  asked("user.current", {})
]

const lone: ReadonlyArray<Asked> = [
  asked("crm.item.productrow.set", {
    ownerType: "D",
    ownerId: 1,
    productRows: [{ productName: "Болт", price: 3, quantity: 10 }]
  }),
  asked("bizproc.workflow.start", {
    TEMPLATE_ID: 14,
    DOCUMENT_ID: ["crm", "CCrmDocumentDeal", "DEAL_812"],
    PARAMETERS: { who: "user_6" }
  }),
  asked("task.commentitem.add", [1, { POST_MESSAGE: "ok" }]),
  asked("erp.order.push", { order: 9 }),
  asked("event.offline.get", { clear: 0 }),
  asked("crm.deal.update", { id: 1, fields: { COMMENTS: null } }),
  asked("crm.deal.list", { filter: {}, select: [] }),
  asked("crm.deal.update", { id: 1, fields: { TITLE: "$result[m0][ID]" } })
]

both("the pairs of the documentation are answered in a batch as they are alone", (first, second) =>
  Effect.gen(function* () {
    for (const portal of [first, second]) seed(portal)
    const { singly, packed } = yield* compare(first, second, [...pairs, ...lone])
    expect(packed).toBe(pairs.length)
    // Both kinds of answers are among them, and pages with more to come.
    expect(singly.filter((answer) => answer.startsWith('{"error"')).length).toBeGreaterThan(20)
    expect(singly.filter((answer) => answer.includes('"next":')).length).toBeGreaterThan(1)
    expect(first.executions.map(({ method, error }) => [method.toLowerCase(), error])).toEqual(
      second.executions
        .filter(({ method }) => method !== "batch")
        .map(({ method, error }) => [method.toLowerCase(), error])
    )
  })
)

const text = fc.oneof(
  fc
    .array(fc.constantFrom(..."aЖ😀ß &%+=#?/'\"\\<>;:,.[]{}()$@!~*|^`\n\t\u00a0\u2028", "%2B", "&amp;", "\\u0041"), {
      size: "max",
      maxLength: 40
    })
    .map((parts) => parts.join("")),
  fc.string({ unit: "binary", size: "max", maxLength: 60 }),
  fc.string({ unit: "grapheme", size: "max", maxLength: 60 }),
  fc.constantFrom("", " ", "0", "null", "false", "Y", "1e3", "$result[m0]", "$total[m1]", "Поставка 1")
)
const id = fc.nat({ max: 150 })
const idText = fc.oneof(id, id.map(String))
const money = fc.oneof(
  fc.nat({ max: 10_000 }),
  fc.nat({ max: 10_000 }).map((cents) => cents / 100),
  fc.constant("12.50")
)
const nested = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 3, depthSize: "small" },
    text,
    fc.array(tie("value"), { maxLength: 4 }),
    fc.dictionary(fc.constantFrom("a", "%b", ">=c", "ж", "0", "1", "d e", "f.g"), tie("value"), { maxKeys: 4 })
  )
})).value

const fields = fc.record(
  { TITLE: text, COMMENTS: text, OPPORTUNITY: money, ASSIGNED_BY_ID: idText, UF_CRM_TEXT: text, ORIGIN_ID: text },
  { requiredKeys: ["TITLE"] }
)
const filter = fc.record(
  {
    "%TITLE": text,
    ">=ID": idText,
    "<OPPORTUNITY": money,
    "=STAGE_ID": fc.constant("C1:NEW"),
    "@ID": fc.array(id, { minLength: 1, maxLength: 3 })
  },
  { requiredKeys: [] }
)
const made = <A>(method: string, bodies: fc.Arbitrary<A>) => bodies.map((body) => asked(method, body))

const request: fc.Arbitrary<Asked> = fc.oneof(
  made(
    "crm.deal.list",
    fc.record(
      { filter, select: fc.constant(["ID", "TITLE", "OPPORTUNITY"]), start: fc.constantFrom(0, 50, -1, "50") },
      { requiredKeys: ["filter"] }
    )
  ),
  made("crm.deal.get", fc.record({ id: idText })),
  made("crm.deal.add", fc.record({ fields })),
  made("crm.deal.update", fc.record({ id: idText, fields })),
  made("crm.deal.delete", fc.record({ id: fc.nat({ max: 2_000 }) })),
  made(
    "crm.contact.add",
    fc.record({ fields: fc.record({ NAME: text, PHONE: fc.array(fc.record({ VALUE: text }), { maxLength: 3 }) }) })
  ),
  made(
    "crm.item.list",
    fc.record({
      entityTypeId: fc.constantFrom(2, "2", 1042),
      filter: fc.record({ "%title": text }),
      select: fc.constant(["id", "title"])
    })
  ),
  made(
    "crm.item.add",
    fc.record({
      entityTypeId: fc.constant(1042),
      fields: fc.record({ title: text, ufCrm7_Note: text, assignedById: id })
    })
  ),
  made("tasks.task.add", fc.record({ fields: fc.record({ TITLE: text, RESPONSIBLE_ID: id }) })),
  made("tasks.task.get", fc.record({ taskId: id })),
  made("user.get", fc.record({ FILTER: fc.record({ ACTIVE: fc.boolean() }) })),
  made("im.notify.system.add", fc.record({ USER_ID: fc.nat({ max: 3 }), MESSAGE: text, TAG: text })),
  made(
    "lists.element.add",
    fc.record({ IBLOCK_ID: fc.nat({ max: 3 }), ELEMENT_CODE: text, FIELDS: fc.record({ NAME: text }) })
  ),
  made("erp.order.push", fc.record({ order: fc.constantFrom("0", "9", "1001", "") })),
  // Whatever a method of somebody's own is given, it answers.
  made("my.params", fc.dictionary(fc.constantFrom("a", "b", "filter", "ж", "a.b", "fields"), nested, { maxKeys: 4 }))
)

both("5,000 generated requests are answered in batches as they are alone", (first, second) =>
  Effect.gen(function* () {
    for (const portal of [first, second]) {
      seed(portal)
      portal.define("my.params", ({ params }) => params, { write: false })
    }
    // Those that go alone come first, so that the others fill their batches.
    const generated = fc.sample(request, { numRuns: 5_000, seed: 24 })
    const goesAlone = ([method, body]: Asked) => commandOf(method, Buffer.from(body)) === undefined
    const requests = [...generated.filter(goesAlone), ...generated.filter((request) => !goesAlone(request))]
    const { packed, singly } = yield* compare(first, second, requests)
    expect(packed).toBeGreaterThan(4_000)
    expect(packed).toBeLessThan(5_000)
    expect(singly.filter((answer) => answer.startsWith('{"error"')).length).toBeGreaterThan(200)
    expect(second.requests).toBe(5_000 - packed + Math.ceil(packed / mostCommands))
  })
)
