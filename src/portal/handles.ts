import { Cursor } from "./json.ts"

/**
 * How what a creator made is found again: by a name that the request gave it. A list may be wrong about that in many ways
 * (a filter that it ignores, letters that it takes for the same, rows that were there before), so each row has to prove
 * what it is.
 */

/** How one creator's work is found; a row of the table in docs/doubt.md. */
export interface Finder {
  readonly method: string
  /** The entity types that it is for, where the method has an `entityTypeId`: first and last. */
  readonly types?: ReadonlyArray<readonly [first: number, last: number]>
  /** Where the names stand in the request. */
  readonly within: "fields" | "top" | "either"
  /** Fields that together name it. All of them have to be given. */
  readonly names: ReadonlyArray<string>
  /** Belongs to the name where it is given. Where it is not, it has to be empty in the row. */
  readonly beside?: string
  /** How the rows spell a name, where it is another way. */
  readonly seen?: Readonly<Record<string, string>>
  readonly list: string
  /** What the list is asked: names in its filter with or without `=`, or as parameters of their own. */
  readonly asks: "equal" | "filter" | "parameters"
  /** Parameters of the request that the list needs, too. */
  readonly shared: ReadonlyArray<string>
  /** Further parameters of the list. */
  readonly extra: Readonly<Record<string, unknown>>
  /** Where the rows stand in the result: the result itself, under a key, or wherever a list is found. */
  readonly rows: { readonly under: string } | "result" | "anywhere"
  readonly id: "ID" | "id" | "either"
  /** When the row was made, ISO 8601; undefined where the portal lets no second one have the name. */
  readonly made: string | undefined
  /** What the creator answers: the id, or the row under a key. */
  readonly answers: { readonly under: string } | "id"
  /** The name that `B24RMQ_STAMP` gives where there is none. */
  readonly stamp?: string
  /** Pages of bitrix24/b24restdocs:api-reference. */
  readonly source: string
}

/** `start: -1` counts nothing (bitrix24/b24restdocs:settings/performance/huge-data.md). The newest come first. */
const newest = (select: ReadonlyArray<string>) => ({ select, order: { ID: "DESC" }, start: -1 })

const classic = (kind: string, folder: string): Finder => ({
  method: `crm.${kind}.add`,
  within: "fields",
  names: ["ORIGIN_ID"],
  beside: "ORIGINATOR_ID",
  list: `crm.${kind}.list`,
  asks: "equal",
  shared: [],
  extra: newest(["ID", "ORIGINATOR_ID", "ORIGIN_ID", "DATE_CREATE"]),
  rows: "result",
  id: "ID",
  made: "DATE_CREATE",
  answers: "id",
  stamp: "ORIGIN_ID",
  source: `crm/${folder}/crm-${kind}-add.md, crm-${kind}-list.md`
})

const item = (types: Finder["types"], names: Pick<Finder, "names" | "beside" | "stamp">): Finder => ({
  method: "crm.item.add",
  ...(types === undefined ? {} : { types }),
  within: "fields",
  ...names,
  list: "crm.item.list",
  asks: "equal",
  // The second one chooses how own fields are spelled, in the answer of either method.
  shared: ["entityTypeId", "useOriginalUfNames"],
  extra: { select: ["*"], order: { id: "DESC" }, start: -1 },
  rows: { under: "items" },
  id: "id",
  made: "createdTime",
  answers: { under: "item" },
  source: "crm/universal/crm-item-add.md, crm-item-list.md"
})

