import { bufferOf } from "../message/bytes.ts"
import { Cursor } from "./json.ts"
import { commandName, takesDigitForBoolean, takesNumbersAsText } from "./methods.ts"

/**
 * Requests that share one call. The second version of REST runs up to fifty commands `method?parameters` one after
 * another and answers for each of them (bitrix24/b24restdocs:settings/how-to-call-rest-api/batch.md). PHP reads the
 * parameters of a command as it reads an address, and that is less than JSON can say: everything in them is a string, and
 * nothing can be empty. So a request is packed only if its method sees the same in either way, and otherwise goes alone.
 *
 * The third version (`/rest/api/`) is left out: its batch has one `time` for all and answers one error for everybody as
 * soon as one command fails (bitrix24/b24jssdk:docs/content/docs/2.working-with-the-rest-api/3.batch-rest-api-ver3.md), so
 * that no member would get what it would have got alone.
 */

/** Commands in one batch at most (bitrix24/b24restdocs:limits.md). */
export const mostCommands = 50

/**
 * Characters of a command at most. Fifty of them stay below one mebibyte, which is what nginx takes unless it is told
 * otherwise (nginx.org: client_max_body_size), so that no request is refused for the size of others.
 */
const longest = 20_000

/** What PHP reads of one query unless told otherwise; the rest is cut off in silence (php.net/manual/info.configuration). */
const mostVariables = 1_000
const mostLevels = 64

/**
 * Names that the portal takes for itself at the top of a request, and in a command not always or not at all: who asks, by
 * which link, in which state (bitrix-core-business:modules/rest, classes/general/rest.php, lib/oauth and lib/sessionauth).
 * `start` is not among them: it is read alike in both.
 */
const ownNames = new Set("auth access_token auth_connector sessid token state method aplogin ap".split(" "))

/**
 * The command for a request, or undefined if it has to go alone. `body`: its parameters, JSON in UTF-8 as `readRequest`
 * accepts it.
 */
export const commandOf = (method: string, body: Uint8Array): string | undefined => {
  // Before anything is read: only white space and escapes could make the command shorter than its JSON.
  if (body.length > longest) return undefined
  const name = commandName(method)
  if (name === undefined) return undefined
  const query = new Query(name, bufferOf(body).toString("utf8"))
  if (!query.parameters()) return undefined
  return query.text === "" ? name : `${name}?${query.text.slice(1)}`
}

/** Numbers whose text is what PHP makes of them again: no exponent, no zero at the end, and no more than 14 digits. */
const lasting = /^(?!-0$)-?(?:0|[1-9]\d{0,17}|(?=[\d.]{3,15}$)[1-9]\d*\.\d*[1-9]|0\.0{0,3}[1-9](?:\d{0,12}[1-9])?)$/

/** At the top these are positions of arguments without a name (b24restdocs: how-to-call-rest-api/data-encoding.md). */
const position = /^-?\d+$/

/** Keys that PHP cuts, or counts on from the last one; at the top it renames more (php.net: parse_str). */
const badKey = /[[\]$\0]|^\s?$/
const badName = /[. ]/

/**
 * What looks for an earlier answer: `$result[m0][ID]`. The portal searches the decoded values, so nothing protects them,
 * and next to the known words it accepts every key of an earlier error (bitrix-core-business:modules/rest, rest_util.php).
 */
