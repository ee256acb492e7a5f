import { expect } from "bun:test"
import { Effect } from "effect"
import { openPortal, type Portal } from "../../../src/sandbox/portal/server.ts"
import { live } from "../../effect.ts"
import { call, result, rows, said } from "./client.ts"

const pair = <E>(name: string, body: (portal: Portal) => Effect.Effect<unknown, E>) =>
  live(name, () => Effect.flatMap(openPortal(), body))

const refused = (code: string | number, text: string) => [400, { error: code, error_description: text }]

const lead = {
  TITLE: "Заявка 118",
  NAME: "Ольга",
  PHONE: [{ VALUE: "+79990001122", VALUE_TYPE: "WORK" }],
  ORIGINATOR_ID: "b24rmq",
  ORIGIN_ID: "m-118"
}

pair("1: a lead is added, and found again by its origin", (portal) =>
  Effect.gen(function* () {
    expect(said(yield* call(portal, "crm.lead.add", { fields: lead }))).toEqual([200, { result: 1 }])
    const filter = { ORIGINATOR_ID: "b24rmq", ORIGIN_ID: "m-118" }
    const found = yield* call(portal, "crm.lead.list", { filter, select: ["ID", "TITLE"], start: -1 })
    expect(said(found)).toEqual([200, { result: [{ ID: "1", TITLE: "Заявка 118" }] }])
    portal.credential("1/sandbox", "noRights")
    expect(said(yield* call(portal, "crm.lead.add", { fields: lead }))).toEqual(refused("", "Access denied."))
  })
)

pair("2: an id that is none", (portal) =>
  Effect.gen(function* () {
    const wrong = refused("", "ID is not defined or invalid")
    expect(said(yield* call(portal, "crm.lead.get", { id: "x" }))).toEqual(wrong)
  })
)

pair("3: deals by a part of their title, in pages of fifty", (portal) =>
  Effect.gen(function* () {
    for (let at = 1; at <= 120; at++) portal.crm.table("deal").add({ TITLE: `Поставка ${at}`, STAGE_ID: "C1:NEW" })
    portal.crm.table("deal").add({ TITLE: "Другое" })
    const list = (start: number, order = "ASC") =>
      call(portal, "crm.deal.list", {
        filter: { "%TITLE": "Поставка" },
        select: ["ID", "TITLE", "STAGE_ID"],
        order: { ID: order },
        start
      })
    const first = yield* list(0)
    expect(first.json).toMatchObject({ total: 120, next: 50 })
    expect(result(first)).toHaveLength(50)
    expect(rows(first)[0]).toEqual({ ID: "1", TITLE: "Поставка 1", STAGE_ID: "C1:NEW" })
    const last = yield* list(100)
    expect(result(last)).toHaveLength(20)
    expect(last.json).not.toHaveProperty("next")
    const uncounted = yield* list(-1, "DESC")
    expect(uncounted.json).not.toHaveProperty("total")
    expect(uncounted.json).not.toHaveProperty("next")
    expect(rows(uncounted)[0]).toMatchObject({ ID: "120" })
  })
)

pair("4: a filter that is none, and one by a name that nobody knows", (portal) =>
  Effect.gen(function* () {
    portal.crm.table("deal").add({ TITLE: "a" })
    expect(said(yield* call(portal, "crm.deal.list", { filter: "TITLE" }))).toEqual(
      refused("", "Parameter 'filter' must be array.")
    )
    expect(result(yield* call(portal, "crm.deal.list", { filter: { NOPE: 1 } }))).toHaveLength(1)
  })
)