export const finders: ReadonlyArray<Finder> = [
  classic("lead", "leads"),
  classic("deal", "deals"),
  classic("contact", "contacts"),
  classic("company", "companies"),
  item([[1, 4]], { names: ["originId"], beside: "originatorId", stamp: "originId" }),
  // Invoices, and the smart processes of a portal (bitrix24/b24restdocs:api-reference/crm/data-types.md).
  item(
    [
      [31, 31],
      [128, 1_000_000]
    ],
    { names: ["xmlId"], stamp: "xmlId" }
  ),
  {
    method: "crm.activity.add",
    within: "fields",
    names: ["ORIGIN_ID"],
    beside: "ORIGINATOR_ID",
    list: "crm.activity.list",
    asks: "equal",
    shared: [],
    extra: newest(["ID", "ORIGINATOR_ID", "ORIGIN_ID", "CREATED"]),
    rows: "result",
    id: "ID",
    made: "CREATED",
    answers: "id",
    stamp: "ORIGIN_ID",
    source: "crm/timeline/activities/activity-base/crm-activity-add.md, crm-activity-list.md, crm-activity-fields.md"
  },
  {
    method: "crm.requisite.add",
    within: "fields",
    names: ["XML_ID"],
    list: "crm.requisite.list",
    asks: "equal",
    shared: [],
    extra: newest(["ID", "XML_ID", "DATE_CREATE"]),
    rows: "result",
    id: "ID",
    made: "DATE_CREATE",
    answers: "id",
    source: "crm/requisites/universal/crm-requisite-add.md, crm-requisite-list.md, index.md"
  },
  {
    method: "crm.requisite.bankdetail.add",
    within: "fields",
    names: ["XML_ID"],
    list: "crm.requisite.bankdetail.list",
    asks: "equal",
    shared: [],
    extra: newest(["ID", "XML_ID", "DATE_CREATE"]),
    rows: "result",
    id: "ID",
    made: "DATE_CREATE",
    answers: "id",
    source:
      "crm/requisites/bank-detail/crm-requisite-bank-detail-add.md, crm-requisite-bank-detail-list.md, crm-requisite-bank-detail-fields.md"
  },
  {
    // A second one is refused: "The specified status ID already exists."
    method: "crm.status.add",
    within: "fields",
    names: ["ENTITY_ID", "STATUS_ID"],
    list: "crm.status.list",
    asks: "filter",
    shared: [],
    extra: {},
    rows: "result",
    id: "ID",
    made: undefined,
    answers: "id",
    source: "crm/status/crm-status-add.md, crm-status-list.md"
  },
  {
    // A second one is refused: ERROR_ELEMENT_ALREADY_EXISTS.
    method: "lists.element.add",
    within: "top",
    names: ["ELEMENT_CODE"],
    seen: { ELEMENT_CODE: "CODE" },
    list: "lists.element.get",
    asks: "parameters",
    shared: ["IBLOCK_TYPE_ID", "IBLOCK_ID", "IBLOCK_CODE"],
    extra: {},
    rows: "result",
    id: "ID",
    made: undefined,
    answers: "id",
    source: "lists/elements/lists-element-add.md, lists-element-get.md"
  },
  {
    // A second one is refused: 200600000000.
    method: "catalog.measure.add",
    within: "fields",
    names: ["code"],
    list: "catalog.measure.list",
    asks: "filter",
    shared: [],
    extra: { select: ["id", "code", "isDefault", "measureTitle", "symbol", "symbolIntl", "symbolLetterIntl"] },
    rows: { under: "measures" },
    id: "id",
    made: undefined,
    answers: { under: "measure" },
    source: "catalog/measure/catalog-measure-add.md, catalog-measure-list.md"
  }
]

/** The finder that a user's entry `lookup:LIST:FIELD` means. Whether names are unique there, the user knows. */
export const ownFinder = (entry: { readonly list: string; readonly fields: ReadonlyArray<string> }): Finder => ({
  method: "",
  within: "either",
  names: entry.fields,
  list: entry.list,
  asks: "filter",
  shared: ["entityTypeId"],
  extra: {},
  rows: "anywhere",
  id: "either",
  made: undefined,
  answers: "id",
  source: ""
})

/** A name to look for: what a request calls the thing that it creates. */
export interface Handle {
  readonly finder: Finder
  /** By field, as the request has them; `beside` is empty where it has none. */
  readonly values: Readonly<Record<string, string | number>>
  readonly shared: Readonly<Record<string, unknown>>
  /**
   * What tells its row from others of the same name: `unique`, the name is the request's own identity, or a code of which
   * the portal has no second; `time`, when it was made; `nothing`, the request itself sets that time.
   */
  readonly told: "unique" | "time" | "nothing"
}

type Fields = Readonly<Record<string, unknown>>

const isMap = (value: unknown): value is Fields => typeof value === "object" && value !== null && !Array.isArray(value)

const own = (map: Fields, key: string): unknown => (Object.hasOwn(map, key) ? map[key] : undefined)

/**
 * Names that a portal surely keeps and compares as they are: PHP takes "0" for nothing, spaces at the ends get lost,
 * quotation marks and angle brackets may be rewritten, and a long name may be cut.
 */
