import type { Request } from "../message/request.ts"

/**
 * Which requests must keep their queue order: those that name the same entity.
 */

type Parameters = Readonly<Record<string, unknown>>

const isMap = (value: unknown): value is Parameters =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** A parameter under any of its spellings: old methods take `ID` and `id` alike. */
const pick = (parameters: Parameters, ...names: ReadonlyArray<string>): string | undefined => {
  for (const [name, value] of Object.entries(parameters)) {
    if (!names.includes(name.toLowerCase())) continue
    if (typeof value === "number" || (typeof value === "string" && value !== "")) return String(value)
  }
  return undefined
}

/** CRM types by the names of their methods and of owners (bitrix24/b24restdocs:api-reference/crm/data-types.md). */
const crmTypes: Readonly<Record<string, string>> = {
  lead: "1",
  deal: "2",
  contact: "3",
  company: "4",
  quote: "7",
  l: "1",
  d: "2",
  c: "3",
  co: "4",
  q: "7"
}

const crmType = (name: string | undefined): string | undefined => {
  if (name === undefined) return undefined
  const word = name.toLowerCase()
  if (/^\d+$/.test(word)) return word
  // Smart processes are owners by T and their type in hexadecimal: T412 is 1042.
  if (/^t[0-9a-f]+$/.test(word)) return String(Number.parseInt(word.slice(1), 16))
  if (/^dynamic_\d+$/.test(word)) return word.slice(8)
  return crmTypes[word]
}

const entity = (kind: string, id: string | undefined) => (id === undefined ? undefined : `${kind} ${id}`)
const crmEntity = (type: string | undefined, id: string | undefined) =>
  type === undefined ? undefined : entity(`crm ${type}`, id)

/** The owner that a row, an activity or a comment belongs to. */
const owner = (parameters: Parameters) => {
  const rows = pick(parameters, "ownerid", "owner_id", "entityid", "entity_id")
  const type = pick(parameters, "ownertype", "owner_type", "ownertypeid", "owner_type_id", "entitytype", "entity_type")
  return crmEntity(crmType(type), rows)
}

const ofCrm = (words: ReadonlyArray<string>, parameters: Parameters, fields: Parameters): string | undefined => {
  const kind = words[1] ?? ""
  const id = pick(parameters, "id")
  const type = crmTypes[kind]
  // `crm.deal.update`, and what hangs on it: `crm.deal.contact.add`, `crm.deal.productrows.set`.
  if (type !== undefined && kind.length > 2) return crmEntity(type, id)
  if (kind === "item" && words[2] !== "productrow" && words[2] !== "payment") {
    return crmEntity(crmType(pick(parameters, "entitytypeid")), id)
  }
  return owner(parameters) ?? owner(fields) ?? entity(words.slice(0, -1).join("."), id)
}

const ofTask = (parameters: unknown): string | undefined => {
  // Positional methods name the task first: `task.commentitem.add [4120, {...}]`.
  if (Array.isArray(parameters)) {
    const [id] = parameters
    return typeof id === "number" || typeof id === "string" ? `task ${id}` : undefined
  }
  return isMap(parameters) ? entity("task", pick(parameters, "taskid", "task_id", "id")) : undefined
}

/**
 * The entity that a request names, as a key; undefined if it names none and may run beside all others. Pure and total.
 * Any other method with an `id` is kept in order with those of the same name but for its last word.
 */
export const entityOf = (method: string, parameters: unknown): string | undefined => {
  const words = method.toLowerCase().split(".")
  if (words[0] === "task" || words[0] === "tasks") return ofTask(parameters)
  if (!isMap(parameters)) return undefined
  const fields = isMap(parameters.fields) ? parameters.fields : isMap(parameters.FIELDS) ? parameters.FIELDS : {}
  if (words[0] === "crm") return ofCrm(words, parameters, fields)
  return words.length < 2 ? undefined : entity(words.slice(0, -1).join("."), pick(parameters, "id"))
}

/**
 * The line in which a request stands: those of one line are executed one after another, as they came. The producer's own
 * header `order` goes before what the parameters name. Undefined for a request that may run beside all others.
 */
export const lineOf = ({ credential, method, order, parameters }: Request): string | undefined => {
  const name = order === undefined || order === "" ? entityOf(method, parameters) : `order ${order}`
  return name === undefined ? undefined : `${credential} ${name}`
}
