import { Entries, isList, keysOf, Raw, type Value } from "./value.ts"

// `json_decode` accepts arrays nested less deep than its depth argument, which is 512 where none is given.
const deepest = 511

// oxlint-disable-next-line no-control-regex
const plainRun = /[^"\\\u0000-\u001f]*/y
const number = /-?(?:0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?/y
const space = /[ \t\n\r]*/y
const unicode = /[0-9a-fA-F]{4}/y
const escapes: Readonly<Record<string, string>> = {
  '"': '"',
  "\\": "\\",
  "/": "/",
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t"
}

class Refused extends Error {}

class Reader {
  private at = 0
  private depth = 0
  private readonly text: string

  constructor(text: string) {
    this.text = text
  }

  whole(): Value {
    const value = this.value()
    this.skip()
    if (this.at !== this.text.length) throw new Refused()
    return value
  }

  private match(pattern: RegExp): RegExpExecArray | null {
    pattern.lastIndex = this.at
    const found = pattern.exec(this.text)
    if (found !== null) this.at = pattern.lastIndex
    return found
  }

  private skip(): void {
    // Most requests come without white space, and a regular expression costs more than this look.
    if (this.text.charCodeAt(this.at) <= 0x20) this.match(space)
  }

  private take(char: string): boolean {
    this.skip()
    if (this.text[this.at] !== char) return false
    this.at++
    return true
  }

  private value(): Value {
    this.skip()
    switch (this.text[this.at]) {
      case "{":
        return this.nested(() => this.object())
      case "[":
        return this.nested(() => this.list())
      case '"':
        this.at++
        return this.string()
      case "t":
        return this.word("true", true)
      case "f":
        return this.word("false", false)
      case "n":
        return this.word("null", null)
      default:
        return this.number()
    }
  }

  private nested(read: () => Value): Value {
    this.at++
    if (++this.depth > deepest) throw new Refused()
    const value = read()
    this.depth--
    return value
  }

  private word(word: string, value: Value): Value {
    if (!this.text.startsWith(word, this.at)) throw new Refused()
    this.at += word.length
    return value
  }

  private number(): Value {
    const found = this.match(number)
    if (found === null || found[0] === "") throw new Refused()
    if (found[1] !== undefined || found[2] !== undefined) return Number(found[0])
    const value = Number(found[0])
    return Number.isSafeInteger(value) ? value + 0 : BigInt(found[0])
  }

  private string(): string {
    let out = ""
    for (;;) {
      out += this.match(plainRun)?.[0] ?? ""
      const end = this.text[this.at++]
      if (end === '"') return out
      if (end !== "\\") throw new Refused()
      out += this.escape()
    }
  }

  private escape(): string {
    const letter = this.text[this.at++] ?? ""
    if (letter !== "u") {
      const plain = escapes[letter]
      if (plain === undefined) throw new Refused()
      return plain
    }
    const first = this.hex()
    if (first < 0xd800 || first > 0xdfff) return String.fromCharCode(first)
    // PHP refuses half a surrogate pair, where JSON.parse takes it.
    if (first > 0xdbff || !this.text.startsWith("\\u", this.at)) throw new Refused()
    this.at += 2
    const second = this.hex()
    if (second < 0xdc00 || second > 0xdfff) throw new Refused()
    return String.fromCharCode(first, second)
  }

  private hex(): number {
    const digits = this.match(unicode)
    if (digits === null) throw new Refused()
    return Number.parseInt(digits[0], 16)
  }

  private list(): Value {
    const items: Array<Value> = []
    if (this.take("]")) return items
    do items.push(this.value())
    while (this.take(","))
    if (!this.take("]")) throw new Refused()
    return items
  }

  private object(): Value {
    const entries = new Entries()
    if (this.take("}")) return entries.value()
    do {
      if (!this.take('"')) throw new Refused()
      const key = this.string()
      if (!this.take(":")) throw new Refused()
      entries.set(key, this.value())
    } while (this.take(","))
    if (!this.take("}")) throw new Refused()
    return entries.value()
  }
}

/**
 * What PHP's `json_decode($text, true)` makes of a text, or `undefined` where it refuses. It is stricter than JSON.parse
 * (half surrogate pairs, depth) and knows no empty object. Integers keep all their digits.
 */
export const decodeJson = (text: string): Value | undefined => {
  // A lone surrogate stands for a byte that is no UTF-8.
  if (!text.isWellFormed()) return undefined
  try {
    return new Reader(text).whole()
  } catch (error) {
    if (error instanceof Refused) return undefined
    throw error
  }
}

/** An answer that PHP cannot encode: invalid UTF-8, or a number that is not finite. */
export class Unencodable extends Error {}

// All flags of the portal's encoder at once: non-ASCII, slash, and the five characters that mean something in HTML.
// oxlint-disable-next-line no-control-regex
const special = /[\u0000-\u001f"&'/<>\\\u0080-\uffff]/

const named: Readonly<Record<string, string>> = {
  "\b": "\\b",
  "\f": "\\f",
  "\n": "\\n",
  "\r": "\\r",
  "\t": "\\t",
  "/": "\\/",
  "\\": "\\\\",
  '"': "\\u0022",
  "&": "\\u0026",
  "'": "\\u0027",
  "<": "\\u003C",
  ">": "\\u003E"
}

const escapeOf = (code: number): string => {
  const char = String.fromCharCode(code)
  return named[char] ?? (special.test(char) ? `\\u${code.toString(16).padStart(4, "0")}` : char)
}

// Looked up once per character: a page of Cyrillic titles is thousands of them, and `replace` calls back for each.
const escapes16: Array<string | undefined> = []

const escapeAll = (text: string): string => {
  if (!text.isWellFormed()) throw new Unencodable("invalid UTF-8")
  let out = ""
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index)
    out += escapes16[code] ??= escapeOf(code)
  }
  return out
}

const encodeText = (text: string): string => (special.test(text) ? `"${escapeAll(text)}"` : `"${text}"`)

const encodeNumber = (value: number): string => {
  if (!Number.isFinite(value)) throw new Unencodable("Inf and NaN cannot be JSON encoded")
  const text = String(value)
  return text.includes("e") && !text.includes(".") ? text.replace("e", ".0e") : text
}

/** JSON as the portal writes it: ASCII only, `\uXXXX` for the rest (kotopheiop/bitrix-core:modules/main/lib/web/json.php). */
export const encodeJson = (value: Value): string => {
  switch (typeof value) {
    case "string":
      return encodeText(value)
    case "number":
      return encodeNumber(value)
    case "boolean":
      return value ? "true" : "false"
    case "bigint":
      return String(value)
    default:
      break
  }
  if (value === null) return "null"
  if (value instanceof Raw) return value.json.replace(/[\u0080-\uffff]/g, (char) => escapeOf(char.charCodeAt(0)))
  let out = ""
  if (isList(value)) {
    for (const item of value) out += out === "" ? encodeJson(item) : `,${encodeJson(item)}`
    return `[${out}]`
  }
  const keys = keysOf(value)
  if (keys.length === 0) return "[]"
  for (const key of keys) {
    const pair = `${encodeText(key)}:${encodeJson(value[key] ?? null)}`
    out += out === "" ? pair : `,${pair}`
  }
  return `{${out}}`
}
