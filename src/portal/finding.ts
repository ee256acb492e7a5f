import { bufferOf } from "../message/bytes.ts"
import type { Finder } from "./finders.ts"
import { type Fields, type Handle, isEmpty, isMap, own } from "./handles.ts"
import { Cursor } from "./json.ts"

/**
 * What the answer of a list proves. A list may be wrong in many ways (a filter that it ignores, letters that it takes for
 * the same, rows that were there before), so each row has to prove what it is.
 */

/** Between which moments what is looked for can have been made, and when the list answered: milliseconds since 1970, ours. */
export interface Times {
  readonly firstSent: number
  /** Until then the portal may have worked on it. */
  readonly lastEnd: number
  readonly answered: number
}

/** What a look-up proves. */
export type Finding =
  /** It was made: the body is what the creator would have answered. */
  | { readonly _tag: "Found"; readonly body: Uint8Array }
  /** It is not there. */
  | { readonly _tag: "Missing" }
  /** It proves nothing. `why` goes on from "looked for, and": for a person. */
  | { readonly _tag: "Unclear"; readonly why: string }

const unclear = (why: string): Finding => ({ _tag: "Unclear", why })

/** Rows on a page (bitrix24/b24restdocs:settings/how-to-call-rest-api/list-methods-pecularities.md). */
const page = 50

/** Dates have whole seconds, and clocks drift between two looks at them. */
const tolerance = 5_000

/**
 * How much older than its request a row must be to be surely another's: our clock may have been set in between, and a
 * mistake here would make a second one.
 */
const surelyOlder = 3_600_000

interface Row {
  readonly text: string
  readonly fields: Fields
}

interface Listed {
  readonly rows: ReadonlyArray<Row>
  /** JSON text of the answer's `time`. */
  readonly time: string | undefined
}

const rowOf = (text: string): Row => {
  const fields: unknown = JSON.parse(text)
  return { text, fields: isMap(fields) ? fields : {} }
}

/** The rows of a list's answer; undefined if there is no list where it is expected. */
const listed = (body: Uint8Array, where: Finder["rows"]): Listed | undefined => {
  const cursor = new Cursor(bufferOf(body).toString("utf8"))
  let rows: Array<Row> | undefined
  let time: string | undefined
  const readRows = (): boolean => {
    const found: Array<Row> = []
    const whole = cursor.items(() => found.push(rowOf(cursor.value())) > 0)
    if (whole) rows = found
    return whole
  }
  const skip = (): true => {
    cursor.skip()
    return true
  }
  const isList = () => cursor.peek() === 0x5b
  const readResult = (): boolean => {
    if (isList() && where !== "result" && typeof where === "object") return skip()
    if (isList()) return readRows()
    if (where === "result") return skip()
    return cursor.entries((key) =>
      isList() && rows === undefined && (where === "anywhere" || key === where.under) ? readRows() : skip()
    )
  }
  // Some boxes write a byte order mark before their JSON.
  cursor.at = cursor.text.startsWith("\uFEFF") ? 1 : 0
  const whole = cursor.entries((key) => {
    if (key === "result") return readResult()
    if (key === "time") time = cursor.value()
    else cursor.skip()
    return true
  })
  return whole && rows !== undefined ? { rows, time } : undefined
}

const textOf = (value: unknown): string =>
  typeof value === "string" || typeof value === "number" ? String(value) : isEmpty(value) ? "" : "\0"

/** Texts that a database may take for the same: letters of either case, with or without accents, spaces at the ends. */
const loosely = (text: string) => text.normalize("NFKD").replace(/\p{M}/gu, "").trim().toLowerCase()

type Likeness = "same" | "alike" | "other"

const likeness = ({ finder, values }: Handle, row: Fields): Likeness => {
  let likeness: Likeness = "same"
  for (const [name, value] of Object.entries(values)) {
    const field = finder.seen?.[name] ?? name
    const [wanted, found] = [String(value), textOf(own(row, field))]
    if (found === wanted) continue
    // Without one in the request no filter asked for it: the row is another source's.
    if (name === finder.beside && wanted === "") likeness = "alike"
    else if (loosely(found) !== loosely(wanted)) return "other"
    else likeness = "alike"
  }
  return likeness
}

