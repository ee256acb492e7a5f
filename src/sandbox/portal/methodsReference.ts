import { Page, type Outcome } from "./envelope.ts"
import { fieldsOf, idOf, reads, refused, writes, type Call, type Methods } from "./method.ts"
import { listRows, momentOf } from "./methodsClassic.ts"
import type { Row } from "./table.ts"
import { at, entriesOf, integerOf, isPhpArray, param, textOf, type Value } from "./value.ts"

const requisiteFields = new Set(
  (
    "ID ENTITY_TYPE_ID ENTITY_ID PRESET_ID DATE_CREATE DATE_MODIFY NAME CODE XML_ID ORIGINATOR_ID ACTIVE SORT COUNTRY_ID " +
    "RQ_COMPANY_NAME RQ_INN RQ_BANK_NAME RQ_ACC_NUM COMMENTS"
  ).split(" ")
)

// Requisites and bank details know only their own fields, in filters, too.
const requisites = (name: string, table: string, required: ReadonlyArray<string>, title: string): Methods => ({
  ...writes("crm", {
    [`${name}.add`]: (call) => {
      const fields = fieldsOf(call)
      if (!isPhpArray(fields)) return refused("Parameter 'fields' must be array")
      for (const field of required) {
        if (textOf(at(fields, field)) === "") return refused(`${field} is not defined or invalid.`)
      }
      const known = entriesOf(fields).filter(([field]) => requisiteFields.has(field))
      return call.crm.table(table).add([["DATE_CREATE", momentOf(call)], ...known])
    },
    [`${name}.delete`]: (call) =>
      call.crm.table(table).delete(idOf(call)) ? true : refused(`The ${title} with ID '${idOf(call)}' is not found`)
  }),
  ...reads("crm", { [`${name}.list`]: (call) => listRows(call, table, (field) => requisiteFields.has(field)) })
})

const statusFields = new Set("ID ENTITY_ID STATUS_ID NAME NAME_INIT SORT SYSTEM COLOR SEMANTICS CATEGORY_ID".split(" "))

const addStatus = (call: Call): Outcome => {
  const fields = fieldsOf(call)
  const table = call.crm.table("status")
  const [entity, code] = [textOf(at(fields, "ENTITY_ID")), textOf(at(fields, "STATUS_ID"))]
  if (entity === "" || code === "") return refused("The field ENTITY_ID is required.", "ERROR_CORE")
  if (table.where("STATUS_ID", code).some((row) => row.get("ENTITY_ID") === entity)) {
    return refused("The specified status ID already exists.", "ERROR_CORE")
  }
  return table.add([["SORT", 10], ...entriesOf(fields)])
}

const addMeasure = (call: Call): Outcome => {
  const fields = fieldsOf(call)
  if (!isPhpArray(fields)) return refused("Required fields: fields", "100")
  const table = call.crm.table("measure")
  if (table.where("code", integerOf(at(fields, "code"))).length > 0) {
    return refused("Measure already exists", 200_600_000_000)
  }
  const row = table.get(table.add([["isDefault", "N"], ...entriesOf(fields)]))
  return row === undefined ? null : { measure: measureOf(row) }
}

const measureOf = (row: Row): Value =>
  Object.fromEntries([...row].map(([field, value]) => [field === "ID" ? "id" : field, value]))

const listMeasures = (call: Call): Outcome => {
  const filter = entriesOf(param(call.params, "filter"))
  const { rows, total, next } = call.crm.table("measure").select({ filter, order: [], start: call.start })
  return new Page({ measures: rows.map(measureOf) }, total, next)
}

/** What other things refer to: requisites, bank details, directories, measures. */
export const referenceMethods: Methods = {
  ...requisites("crm.requisite", "requisite", ["ENTITY_TYPE_ID", "ENTITY_ID", "PRESET_ID"], "Requisite"),
  ...requisites("crm.requisite.bankdetail", "bankdetail", ["ENTITY_ID"], "Bank detail"),
  ...reads("crm", { "crm.status.list": (call) => listRows(call, "status", (field) => statusFields.has(field)) }),
  ...writes("crm", { "crm.status.add": addStatus }),
  ...reads("catalog", { "catalog.measure.list": listMeasures }),
  ...writes("catalog", { "catalog.measure.add": addMeasure })
}
