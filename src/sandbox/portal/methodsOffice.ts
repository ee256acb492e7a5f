import { Page, type Outcome } from "./envelope.ts"
import { fieldsOf, idOf, notFound, reads, refused, writes, type Call, type Methods } from "./method.ts"
import type { Row } from "./table.ts"
import { at, entriesOf, integerOf, isPhpArray, param, textOf, type Fields, type Value } from "./value.ts"

/** The people of the portal. */
export const users: ReadonlyArray<Fields> = [
  { ID: "1", ACTIVE: true, NAME: "Анна", LAST_NAME: "Белова", EMAIL: "anna@example.com", UF_DEPARTMENT: [1] },
  { ID: "6", ACTIVE: true, NAME: "Пётр", LAST_NAME: "Орлов", EMAIL: "petr@example.com", UF_DEPARTMENT: [1, 3] },
  { ID: "9", ACTIVE: false, NAME: "Олег", LAST_NAME: "Зимин", EMAIL: "oleg@example.com", UF_DEPARTMENT: [3] }
]

const camel = (field: string): string =>
  field.toLowerCase().replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase())

// Tasks answer names in camel case and even their ids as text.
const taskOf = (row: Row): Value => {
  const out: Record<string, Value> = {}
  for (const [field, value] of row) out[camel(field)] = typeof value === "number" ? String(value) : value
  return out
}

const noSuchTask = refused("Task not found or not accessible", 1_048_582)

const addTask = (call: Call): Outcome => {
  const fields = fieldsOf(call)
  if (!isPhpArray(fields)) {
    return refused("Could not find value for parameter {fields} (internal error)", "100")
  }
  if (textOf(at(fields, "TITLE")) === "") return refused("Task title is not specified<br>", "ERROR_CORE")
  const table = call.crm.table("task")
  const row = table.get(
    table.add([
      ["TITLE", ""],
      ["RESPONSIBLE_ID", call.credential.user],
      ["CREATED_BY", call.credential.user],
      ["STATUS", "2"],
      ...entriesOf(fields)
    ])
  )
  return row === undefined ? null : { task: taskOf(row) }
}

const getTask = (call: Call): Outcome => {
  const row = call.crm.table("task").get(idOf(call, "taskId"))
  return row === undefined ? noSuchTask : { task: taskOf(row) }
}

const updateTask = (call: Call): Outcome => {
  const row = call.crm.table("task").get(idOf(call, "taskId"))
  if (row === undefined) return noSuchTask
  call.crm.table("task").update(idOf(call, "taskId"), entriesOf(fieldsOf(call)))
  return { task: taskOf(row) }
}

const listTasks = (call: Call): Outcome => {
  const { rows, total, next } = call.crm.table("task").select({
    filter: entriesOf(param(call.params, "filter")),
    order: entriesOf(param(call.params, "order")),
    start: call.start
  })
  return new Page({ tasks: rows.map(taskOf) }, total, next)
}

// A method from before named parameters: a list, or keys 0, 1 in order.
const addTaskComment = (call: Call): Outcome => {
  const [taskId, fields] = entriesOf(call.params)
  if (taskId?.[0] !== "0" || fields?.[0] !== "1") return refused("Wrong arguments", "WRONG_ARGUMENTS")
  if (textOf(at(fields[1], "POST_MESSAGE")) === "") return refused("Comment text is not specified<br>", "ERROR_CORE")
  if (call.crm.table("task").get(integerOf(taskId[1])) === undefined) return noSuchTask
  return call.crm.table("taskcomment").add([["TASK_ID", taskId[1]], ...entriesOf(fields[1])])
}

const no: ReadonlySet<Value> = new Set<Value>([false, "false", "N", "0", 0, ""])

const hasValue = (user: Fields, field: string, wanted: Value): boolean => {
  const value = at(user, field.toUpperCase())
  return typeof value === "boolean" ? value !== no.has(wanted) : textOf(value) === textOf(wanted)
}

const getUsers = (call: Call): Outcome => {
  const filter = entriesOf(param(call.params, "filter"))
  const found = users.filter((user) => filter.every(([field, wanted]) => hasValue(user, field, wanted)))
  return new Page(found, found.length)
}

const currentUser = (call: Call): Fields =>
  users.find((user) => user["ID"] === call.credential.user) ?? { ...users[0], ID: call.credential.user }

// A notification with the tag of an earlier one takes its place.
const notify = (call: Call): Outcome => {
  if (integerOf(param(call.params, "USER_ID")) <= 0) return refused("User ID can't be empty", "USER_ID_EMPTY")
  if (textOf(param(call.params, "MESSAGE")) === "") return refused("Message can't be empty", "MESSAGE_EMPTY")
  const table = call.crm.table("notification")
  const tag = textOf(param(call.params, "TAG"))
  if (tag !== "") for (const row of table.where("TAG", tag)) table.delete(integerOf(row.get("ID")))
  return table.add([
    ["USER_ID", param(call.params, "USER_ID") ?? 0],
    ["MESSAGE", param(call.params, "MESSAGE") ?? ""],
    ["TAG", tag]
  ])
}

