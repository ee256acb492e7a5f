import { Clock, Data, DateTime, Duration, Effect } from "effect"
import { type Answer, ownError } from "../message/answer.ts"
import type { Request } from "../message/request.ts"
import { mostCommands } from "../portal/batch.ts"
import { readFinding, type Times } from "../portal/finding.ts"
import { type Handle, named, questionFor } from "../portal/handles.ts"
import type { Outcome } from "../portal/outcome.ts"
import { meaningOf, type Remedy } from "../portal/remedies.ts"
import type { Reply } from "./room.ts"

/** A write that was sent, and of which nobody knows whether it was executed. */
export interface Doubt {
  /** As it was sent, with its stamp if it had one. */
  readonly request: Request
  readonly remedy: Remedy
  /** When it was sent first, in milliseconds since 1970, 0 if nobody knows: keys are remembered from then on. */
  readonly sentAt: number
  /**
   * When the portal can have begun with it at the latest, in milliseconds since 1970: when the last call with it ended, for
   * to connect and to send it may have taken most of that. For an inherited one, when that call left.
   */
  readonly latestStart: number
  /** Found in the journal by another process than the one that sent it: how long ago that was, two clocks may dispute. */
  readonly inherited: boolean
  /** How often it was sent. */
  readonly attempts: number
  /** What came in place of an answer. */
  readonly reason: string
  readonly status: number | undefined
  readonly packed: boolean
}

/** What a doubt is resolved with. */
export interface Means {
  readonly portalLimit: Duration.Duration
  /**
   * Sends a request and comes back with what is final. `isRead` goes before what the method's name says; `most`: the
   * largest batch that it may travel in, where it is not just any.
   */
  readonly ask: (request: Request, isRead: boolean, most?: number) => Effect.Effect<Reply>
  /** Sleeps; false if the bridge stops before. */
  readonly pause: (duration: Duration.Input) => Effect.Effect<boolean>
  /** The answer to a request that is too old to be sent and was certainly not executed. */
  readonly tooOld: (attempts: number) => Effect.Effect<Answer>
}

/**
 * Waits until the portal has surely ended what was sent: its own limit after the end of the call, and in full where
 * another process sent it. Whatever follows on the same entity waits for it, too: a late first update must not overwrite the
 * second. False if the bridge stops before.
 */
export const ended = (
  doubt: Pick<Doubt, "latestStart" | "inherited">,
  { portalLimit, pause }: Pick<Means, "portalLimit" | "pause">
): Effect.Effect<boolean> =>
  Effect.flatMap(Clock.currentTimeMillis, (now) => {
    const limit = Duration.toMillis(portalLimit)
    const left = doubt.inherited ? limit : Math.min(limit, doubt.latestStart + limit - now)
    return left > 0 ? pause(left) : Effect.succeed(true)
  })

/** Each further sending follows a proof that none before it was executed, or changes nothing: the bound is for patience. */
const mostRepeats = 3

/** Another bridge has taken the doubt up meanwhile: the journal knows more. */
export class TakenUp extends Data.TaggedError("TakenUp")<{}> {}

/**
 * Finds out what became of a write, or does it once more where that is safe; else its producer is told. Undefined if the
 * bridge stops or the delivery is lost before that is known: the doubt stays. Asks nothing before the portal's limit has
 * passed since the end of the last call.
 */
export const resolve = Effect.fnUntraced(function* (
  doubt: Doubt,
  means: Means
): Effect.fn.Return<Answer | undefined, TakenUp> {
  const { request, remedy, sentAt } = doubt
  const { portalLimit, ask, pause, tooOld } = means
  if (remedy._tag === "Tell") return told(doubt, "")
  if (!(yield* ended(doubt, means))) return undefined
  let { attempts } = doubt
  let lastEnd = doubt.latestStart + Duration.toMillis(portalLimit)
  for (let repeats = 0; ; repeats++) {
    if (remedy._tag === "LookUp") {
      const found = yield* lookUp(request, remedy.handle, { firstSent: sentAt, lastEnd }, ask)
      if (found === undefined) return undefined
      if (found._tag === "Unclear")
        return told({ ...doubt, attempts }, ` It was looked for by ${named(remedy.handle)}, and ${found.why}.`)
      if (found._tag === "Found")
        return { outcome: "done", body: found.body, status: found.status, attempts, resolved: "found" }
    } else if (remedy.within !== undefined) {
      const age = (yield* Clock.currentTimeMillis) - sentAt
      if (age < 0 || age > Duration.toMillis(remedy.within))
        return told({ ...doubt, attempts }, " The time within which the portal would have recognised it has passed.")
    }
    if (repeats === mostRepeats) return told({ ...doubt, attempts }, ` Sent ${attempts} times, it was never answered.`)
    // Together with others it may have been too much for the portal's limit.
    const reply = yield* ask(request, false, Math.floor(mostCommands / 2 ** (repeats + 1)))
    if (reply._tag === "Expired")
      return remedy._tag === "LookUp"
        ? yield* tooOld(attempts)
        : told({ ...doubt, attempts }, " It is too old to be sent again (B24RMQ_MAX_AGE).")
    if (reply._tag === "NotSent" && reply.reason === "overtaken") return yield* new TakenUp()
    if (reply._tag !== "Sent") return undefined
    attempts += reply.attempts
    if (reply.outcome._tag !== "Unknown") return afterRepeat({ ...doubt, attempts }, reply, reply.outcome)
    lastEnd = reply.endedAt + Duration.toMillis(portalLimit)
    if (!(yield* pause(portalLimit))) return undefined
  }
})