pair("5 to 8: a deal from its creation to its end", (portal) =>
  Effect.gen(function* () {
    const missing = refused("", "Not found")
    expect(said(yield* call(portal, "crm.deal.get", { id: 999999 }))).toEqual(missing)
    const fields = { TITLE: "Счёт 9", OPPORTUNITY: 1500.5, CURRENCY_ID: "RUB" }
    expect(said(yield* call(portal, "crm.deal.add", { fields }))).toEqual([200, { result: 1 }])
    const wrongMoney = yield* call(portal, "crm.deal.add", { fields: { ...fields, CURRENCY_ID: "roubles" } })
    expect(said(wrongMoney)).toEqual(refused("", 'Invalid value for the "Currency" field'))
    expect(wrongMoney.text).toContain("\\u0022Currency\\u0022")
    const update = { id: 1, fields: { STAGE_ID: "WON" } }
    expect(said(yield* call(portal, "crm.deal.update", update))).toEqual([200, { result: true }])
    expect(result(yield* call(portal, "crm.deal.get", { id: 1 }))).toMatchObject({
      STAGE_ID: "WON",
      OPPORTUNITY: "1500.50"
    })
    expect(said(yield* call(portal, "crm.deal.update", { id: 1, fields: "WON" }))).toEqual(
      refused("", "Parameter 'fields' must be array")
    )
    expect(said(yield* call(portal, "crm.deal.update", { ...update, id: 2 }))).toEqual(missing)
    expect(said(yield* call(portal, "crm.deal.delete", { id: 1 }))).toEqual([200, { result: true }])
    expect(said(yield* call(portal, "crm.deal.delete", { id: 1 }))).toEqual(missing)
  })
)

pair("9: a contact with a broken address", (portal) =>
  Effect.gen(function* () {
    const contact = (address: string) => ({ fields: { NAME: "Иван", EMAIL: [{ VALUE: address, VALUE_TYPE: "WORK" }] } })
    expect(said(yield* call(portal, "crm.contact.add", contact("ivan@")))).toEqual(
      refused("ERROR_CORE", "The field Work e-mail contains an invalid address")
    )
    expect(said(yield* call(portal, "crm.contact.add", contact("ivan@example.com")))).toEqual([200, { result: 1 }])
  })
)

pair("10: contacts by telephone", (portal) =>
  Effect.gen(function* () {
    yield* call(portal, "crm.contact.add", { fields: { NAME: "Иван", PHONE: lead.PHONE } })
    const ask = { type: "PHONE", values: ["+79990001122"], entity_type: "CONTACT" }
    expect(said(yield* call(portal, "crm.duplicate.findbycomm", ask))).toEqual([200, { result: { CONTACT: [1] } }])
    const none = yield* call(portal, "crm.duplicate.findbycomm", { ...ask, values: ["+7"] })
    expect(said(none)).toEqual([200, { result: [] }])
    expect(said(yield* call(portal, "crm.duplicate.findbycomm", { values: ["+7"] }))).toEqual(
      refused("Communication type is not defined", "Parameter 'type' is required.")
    )
  })
)

pair("11 and 15: an item of a smart process comes and goes", (portal) =>
  Effect.gen(function* () {
    const fields = { title: "Акт 5", xmlId: "m-5", ufCrm7_Paid: "Y" }
    expect(result(yield* call(portal, "crm.item.add", { entityTypeId: 1042, fields }))).toMatchObject({
      item: { id: 1, xmlId: "m-5", title: "Акт 5", stageId: "DT1042_9:NEW", opened: "N", ufCrm7_Paid: "Y" }
    })
    expect(said(yield* call(portal, "crm.item.add", { entityTypeId: 1044, fields }))).toEqual(
      refused("NOT_FOUND", "Smart process not found")
    )
    const found = yield* call(portal, "crm.item.list", { entityTypeId: 1042, filter: { xmlId: "m-5" }, select: ["id"] })
    expect(result(found)).toEqual({ items: [{ id: 1 }] })
    const gone = { entityTypeId: 1042, id: 1 }
    expect(said(yield* call(portal, "crm.item.delete", gone))).toEqual([200, { result: [] }])
    expect(said(yield* call(portal, "crm.item.delete", gone))).toEqual(refused("NOT_FOUND", "Item not found"))
  })
)

