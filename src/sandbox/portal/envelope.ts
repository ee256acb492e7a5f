import { encodeJson, Unencodable } from "./json.ts"
import type { Manner, Reply } from "./http.ts"
import { at, isFields, type Fields, type Value } from "./value.ts"

/** A refusal in the shape of v2: a code (a word, "" or a number), a text, at times more keys. */
export class Refusal {
  readonly status: number
  readonly code: string | number
  readonly text: string
  readonly extra: Fields
  constructor(status: number, code: string | number, text: string, extra: Fields = {}) {
    this.status = status
    this.code = code
    this.text = text
    this.extra = extra
  }
}

/** A page of a list method. */
export class Page {
  readonly result: Value
  readonly total: number | undefined
  readonly next: number | undefined
  constructor(result: Value, total?: number, next?: number) {
    this.result = result
    this.total = total
    this.next = next
  }
}

/** What a method comes back with; a plain value is its `result`. */
export type Outcome = Value | Page | Refusal

/** When a call ran and what it cost. Instants are milliseconds, `processing` and `operating` are seconds. */
export interface Timing {
  readonly start: number
  readonly finish: number
  readonly processing: number
  readonly operating?: { readonly sum: number; readonly resetAt: number } | undefined
}

const micros = (ms: number): number => Math.round(ms * 1000) / 1_000_000

let lastSecond = -1
let lastDate = ""

// The portal's zone is Moscow's, as in the samples of the documentation.
const dateOf = (ms: number): string => {
  const second = Math.floor(ms / 1000)
  if (second !== lastSecond) {
    lastSecond = second
    lastDate = `${new Date((second + 3 * 3600) * 1000).toISOString().slice(0, 19)}+03:00`
  }
  return lastDate
}

/** The `time` block (bitrix24/b24restdocs:api-reference/data-types.md); both operating fields go missing together. */
export const timeBlock = (timing: Timing): Fields => {
  const { start, finish, processing, operating } = timing
  const block = {
    start: micros(start),
    finish: micros(finish),
    duration: micros(finish - start),
    processing,
    date_start: dateOf(start),
    date_finish: dateOf(finish)
  }
  return operating === undefined ? block : { ...block, operating_reset_at: operating.resetAt, operating: operating.sum }
}

/** A result with `total` and `next` lifted out of it, as the server does with whatever a method returns. */
export const lifted = (outcome: Value | Page): Page => {
  if (outcome instanceof Page) return outcome
  if (!isFields(outcome)) return new Page(outcome)
  const total = at(outcome, "total")
  const next = at(outcome, "next")
  if (typeof total !== "number" && typeof next !== "number") return new Page(outcome)
  const { total: _total, next: _next, ...result } = outcome
  return new Page(result, typeof total === "number" ? total : undefined, typeof next === "number" ? next : undefined)
}

/** A method that returns both keys is passed through unchanged, with HTTP 200. */
export const isErrorInside = (outcome: Value): outcome is Fields =>
  isFields(outcome) && Object.hasOwn(outcome, "error") && Object.hasOwn(outcome, "error_description")

const common =
  "Server: nginx\r\nAccess-Control-Allow-Origin: *\r\nAccess-Control-Allow-Headers: origin, content-type, accept\r\n" +
  "X-Content-Type-Options: nosniff\r\n"

export const jsonHeaders = `Content-Type: application/json; charset=utf-8\r\n${common}`
const htmlHeaders = "Server: nginx\r\nContent-Type: text/html; charset=utf-8\r\n"

const wrongEncoding = encodeJson({
  error: "WRONG_ENCODING",
  error_description: "Wrong request encoding"
})

/** An answer as JSON. Where the portal's encoder fails, the method has run all the same and only its answer is lost. */
export const jsonReply = (status: number, body: Value, headers = ""): Reply => {
  try {
    return { status, headers: jsonHeaders + headers, body: encodeJson(body) }
  } catch (error) {
    if (!(error instanceof Unencodable)) throw error
    return { status, headers: jsonHeaders, body: wrongEncoding }
  }
}

export const refusalBody = (refusal: Refusal): Fields => ({
  error: refusal.code,
  error_description: refusal.text,
  ...refusal.extra
})

/** A v2 answer to one call. */
export const envelope = (outcome: Outcome, timing: Timing): Reply => {
  if (outcome instanceof Refusal) return jsonReply(outcome.status, refusalBody(outcome))
  if (!(outcome instanceof Page) && isErrorInside(outcome)) return jsonReply(200, outcome)
  const page = lifted(outcome)
  const seconds = (micros(timing.finish - timing.start) || 0).toFixed(6)
  return jsonReply(
    200,
    {
      result: page.result,
      ...(page.next === undefined ? undefined : { next: page.next }),
      ...(page.total === undefined ? undefined : { total: page.total }),
      time: timeBlock(timing)
    },
    `X-Bitrix-Rest-Time: ${seconds}\r\nX-Bitrix-Rest-User-Time: ${seconds}\r\nX-Bitrix-Rest-System-Time: 0.000000\r\n`
  )
}

/** What the web server in front of PHP says by itself. */
export const htmlReply = (status: number, title: string, headers = ""): Reply => ({
  status,
  headers: htmlHeaders + headers,
  body:
    `<html>\r\n<head><title>${status} ${title}</title></head>\r\n<body>\r\n<center><h1>${status} ${title}</h1></center>\r\n` +
    "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
})

export const withManner = (reply: Reply, manner: Manner): Reply => ({ ...reply, manner })
