import { Clock, type Duration, Effect, Redacted } from "effect"
import { tell } from "../events.ts"
import { Journal } from "../journal/journal.ts"
import type { Sent } from "../journal/store.ts"
import { type Answer, ownError } from "../message/answer.ts"
import type { Request } from "../message/request.ts"
import { doubts, doubtsEnded, recorder, replays } from "../metrics.ts"
import { mostCommands } from "../portal/batch.ts"
import type { FinalOutcome } from "../portal/outcome.ts"
import { remedyFor } from "../portal/remedies.ts"
import { stamped } from "../portal/stamp.ts"
import { Settings } from "../settings.ts"
import type { Ages } from "./age.ts"
import { Dispatch } from "./dispatch.ts"
import { type Doubt, ended, resolve, told } from "./doubt.ts"
import type { Place } from "./lines.ts"
import type { Arrival, Parking } from "./parking.ts"
import type { Reply } from "./room.ts"

type Departed = Extract<Reply, { _tag: "Sent" }>

/** What a request came to: an answer, rest for a while, or undefined: it is given back, and comes again. */
export type Ending = Answer | Extract<Reply, { _tag: "Closed" }> | undefined

/** How the bridge finds the answers to requests. */
export interface Asking {
  /** The answer to a request: remembered, awaited from a twin that is under way, found out, or asked for. */
  readonly answerTo: (arrival: Arrival) => Effect.Effect<Ending>
  /** The answer was confirmed by the broker. */
  readonly confirmed: (arrival: Arrival, answer: Answer) => Effect.Effect<void>
}

