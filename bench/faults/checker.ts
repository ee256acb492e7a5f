import type { Execution } from "../../src/sandbox/portal/executions.ts"
import type { Portal } from "../../src/sandbox/portal/server.ts"
import type { Answer, Answers } from "../../test/rig/producer.ts"
import { type Case, tableOf } from "./load.ts"

/** What became of a load, in the manner of Jepsen's queue checker. Names of requests, so that each can be looked for. */
export interface Verdict {
  readonly attempted: number
  readonly answered: number
  /** Never answered. */
  readonly lost: ReadonlyArray<string>
  /** Answered more than once. */
  readonly duplicated: ReadonlyArray<string>
  /** Their answers contradict each other. */
  readonly contradicting: ReadonlyArray<string>
  /** Executed a second time, though the method does not converge. */
  readonly doubled: ReadonlyArray<string>
  /** Landed after a later one of its line. */
  readonly late: ReadonlyArray<string>
  /** Executed a second time to no harm. */
  readonly repeats: number
  /** The answer is not what the portal did. */
  readonly wrong: ReadonlyArray<string>
  readonly unknown: ReadonlyArray<string>
  /** Of the unknown ones: those that had been executed. */
  readonly unknownExecuted: number
  /** Unknown, though there was a way to know. */
  readonly unknownNeedlessly: ReadonlyArray<string>
  /** Answered after a doubt. */
  readonly resolved: number
  /** Answered from memory, for they came again: published again, or brought back by the broker though acknowledged. */
  readonly replayed: number
  readonly packed: number
}

const idOf = ({ message }: Case) => message.id ?? ""

const resultIn = (answer: Answer): unknown => {
  try {
    return (answer.json() as { readonly result?: unknown }).result
  } catch {
    return undefined
  }
}

const runs = (executions: ReadonlyArray<Execution>): ReadonlyMap<string, number> => {
  const counts = new Map<string, number>()
  for (const { method, key, error } of executions) {
    if (error !== undefined) continue
    const name = `${method} ${key}`
    counts.set(name, (counts.get(name) ?? 0) + 1)
  }
  return counts
}

/** Walks through the portal's log: what landed after a later one of its line. */
const lateOnes = (cases: ReadonlyArray<Case>, executions: ReadonlyArray<Execution>): ReadonlyArray<string> => {
  const places = new Map(cases.map((one, place) => [`${one.method} ${one.key}`, { one, place }]))
  const latest = new Map<string, number>()
  return executions.flatMap(({ method, key, error }) => {
    const found = places.get(`${method} ${key}`)
    if (error !== undefined || found?.one.line === undefined) return []
    const before = latest.get(found.one.line) ?? -1
    latest.set(found.one.line, Math.max(before, found.place))
    return found.place < before ? [idOf(found.one)] : []
  })
}

/** Whether a `done` says what the portal did. */
const isTrue = ({ kind, method, key }: Case, answer: Answer, portal: Portal): boolean => {
  const result = resultIn(answer)
  switch (kind) {
    case "used":
      return false
    case "handle":
    case "bare":
      return portal.crm
        .table(tableOf(method))
        .where("TITLE", key)
        .some((row) => row.get("ID") === Number(result))
    case "keyed": {
      const { item } = result as { readonly item?: { readonly id?: unknown } }
      return portal.crm
        .table("task")
        .where("TITLE", key)
        .some((row) => row.get("ID") === item?.id)
    }
    case "update":
    case "delete":
      // The third version says so in an object.
      return result === true || (result as { readonly result?: unknown } | undefined)?.result === true
    case "own":
      return (result as { readonly ran?: unknown } | undefined)?.ran === key
    case "read":
      return String((result as { readonly ID?: unknown } | undefined)?.ID) === key
  }
}

const isWrong = (one: Case, answer: Answer, executed: number, portal: Portal): boolean => {
  // Another bridge than ours may not say it: then what it passes on is meant to be right.
  const { outcome = "done" } = answer
  if (outcome === "unknown") return false
  if (one.kind === "used")
    return outcome !== "refused" || executed > 0 || !answer.body.includes("IDEMPOTENCYKEYREUSEDEXCEPTION")
  return outcome !== "done" || (one.kind !== "read" && executed === 0) || !isTrue(one, answer, portal)
}

/** Holds what was asked against what was answered and what the portal did. */
export const check = (cases: ReadonlyArray<Case>, answers: Answers, portal: Portal): Verdict => {
  const executions = portal.executions
  const counts = runs(executions)
  const ran = (one: Case) => counts.get(`${one.method} ${one.key}`) ?? 0
  const got = (one: Case) => answers.get(idOf(one)) ?? []
  const ids = (holds: (one: Case) => boolean) => cases.filter(holds).map(idOf)
  const writes = cases.filter(({ kind }) => kind !== "read")
  const converges = ({ kind }: Case) => kind === "update" || kind === "delete"
  const unknown = cases.filter((one) => got(one).some(({ outcome }) => outcome === "unknown"))
  const header = (name: string) => cases.filter((one) => got(one).some(({ headers }) => headers[name] !== undefined))
  return {
    attempted: cases.length,
    answered: cases.filter((one) => got(one).length > 0).length,
    lost: ids((one) => got(one).length === 0),
    duplicated: ids((one) => got(one).length > 1),
    contradicting: ids(
      (one) =>
        one.kind !== "read" &&
        got(one).some(
          (answer, _, [first]) =>
            first !== undefined &&
            (answer.outcome !== first.outcome || !Bun.deepEquals(resultIn(answer), resultIn(first)))
        )
    ),
    doubled: writes.filter((one) => !converges(one) && ran(one) > 1).map(idOf),
    late: lateOnes(cases, executions),
    repeats: writes.filter(converges).reduce((sum, one) => sum + Math.max(0, ran(one) - 1), 0),
    wrong: ids((one) => got(one).some((answer) => isWrong(one, answer, ran(one), portal))),
    unknown: unknown.map(idOf),
    unknownExecuted: unknown.filter((one) => ran(one) > 0).length,
    unknownNeedlessly: unknown.filter(({ kind }) => !["bare", "own", "used"].includes(kind)).map(idOf),
    resolved: header("x-b24rmq-resolved").length,
    replayed: header("x-b24rmq-replayed").length,
    packed: header("x-b24rmq-packed").length
  }
}