/** By how many milliseconds the portal's clock is ahead of ours; none where it does not tell. */
const aheadBy = (time: string | undefined, answered: number): number => {
  const said: unknown = time === undefined ? undefined : JSON.parse(time)
  const finish = isMap(said) ? own(said, "finish") : undefined
  return typeof finish === "number" && finish > 1e9 ? finish * 1_000 - answered : 0
}

const iso = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)$/

type Age = "ours" | "older" | "unsure"

const ageOf = ({ finder, told }: Handle, row: Fields, ahead: number, times: Times): Age => {
  if (told === "unique") return "ours"
  const made = told === "time" && finder.made !== undefined ? own(row, finder.made) : undefined
  const at = typeof made === "string" && iso.test(made) ? Date.parse(made) - ahead : Number.NaN
  if (Number.isNaN(at)) return "unsure"
  if (at < times.firstSent - surelyOlder) return "older"
  return at >= times.firstSent - tolerance && at <= times.lastEnd + tolerance ? "ours" : "unsure"
}

const idOf = ({ id }: Finder, row: Fields): string | undefined => {
  const value = id === "either" ? (own(row, "ID") ?? own(row, "id")) : own(row, id)
  const text = textOf(value)
  return /^[1-9]\d{0,18}$/.test(text) ? text : undefined
}

/** Reads the answer of the list. Pure and total, for any JSON. */
export const readFinding = (handle: Handle, body: Uint8Array, times: Times): Finding => {
  const { finder } = handle
  const answer = listed(body, finder.rows)
  if (answer === undefined) return unclear(`${finder.list} answered no list`)
  const ahead = aheadBy(answer.time, times.answered)
  const like: Record<Likeness, Array<Row>> = { same: [], alike: [], other: [] }
  for (const row of answer.rows) like[likeness(handle, row.fields)].push(row)
  const aged: Record<Age, Array<Row>> = { ours: [], older: [], unsure: [] }
  const age = ({ fields }: Row) => ageOf(handle, fields, ahead, times)
  for (const row of like.same) aged[age(row)].push(row)
  const [mine, ...twins] = aged.ours
  if (twins.length > 0 || (mine !== undefined && aged.unsure.length > 0)) {
    return unclear(`more than one has this name: ${ids(finder, [...aged.ours, ...aged.unsure])}`)
  }
  if (mine !== undefined) {
    const id = idOf(finder, mine.fields)
    return id === undefined
      ? unclear("what was found has no id")
      : { _tag: "Found", body: made(finder, mine, id, answer) }
  }
  if (aged.unsure.length > 0) return unclear(`what has this name was made at another time: ${ids(finder, aged.unsure)}`)
  if (like.other.length > 0) return unclear(`${finder.list} does not look at this name`)
  if (!like.alike.every((row) => hasOtherSource(handle, row) && age(row) === "older"))
    return unclear(`what was found is written another way: ${ids(finder, like.alike)}`)
  if (answer.rows.length >= page) return unclear("there are too many of this name")
  return { _tag: "Missing" }
}

/** True for a row that names a source where the request names none: another's, unless the portal itself wrote it there. */
const hasOtherSource = ({ finder, values }: Handle, { fields }: Row): boolean =>
  finder.beside !== undefined && values[finder.beside] === "" && textOf(own(fields, finder.beside)) !== ""

const ids = (finder: Finder, rows: ReadonlyArray<Row>) =>
  rows
    .slice(0, 5)
    .map(({ fields }) => idOf(finder, fields) ?? "?")
    .join(", ")

const made = ({ answers }: Finder, row: Row, id: string, { time }: Listed): Uint8Array => {
  const result = answers === "id" ? id : `{"${answers.under}":${row.text}}`
  return Buffer.from(`{"result":${result}${time === undefined ? "" : `,"time":${time}`}}`)
}
