import { describe, expect, test } from "bun:test"
import fc from "fast-check"
import { commandOf } from "../../src/portal/batch.ts"
import { finders, ownFinder } from "../../src/portal/finders.ts"
import { type Finding, readFinding, type Times } from "../../src/portal/finding.ts"
import { type Handle, handleOf, named, questionFor } from "../../src/portal/handles.ts"

const finder = (method: string, nth = 0) => {
  const found = finders.filter((finder) => finder.method === method)[nth]
  if (found === undefined) throw new Error(method)
  return found
}

const handle = (method: string, parameters: unknown, nth = 0): Handle => {
  const found = handleOf(finder(method, nth), parameters, "id")
  if (found === undefined) throw new Error("no handle")
  return found
}

const deal = handle("crm.deal.add", { fields: { ORIGINATOR_ID: "shop", ORIGIN_ID: "m-1" } })

const sent = Date.parse("2026-09-21T12:00:00Z")
const times: Times = { firstSent: sent, lastEnd: sent + 60_000, answered: sent + 61_000 }

/** A row that was made so many seconds after the first sending, by the portal's clock in its own zone. */
const row = (seconds: number, more: object = {}) => ({
  ID: "37",
  ORIGINATOR_ID: "shop",
  ORIGIN_ID: "m-1",
  DATE_CREATE: new Date(sent + seconds * 1_000 + 3 * 3_600_000).toISOString().replace(/\.\d+Z$/, "+03:00"),
  ...more
})

const read = (handle: Handle, answer: unknown, at = times): Finding =>
  readFinding(handle, Buffer.from(typeof answer === "string" ? answer : JSON.stringify(answer)), at)

const tag = (result: unknown, more: object = {}, at = times) => read(deal, { result, ...more }, at)._tag

test("what a list is asked", () => {
  const asked = (handle: Handle) => JSON.parse(Buffer.from(questionFor(handle)).toString())
  expect(asked(deal)).toEqual({
    filter: { "=ORIGIN_ID": "m-1", "=ORIGINATOR_ID": "shop" },
    select: ["ID", "ORIGINATOR_ID", "ORIGIN_ID", "DATE_CREATE"],
    order: { ID: "DESC" },
    start: -1
  })
  expect(asked(handle("crm.deal.add", { fields: { ORIGIN_ID: 5 } })).filter).toEqual({ "=ORIGIN_ID": 5 })
  expect(asked(handle("crm.item.add", { entityTypeId: "1042", fields: { xmlId: "m" } }, 1))).toEqual({
    entityTypeId: "1042",
    filter: { "=xmlId": "m" },
    select: ["*"],
    order: { id: "DESC" },
    start: -1
  })
  expect(asked(handle("lists.element.add", { IBLOCK_TYPE_ID: "lists", IBLOCK_ID: 47, ELEMENT_CODE: "e" }))).toEqual({
    IBLOCK_TYPE_ID: "lists",
    IBLOCK_ID: 47,
    ELEMENT_CODE: "e"
  })
  expect(named(deal)).toBe("ORIGIN_ID m-1, ORIGINATOR_ID shop")
})

test("look-ups may travel in a batch", () => {
  const fields = {
    ORIGIN_ID: "m-1",
    originId: "я",
    xmlId: 5,
    XML_ID: "x",
    ENTITY_ID: "SOURCE",
    STATUS_ID: "F",
    code: 7
  }
  for (const finder of finders) {
    const entityTypeId = finder.types?.[0]?.[0] ?? 2
    const found = handleOf(finder, { entityTypeId, IBLOCK_ID: 47, ELEMENT_CODE: "e", fields }, "id")
    if (found === undefined) throw new Error(finder.method)
    expect([finder.list, commandOf(finder.list, questionFor(found))]).toEqual([finder.list, expect.any(String)])
  }
})

