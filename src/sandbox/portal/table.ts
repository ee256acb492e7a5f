import { at, entriesOf, isFields, isList, isPhpArray, textOf, type Fields, type Value } from "./value.ts"

/** A row by field name; `ID` is a number. */
export type Row = Map<string, Value>

const pageSize = 50

interface Condition {
  readonly field: string
  readonly holds: (row: Row) => boolean
  /** Where the condition is one equality: what it equals, so that an index can answer. */
  readonly equals?: string
}

const operator = /^(!=%|!%=|!%|!@|!=|!|=%|%=|%|>=|<=|>|<|@|=)?(.*)$/s

const same = (value: Value | undefined, wanted: string): boolean => {
  if (isList(value)) return value.some((item) => textOf(isFields(item) ? at(item, "VALUE") : item) === wanted)
  if (typeof value === "boolean") return wanted === (value ? "Y" : "N") || wanted === textOf(value)
  const text = textOf(value)
  return text === wanted || (text !== "" && wanted !== "" && Number(text) === Number(wanted))
}

const compared = (value: Value | undefined, wanted: Value): number => {
  const [left, right] = [textOf(value), textOf(wanted)]
  const [a, b] = [Number(left), Number(right)]
  if (left !== "" && right !== "" && !Number.isNaN(a) && !Number.isNaN(b)) return a - b
  return left < right ? -1 : left > right ? 1 : 0
}

const contains = (value: Value | undefined, wanted: Value): boolean =>
  textOf(value).toLowerCase().includes(textOf(wanted).toLowerCase())

// SQL's LIKE: per cent and underscore are wild.
const like = (value: Value | undefined, wanted: Value): boolean => {
  const pattern = textOf(wanted)
    .replace(/[.*+?^${}()|[\]\\]/g, "\\$&")
    .replaceAll("%", ".*")
    .replaceAll("_", ".")
  return new RegExp(`^${pattern}$`, "is").test(textOf(value))
}

const test = (sign: string, wanted: Value): ((value: Value | undefined) => boolean) => {
  const values = isPhpArray(wanted) ? entriesOf(wanted).map(([, item]) => textOf(item)) : [textOf(wanted)]
  const isOne = (value: Value | undefined): boolean => values.some((item) => same(value, item))
  switch (sign) {
    case "%":
      return (value) => contains(value, wanted)
    case "!%":
      return (value) => !contains(value, wanted)
    case "=%":
    case "%=":
      return (value) => like(value, wanted)
    case "!=%":
    case "!%=":
      return (value) => !like(value, wanted)
    case ">":
      return (value) => compared(value, wanted) > 0
    case "<":
      return (value) => compared(value, wanted) < 0
    case ">=":
      return (value) => compared(value, wanted) >= 0
    case "<=":
      return (value) => compared(value, wanted) <= 0
    case "!":
    case "!=":
    case "!@":
      return (value) => !isOne(value)
    default:
      return isOne
  }
}

/** Splits `>=DATE_CREATE` into its operator and its field. */
export const filterName = (key: string): { readonly sign: string; readonly field: string } => {
  const found = operator.exec(key)
  return { sign: found?.[1] ?? "", field: found?.[2] ?? key }
}

const conditionOf = (key: string, wanted: Value): Condition => {
  const { sign, field } = filterName(key)
  const holds = test(sign, wanted)
  const exact = (sign === "" || sign === "=") && !isPhpArray(wanted)
  return {
    field,
    holds: (row) => holds(row.get(field)),
    ...(exact ? { equals: textOf(wanted) } : {})
  }
}

export interface Query {
  readonly filter: ReadonlyArray<readonly [string, Value]>
  readonly order: ReadonlyArray<readonly [string, Value]>
  /** -1 counts nothing and gives no `next`. */
  readonly start: number
}

export interface Rows {
  readonly rows: ReadonlyArray<Row>
  readonly total: number | undefined
  readonly next: number | undefined
}

// Filters by these are how a client finds what it created, many times a second, so they must not read the whole table.
const indexed = new Set(["ORIGIN_ID", "XML_ID", "CODE", "TITLE", "TAG", "OWNER"])

/** Rows by id, in order of creation. When there are more than `keep`, the oldest go. */
export class Table {
  private readonly rows = new Map<number, Row>()
  private readonly indexes = new Map<string, Map<string, Set<number>>>()
  private last = 0
  private readonly keep: number

  constructor(keep: number) {
    this.keep = keep
  }

