import { Duration, Effect, Random, Schedule } from "effect"

/**
 * Full jitter: each wait becomes a random part of itself, so that many bridges do not come back in step
 * (aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter). Added where a schedule is used.
 */
export const fullJitter = <Output, Input, Error, Env>(schedule: Schedule.Schedule<Output, Input, Error, Env>) =>
  Schedule.modifyDelay(schedule, ({ duration }) => Effect.map(Random.next, (part) => Duration.times(duration, part)))

/**
 * Between attempts to reach the broker, for ever: from 100 ms, doubling up to 1 s in the first minute of an outage, for
 * a restart is over soon; 5 s in the next ten minutes; then 30 s. The one who uses it starts it anew after 60 s of health.
 */
export const reconnect = Schedule.min([
  Schedule.exponential("100 millis"),
  Schedule.spaced("1 second").pipe(
    Schedule.upTo({ duration: "1 minute" }),
    Schedule.concat(Schedule.spaced("5 seconds").pipe(Schedule.upTo({ duration: "10 minutes" }))),
    Schedule.concat(Schedule.spaced("30 seconds"))
  )
])

/** How long a link must have been well before an outage counts as a new one. */
export const healthy = Duration.seconds(60)

/** How long a queue that was lost while running is left to an operator who recreates it, before it is declared again. */
export const redeclareAfter = Duration.seconds(30)

/**
 * Between attempts to read again after an unknown outcome: six attempts, 1 to 16 s apart, so that half a minute of a
 * failing gateway is survived. One that ran into the time limit is stepped twice: a list that never ends stops sooner.
 */
export const readAgain = Schedule.exponential("1 second").pipe(Schedule.upTo({ times: 5 }))

/** Between probes of a portal that does not answer, for ever: from 500 ms, doubling up to 15 s. */
export const probe = Schedule.min([Schedule.exponential("500 millis"), Schedule.spaced("15 seconds")])

/** After the first attempt to publish an answer that its queue did not take. */
export const publishPause = Duration.millis(200)

/** Between the attempts that follow, for ever: from 200 ms, doubling up to 5 s. */
export const publishAgain = Schedule.min([Schedule.exponential(publishPause), Schedule.spaced("5 seconds")])

/** Between attempts to open a journal that cannot be written, for ever: from 200 ms, doubling up to 5 s. */
export const openAgain = Schedule.min([Schedule.exponential("200 millis"), Schedule.spaced("5 seconds")])

/** Between looks of a bridge that stands by whether the one before it has let go of the journal. */
export const standBy = Schedule.spaced("500 millis")
