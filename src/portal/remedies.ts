import { Duration } from "effect"
import { bufferOf } from "../message/bytes.ts"
import type { Request } from "../message/request.ts"
import type { OwnRemedy } from "../settings.ts"
import { type Finder, finders, ownFinder } from "./finders.ts"
import { type Handle, handleOf } from "./handles.ts"
import { converges, covers, nameOf } from "./methods.ts"
import type { Outcome } from "./outcome.ts"

/**
 * What is to be done with a write of which nobody knows whether it ran: a table by method, which users can extend, and
 * what may be concluded when a write that was in doubt is sent again. A read is no case for it.
 */
export type Remedy =
  /** Nothing proves it: the producer is told. */
  | { readonly _tag: "Tell" }
  /** Sent again: `key` where the portal recognises the repeat by it. Not later than `within` after the first time. */
  | { readonly _tag: "Again"; readonly by: "key" | "converging"; readonly within: Duration.Duration | undefined }
  /** Looked for by the name that the request gave it, and sent again only if it is not there. */
  | { readonly _tag: "LookUp"; readonly handle: Handle }

const tell: Remedy = { _tag: "Tell" }
const again: Remedy = { _tag: "Again", by: "converging", within: undefined }

/** A method that may be repeated where parameters make the repeat the same thing: all of them have to be given. */
export interface Repeat {
  readonly method: string
  readonly parameters: ReadonlyArray<string>
  /** How long after the first time the portal knows it. */
  readonly within: Duration.Duration | undefined
  readonly source: string
}

const halfAnHour = Duration.minutes(30)
/** Left over for the way to the portal and for its clock. */
const margin = Duration.minutes(5)

/** Not by the last word of their names, and yet they converge. */
export const repeats: ReadonlyArray<Repeat> = [
  {
    // "Bitrix24 may return an existing CALL_ID instead of creating a new registration."
    method: "telephony.externalcall.register",
    parameters: ["EXTERNAL_CALL_ID"],
    within: Duration.subtract(halfAnHour, margin),
    source: "telephony/telephony-external-call-register.md"
  },
  {
    // "When adding a notification with an existing tag, other notifications will be removed." Of a webhook the tag counts
    // only beside a CLIENT_ID.
    method: "im.notify.system.add",
    parameters: ["TAG", "CLIENT_ID"],
    within: undefined,
    source: "chats/notifications/im-notify-system-add.md"
  },
  {
    method: "im.notify.personal.add",
    parameters: ["TAG", "CLIENT_ID"],
    within: undefined,
    source: "chats/notifications/im-notify-personal-add.md"
  }
]

/** The portal remembers a key for 24 hours (bitrix24/b24restdocs:api-reference/rest-v3.md). */
const keyIsKnown = Duration.hours(23)

/**
 * The `Idempotency-Key` of a write under `/rest/api/`, for its first sending and each later one. Undefined for a request
 * without a message_id: two of them may be alike and yet be meant twice.
 */
export const keyOf = ({ id, messageId }: Pick<Request, "id" | "messageId">): string | undefined =>
  messageId === undefined ? undefined : `b24rmq-${id}`

const isGiven = (parameters: unknown, name: string): boolean => {
  if (typeof parameters !== "object" || parameters === null || !Object.hasOwn(parameters, name)) return false
  const value: unknown = Reflect.get(parameters, name)
  return (typeof value === "string" && value !== "" && value !== "0") || (typeof value === "number" && value !== 0)
}

const lookUp = (finder: Finder, parameters: unknown, id: string): Remedy => {
  const handle = handleOf(finder, parameters, id)
  return handle === undefined ? tell : { _tag: "LookUp", handle }
}

const ownRemedy = ({ remedy }: OwnRemedy, parameters: unknown, id: string): Remedy => {
  if (remedy === "tell") return tell
  return remedy === "again" ? again : lookUp(ownFinder(remedy), parameters, id)
}

/** What a user's table and ours say of a write. `third`: it goes to `/rest/api/`. Pure and total. */
export const remedyFor = (
  request: Pick<Request, "id" | "method" | "parameters" | "messageId">,
  own: ReadonlyArray<OwnRemedy>,
  third: boolean
): Remedy => {
  const { id, method, parameters, messageId } = request
  const name = nameOf(method)
  const entry = own.find((entry) => covers(entry.method, name))
  // Lists of the third version take another kind of filter, and its writes have their key.
  if (entry !== undefined && !(third && typeof entry.remedy === "object")) return ownRemedy(entry, parameters, id)
  if (name === "batch") return tell
  if (third) {
    if (converges(method, parameters)) return again
    return messageId === undefined ? tell : { _tag: "Again", by: "key", within: keyIsKnown }
  }
  for (const finder of finders) {
    const handle = finder.method === name ? handleOf(finder, parameters, id) : undefined
    if (handle !== undefined) return { _tag: "LookUp", handle }
  }
  const repeat = repeats.find(
    (repeat) => repeat.method === name && repeat.parameters.every((key) => isGiven(parameters, key))
  )
  if (repeat !== undefined) return { _tag: "Again", by: "converging", within: repeat.within }
  return converges(method, parameters) ? again : tell
}

