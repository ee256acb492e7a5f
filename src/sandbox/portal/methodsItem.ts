import type { EntityKind } from "./crm.ts"
import { Page, type Outcome } from "./envelope.ts"
import { fieldsOf, idOf, reads, refused, writes, type Call, type Methods } from "./method.ts"
import { isClassicField, momentOf } from "./methodsClassic.ts"
import { filterName, type Row } from "./table.ts"
import { at, entriesOf, integerOf, isPhpArray, keysOf, param, textOf, type Value } from "./value.ts"

const smartFields = new Set(
  (
    "ID TITLE XML_ID CREATED_TIME UPDATED_TIME MOVED_TIME CREATED_BY UPDATED_BY MOVED_BY ASSIGNED_BY_ID OPENED STAGE_ID " +
    "PREVIOUS_STAGE_ID CATEGORY_ID BEGINDATE CLOSEDATE COMPANY_ID CONTACT_ID CONTACT_IDS OPPORTUNITY CURRENCY_ID " +
    "IS_MANUAL_OPPORTUNITY TAX_VALUE MYCOMPANY_ID SOURCE_ID SOURCE_DESCRIPTION WEBFORM_ID ORIGINATOR_ID ORIGIN_ID"
  ).split(" ")
)

const numeric = new Set([
  "ID",
  "ASSIGNED_BY_ID",
  "CREATED_BY",
  "UPDATED_BY",
  "CREATED_BY_ID",
  "MODIFY_BY_ID",
  "CATEGORY_ID",
  "COMPANY_ID",
  "CONTACT_ID",
  "LEAD_ID",
  "OPPORTUNITY"
])

// A field of a smart process may hold capitals of its own (`ufCrm7_Paid`), so it keeps its name.
const isOwnField = (name: string): boolean => /^(?:uf[A-Z]|parentId)/.test(name)

const snakes = new Map<string, string>()

const snake = (name: string): string => {
  let known = snakes.get(name)
  if (known === undefined) {
    known = name.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()
    if (snakes.size < 10_000) snakes.set(name, known)
  }
  return known
}

// What `crm.item.*` calls otherwise than the older methods do
// (bitrix24/b24restdocs:api-reference/crm/universal/object-fields.md).
const renamed: Readonly<Record<string, string>> = {
  DATE_CREATE: "createdTime",
  DATE_MODIFY: "updatedTime",
  CREATED_BY_ID: "createdBy",
  MODIFY_BY_ID: "updatedBy"
}
const columnsOf = new Map(Object.entries(renamed).map(([column, name]) => [name, column]))

const camelOf = (kind: EntityKind, field: string): string => (kind.smart ? undefined : renamed[field]) ?? camel(field)

const camel = (field: string): string =>
  isOwnField(field) ? field : field.toLowerCase().replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase())

const columnOf = (kind: EntityKind, name: string): string => {
  if (kind.smart) return isOwnField(name) ? name : snake(name)
  return columnsOf.get(name) ?? snake(name)
}

const hasField = (kind: EntityKind, name: string): boolean =>
  kind.smart ? isOwnField(name) || smartFields.has(snake(name)) : isClassicField(columnOf(kind, name))

const shown = (field: string, value: Value): Value => {
  if (typeof value === "boolean") return value ? "Y" : "N"
  if (field === "CONTACT_IDS") return entriesOf(value).map(([, id]) => integerOf(id))
  return numeric.has(field) && !isPhpArray(value) ? Number(textOf(value)) : value
}

const itemOf = (kind: EntityKind, row: Row, select: ReadonlyArray<string>): Value => {
  const out: Record<string, Value> = {}
  if (select.length === 0 || select.includes("*")) {
    for (const [field, value] of row) out[camelOf(kind, field)] = shown(field, value)
    return out
  }
  for (const name of ["id", ...select]) {
    const field = columnOf(kind, name)
    if (hasField(kind, name)) out[name] = shown(field, row.get(field) ?? null)
  }
  return out
}

const multiple = /Ids$|Multiple$/

const fault = (fields: Value): Outcome | undefined => {
  const assigned = at(fields, "assignedById")
  if (assigned !== undefined && !/^\d+$/.test(textOf(assigned))) {
    return refused('Invalid value for field "assignedById"', "CRM_FIELD_ERROR_VALUE_NOT_VALID")
  }
  for (const [name, value] of entriesOf(fields)) {
    if (multiple.test(name) && !isPhpArray(value)) {
      const type = typeof value === "number" ? "integer" : typeof value
      return refused(`Expected iterable value for multiple field, but got ${type} instead`, "100")
    }
  }
  return undefined
}

