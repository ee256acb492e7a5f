import type { Crm, EntityKind } from "./crm.ts"
import { classicKinds } from "./crm.ts"
import { Page, type Outcome } from "./envelope.ts"
import { fieldsOf, idOf, notFound, reads, refused, writes, type Call, type Methods } from "./method.ts"
import { filterName, type Row } from "./table.ts"
import { at, entriesOf, isPhpArray, param, textOf, type Value } from "./value.ts"

const known = new Set(
  (
    "ID TITLE NAME LAST_NAME SECOND_NAME STATUS_ID STAGE_ID CATEGORY_ID OPPORTUNITY CURRENCY_ID ASSIGNED_BY_ID CREATED_BY_ID " +
    "MODIFY_BY_ID DATE_CREATE DATE_MODIFY OPENED CLOSED COMMENTS SOURCE_ID SOURCE_DESCRIPTION COMPANY_ID CONTACT_ID " +
    "CONTACT_IDS LEAD_ID PHONE EMAIL WEB IM ORIGINATOR_ID ORIGIN_ID TYPE_ID COMPANY_TYPE COMPANY_TITLE BEGINDATE CLOSEDATE " +
    "POST ADDRESS BIRTHDATE UTM_SOURCE UTM_MEDIUM UTM_CAMPAIGN UTM_CONTENT UTM_TERM PROBABILITY ADDITIONAL_INFO"
  ).split(" ")
)

/** Whether the entities that were there before smart processes have such a field. */
export const isClassicField = (field: string): boolean => known.has(field) || field.startsWith("UF_")

const multiple = new Set(["PHONE", "EMAIL", "WEB", "IM"])

/** Why these fields of an entity would be refused, in the words of the portal. */
export const fieldFault = (fields: Value): Outcome | undefined => {
  const currency = at(fields, "CURRENCY_ID")
  if (currency !== undefined && currency !== "" && !/^[A-Z]{3}$/.test(textOf(currency))) {
    return refused('Invalid value for the "Currency" field')
  }
  for (const [, email] of entriesOf(at(fields, "EMAIL"))) {
    const address = textOf(at(email, "VALUE"))
    if (address !== "" && !/^[^@\s]+@[^@\s]+$/.test(address)) {
      return refused("The field Work e-mail contains an invalid address", "ERROR_CORE")
    }
  }
  return undefined
}

const stored = (crm: Crm, field: string, value: Value): Value =>
  multiple.has(field) && isPhpArray(value)
    ? entriesOf(value).map(([, entry]) => ({
        ID: String(crm.next("multifield")),
        VALUE_TYPE: textOf(at(entry, "VALUE_TYPE")) || "WORK",
        VALUE: textOf(at(entry, "VALUE")),
        TYPE_ID: field
      }))
    : value

/** The fields of a call that the entity has, in the form in which they are kept. */
export const storable = (crm: Crm, fields: Value): ReadonlyArray<readonly [string, Value]> =>
  entriesOf(fields)
    .filter(([field]) => field !== "ID" && isClassicField(field))
    .map(([field, value]) => [field, stored(crm, field, value)] as const)

// The older methods answer ids and money as text.
const shown = (field: string, value: Value): Value => {
  if (typeof value === "boolean") return value ? "Y" : "N"
  if (field === "OPPORTUNITY" && !isPhpArray(value)) return Number(textOf(value)).toFixed(2)
  return typeof value === "number" || typeof value === "bigint" ? String(value) : value
}

/** A row as the older methods show it: all of its fields, or those asked for. */
export const classicRow = (row: Row, select: ReadonlyArray<string>): Value => {
  const out: Record<string, Value> = {}
  if (select.length === 0 || select.includes("*")) {
    for (const [field, value] of row) if (!multiple.has(field)) out[field] = shown(field, value)
  }
  for (const field of select) {
    const value = row.get(field)
    if (value !== undefined) out[field] = shown(field, value)
    else if (isClassicField(field)) out[field] = null
  }
  return out
}

/** Filter, order and page of an older list method, or the refusal of a filter that is none. */
export const listRows = (call: Call, table: string, hasField: (field: string) => boolean): Outcome => {
  const filter = param(call.params, "filter")
  for (const [name, value] of [
    ["filter", filter],
    ["order", param(call.params, "order")],
    ["select", param(call.params, "select")]
  ] as const) {
    if (value !== undefined && value !== "" && value !== null && !isPhpArray(value)) {
      return refused(`Parameter '${name}' must be array.`)
    }
  }
  const { rows, total, next } = call.crm.table(table).select({
    filter: entriesOf(filter).filter(([key]) => hasField(filterName(key).field)),
    order: entriesOf(param(call.params, "order")),
    start: call.start
  })
  const select = entriesOf(param(call.params, "select")).map(([, field]) => textOf(field))
  return new Page(
    rows.map((row) => classicRow(row, select)),
    total,
    next
  )
}

/** When a call came, as rows keep it: ISO 8601 in whole seconds with an offset. */
export const momentOf = (call: Call): string => new Date(call.now).toISOString().replace(/\.\d+Z$/, "+00:00")

const add =
  (kind: EntityKind) =>
  (call: Call): Outcome => {
    const fields = fieldsOf(call)
    if (!isPhpArray(fields)) return refused("Parameter 'fields' must be array")
    const fault = fieldFault(fields)
    if (fault !== undefined) return fault
    const created = momentOf(call)
    return call.crm
      .table(kind.name)
      .add([
        ...Object.entries(kind.defaults),
        ["ASSIGNED_BY_ID", call.credential.user],
        ["CREATED_BY_ID", call.credential.user],
        ["DATE_CREATE", created],
        ["DATE_MODIFY", created],
        ...storable(call.crm, fields)
      ])
  }

