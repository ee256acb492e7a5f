import { Data } from "effect"
import { ownError, tooLarge } from "../message/answer.ts"
import { bufferOf } from "../message/bytes.ts"
import type { Member } from "./batch.ts"
import type { TimeSpent } from "./operating.ts"

/** What one call to the portal came to. No other way for a call to end exists. */
export type Outcome = Data.TaggedEnum<{
  /** The portal did it. `body` is its answer, unchanged; `time` what it says of its operating time. */
  Done: { readonly status: number; readonly body: Uint8Array; readonly time: TimeSpent | undefined }
  /** The portal said no, and did nothing. `alarm` names a refusal that a person has to look at. */
  Refused: {
    readonly status: number
    readonly body: Uint8Array
    readonly code: string
    readonly alarm: Alarm | undefined
  }
  /** Not executed: too many requests (`portal`), or this method of this credential ran too long (`method`). */
  Limited: { readonly scope: "portal" | "method" }
  /** Not executed: the portal could not be reached, or refuses everybody. `reason` is a word or an error code. */
  Unavailable: { readonly reason: string; readonly alarm: Alarm | undefined }
  /**
   * May have been executed. `silent`: no JSON came, so the portal itself is in question. `timedOut`: the deadline ended
   * the wait.
   */
  Unknown: {
    readonly reason: string
    readonly status: number | undefined
    readonly silent: boolean
    readonly timedOut: boolean
  }
}>

/** What a request can be answered from; all others are repeated. */
export type FinalOutcome = Extract<Outcome, { _tag: "Done" | "Refused" | "Unknown" }>

export type Alarm = "credential" | "account"

export const { Done, Refused, Limited, Unavailable, Unknown } = Data.taggedEnum<Outcome>()

type Reaction = "refused" | "credential" | "account" | "rate" | "operating" | "unknown" | "done"

/**
 * The codes that mean more than "refused". The two revisions of the vendor's page
 * (bitrix24/b24restdocs:_includes/system-errors.md) disagree on statuses, so the code decides. Codes that are not here
 * belong to methods, which check before they act: refused.
 */
const catalogue: Readonly<Record<string, Reaction>> = {
  QUERY_LIMIT_EXCEEDED: "rate",
  OPERATION_TIME_LIMIT: "operating",
  BITRIX_REST_V3_EXCEPTION_RATELIMITEXCEPTION: "operating",
  OVERLOAD_LIMIT: "account",
  PORTAL_DELETED: "account",
  NO_AUTH_FOUND: "credential",
  INVALID_CREDENTIALS: "credential",
  authorization_error: "credential",
  expired_token: "credential",
  invalid_token: "credential",
  APPLICATION_NOT_FOUND: "credential",
  INTERNAL_SERVER_ERROR: "unknown",
  ERROR_UNEXPECTED_ANSWER: "unknown",
  BITRIX_REST_V3_EXCEPTION_INTERNAL_INTERNALEXCEPTION: "unknown",
  // The method ran; only its result could not be written as JSON (bitrix-core-business:modules/rest, rest.php).
  WRONG_ENCODING: "done"
}

/**
 * The only code whose text must be read: the portal's plan has no REST, or this one entity is out of bounds. The module
 * says "REST [API] is available only on commercial plans" or "... only by subscription"
 * (bitrix24/b24restdocs:_includes/system-errors.md, in both revisions).
 */
const tariff = /^REST .*available only/

const reactionTo = (status: number, code: string, text: string): Reaction => {
  // A code may be any word, "constructor" too.
  const known = Object.hasOwn(catalogue, code) ? catalogue[code] : undefined
  if (known !== undefined) return known
  if (code === "ACCESS_DENIED" && tariff.test(text)) return "account"
  if (code === "INVALID_REQUEST" && /https/i.test(text)) return "credential"
  // A gateway in front of the portal may speak JSON too, and a method may fail half-way: a code proves nothing there.
  return status >= 500 ? "unknown" : "refused"
}

type Json = Readonly<Record<string, unknown>>

const isMap = (value: unknown): value is Json => typeof value === "object" && value !== null && !Array.isArray(value)

const textOf = (value: unknown) => (typeof value === "string" || typeof value === "number" ? String(value) : "")

/** Code and text of an error in either form: `{error, error_description}`, or `{error: {code, message}}` of REST 3.0. */
const errorOf = ({ error, error_description }: Json): { code: string; text: string } | undefined => {
  if (isMap(error)) return { code: textOf(error.code), text: textOf(error.message) }
  if (typeof error !== "string" && typeof error !== "number") return undefined
  return { code: String(error), text: textOf(error_description) }
}

const number = (value: unknown) => (typeof value === "number" && Number.isFinite(value) ? value : undefined)

/** The `time` of an answer: what its method took, and the operating time where the portal counts that (bitrix24/b24restdocs:api-reference/data-types.md). */
const timeIn = (time: unknown): TimeSpent | undefined => {
  if (!isMap(time)) return undefined
  // Missing where the portal does not count: then nothing is used up.
  const sum = number(time.operating) ?? 0
  const resetAt = number(time.operating_reset_at)
  const finish = number(time.finish)
  // Both by the portal's own clock: ours may be wrong by hours.
  const resetIn = resetAt === undefined || finish === undefined ? undefined : Math.max(0, resetAt - finish)
  return { sum, resetIn, took: number(time.processing) ?? number(time.duration) ?? 0 }
}

