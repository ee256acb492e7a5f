import { encodeJson } from "./json.ts"
import { at, isFields, isPhpArray, textOf, type Value } from "./value.ts"

/** One method that ran. */
export interface Execution {
  /** Milliseconds since 1970. */
  readonly at: number
  readonly user: string
  readonly secret: string
  readonly method: string
  readonly key: string | undefined
  readonly write: boolean
  /** The code it refused with, where it did: nothing was changed then. */
  readonly error: string | undefined
}

/**
 * By what executions are told apart: names looked for among the parameters and their `fields`, `"body"` for all
 * parameters together, or a function.
 */
export type KeyRule = ReadonlyArray<string> | "body" | ((method: string, params: Value) => string | undefined)

const usual = [
  "ORIGIN_ID",
  "originId",
  "XML_ID",
  "xmlId",
  "ELEMENT_CODE",
  "EXTERNAL_CALL_ID",
  "STATUS_ID",
  "code",
  "TITLE",
  "title",
  "TAG"
]

const keyBy = (rule: KeyRule): ((method: string, params: Value) => string | undefined) => {
  if (typeof rule === "function") return rule
  if (rule === "body") return (_, params) => Bun.hash(encodeJson(params)).toString(16)
  return (_, params) => {
    const fields = at(params, "fields") ?? at(params, "FIELDS")
    for (const name of rule) {
      const found = at(fields, name) ?? at(params, name)
      if (found !== undefined && found !== null && !isPhpArray(found)) return textOf(found)
    }
    return undefined
  }
}

/** What ran how often. `keep` bounds both the log (the oldest go) and the number of keys that are counted. */
export class Executions {
  private readonly ring: Array<Execution> = []
  private oldest = 0
  private counts = new Map<string, Map<string, number>>()
  private keys = 0
  /** Writes whose key was one too many to be counted: doubles among them are not seen. */
  uncounted = 0
  private totals = new Map<string, number>()
  private readonly keep: number
  readonly keyOf: (method: string, params: Value) => string | undefined

  constructor(keep: number, rule: KeyRule = usual) {
    this.keep = keep
    this.keyOf = keyBy(rule)
  }

  record(execution: Execution): void {
    if (this.ring.length < this.keep) this.ring.push(execution)
    else if (this.keep > 0) {
      this.ring[this.oldest] = execution
      this.oldest = (this.oldest + 1) % this.keep
    }
    if (execution.error !== undefined) return
    const { method, key } = execution
    this.totals.set(method, (this.totals.get(method) ?? 0) + 1)
    // Only writes can happen twice to anybody's harm, and reads would fill the table first.
    if (key === undefined || !execution.write) return
    let byKey = this.counts.get(method)
    if (byKey === undefined) this.counts.set(method, (byKey = new Map()))
    const before = byKey.get(key)
    if (before === undefined) {
      if (this.keys >= this.keep) {
        this.uncounted++
        return
      }
      this.keys++
    }
    byKey.set(key, (before ?? 0) + 1)
  }

  /** The log, oldest first. */
  all(): ReadonlyArray<Execution> {
    return [...this.ring.slice(this.oldest), ...this.ring.slice(0, this.oldest)]
  }

  /** How many calls ran and were not refused by their method: all, of one method, of one method with one key. */
  count(method?: string, key?: string): number {
    if (method === undefined) {
      let sum = 0
      for (const total of this.totals.values()) sum += total
      return sum
    }
    return key === undefined ? (this.totals.get(method) ?? 0) : (this.counts.get(method)?.get(key) ?? 0)
  }

  /** Writes that ran more than once with one key. */
  doubles(): ReadonlyArray<{ readonly method: string; readonly key: string; readonly count: number }> {
    const found = []
    for (const [method, byKey] of this.counts) {
      for (const [key, count] of byKey) if (count > 1) found.push({ method, key, count })
    }
    return found
  }

  clear(): void {
    this.ring.length = 0
    this.oldest = 0
    this.keys = 0
    this.uncounted = 0
    this.counts = new Map()
    this.totals = new Map()
  }
}

export const errorCode = (error: Value): string => textOf(isFields(error) ? at(error, "error") : error)