const reference = /\$[^ \t\n\r\f]*\[/

const safe = /^[\w.~-]*$/
const encoded = (text: string) => (safe.test(text) ? text : encodeURIComponent(text))

const codes = { quote: 0x22, list: 0x5b, map: 0x7b }

/** JSON parameters written as a query string. Every step says false where something would be lost. */
class Query {
  text = ""
  private variables = 0
  private readonly json: Cursor
  private readonly method: string
  private readonly takesNumbers: boolean

  constructor(method: string, body: string) {
    this.json = new Cursor(body)
    this.method = method
    this.takesNumbers = takesNumbersAsText(method)
  }

  parameters(): boolean {
    const seen = new Set<string>()
    return this.json.entries((key) => {
      if (badName.test(key) || position.test(key) || ownNames.has(key)) return false
      return isNew(seen, key) && this.member(encoded(key), key, 0)
    })
  }

  private member(name: string, key: string, level: number): boolean {
    switch (this.json.peek()) {
      case codes.quote:
        return this.string(name)
      case codes.list:
        return this.nested(level, (within) =>
          this.json.items((index) => this.member(`${name}%5B${index}%5D`, "", within))
        )
      case codes.map:
        return this.nested(level, (within) => {
          const seen = new Set<string>()
          return this.json.entries(
            (key) => isNew(seen, key) && this.member(`${name}%5B${encoded(key)}%5D`, key, within)
          )
        })
      default:
        return this.scalar(name, key)
    }
  }

  private nested(level: number, members: (level: number) => boolean): boolean {
    const before = this.variables
    // Of an empty map or list nothing would be left.
    return level + 1 < mostLevels && members(level + 1) && this.variables > before
  }

  private string(name: string): boolean {
    const text = this.json.string()
    if (text === undefined || !text.isWellFormed() || text.includes("\0")) return false
    if (text.includes("$") && reference.test(text)) return false
    return this.write(name, encoded(text))
  }

  private scalar(name: string, key: string): boolean {
    const text = this.json.value()
    if (text === "true" || text === "false") {
      return takesDigitForBoolean(this.method, key) && this.write(name, text === "true" ? "1" : "0")
    }
    return this.takesNumbers && lasting.test(text) && this.write(name, text)
  }

  private write(name: string, value: string): boolean {
    this.text += `&${name}=${value}`
    return ++this.variables < mostVariables && this.text.length < longest
  }
}

/** False for a bad key and for one that came before: which of two values counts is not for us to say. */
const isNew = (seen: Set<string>, key: string): boolean =>
  !badKey.test(key) && key.isWellFormed() && seen.size < seen.add(key).size

const keyOf = (index: number) => `m${index}`

/** The parameters of `batch` that run the commands in order, each whatever the others come to. */
export const pack = (commands: ReadonlyArray<string>): Uint8Array =>
  // Keys that begin with a letter: PHP would write maps with the keys 0, 1, 2... as lists.
  Buffer.from(JSON.stringify({ halt: 0, cmd: Object.fromEntries(commands.map((command, at) => [keyOf(at), command])) }))

const mapNames = ["result", "result_error", "result_total", "result_next", "result_time"] as const
type MapName = (typeof mapNames)[number]
type Maps = Record<MapName, Map<string, string>>

/** What the answer of a batch says of one command. */
export interface Member {
  /** Its own answer, as it would have come alone, cut out of the text so that every value keeps its digits. */
  readonly body: Uint8Array
  readonly isRefusal: boolean
  /** The `time` of a result, as JSON. */
  readonly time: string | undefined
}

/**
 * Takes the answer of a batch of `count` commands apart; undefined for a member of which nothing is said: it may have been
 * executed. Undefined as a whole if this is not the answer of a batch. `body`: JSON.
 */
export const unpack = (body: Uint8Array, count: number): ReadonlyArray<Member | undefined> | undefined => {
  const maps = mapsOf(bufferOf(body).toString("latin1"))
  if (maps === undefined) return undefined
  return Array.from({ length: count }, (_, index) => memberOf(maps, keyOf(index)))
}

/** Reads the five maps. PHP writes each of them as a list where it is empty: that has no key of ours. */
const mapsOf = (text: string): Maps | undefined => {
  const maps: Maps = {
    result: new Map(),
    result_error: new Map(),
    result_total: new Map(),
    result_next: new Map(),
    result_time: new Map()
  }
  let found = false
  const cursor = new Cursor(text)
  const readMap = (name: string) => {
    const map = mapNames.find((known) => known === name)
    found ||= map === "result" || map === "result_error"
    if (map === undefined || cursor.peek() !== codes.map) return skipped(cursor)
    return cursor.entries((key) => {
      maps[map].set(key, cursor.value())
      return true
    })
  }
  const whole = cursor.entries((key) =>
    key === "result" && cursor.peek() === codes.map ? cursor.entries(readMap) : skipped(cursor)
  )
  return whole && found ? maps : undefined
}

const skipped = (cursor: Cursor): true => {
  cursor.skip()
  return true
}

const memberOf = (maps: Maps, key: string): Member | undefined => {
  const error = maps.result_error.get(key)
  const refusal = error === undefined ? undefined : refusalOf(error)
  if (refusal !== undefined) return { body: Buffer.from(refusal, "latin1"), isRefusal: true, time: undefined }
  const result = maps.result.get(key)
  if (result === undefined) return undefined
  const time = maps.result_time.get(key)
  // In the order in which the portal writes the answer of a single call.
  const text = `{"result":${result}${field("next", maps.result_next.get(key))}${field("total", maps.result_total.get(key))}${field("time", time)}}`
  return { body: Buffer.from(text, "latin1"), isRefusal: false, time }
}

const field = (name: string, value: string | undefined) => (value === undefined ? "" : `,"${name}":${value}`)

/** An entry of `result_error` as the answer of a single call. The vendor's SDK reads a bare string there, too. */
const refusalOf = (entry: string): string | undefined => {
  if (entry.startsWith('"')) return `{"error":${entry},"error_description":""}`
  const cursor = new Cursor(entry)
  let named = false
  cursor.entries((key) => {
    named ||= key === "error"
    return skipped(cursor)
  })
  return named ? entry : undefined
}