pair("12 to 14: deals as items", (portal) =>
  Effect.gen(function* () {
    for (let at = 1; at <= 4; at++)
      yield* call(portal, "crm.deal.add", { fields: { TITLE: `Акт ${at}`, ORIGIN_ID: `m-${at}` } })
    const list = (filter: object) => call(portal, "crm.item.list", { entityTypeId: 2, filter, select: ["id"] })
    expect(said(yield* list({ "%title": "Акт", nope: 1 }))).toEqual(
      refused("INVALID_ARG_VALUE", "Invalid filter: field 'nope' is not allowed in filter")
    )
    expect((yield* list({ "%title": "Акт" })).json).toMatchObject({ total: 4 })
    expect(result(yield* list({ originId: "m-3" }))).toEqual({ items: [{ id: 3 }] })
    expect(result(yield* list({ ">id": 1, "<=id": 3 }))).toEqual({ items: [{ id: 2 }, { id: 3 }] })
    expect(said(yield* call(portal, "crm.item.get", { entityTypeId: 2, id: 9 }))).toEqual(
      refused("NOT_FOUND", "Item not found")
    )
    const update = (fields: object) => call(portal, "crm.item.update", { entityTypeId: 2, id: 1, fields })
    expect(said(yield* update({ assignedById: "abc" }))).toEqual(
      refused("CRM_FIELD_ERROR_VALUE_NOT_VALID", 'Invalid value for field "assignedById"')
    )
    expect(said(yield* update({ contactIds: "5" }))).toEqual(
      refused("100", "Expected iterable value for multiple field, but got string instead")
    )
    expect(result(yield* update({ title: "Акт 1а" }))).toMatchObject({ item: { id: 1, title: "Акт 1а" } })
    portal.credential("1/sandbox", "noRights")
    expect(said(yield* call(portal, "crm.item.get", { entityTypeId: 2, id: 1 }))).toEqual(
      refused("ACCESS_DENIED", "Access denied.")
    )
  })
)

pair("16: the goods of a deal", (portal) =>
  Effect.gen(function* () {
    const id = portal.crm.table("deal").add({ TITLE: "x" })
    const productRows = [{ productName: "Болт", price: 3, quantity: 10 }]
    const set = (ownerId: number) => call(portal, "crm.item.productrow.set", { ownerType: "D", ownerId, productRows })
    expect(result(yield* set(id))).toEqual({ productRows: [{ id: 1, ownerId: id, ...productRows[0] }] })
    expect(said(yield* set(id + 1))).toEqual(refused("OWNER_NOT_FOUND", "Owner was not found"))
    yield* set(id)
    expect(portal.crm.table("productrow").size).toBe(1)
  })
)

pair("17 and 18: a comment and an activity", (portal) =>
  Effect.gen(function* () {
    const comment = { ENTITY_ID: 812, ENTITY_TYPE: "deal", COMMENT: "" }
    expect(said(yield* call(portal, "crm.timeline.comment.add", { fields: comment }))).toMatchObject([
      400,
      { error: "INVALID_ARG_VALUE" }
    ])
    const good = yield* call(portal, "crm.timeline.comment.add", { fields: { ...comment, COMMENT: "да" } })
    expect(said(good)).toEqual([200, { result: 1 }])
    const activity = { OWNER_ID: 812, OWNER_TYPE_ID: 2 }
    expect(said(yield* call(portal, "crm.activity.add", { fields: activity }))).toEqual(
      refused("", "The field TYPE_ID is not defined or invalid")
    )
    const added = { ...activity, TYPE_ID: 2, ORIGINATOR_ID: "b24rmq", ORIGIN_ID: "m-18" }
    expect(said(yield* call(portal, "crm.activity.add", { fields: added }))).toEqual([200, { result: 1 }])
    const found = yield* call(portal, "crm.activity.list", { filter: { ORIGIN_ID: "m-18" } })
    expect(result(found)).toMatchObject([{ ID: "1", ORIGIN_ID: "m-18" }])
  })
)

pair("19: a task of the second version", (portal) =>
  Effect.gen(function* () {
    const fields = { TITLE: "Позвонить", RESPONSIBLE_ID: 6, XML_ID: "m-19" }
    expect(result(yield* call(portal, "tasks.task.add", { fields }))).toMatchObject({
      task: { id: "1", title: "Позвонить", responsibleId: "6", status: "2" }
    })
    const untitled = yield* call(portal, "tasks.task.add", { fields: { RESPONSIBLE_ID: 6 } })
    expect(said(untitled)).toEqual(refused("ERROR_CORE", "Task title is not specified<br>"))
    expect(untitled.text).toContain("\\u003Cbr\\u003E")
    expect(said(yield* call(portal, "tasks.task.add"))).toEqual(
      refused("100", "Could not find value for parameter {fields} (internal error)")
    )
    expect(said(yield* call(portal, "tasks.task.get", { taskId: 2 }))).toMatchObject([400, { error: 1048582 }])
  })
)

