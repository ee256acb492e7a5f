import { expect, test } from "bun:test"
import { Redacted } from "effect"
import fc from "fast-check"
import type { Request } from "../../src/message/request.ts"
import { remedyFor } from "../../src/portal/remedies.ts"
import { stamped } from "../../src/portal/stamp.ts"

const id = "k3J_x-0123456789abcdefghijklmnopqrstuvwxyzAB"

const request = (method: string, body: string | Uint8Array, messageId: string | undefined = "m-1"): Request => ({
  id,
  messageId,
  correlationId: undefined,
  method,
  user: "1",
  token: Redacted.make("secret"),
  credential: "1#0",
  body: Buffer.from(body),
  parameters: JSON.parse(Buffer.from(body).toString("utf8")),
  order: undefined
})

const stamp = (method: string, body: string) => Buffer.from(stamped(request(method, body)).body).toString("utf8")

const both = `"ORIGINATOR_ID":"b24rmq","ORIGIN_ID":"${id}",`

test("each creator gets its own kind of name", () => {
  for (const kind of ["lead", "deal", "contact", "company", "activity"]) {
    expect(stamp(`crm.${kind}.add`, '{"fields":{"TITLE":"a"}}')).toBe(`{"fields":{${both}"TITLE":"a"}}`)
  }
  const item = (type: unknown) =>
    stamp("crm.item.add", `{"entityTypeId":${JSON.stringify(type)},"fields":{"title":"a"}}`)
  for (const type of [1, 2, "3", 4])
    expect(item(type)).toContain(`"fields":{"originatorId":"b24rmq","originId":"${id}","title":"a"}`)
  for (const type of [31, 128, "1042"]) expect(item(type)).toContain(`"fields":{"xmlId":"${id}","title":"a"}`)
  for (const type of [7, 0, null, "deal", []]) expect(item(type)).not.toContain(id)
})

test("all other bytes stay as they are", () => {
  const before =
    ' {\n "a":1.50e+03, "fields" : { "TITLE" :"\\u0441 /\\/ я 😀", "OPPORTUNITY": 12345678901234567890.10 } , "params":{} }\n'
  expect(stamp("CRM.Deal.Add.json", before)).toBe(before.replace('{ "TITLE"', `{${both} "TITLE"`))
})

test("what carries a name keeps it, even an empty one; a source alone is completed", () => {
  const same = (method: string, body: string) => expect(stamp(method, body)).toBe(body)
  same("crm.deal.add", '{"fields":{"ORIGIN_ID":"x"}}')
  same("crm.deal.add", '{"fields":{"TITLE":"a","ORIGIN_ID":""}}')
  same("crm.deal.add", '{"fields":{"TITLE":"a","origin_id":null}}')
  same("crm.deal.add", '{"fields":{"TITLE":"a","\\u004fRIGIN_ID":"x"}}')
  same("crm.item.add", '{"entityTypeId":2,"fields":{"ORIGIN_ID":"x"}}')
  same("crm.item.add", '{"entityTypeId":1042,"fields":{"xmlId":"x"}}')
  expect(stamp("crm.deal.add", '{"fields":{"ORIGINATOR_ID":"shop"}}')).toBe(
    `{"fields":{"ORIGIN_ID":"${id}","ORIGINATOR_ID":"shop"}}`
  )
})

test("bodies of another shape are left alone, and so is everything that creates nothing of the kind", () => {
  const bodies = [
    "{}",
    "[]",
    "null",
    '[{"fields":{"TITLE":"a"}}]',
    '{"fields":{}}',
    '{"fields":[]}',
    '{"fields":["a"]}',
    '{"fields":"TITLE=a"}',
    '{"fields":null}',
    '{"FIELDS":{"TITLE":"a"}}',
    '{"fields":{"TITLE":"a"},"FIELDS":{"TITLE":"b"}}',
    '{"fields":{"TITLE":"a"},"fields":{"TITLE":"b"}}',
    '{"a":{"fields":{"TITLE":"a"}}}'
  ]
  for (const body of bodies) expect(stamp("crm.deal.add", body)).toBe(body)
  for (const method of [
    "crm.deal.update",
    "crm.quote.add",
    "tasks.task.add",
    "lists.element.add",
    "batch",
    "erp.deal.add"
  ])
    expect(stamp(method, '{"fields":{"TITLE":"a"}}')).toBe('{"fields":{"TITLE":"a"}}')
  const nameless = request("crm.deal.add", '{"fields":{"TITLE":"a"}}', "")
  const { messageId: _, ...rest } = nameless
  expect(stamped({ ...rest, messageId: undefined }).body).toBe(rest.body)
})

test("for any fields: the name is the only thing that was added, each time the same, and it is what is looked for", () => {
  const key = fc.oneof(
    fc.string(),
    fc.constantFrom("TITLE", "ORIGIN_ID", "ORIGINATOR_ID", "originId", "__proto__", "fields")
  )
  const bodies = fc.record({
    method: fc.constantFrom("crm.deal.add", "crm.item.add", "crm.activity.add", "crm.deal.update"),
    entityTypeId: fc.constantFrom(2, 1042, 7, "3"),
    fields: fc.oneof({ weight: 5, arbitrary: fc.dictionary(key, fc.jsonValue(), { maxKeys: 5 }) }, fc.jsonValue()),
    space: fc.constantFrom(undefined, 1, "\t")
  })
  let added = 0
  fc.assert(
    fc.property(bodies, ({ method, space, ...params }) => {
      const text = JSON.stringify(params, undefined, space)
      const one = request(method, text)
      const after = stamped(one)
      const now = Buffer.from(after.body).toString("utf8")
      expect(Buffer.from(stamped(one).body).toString("utf8")).toBe(now)
      if (after === one) return
      added++
      expect(JSON.parse(now)).toEqual(after.parameters)
      const piece = /(?:"(?:ORIGINATOR_ID|originatorId)":"b24rmq",)?"(?:ORIGIN_ID|originId|xmlId)":"k3J_[^"]*",/
      expect(now.replace(piece, "")).toBe(text)
      expect({ ...after, body: 0, parameters: 0 }).toEqual({ ...one, body: 0, parameters: 0, stamped: true })
      // A second stamp finds the first.
      expect(stamped(after)).toBe(after)
      const remedy = remedyFor(after, [], false)
      // A source that cannot be looked for spoils the name, too.
      if (remedy._tag === "LookUp")
        expect([remedy.handle.told, Object.values(remedy.handle.values)]).toEqual([
          "unique",
          expect.arrayContaining([id])
        ])
      else expect(text).toMatch(/ORIGINATOR_ID|originatorId/)
    }),
    { numRuns: 3_000 }
  )
  expect(added).toBeGreaterThan(300)
})

test("bytes that are no UTF-8 at all survive", () => {
  const body = Buffer.concat([Buffer.from('{"fields":{"TITLE":"'), Buffer.from([0xff, 0xc3, 0x28]), Buffer.from('"}}')])
  const one = { ...request("crm.deal.add", '{"fields":{"TITLE":"a"}}'), body }
  expect(Buffer.from(stamped(one).body).includes(Buffer.from([0xff, 0xc3, 0x28]))).toBe(true)
})
