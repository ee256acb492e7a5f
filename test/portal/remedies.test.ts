import { describe, expect, test } from "bun:test"
import { Duration } from "effect"
import fc from "fast-check"
import { converges } from "../../src/portal/methods.ts"
import { judge } from "../../src/portal/outcome.ts"
import { finders } from "../../src/portal/finders.ts"
import { keyOf, meaningOf, type Remedy, remedyFor, repeats } from "../../src/portal/remedies.ts"
import type { OwnRemedy } from "../../src/settings.ts"

interface About {
  readonly own?: ReadonlyArray<OwnRemedy>
  readonly third?: boolean
  readonly named?: boolean
}

const remedy = (method: string, parameters: unknown = {}, { own = [], third = false, named = true }: About = {}) =>
  remedyFor({ id: "id", method, parameters, messageId: named ? "m-1" : undefined }, own, third)

/** A remedy in a word. */
const word = (remedy: Remedy) =>
  remedy._tag === "LookUp"
    ? `LookUp ${remedy.handle.finder.list}`
    : remedy._tag === "Again"
      ? `Again ${remedy.by}`
      : "Tell"

describe("converging methods", () => {
  test("change, set or delete one thing", () => {
    const names = `crm.deal.update crm.deal.productrows.set crm.item.delete tasks.task.update user.option.set
      lists.element.update CRM.Lead.Delete.json department.update crm.item.productrow.set`
    for (const name of names.split(/\s+/)) expect([name, converges(name, {})]).toEqual([name, true])
    const others = `crm.deal.add batch erp.order.update update .update crm.update.x im.message.add tasks.task.complete
      crm.deal.updates calendar.event.update disk.folder.deletetree`
    for (const name of others.split(/\s+/)) expect([name, converges(name, {})]).toEqual([name, false])
  })

  test("but an update that adds a telephone number adds it each time", () => {
    const update = (fields: unknown) => converges("crm.contact.update", { id: 1, fields })
    expect(update({ NAME: "a", PHONE: [{ ID: 5, VALUE: "+7" }] })).toBe(true)
    expect(update({ PHONE: [] })).toBe(true)
    expect(
      update({
        PHONE: [
          { ID: "5", VALUE: "" },
          { VALUE: "+7", VALUE_TYPE: "WORK" }
        ]
      })
    ).toBe(false)
    expect(update({ EMAIL: { n0: { VALUE: "a@b" } } })).toBe(false)
    expect(update({ WEB: "a.example" })).toBe(false)
    expect(converges("crm.company.update", { FIELDS: { phone: [{ VALUE: "+7" }] } })).toBe(false)
    expect(converges("crm.deal.update", { fields: { PHONE: [{ VALUE: "+7" }] } })).toBe(true)
    const item = (fm: unknown) => converges("crm.item.update", { entityTypeId: 3, id: 1, fields: { fm } })
    expect([item({ "15": { value: "" } }), item(null), item({ n0: {} }), item([{}])]).toEqual([
      true,
      true,
      false,
      false
    ])
  })
})

test("a user's entries go first, the first that fits", () => {
  const own: ReadonlyArray<OwnRemedy> = [
    { method: "erp.order.add", remedy: { list: "erp.order.list", fields: ["NUMBER", "REGION"] } },
    { method: "Erp.*", remedy: "again" },
    { method: "crm.deal.*", remedy: "tell" }
  ]
  const own1 = (method: string, parameters: unknown) => word(remedy(method, parameters, { own }))
  expect(own1("ERP.order.add", { fields: { NUMBER: 5, REGION: "msk" } })).toBe("LookUp erp.order.list")
  expect(own1("erp.order.add", { NUMBER: 5, REGION: "msk" })).toBe("LookUp erp.order.list")
  expect(own1("erp.order.add", { NUMBER: 5 })).toBe("Tell")
  expect(own1("erp.order.sync.json", {})).toBe("Again converging")
  expect(own1("crm.deal.update", { id: 1 })).toBe("Tell")
  expect(own1("crm.lead.update", { id: 1 })).toBe("Again converging")
  const third = (method: string, parameters: unknown) => word(remedy(method, parameters, { own, third: true }))
  expect(third("erp.order.add", { NUMBER: 5, REGION: "msk" })).toBe("Again key")
  expect(third("crm.deal.update", {})).toBe("Tell")
})