const plain = /^(?!0*$)[\p{L}\p{N}_.:/#@+|~,;()-]+(?: [\p{L}\p{N}_.:/#@+|~,;()-]+)*$/u
const longest = 100

const nameIn = (value: unknown): string | number | undefined => {
  if (typeof value === "number") return Number.isSafeInteger(value) && value > 0 ? value : undefined
  return typeof value === "string" && value.length <= longest && plain.test(value) ? value : undefined
}

/** The same field in either spelling: `ORIGIN_ID` and `originId`. */
export const spelled = (key: string): string => key.replaceAll("_", "").toLowerCase()

const isEmpty = (value: unknown) => value === undefined || value === null || value === "" || value === false

/** The one map of fields of a request; undefined if it has none or two. */
const fieldsOf = (parameters: Fields): Fields | undefined => {
  const maps = Object.keys(parameters).filter((key) => key.toLowerCase() === "fields")
  const fields = maps.length === 1 ? parameters[maps[0] ?? ""] : undefined
  return isMap(fields) ? fields : undefined
}

const placeOf = ({ within }: Finder, parameters: Fields): Fields | undefined => {
  if (within === "top") return parameters
  return fieldsOf(parameters) ?? (within === "either" ? parameters : undefined)
}

const typeOf = (parameters: Fields): number => {
  const type = own(parameters, "entityTypeId")
  return typeof type === "number" || (typeof type === "string" && /^\d{1,9}$/.test(type)) ? Number(type) : Number.NaN
}

/** True if the finder is for a request with these parameters. */
const isFor = ({ types }: Finder, parameters: Fields): boolean =>
  types === undefined || types.some(([first, last]) => typeOf(parameters) >= first && typeOf(parameters) <= last)

/** What tells rows of one name from each other. */
const toldBy = ({ made, stamp }: Finder, place: Fields, id: string): Handle["told"] => {
  if (made === undefined || (stamp !== undefined && own(place, stamp) === id)) return "unique"
  return Object.keys(place).some((key) => spelled(key) === spelled(made)) ? "nothing" : "time"
}

/**
 * The name that a request gives to what it creates; undefined if it gives none that can be looked for. `id`: the request's
 * identity, which is what a stamp names it by. Total.
 */
export const handleOf = (finder: Finder, parameters: unknown, id: string): Handle | undefined => {
  if (!isMap(parameters) || !isFor(finder, parameters)) return undefined
  const place = placeOf(finder, parameters)
  if (place === undefined) return undefined
  const values: Record<string, string | number> = Object.create(null)
  for (const name of finder.names) {
    const value = nameIn(own(place, name))
    if (value === undefined) return undefined
    values[name] = value
  }
  if (finder.beside !== undefined) {
    const given = own(place, finder.beside)
    const value = isEmpty(given) ? "" : nameIn(given)
    if (value === undefined) return undefined
    values[finder.beside] = value
  }
  const shared: Record<string, unknown> = {}
  for (const name of finder.shared) {
    const value = own(parameters, name)
    if (typeof value === "string" || typeof value === "number") shared[name] = value
  }
  return { finder, values, shared, told: toldBy(finder, place, id) }
}

/** The finder that stamps a request: it has a field for a name. */
export const stamperFor = (name: string, parameters: unknown): Finder | undefined =>
  isMap(parameters)
    ? finders.find((finder) => finder.method === name && finder.stamp !== undefined && isFor(finder, parameters))
    : undefined

/** The parameters with which the list is asked. */
export const questionFor = ({ finder, values, shared }: Handle): Uint8Array => {
  const wanted = Object.entries(values).filter(([, value]) => value !== "")
  const asked =
    finder.asks === "parameters"
      ? Object.fromEntries(wanted)
      : {
          filter: Object.fromEntries(
            wanted.map(([name, value]) => [finder.asks === "equal" ? `=${name}` : name, value])
          )
        }
  return Buffer.from(JSON.stringify({ ...shared, ...asked, ...finder.extra }))
}

/** The name as a person reads it: `ORIGIN_ID m-118, ORIGINATOR_ID shop`. */
export const named = ({ values }: Handle): string =>
  Object.entries(values)
    .filter(([, value]) => value !== "")
    .map(([name, value]) => `${name} ${value}`)
    .join(", ")

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
  const cursor = new Cursor(Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString("utf8"))
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
