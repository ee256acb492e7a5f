import type { Channel, ConsumeMessage } from "amqplib"
import { type Clock, Duration, Effect, Schedule } from "effect"
import { tell } from "../events.ts"
import { type Raw, rawOf } from "./raw.ts"
import type { Window } from "./window.ts"

/** A request on loan from the broker. Once its channel is lost it is inert: the broker has it again. */
export interface Delivery {
  readonly incoming: Raw
  /** The queue that it came from. */
  readonly queue: string
  /** The broker has delivered it before, to us or to another one. Not being so proves nothing. */
  readonly redelivered: boolean
  readonly isLost: () => boolean
  /** Tells the broker that the request is done with; nothing if the delivery is lost. */
  readonly ack: () => void
  /** So much is open beside it that others may soon have to wait outside. */
  readonly crowds: () => boolean
}

/** What a queue has on loan. Times are milliseconds of the monotonic clock. */
export interface HeldNow {
  readonly queue: string
  /** The deliveries that are open, the oldest first, and when each came. */
  readonly open: ReadonlyArray<{ readonly delivery: Delivery; readonly since: number }>
  /** Since when a consumer that may have more was brought nothing; undefined if there is none, or it has all that it may. */
  readonly idleSince: number | undefined
}

/** RabbitMQ closes a channel whose delivery is open for 30 minutes (rabbitmq.com/docs/consumers, consumer_timeout). */
const nearLimit = Duration.minutes(25)

/** The deliveries of one channel that are open. */
export class Held {
  readonly channel: Channel
  readonly window: Window
  /** Oldest first, with the time they came. */
  readonly open = new Map<number, { readonly delivery: Delivery; readonly since: number }>()
  /** When something last happened because of which more may come; undefined while there is no consumer. */
  private movedAt: number | undefined
  /** What came on this channel is to come again, in its place. */
  isSpoilt = false
  /** Deliveries of which the broker has no acknowledgement, by consumer. */
  private readonly lent = new Map<string, number>()
  /** They are done, and the broker does not know yet. */
  private done: Array<ConsumeMessage> = []
  private isWithheld = false
  /** All deliveries up to this one were taken; the broker counts those of a channel from 1. */
  private taken = 0
  private readonly clock: Clock.Clock
  private readonly isLost: () => boolean
  private readonly waiting = new Set<{ readonly wanted: () => boolean; readonly resume: () => void }>()

  constructor(channel: Channel, window: Window, clock: Clock.Clock, isLost: () => boolean) {
    this.channel = channel
    this.window = window
    this.clock = clock
    this.isLost = isLost
  }

  take(message: ConsumeMessage, queue: string): Delivery {
    const tag = message.fields.deliveryTag
    const delivery: Delivery = {
      incoming: rawOf(message),
      queue,
      redelivered: message.fields.redelivered,
      isLost: this.isLost,
      ack: () => {
        this.open.delete(tag)
        this.window.close(tag)
        // A confirm tells of many answers at once: their requests are acknowledged together.
        if (this.done.push(message) === 1) queueMicrotask(() => this.acknowledge())
      },
      crowds: () => this.window.isHalfFull
    }
    if (tag === this.taken + 1) this.taken = tag
    const since = this.millis()
    this.open.set(tag, { delivery, since })
    this.lend(message, 1)
    this.window.open(tag, message.content.length)
    this.moved(since)
    return delivery
  }

  private lend({ fields: { consumerTag = "" } }: ConsumeMessage, more: number): void {
    const lent = this.lentTo(consumerTag) + more
    if (lent === 0) this.lent.delete(consumerTag)
    else this.lent.set(consumerTag, lent)
  }

  lentTo(consumerTag: string): number {
    return this.lent.get(consumerTag) ?? 0
  }

  /**
   * Tells the broker what is done: by a single frame those before the oldest that is open, as far as all that came before
   * them was taken, for that frame speaks of everything before it; the others one by one.
   */
  acknowledge(): void {
    this.moved(this.millis())
    if (this.isWithheld) return
    const done = this.done
    this.done = []
    for (const message of done) this.lend(message, -1)
    if (this.isLost()) return
    const before = Math.min(this.taken + 1, this.open.keys().next().value ?? Infinity)
    let last: ConsumeMessage | undefined
    try {
      for (const message of done) {
        const tag = message.fields.deliveryTag
        if (tag >= before) this.channel.ack(message)
        else if (last === undefined || tag > last.fields.deliveryTag) last = message
      }
      if (last !== undefined) this.channel.ack(last, true)
    } catch {
      // The channel is being closed: the broker has them all back, and brings them again.
    }
  }

  /** Nothing is acknowledged before `effect` has ended. */
  withoutAcks(effect: Effect.Effect<void>): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.isWithheld = true
      return Effect.ensuring(
        effect,
        Effect.sync(() => {
          this.isWithheld = false
          this.acknowledge()
        })
      )
    })
  }

  /** A consumer is there, or is there no more. */
  attach(on: boolean): void {
    this.movedAt = on ? this.millis() : undefined
  }

  get now(): Omit<HeldNow, "queue"> {
    const mayHaveMore = this.open.size < this.window.size
    return { open: [...this.open.values()], idleSince: mayHaveMore ? this.movedAt : undefined }
  }

  millis(): number {
    return Number(this.clock.monotonicTimeNanosUnsafe() / 1_000_000n)
  }

  private moved(at: number): void {
    if (this.movedAt !== undefined) this.movedAt = at
    this.look()
  }

  spoil(): void {
    this.isSpoilt = true
    this.look()
  }

  /** Lets the window grow, whether or not much was acknowledged; never ends. */
  get ripen(): Effect.Effect<never> {
    return Effect.andThen(
      Effect.sync(() => {
        this.window.ripen()
        this.look()
      }),
      Effect.never
    )
  }

  /** Waits until something holds of what is open. */
  whenever(wanted: () => boolean): Effect.Effect<void> {
    return Effect.callback((resume) => {
      if (wanted()) return resume(Effect.void)
      const one = { wanted, resume: () => resume(Effect.void) }
      this.waiting.add(one)
      return Effect.sync(() => void this.waiting.delete(one))
    })
  }

  private look(): void {
    for (const one of this.waiting) {
      if (!one.wanted()) continue
      this.waiting.delete(one)
      one.resume()
    }
  }
}

/** Warns once of a delivery that is open for so long that the broker may take it back. */
export const watchAge = Effect.fnUntraced(function* (held: Held) {
  let warned = 0
  yield* Effect.gen(function* () {
    const oldest = held.open.entries().next().value
    if (oldest === undefined || oldest[0] === warned) return
    const age = Duration.millis(held.millis() - oldest[1].since)
    if (Duration.isLessThan(age, nearLimit)) return
    warned = oldest[0]
    yield* tell("delivery-near-limit", { minutes: Math.round(Duration.toMinutes(age)) })
  }).pipe(Effect.repeat(Schedule.spaced("1 minute")), Effect.forkScoped)
})
