import {
  Cause,
  Clock,
  Context,
  Data,
  Deferred,
  Effect,
  Layer,
  Option,
  Random,
  Schedule,
  Semaphore,
  SubscriptionRef
} from "effect"
import { tell } from "../events.ts"
import { Settings } from "../settings.ts"
import { type ChannelLost, during, openChannel } from "./channel.ts"
import { confirmed, NotTaken, publisher } from "./confirm.ts"
import { Connection, Dial, hangUp, type Link, type LinkFailed, linkOf, type LinkLost } from "./connection.ts"
import { type Entry, isOurs, keptCopy, type Why } from "./entry.ts"
import type { Delivery } from "./held.ts"
import { kept, until } from "./kept.ts"
import { look, type Looked, renew, type Taken, type Verdict } from "./look.ts"
import type { Raw } from "./raw.ts"
import { lookAt, Topology } from "./topology.ts"
import { remember } from "./walk.ts"

/** The queue cannot be looked at now. What is in it stays as it is. */
export class CannotLook extends Data.TaggedError("CannotLook")<{ readonly reason: string }> {
  override get message() {
    return this.reason
  }
}

/**
 * Requests that could not be sent, or were refused because of their webhook, kept for an operator in the queue that
 * `B24RMQ_REJECTED` names.
 */
export class RejectedQueue extends Context.Service<
  RejectedQueue,
  {
    /** Undefined where nothing is kept. */
    readonly queue: string | undefined
    /**
     * Keeps a request, durably and confirmed: to be called before it is acknowledged. False if that cannot be, which is
     * said in the log.
     */
    readonly keep: (delivery: Delivery, why: Why) => Effect.Effect<boolean>
    /**
     * Shows what is kept to `visit`, oldest first and `most` at most, and lends what that takes to `use`; whatever is still
     * there after that stays, in its order. On a connection of its own: a broker under alarm still lets it read, and no
     * request waits behind what is shown. One at a time.
     */
    readonly look: <A, E>(
      most: number,
      visit: (entry: Entry, raw: Raw) => Verdict,
      use: (looked: Looked) => Effect.Effect<A, E>
    ) => Effect.Effect<A, E | CannotLook>
  }
>()("b24rmq/RejectedQueue") {
  static readonly layer = Layer.effect(
    RejectedQueue,
    Effect.flatMap(Settings, ({ rejected }) => (rejected === undefined ? Effect.succeed(nothing) : open(rejected)))
  )
}

export const nothingKept = "nothing is kept: set B24RMQ_REJECTED=yes, and restart the bridge"

const nothing = RejectedQueue.of({
  queue: undefined,
  keep: () => Effect.succeed(false),
  look: () => Effect.fail(new CannotLook({ reason: nothingKept }))
})

/** How to get something into the queue now. */
type Way =
  | { readonly _tag: "Opening" }
  | {
      readonly _tag: "Open"
      readonly send: ReturnType<typeof publisher>
      readonly gone: Deferred.Deferred<never, NotTaken>
    }
  | { readonly _tag: "Closed"; readonly reason: string }

const opening: Way = { _tag: "Opening" }

/** How long a request waits for a channel that is being opened. */
const patience = "5 seconds"

/** How often a request is published for which no confirm came, though its delivery is not lost. */
const mostAttempts = 3

/** What was given back is in a quorum queue again a moment after its channel has closed (0.1 s on 3.10.8). */
const givenBackWithin = "5 seconds"

