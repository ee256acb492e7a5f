import type { Credential } from "./credentials.ts"
import { jsonReply, Page, Refusal, refusalBody, timeBlock } from "./envelope.ts"
import type { Performed } from "./batch.ts"
import type { Address } from "./inbound.ts"
import { decodeJson } from "./json.ts"
import { refusedThird } from "./methodsThird.ts"
import { now, type Context, type Performer } from "./performer.ts"
import { textOfBytes } from "./php.ts"
import { at, Entries, entriesOf, isFields, isList, isPhpArray, textOf, type Value } from "./value.ts"
import type { Reply, WireRequest } from "./http.ts"

/** The refusals of v3 that stand in front of a method. */
export const thirdWords = {
  notFound: refusedThird("METHODNOTFOUND", "Method not found", 404),
  blocked: refusedThird("RATELIMIT", "Method is blocked due to operation time limit.", 429)
}

const scopeMissing = refusedThird("INSUFFICIENTSCOPE", "The request requires higher privileges", 403)

const isThird = (refusal: Refusal): boolean => String(refusal.code).startsWith("BITRIX_REST_V3_")

const refusalReply = (refusal: Refusal): Reply => {
  if (refusal.code === "insufficient_scope") return refusalReply(scopeMissing)
  // What refuses the credential is shared by both versions, and so, nobody having shown otherwise, is its form.
  if (!isThird(refusal) && refusal.code !== "INTERNAL_SERVER_ERROR") {
    return jsonReply(refusal.status, refusalBody(refusal))
  }
  const code = isThird(refusal) ? refusal.code : "BITRIX_REST_V3_EXCEPTION_INTERNAL_INTERNALEXCEPTION"
  return jsonReply(refusal.status, { error: { code, message: refusal.text, ...refusal.extra } })
}

/** The parameters of a v3 request: JSON in the body or nothing; what stands in the query is not read. */
export const thirdBody = (request: WireRequest): Value | Refusal => {
  if (request.body.length === 0) return []
  const type = (request.headers.get("content-type") ?? "").split(";")[0]?.trim()
  const value = type === "application/json" ? decodeJson(textOfBytes(request.body)) : undefined
  return isPhpArray(value) ? value : refusedThird("INVALIDJSON", "The request body is not valid JSON")
}

/** The credential of an application stands in the body; so does nothing else of its kind. */
export const thirdCredential = (address: Address, body: Value | Refusal): Credential | undefined => {
  if (address.webhook !== undefined) return address.webhook
  const auth = body instanceof Refusal ? undefined : at(body, "auth")
  return typeof auth === "string" && auth !== "" ? { kind: "application", user: "0", secret: auth } : undefined
}

interface Stored {
  readonly body: string
  readonly reply: Reply
  readonly until: number
}

const day = 24 * 3600 * 1000

const badKey = refusedThird("INVALIDIDEMPOTENCYKEY", "Idempotency key must be 1 to 255 printable ASCII characters")
const usedKey = refusedThird(
  "IDEMPOTENCYKEYREUSED",
  "Idempotency key was already used with a different request body",
  422
)

/** Answers kept by `Idempotency-Key`: successes only, for a day (bitrix24/b24restdocs:api-reference/rest-v3.md). */
class Replays {
  private readonly answers = new Map<string, Stored>()
  private readonly keep: number

  constructor(keep: number) {
    this.keep = keep
  }

  clear(): void {
    this.answers.clear()
  }

  find(name: string, body: string): Reply | undefined {
    const stored = this.answers.get(name)
    if (stored === undefined || stored.until < now()) return undefined
    if (stored.body !== body) return refusalReply(usedKey)
    return { ...stored.reply, headers: `${stored.reply.headers}Idempotent-Replayed: true\r\n` }
  }

  store(name: string, body: string, reply: Reply): void {
    this.answers.set(name, { body, reply, until: now() + day })
    const [oldest] = this.answers.keys()
    if (this.answers.size > this.keep && oldest !== undefined) this.answers.delete(oldest)
  }
}