test("names that a portal may keep another way are no names", () => {
  const add = (ORIGIN_ID: unknown, more: object = {}) =>
    remedy("crm.deal.add", { fields: { TITLE: "a", ORIGIN_ID, ...more } })._tag
  for (const good of ["m-118", 118, "Заявка 5", "a.b:c/d@e#f_g", "x".repeat(100), "00a"])
    expect([good, add(good)]).toEqual([good, "LookUp"])
  for (const bad of [
    "",
    "0",
    "000",
    0,
    -1,
    1.5,
    2 ** 53,
    true,
    null,
    [],
    {},
    " a",
    "a ",
    "a  b",
    "a\nb",
    'a"b',
    "a<b",
    "a&b",
    "a%b",
    "a'b",
    "😀",
    "x".repeat(101)
  ])
    expect([bad, add(bad)]).toEqual([bad, "Tell"])
  for (const source of ["", null, undefined, "shop"]) expect(add("m", { ORIGINATOR_ID: source })).toBe("LookUp")
  for (const source of ["<shop>", [], 0]) expect(add("m", { ORIGINATOR_ID: source })).toBe("Tell")
})

test("where the fields are twice, or elsewhere, there is no name", () => {
  const named = { ORIGIN_ID: "m" }
  for (const bad of [{}, [], null, "a", { fields: [named] }, { ORIGIN_ID: "m" }, { fields: named, FIELDS: named }])
    expect(remedy("crm.deal.add", bad)._tag).toBe("Tell")
  expect(remedy("crm.deal.add", { Fields: named })._tag).toBe("LookUp")
  for (const [type, there] of [
    [2, true],
    ["4", true],
    [7, false],
    [undefined, false],
    ["2x", false],
    [1042, false]
  ] as const)
    expect(remedy("crm.item.add", { entityTypeId: type, fields: { originId: "m" } })._tag).toBe(
      there ? "LookUp" : "Tell"
    )
})

test("what is not by name of the table is told: total over any method and parameters", () => {
  const words = fc.constantFrom(
    "crm",
    "deal",
    "add",
    "update",
    "lists",
    "element",
    "erp",
    "item",
    "batch",
    "",
    "__proto__",
    "toString"
  )
  const names = fc.oneof(
    fc.string(),
    fc.array(words, { maxLength: 4 }).map((words) => words.join(".")),
    fc.constantFrom(...finders.map(({ method }) => method), ...repeats.map(({ method }) => method))
  )
  const parameters = fc.oneof(
    fc.jsonValue(),
    fc.record({ fields: fc.dictionary(fc.constantFrom("ORIGIN_ID", "XML_ID", "code", "__proto__"), fc.jsonValue()) }),
    fc.dictionary(fc.constantFrom("TAG", "EXTERNAL_CALL_ID", "ELEMENT_CODE", "entityTypeId"), fc.jsonValue())
  )
  fc.assert(
    fc.property(names, parameters, fc.boolean(), fc.boolean(), (method, parameters, third, named) => {
      const found = remedy(method, parameters, { third, named })
      const plain = method.toLowerCase().replace(/\.json$/, "")
      if (third) {
        expect(found._tag).not.toBe("LookUp")
        if (!named && !converges(method, parameters)) expect(found._tag).toBe("Tell")
      } else if (found._tag === "LookUp") expect(found.handle.finder.method).toBe(plain)
      else if (found._tag === "Again")
        expect(converges(method, parameters) || repeats.some((repeat) => repeat.method === plain)).toBe(true)
      if (plain === "batch") expect(found._tag).toBe("Tell")
    }),
    { numRuns: 3_000 }
  )
})

test("a telephone call and a key are known for a time only", () => {
  const within = (found: Remedy) =>
    found._tag === "Again" && found.within ? Duration.toMinutes(found.within) : undefined
  expect(within(remedy("telephony.externalCall.register", { EXTERNAL_CALL_ID: "1" }))).toBe(25)
  expect(within(remedy("tasks.task.add", {}, { third: true }))).toBe(23 * 60)
  expect(within(remedy("im.notify.system.add", { TAG: "a", CLIENT_ID: 5 }))).toBeUndefined()
  for (const parameters of [{ TAG: "a" }, { TAG: "", CLIENT_ID: "b" }, { TAG: "a", CLIENT_ID: 0 }, ["a"]])
    expect(remedy("im.notify.system.add", parameters)._tag).toBe("Tell")
})

test("a key is printable ASCII of at most 255 characters, and of named requests only", () => {
  expect(keyOf({ id: "A-_z", messageId: "m" })).toBe("b24rmq-A-_z")
  expect(keyOf({ id: "A-_z", messageId: undefined })).toBeUndefined()
  expect(keyOf({ id: "x".repeat(43), messageId: "m" })).toMatch(/^[\x20-\x7e]{1,255}$/)
})

