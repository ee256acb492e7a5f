import { Data, Redacted, Result } from "effect"
import { isUtf8 } from "node:buffer"
import { hash } from "node:crypto"
import { bufferOf } from "./bytes.ts"
import type { Incoming } from "./incoming.ts"

/** A request that can be sent. */
export interface Request {
  /** Tells this request from every other: a digest over credential, message_id, method and body. */
  readonly id: string
  /** Without a message_id that names it a request cannot be recognised when it comes again. */
  readonly messageId: string | undefined
  readonly correlationId: string | undefined
  readonly method: string
  readonly user: string
  readonly token: Redacted.Redacted<string>
  /** Names user and token without telling the token: user id and the start of the token's digest. */
  readonly credential: string
  /** The REST parameters: the producer's bytes, less a byte order mark; `{}` for an empty body. */
  readonly body: Uint8Array
  /** The body as a value: for looking at, never for sending. */
  readonly parameters: unknown
  /** The bridge has put a name of its own into the body, by which what it makes can be found. */
  readonly stamped?: true
  /** The producer's own name for what has to be kept in order: the header `order`. */
  readonly order: string | undefined
}

/** Why a message cannot be sent. `code` and `description` are what the producer is answered. */
export class Rejected extends Data.TaggedClass("Rejected")<{ readonly code: string; readonly description: string }> {}

const notSent = (code: string, description: string) =>
  new Rejected({ code, description: `${description} Nothing was sent to the portal.` })

interface Grammar {
  readonly outside: RegExp
  /** A longer text would overflow the request line of the portal's web server (8 KiB for nginx). */
  readonly longest: number
  readonly expected: string
  /** Not even one character of it is repeated. */
  readonly secret?: true
}

const method: Grammar = {
  outside: /[^A-Za-z0-9_.]/u,
  longest: 255,
  expected: "a REST method of letters, digits, underscores and dots, such as crm.deal.list"
}

const user: Grammar = { outside: /[^0-9]/u, longest: 20, expected: "the number of the webhook's user, such as 1" }

const token: Grammar = {
  outside: /[^A-Za-z0-9]/u,
  longest: 255,
  expected: "the webhook's secret, letters and digits only",
  secret: true
}

/** A header's text: producers write it as a string, a whole number or bytes. */
const headerText = (value: unknown): string | undefined => {
  if (typeof value === "string") return value
  // The client library reads an int64 as a double: beyond 2^53 it may be somebody else's number.
  if (Number.isSafeInteger(value)) return String(value)
  // A table whose key __proto__ held bytes is an instance of them, and has none.
  return ArrayBuffer.isView(value) && value instanceof Uint8Array ? Buffer.from(value).toString("utf8") : undefined
}

/** What is wrong with a header's text, or undefined. It goes into an answer, so it repeats one character at most. */
const faultOfHeader = (text: string | undefined, { outside, longest, secret }: Grammar) => {
  if (text === undefined) return "it is neither text nor a whole number"
  if (text === "") return "it is empty"
  if (text.length > longest) return `it has ${text.length} characters, and ${longest} are allowed`
  const character = outside.exec(text)?.[0]
  if (character === undefined) return undefined
  return secret ? "it holds other characters" : `it holds ${JSON.stringify(character)}`
}

const readHeader = (headers: Incoming["headers"], name: string, grammar: Grammar): Result.Result<string, Rejected> => {
  // A table may have a key __proto__; what is in there is no header.
  const value = Object.hasOwn(headers, name) ? headers[name] : undefined
  if (value === undefined) {
    return Result.fail(
      notSent(`B24RMQ_NO_${name.toUpperCase()}`, `The header ${name} is missing. Expected ${grammar.expected}.`)
    )
  }
  const text = headerText(value)
  const fault = faultOfHeader(text, grammar)
  return text !== undefined && fault === undefined
    ? Result.succeed(text)
    : Result.fail(
        notSent(
          `B24RMQ_BAD_${name.toUpperCase()}`,
          `The header ${name} is wrong: ${fault}. Expected ${grammar.expected}.`
        )
      )
}

/** What the characters of a method do not tell. */
const faultOfMethod = (name: string) => {
  if (/^\.+$/.test(name))
    return notSent("B24RMQ_BAD_METHOD", `The header method is wrong: it has no letters. Expected ${method.expected}.`)
  if (name.endsWith(".xml")) {
    return notSent(
      "B24RMQ_BAD_METHOD",
      "The header method ends with .xml, and only JSON is passed on. Leave the ending out."
    )
  }
  return undefined
}

/**
 * The portal decodes JSON with PHP's default depth of 512 (php.net/json_decode), which counts the values in the
 * innermost list as a level of their own: deeper bodies become "no parameters".
 */
const deepest = 511

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

const badBody = (code: string, description: string) => Result.fail(notSent(code, description))

/**
 * A body as a value, or what is wrong with it. The portal silently runs a method without parameters on JSON that it cannot
 * read (bitrix-core-business:modules/rest, rest_util.php), so what PHP would not read must not leave.
 */
