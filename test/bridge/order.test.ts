import { expect, test } from "bun:test"
import fc from "fast-check"
import { entityOf } from "../../src/bridge/order.ts"

const same = (...requests: ReadonlyArray<readonly [string, unknown]>) => {
  const keys = requests.map(([method, parameters]) => entityOf(method, parameters))
  expect(keys[0]).toBeDefined()
  expect(new Set(keys).size).toBe(1)
}

test("one deal is one entity, however it is named", () =>
  same(
    ["crm.deal.update", { id: 812, fields: { STAGE_ID: "WON" } }],
    ["crm.deal.get", { ID: "812" }],
    ["CRM.Deal.delete", { id: "812" }],
    ["crm.deal.productrows.set", { id: 812, rows: [] }],
    ["crm.deal.contact.add", { id: 812, fields: { CONTACT_ID: 5 } }],
    ["crm.item.update", { entityTypeId: 2, id: 812, fields: {} }],
    ["crm.item.productrow.set", { ownerType: "D", ownerId: 812, productRows: [] }],
    ["crm.activity.add", { fields: { OWNER_ID: 812, OWNER_TYPE_ID: 2 } }],
    ["crm.timeline.comment.add", { fields: { ENTITY_ID: 812, ENTITY_TYPE: "deal", COMMENT: "ok" } }]
  ))

test("a smart process is named by its number or in hexadecimal", () =>
  same(
    ["crm.item.get", { entityTypeId: 1042, id: 7 }],
    ["crm.item.productrow.set", { ownerType: "T412", ownerId: 7, productRows: [] }],
    ["crm.timeline.comment.add", { fields: { ENTITY_ID: 7, ENTITY_TYPE: "dynamic_1042" } }]
  ))

test("one task is one entity, by name or by position", () =>
  same(
    ["tasks.task.update", { taskId: 4120, fields: {} }],
    ["tasks.task.get", { id: "4120" }],
    ["task.commentitem.add", [4120, { POST_MESSAGE: "ok" }]],
    ["task.checklistitem.add", { TASKID: 4120, FIELDS: {} }]
  ))

test("other methods are told apart by their name and id", () => {
  same(["sale.order.update", { id: 3 }], ["sale.order.delete", { id: "3" }])
  expect(entityOf("sale.order.update", { id: 3 })).not.toEqual(entityOf("sale.payment.update", { id: 3 }))
  expect(entityOf("crm.deal.update", { id: 3 })).not.toEqual(entityOf("crm.lead.update", { id: 3 }))
  expect(entityOf("crm.deal.update", { id: 3 })).not.toEqual(entityOf("crm.deal.update", { id: 33 }))
})

test("what names no entity is free", () => {
  for (const [method, parameters] of [
    ["crm.deal.list", { filter: { ID: 3 } }],
    ["crm.deal.add", { fields: { TITLE: "x" } }],
    ["server.time", {}],
    ["profile", null],
    ["batch", { cmd: { a: "crm.deal.get?id=1" } }],
    ["crm.deal.get", { id: "" }],
    ["crm.deal.get", { id: { a: 1 } }],
    ["erp.push", [1, 2]]
  ] as const) {
    expect(entityOf(method, parameters)).toBeUndefined()
  }
})

test("the rule is total, and does not depend on how an id is written", () =>
  fc.assert(
    fc.property(fc.stringMatching(/^[A-Za-z0-9_.]{1,30}$/), fc.jsonValue(), (method, parameters) => {
      const key = entityOf(method, parameters)
      expect(key === undefined || key.length > 0).toBe(true)
    })
  ))
