import { Entries, type Fields, type Value } from "./value.ts"

// PHP's own defaults; what a given portal sets is not published.
const inputLimits = { variables: 1000, nesting: 64 }

const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

/**
 * Bytes as text. A PHP string holds any bytes, so a byte that is no UTF-8 becomes one of U+DC80..U+DCFF, which no UTF-8
 * text contains: `json_encode` must be able to fail on it later, as it does on a portal (`WRONG_ENCODING`).
 */
export const textOfBytes = (bytes: Uint8Array): string => {
  try {
    return strictUtf8.decode(bytes)
  } catch {
    return lossless(bytes)
  }
}

const sequence = (bytes: Uint8Array, at: number): number => {
  const lead = bytes[at] ?? 0
  const length = lead < 0x80 ? 1 : lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2
  try {
    strictUtf8.decode(bytes.subarray(at, at + length))
    return length
  } catch {
    return 0
  }
}

const lossless = (bytes: Uint8Array): string => {
  let out = ""
  for (let at = 0; at < bytes.length;) {
    const length = sequence(bytes, at)
    if (length === 0) out += String.fromCharCode(0xdc00 + (bytes[at++] ?? 0))
    else out += strictUtf8.decode(bytes.subarray(at, (at += length)))
  }
  return out
}

/** The bytes that {@link textOfBytes} was given. */
const bytesOfText = (text: string): Uint8Array => {
  const parts = text.split(/([\udc80-\udcff]+)/)
  return Buffer.concat(
    parts.map((part, index) =>
      // A whole pair never ends a part: its second half is matched only where the first half does not stand before it.
      index % 2 === 1 ? Buffer.from(Array.from(part, (char) => char.charCodeAt(0) - 0xdc00)) : Buffer.from(part, "utf8")
    )
  )
}

const hexValue = (byte: number | undefined): number => {
  if (byte === undefined) return -1
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30
  const letter = byte | 0x20
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : -1
}

const decodeSlowly = (text: string): string => {
  const bytes = bytesOfText(text)
  const out = new Uint8Array(bytes.length)
  let length = 0
  for (let at = 0; at < bytes.length; at++) {
    const high = bytes[at] === 0x25 ? hexValue(bytes[at + 1]) : -1
    const low = high < 0 ? -1 : hexValue(bytes[at + 2])
    if (low < 0) out[length++] = bytes[at] ?? 0
    else {
      out[length++] = high * 16 + low
      at += 2
    }
  }
  return textOfBytes(out.subarray(0, length))
}

/** PHP's `urldecode`: a broken escape stays as it is. */
export const urlDecode = (text: string): string => {
  const spaced = text.includes("+") ? text.replaceAll("+", " ") : text
  if (!spaced.includes("%")) return spaced
  try {
    return decodeURIComponent(spaced)
  } catch {
    return decodeSlowly(spaced)
  }
}

type Node = string | Branch

class Branch {
  readonly children = new Map<string, Node>()
  // What a name without a key gets next; a first key below zero counts on from there.
  private free: number | undefined

  put(key: string | undefined, value: Node): void {
    const name = key ?? String(this.free ?? 0)
    if (/^(?:0|-?[1-9]\d{0,17})$/.test(name) && (this.free === undefined || Number(name) >= this.free)) {
      this.free = Number(name) + 1
    }
    this.children.set(name, value)
  }

  /** The branch under a key, made where there is none or where a plain value stands in its place. */
  branch(key: string | undefined): Branch {
    const known = key === undefined ? undefined : this.children.get(key)
    if (known instanceof Branch) return known
    const made = new Branch()
    this.put(key, made)
    return made
  }

  value(): ReadonlyArray<Value> | Fields {
    const entries = new Entries()
    for (const [key, node] of this.children) entries.set(key, typeof node === "string" ? node : node.value())
    return entries.value()
  }
}

const register = (root: Branch, decodedName: string, value: string): void => {
  const end = decodedName.indexOf("\0")
  const name = (end < 0 ? decodedName : decodedName.slice(0, end)).replace(/^ +/, "")
  const bracket = name.indexOf("[")
  const base = (bracket < 0 ? name : name.slice(0, bracket)).replace(/[ .]/g, "_")
  if (base === "") return
  let at = root
  let key: string | undefined = base
  let nesting = 0
  for (let open = bracket; open >= 0;) {
    // Too deep takes the whole variable with it, also what earlier names had put there.
    if (++nesting > inputLimits.nesting) return void root.children.delete(base)
    const inside = /\s/.test(name[open + 1] ?? "") ? open + 2 : open + 1
    const close = name[inside] === "]" ? inside : name.indexOf("]", inside)
    if (close < 0) {
      // A bracket that is never closed is no bracket: PHP makes it an underscore and the rest part of the name.
      if (nesting === 1) key = `${base}_${name.slice(open + 1).replace(/[ .[]/g, "_")}`
      break
    }
    at = at.branch(key)
    key = close === inside ? undefined : name.slice(open + 1, close)
    open = name[close + 1] === "[" ? close + 1 : -1
  }
  at.put(key, value)
}

/** PHP's `parse_str`: names with dots, spaces and brackets, a thousand variables, sixty-four levels. */
export const parseStr = (text: string): ReadonlyArray<Value> | Fields => {
  const root = new Branch()
  registerPairs(root, text)
  return root.value()
}

const registerPairs = (root: Branch, text: string): void => {
  let count = 0
  for (const pair of text.split("&")) {
    if (pair === "") continue
    if (++count > inputLimits.variables) return
    const equals = pair.indexOf("=")
    if (equals < 0) register(root, urlDecode(pair), "")
    else register(root, urlDecode(pair.slice(0, equals)), urlDecode(pair.slice(equals + 1)))
  }
}

/** The fields of a multipart body as PHP's `$_POST` has them; files go elsewhere and no method of ours reads them. */
export const parseMultipart = (body: string, boundary: string): ReadonlyArray<Value> | Fields => {
  const root = new Branch()
  for (const part of body.split(`--${boundary}`).slice(1)) {
    const head = part.indexOf("\r\n\r\n")
    if (head < 0 || part.startsWith("--")) continue
    const disposition = /content-disposition:[^\r\n]*/i.exec(part.slice(0, head))?.[0] ?? ""
    const name = /[; ]name="([^"]*)"/i.exec(disposition)?.[1]
    if (name === undefined || /[; ]filename=/i.test(disposition)) continue
    register(root, name, part.slice(head + 4).replace(/\r\n$/, ""))
  }
  return root.value()
}

/** Path and query of a batch command, as PHP's `parse_url` splits them; nothing where it refuses the text. */
export const parseCommand = (command: string): { readonly method: string; readonly query: string } => {
  // oxlint-disable-next-line no-control-regex
  const clean = command.replace(/[\u0000-\u001f\u007f]/g, "_")
  const hash = clean.indexOf("#")
  const whole = hash < 0 ? clean : clean.slice(0, hash)
  const mark = whole.indexOf("?")
  return mark < 0 ? { method: whole, query: "" } : { method: whole.slice(0, mark), query: whole.slice(mark + 1) }
}
