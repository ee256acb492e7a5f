import { Refusal, type Outcome } from "./envelope.ts"
import { fieldsOf, reads, writes, type Call, type Methods } from "./method.ts"
import type { Row } from "./table.ts"
import {
  at,
  entriesOf,
  integerOf,
  isFields,
  isList,
  isPhpArray,
  param,
  textOf,
  type Fields,
  type Value
} from "./value.ts"

const prefix = "BITRIX_REST_V3_EXCEPTION_"

/** A refusal of v3: `NAME` stands for `BITRIX_REST_V3_EXCEPTION_NAMEEXCEPTION`. */
export const refusedThird = (name: string, text: string, status = 400, extra: Fields = {}): Refusal =>
  new Refusal(status, `${prefix}${name}EXCEPTION`, text, extra)

const invalid = (field: string, message: string): Refusal =>
  refusedThird("VALIDATION_REQUESTVALIDATION", "Error validating request object", 400, {
    validation: [{ field, message }]
  })

const camel = (field: string): string =>
  field.toLowerCase().replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase())

const snake = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()

const statuses: Readonly<Record<string, string>> = { "2": "pending", "3": "in_progress", "5": "completed" }

const shown = (field: string, value: Value): Value => {
  if (field === "STATUS") return statuses[textOf(value)] ?? value
  return field === "ID" || field.endsWith("_ID") || field === "CREATED_BY" ? integerOf(value) : value
}

const taskOf = (row: Row, select: ReadonlyArray<string>): Value => {
  const out: Record<string, Value> = {}
  for (const [field, value] of row) {
    const name = camel(field)
    if (select.length === 0 || select.includes(name)) out[name] = shown(field, value)
  }
  return out
}

const selectOf = (call: Call): ReadonlyArray<string> =>
  entriesOf(param(call.params, "select")).map(([, name]) => textOf(name))

const columns = (fields: Value): ReadonlyArray<readonly [string, Value]> =>
  entriesOf(fields)
    .filter(([name]) => name !== "id")
    .map(([name, value]) => [snake(name), value] as const)

const noSuchTask = (id: number): Refusal => refusedThird("ENTITYNOTFOUND", `Entity with ID \`${id}\` is not found`)

const add = (call: Call): Outcome => {
  const fields = fieldsOf(call)
  if (!isPhpArray(fields)) return invalid("fields", "Required field `fields` is not specified")
  if (textOf(at(fields, "title")) === "") return invalid("title", "Required field `title` is not specified")
  const table = call.crm.table("task")
  const row = table.get(table.add([["TITLE", ""], ["STATUS", "2"], ...columns(fields)]))
  return row === undefined ? null : { item: taskOf(row, []) }
}

const forTask =
  (run: (row: Row, id: number, call: Call) => Outcome) =>
  (call: Call): Outcome => {
    const given = at(call.params, "id")
    if (given === undefined) return invalid("id", "Required field `id` is not specified")
    const id = integerOf(given)
    const row = call.crm.table("task").get(id)
    return row === undefined ? noSuchTask(id) : run(row, id, call)
  }

const operators = new Set(["=", "!=", ">", ">=", "<", "<=", "in", "between"])

// `["id", ">", 5]` or `["id", 5]`; tasks can be filtered by id only
// (bitrix24/b24restdocs:api-reference/tasks/tasks-task-list-rest-v3.md).
const conditions = (filter: Value | undefined): Refusal | ReadonlyArray<readonly [string, Value]> => {
  const found: Array<readonly [string, Value]> = []
  for (const [, condition] of entriesOf(filter)) {
    if (!isList(condition) || condition.length < 2) {
      return refusedThird("INVALIDFILTER", "Unable to recognize the filter")
    }
    const [field, second, third] = condition
    const operator = condition.length > 2 ? textOf(second) : isPhpArray(second) ? "in" : "="
    const value = (condition.length > 2 ? third : second) ?? null
    if (!operators.has(operator))
      return refusedThird("UNKNOWNFILTEROPERATOR", `Unknown filter operator \`${operator}\``)
    if (textOf(field) !== "id") {
      return invalid(
        textOf(field),
        `In DTO \`TaskDto\`, the \`${textOf(field)}\` field requires the \`Filterable\` attribute`
      )
    }
    if (operator === "between") found.push([">=ID", at(value, 0) ?? null], ["<=ID", at(value, 1) ?? null])
    else found.push([operator === "in" ? "@ID" : `${operator}ID`, value])
  }
  return found
}

const list = (call: Call): Outcome => {
  const filter = conditions(param(call.params, "filter"))
  if (filter instanceof Refusal) return filter
  const pagination = param(call.params, "pagination")
  const limit = at(pagination, "limit") ?? 50
  const page = at(pagination, "page")
  if (integerOf(limit) <= 0) {
    return refusedThird("INVALIDPAGINATION", "Unable to recognize the pagination parameter")
  }
  // Measured to clamp at fifty, whatever its page says (bitrix24/b24jssdk#531).
  const size = Math.min(50, integerOf(limit))
  const offset = page === undefined ? integerOf(at(pagination, "offset")) : (Math.max(1, integerOf(page)) - 1) * size
  const order = entriesOf(param(call.params, "order"))
  const { rows } = call.crm.table("task").select({
    filter,
    order: order.map(([name, direction]) => [snake(name), direction] as const),
    start: offset
  })
  const select = selectOf(call)
  return { items: rows.slice(0, size).map((row) => taskOf(row, select.length === 0 ? ["id"] : select)) }
}

/** The methods that have moved to version 3, of those that the portal has. */
export const thirdMethods = (known: () => Iterable<string>): Methods => {
  const openapi = (): Outcome => ({
    openapi: "3.0.0",
    info: { title: "Bitrix24 REST V3 API", version: "1.0.0" },
    tags: [{ name: "tasks", description: "tasks module methods" }],
    paths: Object.fromEntries([...known()].map((name) => [`/${name}`, {}]))
  })
  return {
    ...reads("tasks", {
      "tasks.task.get": forTask((row, _, call) => ({ item: taskOf(row, selectOf(call)) })),
      "tasks.task.list": list
    }),
    ...writes("tasks", {
      "tasks.task.add": add,
      "tasks.task.update": forTask((_, id, call) => {
        const fields = fieldsOf(call)
        if (!isFields(fields)) return invalid("fields", "Required field `fields` is not specified")
        call.crm.table("task").update(id, columns(fields))
        return { result: true }
      }),
      "tasks.task.delete": forTask((_, id, call) => ({ result: call.crm.table("task").delete(id) }))
    }),
    ...reads("", {
      "rest.documentation.openapi": openapi,
      documentation: openapi,
      "rest.scope.list": () => ({ items: [{ module: "tasks", scope: "tasks" }] })
    })
  }
}