const open = Effect.fnUntraced(function* (queue: string) {
  const connection = yield* Connection
  const topology = yield* Topology
  const { dial } = yield* Dial
  const turn = yield* Semaphore.make(1)
  const way = yield* SubscriptionRef.make<Way>(opening)
  let failures = 0

  const onLink = Effect.fnUntraced(function* (link: Link, well: Effect.Effect<void>) {
    yield* topology.ensure(link, queue)
    const { channel, lost } = yield* openChannel(link, ({ model }) => model.createConfirmChannel())
    const gone = yield* Deferred.make<never, NotTaken>()
    yield* Effect.acquireRelease(SubscriptionRef.set(way, { _tag: "Open", send: publisher(channel), gone }), () =>
      SubscriptionRef.set(way, opening)
    )
    failures = 0
    yield* well
    return yield* Effect.raceFirst(lost, Deferred.await(gone))
  }, Effect.scoped)

  const closed = (reason: string) => Effect.as(SubscriptionRef.set(way, { _tag: "Closed", reason }), "wait" as const)

  yield* kept(
    (well) => Effect.flatMap(connection.await, (link) => during(link, onLink(link, well))),
    (cause) => {
      const error = Option.getOrUndefined(Cause.findErrorOption(cause))
      switch (error?._tag) {
        case "LinkLost":
          return Effect.succeed("at once" as const)
        case "ChannelLost":
          // One may be lost by chance; the next one in a row is lost for a reason that stays.
          return ++failures > 1 || error.code === 403 ? closed(error.reason) : Effect.succeed("wait" as const)
        case "QueueMissing":
        case "NotTaken":
          return closed(error.message)
        case undefined:
          return closed(Cause.pretty(cause))
      }
    }
  ).pipe(Effect.forkScoped)

  // The same trouble again and again is one event, until something could be kept in between.
  let told = ""
  const notKept = ({ incoming }: Delivery, { code }: Why, reason: string) =>
    Effect.suspend(() => {
      const again = told === reason
      told = reason
      return again ? Effect.void : tell("rejected-not-kept", { queue, reason, message_id: incoming.messageId, code })
    })

  /** Waits for the way into the queue; why there is none, if there is none. */
  const ready = Effect.gen(function* () {
    // Under the broker's alarm no acknowledgement would get through either.
    yield* until(connection.blocked, (reason) => reason === undefined)
    const found = yield* Effect.timeoutOption(
      until(way, ({ _tag }) => _tag !== "Opening"),
      patience
    )
    if (Option.isSome(found) && found.value._tag === "Open") return found.value
    const reason = Option.isSome(found) && found.value._tag === "Closed" ? found.value.reason : "its channel is closed"
    return yield* new NotTaken({ kind: "refused", reason })
  })

  const publish = Effect.fnUntraced(function* ({ incoming, queue: from }: Delivery, why: Why) {
    const note = { ...why, id: yield* newId, at: yield* Clock.currentTimeMillis, queue: from }
    const { gone, send } = yield* ready
    yield* confirmed((done) => send(queue, incoming.body, keptCopy(incoming, note), done)).pipe(
      Effect.tapError((fault) => (fault.kind === "returned" ? Deferred.fail(gone, fault) : Effect.void))
    )
  })

  const keep = (delivery: Delivery, why: Why) =>
    publish(delivery, why).pipe(
      Effect.retry({ times: mostAttempts - 1, while: ({ kind }) => kind === "lost" && !delivery.isLost() }),
      Effect.andThen(Effect.sync(() => void (told = ""))),
      Effect.as(true),
      Effect.catch(({ reason }) => Effect.as(delivery.isLost() ? Effect.void : notKept(delivery, why, reason), false))
    )

  /** What is kept was looked at so often that further looks might cost messages, and was not published anew since. */
  let isWorn = false
  const renewed = (link: Link) =>
    Effect.andThen(
      renew(link, queue),
      Effect.sync(() => void (isWorn = false))
    )

  /** Waits until what was given back is in the queue again: whoever looks next is to see it. */
  const isBack = (link: Link, least: number) =>
    Effect.map(lookAt(link, queue), ({ messageCount }) => messageCount >= least).pipe(
      Effect.repeat({ until: (isBack) => isBack, schedule: Schedule.spaced("20 millis") }),
      Effect.timeoutOption(givenBackWithin)
    )

  const onOwnLink = <A, E>(work: (link: Link) => Effect.Effect<A, E>) =>
    Effect.acquireRelease(dial, ({ model }) => hangUp(model), { interruptible: true }).pipe(
      Effect.map(linkOf),
      Effect.flatMap((link) => during(link, work(link))),
      Effect.scoped
    )

  const cannot = (error: ChannelLost | LinkFailed | LinkLost | NotTaken) => {
    if (error._tag === "NotTaken") return new CannotLook({ reason: `${tooOften}: ${error.reason}` })
    const isMissing = error._tag === "ChannelLost" && error.code === 404
    return new CannotLook({ reason: isMissing ? `the queue ${queue} does not exist` : error.message })
  }

  /**
   * What was removed from here. The broker may bring it again all the same, for acknowledgements are not durable: it is
   * not shown, and removed once more.
   */
  const removed = new Set<string>()

  const noteRemoved = (entry: Entry) => {
    if (isOurs(entry)) remember(removed, entry.id)
  }

  const removing = (visit: (entry: Entry, raw: Raw) => Verdict) => (entry: Entry, raw: Raw) => {
    const verdict = removed.has(entry.id) ? "drop" : visit(entry, raw)
    if (verdict === "drop") noteRemoved(entry)
    return verdict
  }

  const noting = (taken: Taken): Taken => ({
    ...taken,
    move: (...to) => Effect.tap(taken.move(...to), () => Effect.sync(() => noteRemoved(taken.entry)))
  })

  return RejectedQueue.of({
    queue,
    keep,
    look: (most, visit, use) =>
      onOwnLink((link) =>
        Effect.gen(function* () {
          if (isWorn) yield* renewed(link)
          const { left, result } = yield* Effect.scoped(
            Effect.gen(function* () {
              const looked = yield* look(link, queue, most, removing(visit))
              isWorn ||= looked.worn
              // Its failures pass by what is made of those of the look.
              return {
                left: looked.left,
                result: yield* Effect.result(use({ ...looked, taken: looked.taken.map(noting) }))
              }
            })
          )
          yield* isBack(link, left())
          if (isWorn) yield* Effect.ignore(renewed(link))
          return result
        })
      ).pipe(Effect.mapError(cannot), Effect.flatMap(Effect.fromResult), turn.withPermit)
  })
})

const tooOften =
  "what is kept was looked at so often that the broker may soon drop it (its delivery limit), and it cannot be published anew"

/** Ten letters and digits: enough that no two of a queue are alike. */
const newId = Effect.map(Effect.all(Array.from({ length: 10 }, () => Random.nextIntBetween(0, 35))), (digits) =>
  digits.map((digit) => digit.toString(36)).join("")
)