/** `start` runs what outlasts an answer; `pause` sleeps, and says false if the bridge stops before. */
export const openAsking = Effect.fnUntraced(function* (
  mayRest: Parking["mayRest"],
  tooOld: Ages["tooOld"],
  start: (effect: Effect.Effect<void>) => void,
  pause: (duration: Duration.Input) => Effect.Effect<boolean>
): Effect.fn.Return<Asking, never, Settings | Journal | Dispatch> {
  const settings = yield* Settings
  const { b24Rest, doubt: ownRemedies, portalLimit, stamp } = settings
  const journal = yield* Journal
  const dispatch = yield* Dispatch
  const record = yield* recorder
  const third = b24Rest.pathname.endsWith("/api/")
  /** The places of requests that are being asked, by their identity. */
  const places = new Map<string, Place>()

  /** The next process will recognise it. */
  const outlivesUs = ({ messageId }: Request) => messageId !== undefined && Redacted.value(settings.journal) !== "off"

  /** A doubt that is given back unanswered. Where nobody recognises it, it is executed again. */
  const mayComeAgain = ({ request, remedy }: Doubt) => outlivesUs(request) || remedy._tag === "Again"

  const answerTo = Effect.fnUntraced(function* (arrival: Arrival): Effect.fn.Return<Ending> {
    const { request, isRead, delivery, place, at } = arrival
    while (!delivery.isLost()) {
      at("journal")
      const known = yield* journal.recall(request, isRead)
      switch (known._tag) {
        case "Answered":
          record(replays, 1)
          return known.confirmed ? { ...known.answer, replayed: true } : known.answer
        case "InDoubt": {
          const ending = yield* findOut(arrival, inherited(request, known.sent))
          if (ending !== "overtaken") return ending
          break
        }
        case "Running": {
          // A twin that came later must not wait for us: it does where a broker that was killed brings again what was parked.
          const twin = places.get(request.id)
          if (twin !== undefined && place !== undefined) dispatch.lines.advance(twin, place)
          at("twin")
          const answer = yield* known.answer
          if (answer !== undefined) return answer
          break
        }
        case "Fresh": {
          const forgotten = delivery.redelivered && !isRead ? yield* journal.lostMemorySince : undefined
          const ending =
            forgotten === undefined
              ? yield* ask(arrival)
              : yield* findOut(arrival, inherited(request, { firstAt: 0, at: forgotten, attempts: 1, stamped: stamp }))
          if (ending !== "overtaken") return ending
        }
      }
    }
    return undefined
  })

  const ask = Effect.fnUntraced(function* (arrival: Arrival): Effect.fn.Return<Ending | "overtaken"> {
    const { deadline, delivery, isRead, place, at } = arrival
    const request = stamp ? stamped(arrival.request) : arrival.request
    if (place !== undefined) places.set(request.id, place)
    at("waiting")
    const reply = yield* dispatch.ask({
      request,
      isRead,
      queue: delivery.queue,
      place,
      mayRest: () => mayRest(delivery),
      crowds: delivery.crowds,
      deadline,
      most: mostCommands,
      isLost: delivery.isLost
    })
    places.delete(request.id)
    at("journal")
    if (reply._tag !== "Sent") {
      yield* journal.release(request)
      if (reply._tag === "Expired") return yield* expired(arrival, reply.attempts)
      if (reply._tag === "Closed") return reply
      return reply.reason === "overtaken" ? "overtaken" : undefined
    }
    const { outcome } = reply
    if (outcome._tag === "Unknown" && !isRead) return yield* findOut(arrival, doubtOf(request, reply, outcome))
    const answer = answerFrom(request, reply)
    yield* journal.settle(request, answer)
    return answer
  })

  /** Finds out what became of a write that was sent and not answered. What follows it in its line waits for that. */
  const findOut = Effect.fnUntraced(function* (arrival: Arrival, doubt: Doubt) {
    const { delivery, place, at } = arrival
    const { request } = doubt
    const about = { message_id: request.messageId, method: request.method, user: request.user }
    at("doubt")
    record(doubts, 1)
    yield* tell("outcome-in-doubt", about)
    const asker = { queue: delivery.queue, place, mayRest: () => false, crowds: () => false, isLost: () => false }
    const means = {
      portalLimit,
      pause,
      // To look for what it made is not to execute it, and may be done however old it is.
      ask: (request: Request, isRead: boolean, most = mostCommands) =>
        dispatch.ask({ ...asker, request, isRead, most, deadline: isRead ? undefined : arrival.deadline }),
      tooOld: (attempts: number) => expired(arrival, attempts)
    }
    // What cannot be found out may still land. Of an answered write the next process would not know that others wait for it,
    // so it is answered only then; where a repeat could not be recognised, at once.
    const mayLand = place !== undefined && doubt.remedy._tag === "Tell"
    const waits = mayLand && outlivesUs(request)
    const resolved = Effect.catchTag(resolve(doubt, means), "TakenUp", () => Effect.succeed("overtaken" as const))
    const found = waits && !(yield* ended(doubt, means)) ? undefined : yield* resolved
    if (found === "overtaken") {
      record(doubtsEnded.returned, 1)
      yield* journal.release(request)
      return found
    }
    const answer = found ?? (mayComeAgain(doubt) ? undefined : told(doubt, " The bridge was stopped meanwhile."))
    record(doubtsEnded[endOf(answer)], 1)
    if (answer === undefined) {
      yield* journal.release(request)
      return undefined
    }
    at("journal")
    yield* journal.settle(request, answer)
    // It was not executed, and may be sent anew.
    if (answer.outcome === "rejected") yield* journal.confirmed(request, answer.outcome, false)
    if (answer.outcome !== "unknown") yield* tell("outcome-found", about)
    else {
      yield* tell("outcome-unknown", about)
      if (mayLand && !waits) start(dispatch.lines.hold(place, ended(doubt, means)))
    }
    return answer
  })

  /** The answer to one that became too old. */
  const expired = ({ deadline = 0, request }: Arrival, attempts: number) =>
    Effect.flatMap(Clock.currentTimeMillis, (now) =>
      Effect.as(
        tell("request-rejected", { message_id: request.messageId, code: "B24RMQ_EXPIRED" }),
        tooOld(request, deadline, now, attempts)
      )
    )

  const doubtOf = (
    request: Request,
    { attempts, endedAt, packed, sentAt }: Departed,
    { reason, status }: Extract<FinalOutcome, { _tag: "Unknown" }>
  ): Doubt => ({
    request,
    remedy: remedyFor(request, ownRemedies, third),
    sentAt,
    latestStart: endedAt,
    inherited: false,
    attempts,
    reason,
    status,
    packed
  })

  /** A doubt that the journal knows of. */
  const inherited = (request: Request, { at, firstAt, attempts, stamped: isStamped }: Sent): Doubt => {
    const sent = isStamped ? stamped(request) : request
    return {
      request: sent,
      remedy: remedyFor(sent, ownRemedies, third),
      sentAt: firstAt,
      latestStart: at,
      inherited: true,
      attempts,
      reason: "the bridge ended before one came",
      status: undefined,
      packed: false
    }
  }

  return {
    answerTo,
    confirmed: ({ isRead, request }, answer) => {
      // One that was too old is not remembered: by now it may have been sent anew, and be under way.
      if (answer.outcome === "rejected") return Effect.void
      return journal.confirmed(request, answer.outcome, isRead)
    }
  }
})

/** The word for how a doubt ended. */
const endOf = (answer: Answer | undefined) => {
  if (answer === undefined) return "returned"
  return answer.outcome === "rejected" ? "expired" : (answer.resolved ?? "unknown")
}

const answerFrom = (request: Request, { outcome, attempts, packed }: Departed): Answer => {
  const how = { attempts, status: outcome.status, ...(packed ? { packed: true as const } : {}) }
  switch (outcome._tag) {
    case "Done":
      return { outcome: "done", body: outcome.body, ...how }
    case "Refused":
      return { outcome: "refused", body: outcome.body, ...how }
    case "Unknown":
      return { outcome: "unknown", body: unanswered(request, outcome.reason, attempts), ...how }
  }
}

/** The end of a read that was repeated. */
const unanswered = (request: Request, reason: string, attempts: number) =>
  ownError(
    "B24RMQ_OUTCOME_UNKNOWN",
    `${request.method} was asked ${attempts} times and no answer came (${reason}). Reading changes nothing: send the request again later, or ask for less at once.`
  )