describe("what its answer proves", () => {
  test("one row of the right time is what was made; its id keeps its digits", () => {
    for (const seconds of [-5, 0, 1, 60, 65]) expect([seconds, tag([row(seconds)])]).toEqual([seconds, "Found"])
    const time = '{"finish": 1790000000.50,"operating":0}'
    const found = read(deal, `{"result":[${JSON.stringify(row(3, { ID: 9007199254740993n.toString() }))}],"total":0}`)
    expect(found._tag === "Found" && Buffer.from(found.body).toString()).toBe('{"result":9007199254740993}')
    const item = handle("crm.item.add", { entityTypeId: 1042, fields: { xmlId: "m", createdBy: 1 } }, 1)
    const text = `{"id":611,"xmlId":"m","createdTime":"2026-09-21T15:00:03+03:00","opportunity":1.50,"t":"\\u0410\\/я"}`
    const clock = { ...times, answered: 1790000000500 }
    const at = { firstSent: clock.answered - 61_000, lastEnd: clock.answered, answered: clock.answered }
    const made = new Date(at.firstSent + 3_000).toISOString().replace(/\.\d+Z$/, "Z")
    const body = text.replace("2026-09-21T15:00:03+03:00", made)
    const whole = read(item, `\uFEFF {"result": {"items": [ ${body} ] },"time":${time}}`, at)
    expect(whole._tag === "Found" && Buffer.from(whole.body).toString()).toBe(
      `{"result":{"item":${body}},"time":${time}}`
    )
  })
  test("no row at all is nothing there; an old one was there before", () => {
    expect(tag([])).toBe("Missing")
    expect(tag([row(-3_601)])).toBe("Missing")
    expect(tag([row(1), row(-9_999, { ID: "3" })])).toBe("Found")
  })
  test("the portal's clock is compared with itself", () => {
    const ahead = { time: { finish: (times.answered + 7_200_000) / 1_000 } }
    expect(tag([row(7_200 + 3)], ahead)).toBe("Found")
    expect(tag([row(3)], ahead)).toBe("Missing")
  })
  test("a time in between, none, or one that cannot be read proves nothing", () => {
    for (const seconds of [-3_599, -6, 66, 9_999]) expect([seconds, tag([row(seconds)])]).toEqual([seconds, "Unclear"])
    for (const made of [undefined, "", null, 5, "21.09.2026 15:00:00", "2026-09-21T15:00:00", "2026-99-99T15:00:00Z"])
      expect(tag([row(0, { DATE_CREATE: made })])).toBe("Unclear")
  })
  test("rows that do not carry the name", () => {
    expect(tag([row(0, { ORIGIN_ID: "m-2" })])).toBe("Unclear")
    expect(tag([row(0, { ORIGIN_ID: undefined })])).toBe("Unclear")
    expect(tag([row(0, { ORIGIN_ID: "M-1 " })])).toBe("Unclear")
    expect(tag([row(0, { ORIGINATOR_ID: "other" })])).toBe("Unclear")
    expect(tag([row(0, { ORIGINATOR_ID: null })])).toBe("Unclear")
    expect(tag([row(0, { ORIGIN_ID: "m-2", ID: "1" }), row(0)])).toBe("Found")
    expect(tag(Array.from({ length: 50 }, (_, n) => row(-9_999, { ID: n + 1 })))).toBe("Unclear")
    expect(tag([row(0), row(0, { ID: "38" })])).toBe("Unclear")
    expect(tag([row(0), row(100, { ID: "38" })])).toBe("Unclear")
    expect(tag([row(0, { ID: "" })])).toBe("Unclear")
    expect(tag([5, null, "a"])).toBe("Unclear")
  })
  test("an answer without a list where it belongs", () => {
    for (const result of [null, true, "a", {}, { items: [row(0)] }]) expect(tag(result)).toBe("Unclear")
    expect(read(deal, { error: "B24RMQ_ANSWER_TOO_LARGE" })._tag).toBe("Unclear")
    const item = handle("crm.item.add", { entityTypeId: 2, fields: { originId: "m" } })
    for (const result of [[], { rows: [] }, { items: {} }, { items: null }])
      expect(read(item, { result })._tag).toBe("Unclear")
    expect(read(item, { result: { items: [] } })._tag).toBe("Missing")
  })
  test("a user's list may answer in many ways", () => {
    const own = handleOf(ownFinder({ list: "erp.list", fields: ["NUMBER"] }), { NUMBER: 7 }, "id")
    if (own === undefined) throw new Error("no handle")
    const one = { id: 5, NUMBER: "7" }
    for (const result of [[one], { rows: [one] }, { count: 1, list: [one] }])
      expect(read(own, { result })).toEqual({ _tag: "Found", body: Buffer.from('{"result":5}') })
    expect(read(own, { result: [{ ID: "6", NUMBER: 7 }] })._tag).toBe("Found")
    expect(read(own, { result: [one, { id: 6, NUMBER: 7 }] })._tag).toBe("Unclear")
    expect(read(own, { result: { rows: [] } })._tag).toBe("Missing")
    expect(read(own, { result: {} })._tag).toBe("Unclear")
  })
})

test("total over any JSON; found only where exactly one row carries the name", () => {
  const field = fc.constantFrom("ID", "ORIGIN_ID", "ORIGINATOR_ID", "DATE_CREATE", "x")
  const value = fc.oneof(
    fc.constantFrom<unknown>("37", 37, "m-1", "M-1", "shop", "", null, row(0).DATE_CREATE, row(-9_999).DATE_CREATE),
    fc.jsonValue()
  )
  const rows = fc.array(
    fc.oneof(fc.dictionary(field, value), fc.constant(row(0)), fc.constant(row(-9_999)), fc.jsonValue()),
    {
      maxLength: 4
    }
  )
  const answers = fc.oneof(
    fc.record({ result: rows }),
    fc.record({ result: rows, time: fc.jsonValue() }),
    fc.record({ result: fc.record({ items: rows }) }),
    fc.jsonValue()
  )
  fc.assert(
    fc.property(answers, (answer) => {
      const found = read(deal, answer)
      if (found._tag !== "Found") return
      const { result } = answer as { result: ReadonlyArray<Readonly<Record<string, unknown>>> }
      expect(result.filter((row) => row?.ORIGIN_ID === "m-1" && row.ORIGINATOR_ID === "shop").length).toBeGreaterThan(0)
      expect(JSON.parse(Buffer.from(found.body).toString())).toHaveProperty("result")
    }),
    { numRuns: 5_000 }
  )
})
