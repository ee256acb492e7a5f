import { Data, Redacted, Result } from "effect"
import { isUtf8 } from "node:buffer"
import { hash } from "node:crypto"
import type { Incoming } from "./incoming.ts"

/** A request that can be sent. */
export interface Request {
  /** Tells this request from every other: a digest over credential, message_id, method and body. */
  readonly id: string
  /** Without a message_id a request cannot be recognised when it comes again. */
  readonly messageId: string | undefined
  readonly correlationId: string | undefined
  readonly method: string
  readonly user: string
  readonly token: Redacted.Redacted<string>
  /** Names user and token without telling the token: user id and the start of the token's digest. */
  readonly credential: string
  /** The REST parameters: the producer's bytes, less a byte order mark; `{}` for an empty body. */
  readonly body: Uint8Array
}

/** Why a message cannot be sent. `code` and `description` are what the producer is answered. */
export class Rejected extends Data.TaggedClass("Rejected")<{ readonly code: string; readonly description: string }> {}

const methodGrammar = /^[A-Za-z0-9_.]+$/
const tokenGrammar = /^[A-Za-z0-9]+$/
const userGrammar = /^[0-9]+$/

/** The portal decodes JSON with PHP's default depth (php.net/json_decode): deeper bodies become "no parameters". */
const deepest = 512

/** A header's text: producers write it as a string, a number or bytes. */
const headerText = (value: unknown): string | undefined => {
  if (typeof value === "string") return value
  if (typeof value === "number" || typeof value === "bigint") return String(value)
  return value instanceof Uint8Array ? Buffer.from(value).toString("utf8") : undefined
}

/** Shows what was read without repeating much of it: it goes into an answer and a log. */
const shown = (text: string) => JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}...` : text)

const badHeader = (headers: Incoming["headers"], name: string, expected: string, secret = false) => {
  const value = headers[name]
  const text = headerText(value)
  const read =
    value === undefined
      ? "it is missing"
      : text === undefined || secret
        ? "its value is not"
        : `read ${shown(text)}, not`
  const code = value === undefined ? `B24RMQ_NO_${name.toUpperCase()}` : `B24RMQ_BAD_${name.toUpperCase()}`
  return new Rejected({
    code,
    description:
      value === undefined
        ? `The header ${name} is missing. Expected ${expected}.`
        : `The header ${name} is wrong: ${read} ${expected}. Nothing was sent to the portal.`
  })
}

const badBody = (code: string, description: string) =>
  new Rejected({ code, description: `${description} Nothing was sent to the portal.` })

/** Deepest nesting of lists and maps in JSON text. */
const depthOf = (body: Uint8Array) => {
  let depth = 0
  let most = 0
  let quoted = false
  for (let at = 0; at < body.length; at++) {
    const byte = body[at]
    if (quoted) {
      if (byte === 0x5c) at++
      else if (byte === 0x22) quoted = false
    } else if (byte === 0x22) quoted = true
    else if (byte === 0x5b || byte === 0x7b) most = Math.max(most, ++depth)
    else if (byte === 0x5d || byte === 0x7d) depth--
  }
  return most
}

// A complete escape, as PHP's scanner reads it: half of a surrogate pair alone is an error there and fine in JavaScript.
const goodEscape =
  /\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u(?![dD][89a-fA-F])[0-9a-fA-F]{4}|[^u])/g

/**
 * What is wrong with a body, or undefined. The portal silently runs a method without parameters on JSON that it cannot
 * read (bitrix-core-business:modules/rest, rest_util.php), so what PHP would not read must not leave.
 */
const faultOf = (body: Uint8Array): Rejected | undefined => {
  if (!isUtf8(body)) return badBody("B24RMQ_BAD_ENCODING", "The body is not valid UTF-8.")
  // Less text cannot hold so many brackets.
  if (body.length > 2 * deepest && depthOf(body) > deepest) {
    return badBody("B24RMQ_TOO_DEEP", `The body nests lists and maps more than ${deepest} levels deep.`)
  }
  const text = Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString("utf8")
  let parameters: unknown
  try {
    parameters = JSON.parse(text)
  } catch {
    return badBody("B24RMQ_BAD_JSON", "The body is not valid JSON. Expected the REST parameters as a JSON object.")
  }
  if (typeof parameters !== "object") {
    return badBody(
      "B24RMQ_BAD_PARAMETERS",
      `The body is a JSON ${typeof parameters}, not an object or a list of parameters${typeof parameters === "string" ? " (was it encoded twice?)" : ""}.`
    )
  }
  if (/\\u[dD][89a-fA-F]/.test(text) && text.replace(goodEscape, "").includes("\\")) {
    return badBody(
      "B24RMQ_BAD_JSON",
      "The body holds half of a surrogate pair (\\ud800 to \\udfff), which the portal cannot read."
    )
  }
  return undefined
}

const byteOrderMark = [0xef, 0xbb, 0xbf]
const noParameters = Buffer.from("{}")

/** The body's bytes for the portal: 1C writes a byte order mark, which PHP would not read. */
const parametersOf = (body: Uint8Array) => {
  const bare = byteOrderMark.every((byte, at) => body[at] === byte) ? body.subarray(3) : body
  return bare.length === 0 ? noParameters : bare
}

const identify = (messageId: string, user: string, token: string, method: string, body: Uint8Array) => {
  const bodyDigest = hash("sha256", body, "base64url")
  return hash("sha256", JSON.stringify([messageId, user, token, method, bodyDigest]), "base64url")
}

/** Reads a message as a request. `limit`: longest body in bytes. Pure and total. */
export const readRequest = (incoming: Incoming, limit: number): Result.Result<Request, Rejected> => {
  const { headers } = incoming
  const method = headerText(headers.method)
  if (method === undefined || !methodGrammar.test(method) || /^\.+$/.test(method)) {
    return Result.fail(
      badHeader(headers, "method", "a REST method of letters, digits, underscores and dots, such as crm.deal.list")
    )
  }
  if (method.endsWith(".xml")) {
    return Result.fail(badHeader(headers, "method", "a method without .xml: answers are passed on as JSON"))
  }
  const user = headerText(headers.user)
  if (user === undefined || !userGrammar.test(user)) {
    return Result.fail(badHeader(headers, "user", "the number of the webhook's user, such as 1"))
  }
  const token = headerText(headers.token)
  if (token === undefined || !tokenGrammar.test(token)) {
    return Result.fail(badHeader(headers, "token", "the webhook's secret, letters and digits", true))
  }
  if (incoming.body.length > limit) {
    return Result.fail(
      badBody(
        "B24RMQ_REQUEST_TOO_LARGE",
        `The body has ${incoming.body.length} bytes; B24RMQ_MAX_REQUEST allows ${limit}.`
      )
    )
  }
  const body = parametersOf(incoming.body)
  const fault = faultOf(body)
  if (fault !== undefined) return Result.fail(fault)
  return Result.succeed({
    id: identify(incoming.messageId ?? "", user, token, method, body),
    messageId: incoming.messageId,
    correlationId: incoming.correlationId,
    method,
    user,
    token: Redacted.make(token),
    credential: `${user}#${hash("sha256", token).slice(0, 8)}`,
    body
  })
}