const columns = (kind: EntityKind, fields: Value): ReadonlyArray<readonly [string, Value]> =>
  entriesOf(fields)
    .filter(([name]) => name !== "id" && hasField(kind, name))
    .map(([name, value]) => [columnOf(kind, name), value] as const)

type OfKind = (kind: EntityKind, call: Call) => Outcome

// Every `crm.item.*` names its entity type first, and fails first on that.
const forKind =
  (run: OfKind) =>
  (call: Call): Outcome => {
    const given = param(call.params, "entityTypeId")
    if (given === undefined) return refused("Could not find value for parameter {entityTypeId}", "100")
    const kind = call.crm.kind(integerOf(given))
    return kind === undefined ? refused("Smart process not found", "NOT_FOUND") : run(kind, call)
  }

const forRow = (run: (kind: EntityKind, row: Row, call: Call) => Outcome) =>
  forKind((kind, call) => {
    const row = call.crm.table(kind.id).get(idOf(call))
    return row === undefined ? refused("Item not found", "NOT_FOUND") : run(kind, row, call)
  })

const add = forKind((kind, call) => {
  const fields = fieldsOf(call)
  if (!isPhpArray(fields)) return refused("Could not find value for parameter {fields}", "100")
  const wrong = fault(fields)
  if (wrong !== undefined) return wrong
  const table = call.crm.table(kind.id)
  const id = table.add([
    ...Object.entries(kind.defaults),
    [kind.smart ? "CREATED_TIME" : "DATE_CREATE", momentOf(call)],
    [kind.smart ? "CREATED_BY" : "CREATED_BY_ID", call.credential.user],
    ["ASSIGNED_BY_ID", call.credential.user],
    ...columns(kind, fields)
  ])
  const row = table.get(id)
  return row === undefined ? null : { item: itemOf(kind, row, []) }
})

const update = forRow((kind, row, call) => {
  const fields = fieldsOf(call) ?? []
  const wrong = fault(fields)
  if (wrong !== undefined) return wrong
  call.crm.table(kind.id).update(integerOf(row.get("ID")), columns(kind, fields))
  return { item: itemOf(kind, row, []) }
})

const remove = forRow((kind, row, call) => {
  call.crm.table(kind.id).delete(integerOf(row.get("ID")))
  return []
})

const list = forKind((kind, call) => {
  const filter: Array<readonly [string, Value]> = []
  for (const [key, value] of entriesOf(param(call.params, "filter"))) {
    const { sign, field } = filterName(key)
    if (!hasField(kind, field)) {
      return refused(`Invalid filter: field '${field}' is not allowed in filter`, "INVALID_ARG_VALUE")
    }
    filter.push([sign + columnOf(kind, field), value])
  }
  const order = entriesOf(param(call.params, "order"))
  const { rows, total, next } = call.crm.table(kind.id).select({
    filter,
    order: order.map(([name, direction]) => [columnOf(kind, name), direction] as const),
    start: call.start
  })
  const select = entriesOf(param(call.params, "select")).map(([, name]) => textOf(name))
  // These methods answer a total of 0 where nothing was counted; the older ones leave it out.
  return new Page({ items: rows.map((row) => itemOf(kind, row, select)) }, total ?? 0, next)
})

const setProductRows = (call: Call): Outcome => {
  const kind = call.crm.kindByLetter(textOf(param(call.params, "ownerType")))
  const ownerId = integerOf(param(call.params, "ownerId"))
  if (kind === undefined || call.crm.table(kind.id).get(ownerId) === undefined) {
    return refused("Owner was not found", "OWNER_NOT_FOUND")
  }
  const productRows = entriesOf(param(call.params, "productRows")).map(([, row]) =>
    Object.fromEntries<Value>([["id", call.crm.next("productrow")], ["ownerId", ownerId], ...entriesOf(row)])
  )
  const owned = call.crm.table("productrow")
  for (const row of owned.where("OWNER", `${kind.letter}_${ownerId}`)) owned.delete(integerOf(row.get("ID")))
  for (const row of productRows)
    owned.add([
      ["OWNER", `${kind.letter}_${ownerId}`],
      ["ROW", row]
    ])
  return { productRows }
}

/** `crm.item.*`: one set of methods for all entity types, names in camel case, ids as numbers. */
export const itemMethods: Methods = {
  ...reads("crm", {
    "crm.item.get": forRow((kind, row) => ({ item: itemOf(kind, row, []) })),
    "crm.item.list": list,
    "crm.item.fields": forKind((kind) => ({
      fields: Object.fromEntries(
        [...(kind.smart ? smartFields : keysOf(kind.defaults))].map((field) => [camel(field), { type: "string" }])
      )
    }))
  }),
  ...writes("crm", {
    "crm.item.add": add,
    "crm.item.update": update,
    "crm.item.delete": remove,
    "crm.item.productrow.set": setProductRows
  })
}