const startWorkflow = (call: Call): Outcome => {
  const template = integerOf(param(call.params, "TEMPLATE_ID"))
  if (template <= 0 || template > 1000) return refused("Template not found", "ERROR_WRONG_WORKFLOW_ID")
  const started = call.crm.table("workflow").add([["TEMPLATE_ID", template]])
  return `${(0x6ab0f3d19c0000 + started).toString(16).padStart(14, "0")}.${String(started).padStart(8, "0")}`
}

const sendWorkflowEvent = (call: Call): Outcome => {
  const token = textOf(param(call.params, "EVENT_TOKEN"))
  if (token === "" || token === "old") return refused("Access denied!", "ACCESS_DENIED", 403)
  return true
}

const listTable = (call: Call): string => `list_${textOf(param(call.params, "IBLOCK_ID"))}`

const addElement = (call: Call): Outcome => {
  const code = textOf(param(call.params, "ELEMENT_CODE"))
  if (textOf(param(call.params, "IBLOCK_ID")) === "" || code === "") {
    return refused("Required parameter is missing", "ERROR_REQUIRED_PARAMETERS_MISSING")
  }
  const table = call.crm.table(listTable(call))
  if (table.where("CODE", code).length > 0) return refused("Element already exists", "ERROR_ELEMENT_ALREADY_EXISTS")
  return table.add([["CODE", code], ...entriesOf(fieldsOf(call))])
}

const getElements = (call: Call): Outcome => {
  const table = call.crm.table(listTable(call))
  const id = param(call.params, "ELEMENT_ID")
  const code = param(call.params, "ELEMENT_CODE")
  const filter: Array<readonly [string, Value]> = []
  if (id !== undefined) filter.push(["=ID", id])
  if (code !== undefined) filter.push(["=CODE", code])
  const { rows, total, next } = table.select({ filter, order: [], start: call.start })
  return new Page(
    rows.map((row) =>
      Object.fromEntries([...row].map(([field, value]) => [field, typeof value === "number" ? String(value) : value]))
    ),
    total,
    next
  )
}

const deleteElement = (call: Call): Outcome =>
  call.crm.table(listTable(call)).delete(idOf(call, "ELEMENT_ID")) ? true : notFound

const halfAnHour = 30 * 60 * 1000

// The same external id within half an hour is the same call
// (bitrix24/b24restdocs:api-reference/telephony/telephony-external-call-register.md).
const registerCall = (call: Call): Outcome => {
  if (textOf(param(call.params, "PHONE_NUMBER")) === "") return refused("PHONE_NUMBER is not specified", "ERROR_CORE")
  const table = call.crm.table("externalcall")
  const external = textOf(param(call.params, "EXTERNAL_CALL_ID"))
  const earlier = external === "" ? undefined : table.where("ORIGIN_ID", external).at(-1)
  if (earlier !== undefined && call.now - integerOf(earlier.get("AT")) < halfAnHour) {
    return { CALL_ID: textOf(earlier.get("CALL_ID")), CRM_CREATED_ENTITIES: [] }
  }
  const callId = `externalCall.${call.crm.next("externalcall")}.${call.now}`
  table.add([
    ["ORIGIN_ID", external],
    ["CALL_ID", callId],
    ["AT", call.now]
  ])
  return { CALL_ID: callId, CRM_CREATED_ENTITIES: [] }
}

/** Tasks, people, notifications, workflows, lists, telephony. */
export const officeMethods: Methods = {
  ...reads("task", { "tasks.task.get": getTask, "tasks.task.list": listTasks }),
  ...writes("task", {
    "tasks.task.add": addTask,
    "tasks.task.update": updateTask,
    "tasks.task.delete": (call) => (call.crm.table("task").delete(idOf(call, "taskId")) ? { task: true } : noSuchTask),
    "task.commentitem.add": addTaskComment
  }),
  ...reads("user", { "user.get": getUsers, "user.current": currentUser }),
  ...writes("im", { "im.notify.system.add": notify, "im.notify.personal.add": notify }),
  ...writes("bizproc", { "bizproc.workflow.start": startWorkflow, "bizproc.event.send": sendWorkflowEvent }),
  ...reads("lists", { "lists.element.get": getElements }),
  ...writes("lists", { "lists.element.add": addElement, "lists.element.delete": deleteElement }),
  ...writes("telephony", { "telephony.externalcall.register": registerCall }),
  ...reads("", {
    profile: (call) => {
      const user = currentUser(call)
      return {
        ID: user["ID"] ?? "1",
        ADMIN: true,
        NAME: user["NAME"] ?? "",
        LAST_NAME: user["LAST_NAME"] ?? "",
        PERSONAL_GENDER: ""
      }
    }
  })
}