  get size(): number {
    return this.rows.size
  }

  get(id: number): Row | undefined {
    return this.rows.get(id)
  }

  all(): IterableIterator<Row> {
    return this.rows.values()
  }

  add(fields: Fields | Iterable<readonly [string, Value]>): number {
    const id = ++this.last
    const row: Row = new Map<string, Value>([["ID", id]])
    this.rows.set(id, row)
    this.put(row, id, isIterable(fields) ? fields : Object.entries(fields))
    if (this.rows.size > this.keep) {
      const [oldest] = this.rows.keys()
      if (oldest !== undefined) this.delete(oldest)
    }
    return id
  }

  update(id: number, fields: Iterable<readonly [string, Value]>): boolean {
    const row = this.rows.get(id)
    if (row !== undefined) this.put(row, id, fields)
    return row !== undefined
  }

  delete(id: number): boolean {
    const row = this.rows.get(id)
    if (row === undefined) return false
    for (const [field, value] of row) this.unindex(field, value, id)
    return this.rows.delete(id)
  }

  /** Rows whose field equals a value, oldest first. */
  where(field: string, value: Value): ReadonlyArray<Row> {
    return this.matching([conditionOf(`=${field}`, value)])
  }

  select(query: Query): Rows {
    const counted = query.start >= 0
    const from = Math.max(0, query.start)
    const conditions = query.filter.map(([key, wanted]) => conditionOf(key, wanted))
    const [field, direction] = query.order[0] ?? ["ID", "ASC"]
    const down = textOf(direction).toLowerCase() === "desc"
    if (conditions.length === 0 && field === "ID" && !down) return this.page(this.rows.values(), from, counted)
    const found = this.matching(conditions)
    if (field !== "ID" || down) found.sort((a, b) => (down ? -1 : 1) * compared(a.get(field), b.get(field) ?? null))
    return this.page(found, from, counted, found.length)
  }

  private page(rows: Iterable<Row>, from: number, counted: boolean, size = this.rows.size): Rows {
    const page: Array<Row> = []
    let at = 0
    for (const row of rows) {
      if (at >= from + pageSize) break
      if (at++ >= from) page.push(row)
    }
    const more = from + pageSize < size
    return { rows: page, total: counted ? size : undefined, next: counted && more ? from + pageSize : undefined }
  }

  private matching(conditions: ReadonlyArray<Condition>): Array<Row> {
    const found: Array<Row> = []
    for (const row of this.candidates(conditions)) if (conditions.every(({ holds }) => holds(row))) found.push(row)
    return found
  }

  private candidates(conditions: ReadonlyArray<Condition>): Iterable<Row> {
    for (const { field, equals } of conditions) {
      if (equals === undefined) continue
      if (field === "ID") {
        const row = this.rows.get(Number(equals))
        return row === undefined ? [] : [row]
      }
      if (!indexed.has(field) || equals === "") continue
      // Ids ascend, but a row whose field was changed later stands at the end of its entry.
      const ids = [...(this.index(field).get(equals) ?? [])].sort((a, b) => a - b)
      return ids.flatMap((id) => this.rows.get(id) ?? [])
    }
    return this.rows.values()
  }

  private index(field: string): Map<string, Set<number>> {
    const known = this.indexes.get(field)
    if (known !== undefined) return known
    const made = new Map<string, Set<number>>()
    this.indexes.set(field, made)
    for (const [id, row] of this.rows) this.enter(made, row.get(field), id)
    return made
  }

  private enter(index: Map<string, Set<number>>, value: Value | undefined, id: number): void {
    const text = textOf(value)
    const ids = index.get(text)
    if (ids === undefined) index.set(text, new Set([id]))
    else ids.add(id)
  }

  private unindex(field: string, value: Value, id: number): void {
    const index = this.indexes.get(field)
    const ids = index?.get(textOf(value))
    if (ids?.delete(id) === true && ids.size === 0) index?.delete(textOf(value))
  }

  private put(row: Row, id: number, fields: Iterable<readonly [string, Value]>): void {
    for (const [field, value] of fields) {
      if (field === "ID") continue
      const before = row.get(field)
      if (before !== undefined) this.unindex(field, before, id)
      row.set(field, value)
      const index = this.indexes.get(field)
      if (index !== undefined) this.enter(index, value, id)
    }
  }
}

const isIterable = (fields: object): fields is Iterable<readonly [string, Value]> => Symbol.iterator in fields