type Refused = Extract<Outcome, { _tag: "Refused" }>

/** The answer of a delete that did it, where it is not `true`; all from the pages of b24restdocs:api-reference. */
const deleted: Readonly<Record<string, string>> = {
  "crm.item.delete": "[]",
  "crm.item.productrow.delete": "null",
  "crm.timeline.comment.delete": "null"
}

/** Codes that say that what is to be deleted is not there, with any text (b24restdocs: the pages of the methods). */
const goneCodes = new Set([
  "ERROR_ELEMENT_NOT_FOUND",
  "ERROR_ITEM_NOT_FOUND",
  "200540400001",
  "BITRIX_REST_V3_EXCEPTION_ENTITYNOTFOUNDEXCEPTION"
])

/**
 * Codes that say it only together with their text: "Not found", "Company is not found", "Element not found". A portal may
 * speak its own language: of those we know English and Russian.
 */
const mute = new Set(["", "0", "100", "ERROR_CORE", "NOT_FOUND"])
const goneText = /\bnot found\b|\bdoes not exist\b|не найден/i
/** What is missing here is not the thing itself, but what it belongs to. */
const otherText = /smart|смарт|\btype\b|\bowner\b|тип |владел|access|доступ/i

const textOf = (body: Uint8Array): string => {
  try {
    const answer: unknown = JSON.parse(bufferOf(body).toString("utf8"))
    const { error_description: text, error } = answer as { error_description?: unknown; error?: { message?: unknown } }
    return typeof text === "string" ? text : typeof error?.message === "string" ? error.message : ""
  } catch {
    return ""
  }
}

/** Codes and texts of refusals that say who asked and not what: the first time it may have been another answer. */
const aboutTheAsker =
  /^(?:ACCESS_DENIED|insufficient_scope|user_access_error|allowed_only_intranet_user|WRONG_AUTH_TYPE|WRONG_LICENSE|METHOD_CONFIRM_\w+|ERROR_METHOD_NOT_FOUND|1048582|BITRIX_REST_V3_EXCEPTION_(?:ACCESSDENIED|INSUFFICIENTSCOPE|METHODNOTFOUND|IDEMPOTENCYKEYREUSED|INVALIDIDEMPOTENCYKEY)EXCEPTION|B24RMQ_\w+)$/
const deniedText = /denied|no access|доступ|запрещ/i

/** A code of which there is no second is taken: by the first sending, or before it. */
const takenCodes = new Set(["ERROR_ELEMENT_ALREADY_EXISTS", "200600000000"])
const takenText = /already exist|уже существует/i

/** Whatever is there, such an id names nothing: crm-deal-delete.md and others. */
const badId = /\bis not defined\b|\binvalid\b/i

/**
 * What the refusal of a repeat says of the first sending, which may have been executed. `gone`: a delete finds nothing, so
 * it is done; the value is the body of its answer. `refused`: the method itself refuses these parameters, and did so the
 * first time. `open`: it says nothing of the first time.
 */
export const meaningOf = (
  method: string,
  { body, code, status, alarm }: Refused
): { readonly gone: Uint8Array } | "refused" | "open" => {
  const name = nameOf(method)
  const text = textOf(body)
  if (alarm !== undefined || status === 401 || aboutTheAsker.test(code) || deniedText.test(text)) return "open"
  if (takenCodes.has(code) || takenText.test(text)) return "open"
  if (!name.endsWith(".delete") || badId.test(text)) return "refused"
  if (goneCodes.has(code)) {
    return { gone: Buffer.from(code.startsWith("BITRIX_REST_V3") ? `{"result":{"result":true}}` : resultTrue(name)) }
  }
  if (!mute.has(code)) return "refused"
  return goneText.test(text) && !otherText.test(text) ? { gone: Buffer.from(resultTrue(name)) } : "open"
}

const resultTrue = (name: string) => `{"result":${deleted[name] ?? "true"}}`