describe("what the refusal of a repeat means", () => {
  const meaning = (method: string, status: number, error: unknown, text = "") => {
    const body = Buffer.from(JSON.stringify(typeof error === "object" ? { error } : { error, error_description: text }))
    const outcome = judge(status, body)
    if (outcome._tag !== "Refused") throw new Error(outcome._tag)
    const means = meaningOf(method, outcome)
    return typeof means === "object" ? Buffer.from(means.gone).toString() : means
  }
  test("a delete that finds nothing is done, by code or by text, in English and Russian", () => {
    const gone = `{"result":true}`
    expect(meaning("crm.deal.delete", 400, "", "Not found")).toBe(gone)
    expect(meaning("crm.deal.delete.json", 400, "", "Not found.")).toBe(gone)
    expect(meaning("crm.contact.delete", 400, "ERROR_CORE", "Element not found")).toBe(gone)
    expect(meaning("crm.company.delete", 400, "", "Company is not found")).toBe(gone)
    expect(meaning("crm.requisite.delete", 400, "", "The Requisite with ID '57' is not found")).toBe(gone)
    expect(meaning("crm.deal.delete", 400, "", "Сделка не найдена")).toBe(gone)
    expect(meaning("lists.element.delete", 400, "ERROR_ELEMENT_NOT_FOUND", "?")).toBe(gone)
    expect(meaning("entity.item.delete", 400, "ERROR_ITEM_NOT_FOUND", "?")).toBe(gone)
    expect(meaning("sale.order.delete", 400, 200540400001, "order does not exist")).toBe(gone)
    expect(meaning("crm.item.delete", 400, "NOT_FOUND", "Item not found")).toBe(`{"result":[]}`)
    expect(meaning("crm.item.delete", 400, "NOT_FOUND", "Элемент не найден")).toBe(`{"result":[]}`)
    expect(meaning("crm.timeline.comment.delete", 400, "NOT_FOUND", "Not found.")).toBe(`{"result":null}`)
    const third = { code: "BITRIX_REST_V3_EXCEPTION_ENTITYNOTFOUNDEXCEPTION", message: "?" }
    expect(meaning("tasks.task.delete", 400, third)).toBe(`{"result":{"result":true}}`)
  })
  test("other refusals of a delete, and those of an update", () => {
    expect(meaning("crm.deal.delete", 400, "", "ID is not defined or invalid")).toBe("refused")
    expect(meaning("crm.item.delete", 400, "NOT_FOUND", "Smart process not found")).toBe("open")
    expect(meaning("crm.deal.delete", 400, "", "Nicht gefunden")).toBe("open")
    expect(meaning("crm.deal.delete", 400, "", "Access denied.")).toBe("open")
    expect(meaning("tasks.task.delete", 400, "1048582", "No access to delete the task")).toBe("open")
    expect(meaning("crm.timeline.comment.delete", 400, "OWNER_NOT_FOUND", "Owner not found")).toBe("refused")
    expect(meaning("crm.deal.update", 400, "", "Not found")).toBe("refused")
    expect(meaning("crm.deal.update", 400, "CRM_FIELD_ERROR_REQUIRED", "a")).toBe("refused")
  })
  test("a refusal of the asker says nothing of the first time", () => {
    for (const [status, code, text] of [
      [401, "INVALID_CREDENTIALS", ""],
      [401, "anything", ""],
      [403, "insufficient_scope", ""],
      [400, "ACCESS_DENIED", "no"],
      [400, "", "Access denied."],
      [400, "", "Доступ запрещён"],
      [404, "ERROR_METHOD_NOT_FOUND", ""],
      [413, "B24RMQ_REQUEST_TOO_LARGE", ""]
    ] as const)
      expect([code, meaning("crm.deal.update", status, code, text)]).toEqual([code, "open"])
    for (const name of ["ACCESSDENIED", "INSUFFICIENTSCOPE", "IDEMPOTENCYKEYREUSED"])
      expect(meaning("tasks.task.add", 422, { code: `BITRIX_REST_V3_EXCEPTION_${name}EXCEPTION`, message: "" })).toBe(
        "open"
      )
  })
  test("a name that is taken was taken by the first time, or before", () => {
    expect(meaning("lists.element.add", 400, "ERROR_ELEMENT_ALREADY_EXISTS", "Element already exists")).toBe("open")
    expect(meaning("catalog.measure.add", 400, 200600000000, "?")).toBe("open")
    expect(meaning("crm.status.add", 400, "ERROR_CORE", "The specified status ID already exists.")).toBe("open")
  })
})