const readParameters = (body: Uint8Array): Result.Result<unknown, Rejected> => {
  if (!isUtf8(body)) return badBody("B24RMQ_BAD_ENCODING", "The body is not valid UTF-8. Expected JSON in UTF-8.")
  // Less text cannot hold so many brackets.
  if (body.length > 2 * deepest && depthOf(body) > deepest) {
    return badBody(
      "B24RMQ_TOO_DEEP",
      `The body nests lists and maps more than ${deepest} levels deep, which the portal cannot read.`
    )
  }
  const text = bufferOf(body).toString("utf8")
  let parameters: unknown
  try {
    parameters = JSON.parse(text)
  } catch {
    return badBody("B24RMQ_BAD_JSON", "The body is not valid JSON. Expected the REST parameters as a JSON object.")
  }
  if (typeof parameters !== "object") {
    const hint = typeof parameters === "string" ? " (was it encoded twice?)" : ""
    return badBody(
      "B24RMQ_BAD_PARAMETERS",
      `The body is a JSON ${typeof parameters}${hint}. Expected the REST parameters as a JSON object.`
    )
  }
  if (/\\u[dD][89a-fA-F]/.test(text) && text.replace(goodEscape, "").includes("\\")) {
    return badBody(
      "B24RMQ_BAD_JSON",
      "The body holds half of a surrogate pair (\\ud800 to \\udfff), which the portal cannot read."
    )
  }
  return Result.succeed(parameters)
}

const byteOrderMark = [0xef, 0xbb, 0xbf]
const noParameters = Buffer.from("{}")

/** The body's bytes for the portal: 1C writes a byte order mark, which PHP would not read. */
const parametersOf = (body: Uint8Array) => {
  const bare = byteOrderMark.every((byte, at) => body[at] === byte) ? body.subarray(3) : body
  return bare.length === 0 ? noParameters : bare
}

interface Body {
  readonly bytes: Uint8Array
  readonly parameters: unknown
}

const readBody = (body: Uint8Array, limit: number): Result.Result<Body, Rejected> => {
  if (body.length > limit) {
    return badBody(
      "B24RMQ_REQUEST_TOO_LARGE",
      `The body has ${body.length} bytes, and B24RMQ_MAX_REQUEST allows ${limit}.`
    )
  }
  const bytes = parametersOf(body)
  return Result.map(readParameters(bytes), (parameters) => ({ bytes, parameters }))
}

/** The JSON of a list ends where its bracket closes, so that no two requests give the same bytes. */
const identify = (names: ReadonlyArray<string>, body: Uint8Array) =>
  hash("sha256", Buffer.concat([Buffer.from(JSON.stringify(names)), body]), "base64url")

/**
 * A message_id by which a request can be recognised. An empty one names nothing, and one that was not UTF-8 has lost the
 * bytes that told it from others.
 */
const nameIn = (id: string | undefined) => (id === "" || id?.includes("\ufffd") ? undefined : id)

const credentialOf = (user: string, token: string) => `${user}#${hash("sha256", token).slice(0, 8)}`

/** What a message names that may be no request, as far as it is well-formed. Holds no token. */
export const namesIn = ({ headers }: Pick<Incoming, "headers">) => {
  const read = (name: string, grammar: Grammar) => Result.getOrUndefined(readHeader(headers, name, grammar))
  const number = read("user", user)
  const secret = read("token", token)
  return {
    method: read("method", method),
    user: number,
    credential: number === undefined || secret === undefined ? undefined : credentialOf(number, secret)
  }
}

/** Reads a message as a request. `limit`: longest body in bytes. Pure and total. */
export const readRequest = (incoming: Incoming, limit: number): Result.Result<Request, Rejected> => {
  // Plain branches: a generator here would cost half as much as all the rest.
  const name = readHeader(incoming.headers, "method", method)
  if (Result.isFailure(name)) return Result.fail(name.failure)
  const fault = faultOfMethod(name.success)
  if (fault !== undefined) return Result.fail(fault)
  const number = readHeader(incoming.headers, "user", user)
  if (Result.isFailure(number)) return Result.fail(number.failure)
  const secret = readHeader(incoming.headers, "token", token)
  if (Result.isFailure(secret)) return Result.fail(secret.failure)
  const body = readBody(incoming.body, limit)
  if (Result.isFailure(body)) return Result.fail(body.failure)
  const messageId = nameIn(incoming.messageId)
  return Result.succeed({
    id: identify([messageId ?? "", number.success, secret.success, name.success], body.success.bytes),
    messageId,
    correlationId: incoming.correlationId,
    method: name.success,
    user: number.success,
    token: Redacted.make(secret.success),
    credential: credentialOf(number.success, secret.success),
    body: body.success.bytes,
    parameters: body.success.parameters,
    order: Object.hasOwn(incoming.headers, "order") ? headerText(incoming.headers.order) : undefined
  })
}
