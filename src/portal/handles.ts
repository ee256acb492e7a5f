import { type Finder, finders } from "./finders.ts"

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

export type Fields = Readonly<Record<string, unknown>>

/** A JSON object. */
export const isMap = (value: unknown): value is Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** A value under a key, and nothing that a prototype has. */
export const own = (map: Fields, key: string): unknown => (Object.hasOwn(map, key) ? map[key] : undefined)

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

/** Nothing, as PHP writes it. */
export const isEmpty = (value: unknown) => value === undefined || value === null || value === "" || value === false

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