/** The third version of REST: `/rest/api/USER/SECRET/METHOD`. */
export class ThirdVersion {
  private readonly performer: Performer
  readonly replays: Replays

  constructor(performer: Performer, keep: number) {
    this.performer = performer
    this.replays = new Replays(keep)
  }

  respond(address: Address, body: Value | Refusal, context: Context): Reply | Promise<Reply> {
    if (address.method.toLowerCase() === "batch") return this.batch(body, context)
    const method = context.registry.find(address.method)
    if (method === undefined) return this.refuse(thirdWords.notFound)
    if (body instanceof Refusal) return this.refuse(body)
    const key = method.write ? context.request.headers.get("idempotency-key") : undefined
    if (key === undefined) return this.single(address, body, context)
    return this.once(key, address, body, context)
  }

  private refuse(refusal: Refusal): Reply {
    this.performer.refuse(refusal, now())
    return refusalReply(refusal)
  }

  private once(key: string, address: Address, body: Value, context: Context): Reply | Promise<Reply> {
    if (!/^[\x20-\x7e]{1,255}$/.test(key)) return this.refuse(badKey)
    const { kind, user, secret } = context.credential ?? { kind: "webhook", user: "", secret: "" }
    const name = JSON.stringify([kind, user, secret, address.method.toLowerCase(), key])
    const text = textOfBytes(context.request.body)
    const earlier = this.replays.find(name, text)
    if (earlier !== undefined) return earlier
    const keep = (reply: Reply): Reply => {
      if (reply.status !== 200) return reply
      const echoed = { ...reply, headers: `${reply.headers}Idempotency-Key: ${key}\r\n` }
      this.replays.store(name, text, echoed)
      return echoed
    }
    const reply = this.single(address, body, context)
    return reply instanceof Promise ? reply.then(keep) : keep(reply)
  }

  private single(address: Address, body: Value, context: Context): Reply | Promise<Reply> {
    const performed = this.performer.perform(address.method, withoutAuth(body), 0, context)
    return performed instanceof Promise
      ? performed.then((done) => this.reply(done, context))
      : this.reply(performed, context)
  }

  private reply({ outcome, timing }: Performed, context: Context): Reply {
    if (context.credential !== undefined) {
      this.performer.operating.book(context.credential, context.ledger, timing.finish)
    }
    if (outcome instanceof Refusal) return refusalReply(outcome)
    const result = outcome instanceof Page ? outcome.result : outcome
    // The description of the interface is the one answer without an envelope.
    if (isFields(result) && at(result, "openapi") !== undefined) return jsonReply(200, result)
    return jsonReply(200, { result, time: timeBlock(timing) })
  }

  /**
   * Calls in a list, results by position; one that fails fails the whole. Whether the calls before it stay done is not
   * documented: here they do.
   */
  private async batch(body: Value | Refusal, context: Context): Promise<Reply> {
    const start = now()
    if (body instanceof Refusal) return this.refuse(body)
    if (!isList(body)) return this.refuse(refusedThird("INVALIDSELECT", "Unable to recognize the select parameter"))
    const results: Array<Value> = []
    for (const call of body) {
      if (context.life.stopped) break
      const query = at(call, "query")
      const performed = this.performer.perform(textOf(at(call, "method")), isPhpArray(query) ? query : [], 0, context)
      const { outcome } = performed instanceof Promise ? await performed : performed
      if (outcome instanceof Refusal)
        return this.reply({ outcome, timing: { start, finish: now(), processing: 0 } }, context)
      results.push(outcome instanceof Page ? outcome.result : outcome)
    }
    const finish = now()
    return this.reply({ outcome: results, timing: { start, finish, processing: (finish - start) / 1000 } }, context)
  }
}

const withoutAuth = (body: Value): Value => {
  if (at(body, "auth") === undefined) return body
  const params = new Entries()
  for (const [key, value] of entriesOf(body)) if (key !== "auth") params.set(key, value)
  return params.value()
}