type Looked = (ReturnType<typeof readFinding> & { readonly status: number | undefined }) | undefined

/** Asks the list whether what a request creates is there. */
const lookUp = Effect.fnUntraced(function* (
  request: Request,
  handle: Handle,
  sent: Omit<Times, "answered">,
  ask: Means["ask"]
): Effect.fn.Return<Looked> {
  const body = questionFor(handle)
  const { list } = handle.finder
  const question = { ...request, messageId: undefined, method: list, body, parameters: {}, order: undefined }
  const reply = yield* ask(question, true)
  if (reply._tag !== "Sent") return undefined
  const { outcome } = reply
  const { status } = outcome
  switch (outcome._tag) {
    case "Done":
      return { ...readFinding(handle, outcome.body, { ...sent, answered: yield* Clock.currentTimeMillis }), status }
    case "Refused":
      return { _tag: "Unclear", why: `${list} was refused${inBrackets(outcome.code)}`, status }
    case "Unknown":
      return { _tag: "Unclear", why: `${list} was not answered (${outcome.reason})`, status }
  }
})

/** The answer to a write that was in doubt, sent again, and answered by the portal. */
const afterRepeat = (
  doubt: Doubt,
  { packed }: Extract<Reply, { _tag: "Sent" }>,
  outcome: Extract<Outcome, { _tag: "Done" | "Refused" }>
): Answer => {
  const { request, remedy, attempts } = doubt
  const answer = {
    body: outcome.body,
    status: outcome.status,
    attempts,
    ...(packed ? { packed: true as const } : {}),
    resolved: "repeated" as const
  }
  if (outcome._tag === "Done") return { outcome: "done", ...answer }
  const meaning = meaningOf(request.method, outcome)
  if (typeof meaning === "object") return { outcome: "done", ...answer, body: meaning.gone, resolved: "gone" }
  // What was looked for before and is not there was not executed, unless its name shows up now.
  const proven = remedy._tag === "LookUp" && remedy.handle.finder.made !== undefined
  if (meaning === "refused" || proven) return { outcome: "refused", ...answer }
  return told(doubt, ` Sent again, it was refused${inBrackets(outcome.code)}, which says nothing of the first time.`)
}

/** A code is a word or a number; anything else may hold what was sent. */
const inBrackets = (code: string) => (/^\w{1,80}$/.test(code) ? ` (${code})` : "")

/** What a person has to look at, by what the method does. */
const whatToCheck = (method: string) => {
  const name = method.toLowerCase().replace(/\.json$/, "")
  if (name === "batch") return "look in the portal at what each of its commands does"
  const word = name.slice(name.lastIndexOf(".") + 1)
  if (word === "add" || word === "register") return "look in the portal whether it was created"
  if (word === "delete") return "look in the portal whether it is still there"
  if (word === "update" || word === "set") return "look in the portal whether the change is there"
  return "look in the portal for what it does"
}

/** That nobody knows. `more`: what the bridge found out, a sentence with a space before it. */
export const told = ({ request, sentAt, attempts, reason, status, packed }: Doubt, more: string): Answer => ({
  outcome: "unknown",
  body: ownError(
    "B24RMQ_OUTCOME_UNKNOWN",
    `${request.method} was sent${sentAt === 0 ? "" : ` at ${moment(sentAt)}`}, and no answer came (${reason}).${more} It may or may not have been executed: ${whatToCheck(request.method)} before you send it again with a new message_id.`
  ),
  status,
  attempts,
  ...(packed ? { packed: true as const } : {})
})

/** In UTC, to the second. */
const moment = (at: number) => DateTime.formatIso(DateTime.makeUnsafe(at)).replace(/\.\d+/, "")