pair("21: people", (portal) =>
  Effect.gen(function* () {
    const found = yield* call(portal, "user.get", { FILTER: { ACTIVE: true }, start: 0 })
    expect(found.json).toMatchObject({
      total: 2,
      result: [{ ID: "1", ACTIVE: true, NAME: "Анна", UF_DEPARTMENT: [1] }, { ID: "6" }]
    })
  })
)

pair("22: a notification replaces that of the same tag", (portal) =>
  Effect.gen(function* () {
    const notify = (user: number) =>
      call(portal, "im.notify.system.add", { USER_ID: user, MESSAGE: "Готово", TAG: "m-22" })
    expect(said(yield* notify(0))).toEqual(refused("USER_ID_EMPTY", "User ID can't be empty"))
    expect(said(yield* notify(1))).toEqual([200, { result: 1 }])
    expect(said(yield* notify(1))).toEqual([200, { result: 2 }])
    expect(portal.crm.table("notification").size).toBe(1)
  })
)

pair("23 and 24: workflows", (portal) =>
  Effect.gen(function* () {
    const start = (template: number) =>
      call(portal, "bizproc.workflow.start", {
        TEMPLATE_ID: template,
        DOCUMENT_ID: ["crm", "CCrmDocumentDeal", "DEAL_812"],
        PARAMETERS: { who: "user_6" }
      })
    expect(result(yield* start(14))).toMatch(/^[0-9a-f]{14}\.\d{8}$/)
    expect(said(yield* start(0))).toEqual(refused("ERROR_WRONG_WORKFLOW_ID", "Template not found"))
    const send = (token: string) =>
      call(portal, "bizproc.event.send", { EVENT_TOKEN: token, RETURN_VALUES: { ok: "Y" } })
    const denied = [403, { error: "ACCESS_DENIED", error_description: "Access denied!" }]
    expect(said(yield* send("old"))).toEqual(denied)
    expect(said(yield* send("new"))).toEqual([200, { result: true }])
    portal.credential("1/sandbox", "noRights")
    expect(said(yield* start(14))).toEqual(denied)
  })
)

pair("25: an element of a list is added once", (portal) =>
  Effect.gen(function* () {
    const element = { IBLOCK_TYPE_ID: "lists", IBLOCK_ID: 47, ELEMENT_CODE: "m-25", FIELDS: { NAME: "Акт" } }
    expect(said(yield* call(portal, "lists.element.add", element))).toEqual([200, { result: 1 }])
    expect(said(yield* call(portal, "lists.element.add", element))).toEqual(
      refused("ERROR_ELEMENT_ALREADY_EXISTS", "Element already exists")
    )
    const found = yield* call(portal, "lists.element.get", { IBLOCK_ID: 47, ELEMENT_CODE: "m-25" })
    expect(result(found)).toMatchObject([{ ID: "1", NAME: "Акт" }])
  })
)

pair("26: a method without names wants its arguments in order", (portal) =>
  Effect.gen(function* () {
    const task = portal.crm.table("task").add({ TITLE: "x" })
    expect(said(yield* call(portal, "task.commentitem.add", [task, { POST_MESSAGE: "ok" }]))).toEqual([
      200,
      { result: 1 }
    ])
    expect(said(yield* call(portal, "task.commentitem.add", [task, { POST_MESSAGE: "" }]))).toEqual(
      refused("ERROR_CORE", "Comment text is not specified<br>")
    )
    // A parameter in the address reaches the method too, and moves all the others.
    expect(
      said(yield* call(portal, "task.commentitem.add?request_id=7", [task, { POST_MESSAGE: "ok" }]))
    ).toMatchObject([400, { error: "WRONG_ARGUMENTS" }])
  })
)

