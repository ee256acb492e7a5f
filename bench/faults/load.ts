import type { Portal } from "../../src/sandbox/portal/server.ts"
import { param, textOf } from "../../src/sandbox/portal/value.ts"
import { type Message, queueRequest } from "../../test/rig/producer.ts"
import type { Random } from "./random.ts"

/**
 * `handle`: creates, and can be found again; `bare`: creates without a name; `update`, `delete`: converge; `own`: a
 * self-written method, of which nothing is known. `keyed`: creates under `/rest/api/`, where the portal knows it by its
 * key; `used`: its key was used before, with another body.
 */
export type Kind = "read" | "handle" | "bare" | "update" | "delete" | "own" | "keyed" | "used"

/** A request, and what it takes to judge what became of it. */
export interface Case {
  readonly kind: Kind
  readonly message: Message
  readonly method: string
  /** By which the portal tells its executions from others of the method. */
  readonly key: string
  /** Where its order matters: those of one line have to land in the order of the load. */
  readonly line?: string
}

/** By what the portal tells executions apart. */
export const executionKey = ["TITLE", "title", "TAG", "id"] as const

const ownMethods = ["erp.order.sync", "erp.order.change"] as const

/** Teaches the portal the self-written methods. */
export const defineOwn = (portal: Portal) => {
  for (const name of ownMethods) portal.define(name, ({ params }) => ({ ran: textOf(param(params, "TAG")) }))
}

const one = (kind: Kind, id: string, method: string, params: unknown, key: string, line?: string): Case => ({
  kind,
  message: queueRequest({ messageId: id, method, params }),
  method,
  key,
  ...(line === undefined ? {} : { line })
})

const creators = ["deal", "lead", "company"]

/** The table in which a creator's work stands. */
export const tableOf = (method: string): string => method.split(".")[1] ?? ""

export const creatorWithHandle = (id: string, index: number): Case =>
  one(
    "handle",
    id,
    `crm.${creators[index % creators.length]}.add`,
    { fields: { TITLE: id, ORIGINATOR_ID: "faults", ORIGIN_ID: id } },
    id
  )

export const creatorWithout = (id: string): Case => one("bare", id, "crm.deal.add", { fields: { TITLE: id } }, id)

export const ownWrite = (id: string): Case => one("own", id, "erp.order.sync", { TAG: id }, id)

export const update = (id: string, deal: number): Case =>
  one("update", id, "crm.deal.update", { id: `${deal}`, fields: { TITLE: id } }, id, `deal ${deal}`)

/** Of an entity of their own: they keep their order, and cannot be repeated. */
export const ownUpdate = (id: string, entity: number): Case =>
  one("own", id, "erp.order.change", { id: `${entity}`, TAG: id }, id, `order ${entity}`)

const newTask = (id: string) => ({ fields: { title: id, responsibleId: 1, creatorId: 1 } })

export const creatorWithKey = (id: string): Case => one("keyed", id, "tasks.task.add", newTask(id), id)

export const creatorWithUsedKey = (id: string): Case => one("used", id, "tasks.task.add", newTask(id), id)

export const taskUpdate = (id: string, task: number): Case =>
  one("update", id, "tasks.task.update", { id: task, fields: { title: id } }, id, `task ${task}`)

const newDeal = (portal: Portal) => portal.crm.table("deal").add([["TITLE", "of the bench"]])

/** Reads and writes of all kinds in a random order; the updates of one deal keep theirs. */
export const mixed = (portal: Portal, name: string, count: number, random: Random): ReadonlyArray<Case> => {
  const deals = [newDeal(portal), newDeal(portal)]
  let next = 0
  const id = () => `${name}.${++next}`
  const make: ReadonlyArray<() => Case> = [
    () => creatorWithHandle(id(), random.below(creators.length)),
    () => creatorWithHandle(id(), random.below(creators.length)),
    () => creatorWithout(id()),
    () => update(id(), deals[0] ?? 0),
    () => update(id(), deals[1] ?? 0),
    () => {
      const deal = `${newDeal(portal)}`
      return one("delete", id(), "crm.deal.delete", { id: deal }, deal)
    },
    () => ownWrite(id()),
    () => one("read", id(), "crm.deal.get", { id: `${deals[0]}` }, `${deals[0]}`)
  ]
  return random
    .shuffled(Array.from({ length: count }, (_, index) => make[index % make.length]))
    .flatMap((made) => made?.() ?? [])
}