const update =
  (kind: EntityKind) =>
  (call: Call): Outcome => {
    const fields = fieldsOf(call)
    if (!isPhpArray(fields)) return refused("Parameter 'fields' must be array")
    const fault = fieldFault(fields)
    if (fault !== undefined) return fault
    const id = idOf(call)
    if (id <= 0) return refused("ID is not defined or invalid")
    return call.crm.table(kind.name).update(id, storable(call.crm, fields)) ? true : notFound
  }

const get =
  (kind: EntityKind) =>
  (call: Call): Outcome => {
    const id = idOf(call)
    if (id <= 0) return refused("ID is not defined or invalid")
    const row = call.crm.table(kind.name).get(id)
    return row === undefined
      ? notFound
      : classicRow(row, ["*", ...[...row.keys()].filter((field) => multiple.has(field))])
  }

// Each kind says in words of its own that it is not there
// (bitrix24/b24restdocs:api-reference/crm, contacts/crm-contact-delete.md and companies/crm-company-delete.md).
const missing: Readonly<Record<string, Outcome>> = {
  contact: refused("Element not found", "ERROR_CORE"),
  company: refused("Company is not found")
}

const remove =
  (kind: EntityKind) =>
  (call: Call): Outcome => {
    const id = idOf(call)
    if (id <= 0) return refused("ID is not defined or invalid")
    return call.crm.table(kind.name).delete(id) ? true : (missing[kind.name] ?? notFound)
  }

const fieldList = (): Outcome =>
  Object.fromEntries([...known].map((field) => [field, { type: "string", isRequired: false, title: field }]))

const ofKind = (kind: EntityKind): Methods => ({
  ...writes("crm", {
    [`crm.${kind.name}.add`]: add(kind),
    [`crm.${kind.name}.update`]: update(kind),
    [`crm.${kind.name}.delete`]: remove(kind)
  }),
  ...reads("crm", {
    [`crm.${kind.name}.get`]: get(kind),
    [`crm.${kind.name}.list`]: (call) => listRows(call, kind.name, isClassicField),
    [`crm.${kind.name}.fields`]: fieldList
  })
})

// Twenty values and twenty hits (bitrix24/b24restdocs:api-reference/crm/duplicates/crm-duplicate-find-by-comm.md).
const findByComm = (call: Call): Outcome => {
  const type = textOf(param(call.params, "type"))
  if (type === "") return refused("Parameter 'type' is required.", "Communication type is not defined")
  const values = entriesOf(param(call.params, "values")).slice(0, 20)
  const wanted = new Set(values.map(([, value]) => textOf(value)))
  const only = textOf(param(call.params, "entity_type")).toLowerCase()
  const found: Record<string, Value> = {}
  for (const name of ["lead", "contact", "company"]) {
    if (only !== "" && only !== name) continue
    const ids = []
    for (const row of call.crm.table(name).all()) {
      const hit = entriesOf(row.get(type)).some(([, entry]) => wanted.has(textOf(at(entry, "VALUE"))))
      if (hit && ids.length < 20) ids.push(row.get("ID") ?? null)
    }
    if (ids.length > 0) found[name.toUpperCase()] = ids
  }
  return found
}

const hasAnyField = (): boolean => true

const addActivity = (call: Call): Outcome => {
  const fields = fieldsOf(call)
  if (!isPhpArray(fields)) return refused("Parameter 'fields' must be array")
  for (const field of ["OWNER_ID", "OWNER_TYPE_ID", "TYPE_ID"]) {
    if (textOf(at(fields, field)) === "") return refused(`The field ${field} is not defined or invalid`)
  }
  return call.crm.table("activity").add([["CREATED", momentOf(call)], ...entriesOf(fields)])
}

const updateActivity = (call: Call): Outcome =>
  call.crm.table("activity").update(idOf(call), entriesOf(fieldsOf(call))) ? true : notFound

const getActivity = (call: Call): Outcome => {
  const row = call.crm.table("activity").get(idOf(call))
  return row === undefined ? notFound : classicRow(row, [])
}

const addComment = (call: Call): Outcome => {
  const fields = fieldsOf(call)
  for (const field of ["ENTITY_ID", "ENTITY_TYPE", "COMMENT"]) {
    if (textOf(at(fields, field)) === "") return refused(`${field} is not defined`, "INVALID_ARG_VALUE")
  }
  return call.crm.table("comment").add(entriesOf(fields))
}

/** `crm.*` as it was before smart processes: leads, deals, contacts, companies, activities, comments. */
export const classicMethods: Methods = {
  ...Object.assign({}, ...classicKinds.map(ofKind)),
  ...reads("crm", {
    "crm.duplicate.findbycomm": findByComm,
    "crm.activity.get": getActivity,
    "crm.activity.list": (call) => listRows(call, "activity", hasAnyField),
    "crm.timeline.comment.list": (call) => listRows(call, "comment", hasAnyField)
  }),
  ...writes("crm", {
    "crm.activity.add": addActivity,
    "crm.activity.update": updateActivity,
    "crm.activity.delete": (call) =>
      call.crm.table("activity").delete(idOf(call)) ? true : refused("Activity is not found"),
    "crm.timeline.comment.add": addComment,
    "crm.timeline.comment.delete": (call) =>
      call.crm.table("comment").delete(idOf(call)) ? null : refused("Not found.", "NOT_FOUND")
  })
}