/** Some boxes write a byte order mark before their JSON: a PHP file of theirs was saved with one. */
const parse = (body: Uint8Array): unknown => {
  const text = bufferOf(body).toString("utf8")
  try {
    return JSON.parse(text.replace(/^\uFEFF+/, ""))
  } catch {
    return undefined
  }
}

/**
 * Reads an answer: the error code before the status, and the body before both, for an error may come with status 200,
 * and a body that was cut short is no answer at all.
 */
export const judge = (status: number, body: Uint8Array): Outcome => {
  const answer = parse(body)
  if (typeof answer !== "object" || answer === null) return notJson(status)
  // Beside a result, `error` is a word of the method's own: the portal adds a result to all but its errors.
  const error = isMap(answer) && !(status < 400 && "result" in answer) ? errorOf(answer) : undefined
  if (error === undefined) {
    if (status < 400) return Done({ status, body, time: isMap(answer) ? timeIn(answer.time) : undefined })
    // Not the form of a portal's error: something in front of it speaks.
    return status >= 500
      ? Unknown({ reason: `HTTP ${status}`, status, silent: true, timedOut: false })
      : Refused({ status, body, code: "", alarm: undefined })
  }
  const { code, text } = error
  switch (reactionTo(status, code, text)) {
    case "done":
      return Done({ status, body, time: undefined })
    case "refused":
      return Refused({ status, body, code, alarm: undefined })
    case "credential":
      return Refused({ status, body, code, alarm: "credential" })
    case "account":
      return Unavailable({ reason: code, alarm: "account" })
    case "rate":
      return Limited({ scope: "portal" })
    case "operating":
      return Limited({ scope: "method" })
    case "unknown":
      // A gateway's own words may repeat the address, with the token.
      return Unknown({
        reason: /^\w{1,80}$/.test(code) ? code : `HTTP ${status}`,
        status,
        silent: false,
        timedOut: false
      })
  }
}

/**
 * Reads what a batch with this status says of one command, as if it had come alone. The batch was read as a whole: of a
 * result only its time is left to be read.
 */
export const judgeMember = (status: number, { body, isRefusal, time }: Member): Outcome =>
  isRefusal || status >= 400
    ? judge(status, body)
    : Done({ status, body, time: time === undefined ? undefined : timeIn(JSON.parse(time)) })

const refusedSize = ownError(
  "B24RMQ_REQUEST_TOO_LARGE",
  "The portal's web server refuses a request of this size. Nothing was executed."
)

/** Without JSON only two statuses prove that nothing ran: the web server itself refused the size. */
const notJson = (status: number): Outcome =>
  status === 413 || status === 414
    ? Refused({ status, body: refusedSize, code: "B24RMQ_REQUEST_TOO_LARGE", alarm: undefined })
    : Unknown({ reason: `HTTP ${status} without JSON`, status, silent: true, timedOut: false })

/** A redirect: nothing ran there and nothing may follow it. Renamed portals say so (b24restdocs: change-domen.md). */
export const moved = (status: number, location: string | null): Outcome => {
  const host = URL.parse(location ?? "")?.host
  return Unavailable({
    reason: `HTTP ${status}, moved${host === undefined ? "" : ` to ${host}: change B24REST`}`,
    alarm: "account"
  })
}

/** The answer has more bytes than may be passed on. What it said is not known, but its status is. */
export const oversized = (status: number): Outcome => {
  if (status >= 500)
    return Unknown({ reason: `HTTP ${status}, too large to read`, status, silent: true, timedOut: false })
  const body = tooLarge(status)
  return status < 400 ? Done({ status, body, time: undefined }) : Refused({ status, body, code: "", alarm: undefined })
}

/** Code and text of the error that an answer tells; undefined if it tells none. */
export const errorIn = (body: Uint8Array): { readonly code: string; readonly text: string } | undefined => {
  const answer = parse(body)
  return isMap(answer) ? errorOf(answer) : undefined
}

/** Not for the credential as such, but for what it may do: whoever mends the webhook mends this, too. */
const scope = /^(?:insufficient_scope|BITRIX_REST_V3_EXCEPTION_INSUFFICIENTSCOPEEXCEPTION)$/

/**
 * Code and text of a refusal for which the webhook is to blame, and not the request; undefined for any other. `status`:
 * the HTTP status that it came with.
 */
export const refusalOfWebhook = (
  status: number,
  body: Uint8Array
): { readonly code: string; readonly text: string } | undefined => {
  const error = errorIn(body)
  if (error === undefined) return undefined
  const isToBlame = reactionTo(status, error.code, error.text) === "credential" || scope.test(error.code)
  return isToBlame ? error : undefined
}

/** True if the portal itself spoke. `Unavailable` is a portal that refuses everybody: as good as away. */
export const provesLife = (outcome: Outcome): boolean =>
  outcome._tag === "Unknown" ? !outcome.silent : outcome._tag !== "Unavailable"