pair("27: a batch of reads", (portal) =>
  Effect.gen(function* () {
    for (let at = 1; at <= 37; at++) portal.crm.table("deal").add({ TITLE: `b${at}` })
    const cmd = {
      m0: "crm.deal.get?id=37",
      m1: "crm.deal.get?id=0",
      m2: "crm.deal.list?filter%5B%25TITLE%5D=%D0%90&start=-1"
    }
    const answer = yield* call(portal, "batch", { halt: 0, cmd })
    expect(answer.json).toMatchObject({
      result: {
        result: { m0: { ID: "37" }, m2: [] },
        result_error: { m1: { error: "", error_description: "ID is not defined or invalid" } },
        result_total: [],
        result_next: [],
        result_time: { m0: {}, m2: {} }
      }
    })
  })
)

pair("28: a method of the portal's own answers with any status, and with errors at 200", (portal) =>
  Effect.gen(function* () {
    const push = (order: number) => call(portal, "erp.order.push", { order })
    expect(said(yield* push(9))).toEqual([200, { result: { accepted: true } }])
    expect(said(yield* push(1001))).toEqual([402, { error: "NO_MONEY", error_description: "Limit" }])
    expect(said(yield* push(0))).toEqual([200, { error: "ERP_DOWN", error_description: "try later" }])
  })
)

pair("29: a revoked secret, and a name that nobody knows", (portal) =>
  Effect.gen(function* () {
    portal.credential("1/sandbox", "revoked")
    expect(said(yield* call(portal, "crm.deal.get", { id: 1 }))).toEqual([
      401,
      { error: "INVALID_CREDENTIALS", error_description: "Invalid request credentials" }
    ])
    // Looked up before the credential, so it says nothing about the secret.
    expect(said(yield* call(portal, "no.such.method"))).toEqual([
      404,
      { error: "ERROR_METHOD_NOT_FOUND", error_description: "Method not found!" }
    ])
  })
)

pair("30: too fast, and too heavy", (portal) =>
  Effect.gen(function* () {
    portal.limit({ rate: { burst: 1, fall: 0 }, operating: { limit: 1, cost: { "server.time": 2 } } })
    expect((yield* call(portal, "server.time")).status).toBe(200)
    expect(said(yield* call(portal, "server.time"))).toEqual([
      503,
      { error: "QUERY_LIMIT_EXCEEDED", error_description: "Too many requests" }
    ])
    portal.limit({ operating: { limit: 1, cost: { "server.time": 2 } } })
    expect((yield* call(portal, "server.time")).status).toBe(200)
    expect(said(yield* call(portal, "server.time"))).toEqual([
      429,
      { error: "OPERATION_TIME_LIMIT", error_description: "Method is blocked due to operation time limit." }
    ])
  })
)

pair("a telephone call registered twice within half an hour is one call", (portal) =>
  Effect.gen(function* () {
    const register = () =>
      call(portal, "telephony.externalcall.register", { PHONE_NUMBER: "+7", EXTERNAL_CALL_ID: "c-1", USER_ID: 1 })
    const first = result(yield* register())
    expect(result(yield* register())).toEqual(first)
  })
)

pair("reading offline events deletes them, unless told otherwise", (portal) =>
  Effect.gen(function* () {
    portal.crm.table("offlineevent").add({ EVENT_NAME: "ONCRMDEALADD" })
    const peek = yield* call(portal, "event.offline.get", { clear: 0 })
    expect(result(peek)).toMatchObject({ events: [{ EVENT_NAME: "ONCRMDEALADD" }] })
    yield* call(portal, "event.offline.get")
    expect(portal.crm.table("offlineevent").size).toBe(0)
  })
)

pair("what a portal says of itself misses its controllers", (portal) =>
  Effect.gen(function* () {
    const methods = result(yield* call(portal, "methods"))
    expect(methods).toContain("crm.deal.add")
    expect(methods).not.toContain("crm.item.add")
    expect(result(yield* call(portal, "method.get", { name: "crm.deal.add" }))).toMatchObject({ isExisting: true })
    expect(result(yield* call(portal, "method.get", { name: "CRM.deal.add" }))).toMatchObject({ isExisting: false })
    expect((yield* call(portal, "CRM.Deal.LIST")).status).toBe(200)
    for (const name of ["server.time", "profile", "app.info", "scope", "user.current"]) {
      expect((yield* call(portal, name)).status).toBe(200)
    }
  })
)
