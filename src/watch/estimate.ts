import type { Seen } from "../bridge/waits.ts"
import type { Done } from "../bridge/tally.ts"
import * as Limits from "../portal/limits.ts"

/** What is left to do, and what the portal lets be done. Pure numbers: seconds, and requests or calls a second. */
export interface Outlook {
  /** Requests that are not answered, those in calls under way among them. */
  readonly left: number
  readonly underWay: number
  /** Requests in one call. */
  readonly perCall: number
  readonly rate: {
    /** Calls that may leave at once, and each second after that; Infinity where no rate is known. */
    readonly room: number
    readonly perSecond: number
    /** Nothing leaves before. */
    readonly pause: number
  }
  /** Calls that may be under way together, and how long one takes; undefined before one has ended. */
  readonly concurrency: number
  readonly callTakes: number | undefined
  /** Requests a second that were answered lately without a pause for want of them; undefined where that is not known. */
  readonly pace: number | undefined
  /** Methods whose operating time is counted. */
  readonly methods: ReadonlyArray<{
    /** Part of the requests that is theirs. */
    readonly share: number
    /** Operating time of one request. */
    readonly cost: number
    /** Operating time that may be used now, and that comes free each second. */
    readonly seconds: number
    readonly perSecond: number
    /** Nothing of it leaves before. */
    readonly closed: number
  }>
}

/**
 * In how many seconds the last request will be answered. What is scarcest decides: the rate, of which the burst is spent
 * first; a method's operating time; or how fast calls are answered, where nothing limits their number.
 */
export const estimate = (outlook: Outlook): number => {
  const { left, underWay, perCall, rate, concurrency, callTakes, pace, methods } = outlook
  if (left <= 0) return 0
  const waiting = Math.max(0, left - underWay)
  const calls = waiting / Math.max(1, perCall)
  const answer = callTakes ?? 0
  const byRate = calls === 0 ? 0 : rate.pause + Math.max(0, Math.ceil(calls) - rate.room) / rate.perSecond
  const bySlots = (calls * answer) / concurrency
  const byPace = pace === undefined || pace <= 0 ? bySlots : waiting / pace
  const byTime = methods.map(({ share, cost, seconds, perSecond, closed }) => {
    const wanted = waiting * share * cost
    return wanted === 0 ? 0 : Math.max(closed, (wanted - seconds) / perSecond)
  })
  return Math.max(byRate, rate.perSecond === Infinity ? byPace : bySlots, ...byTime) + answer
}

/** What the estimate rests on. Those who wait stand for all that is left. */
export const outlookOf = (seen: Seen, done: Pick<Done, "pace">, left: number): Outlook => {
  const { at, limits, methods } = seen
  const rate = Limits.rateOf(limits, at)
  const waiting = Array.from(methods.values(), ({ count }) => count).reduce((sum, count) => sum + count, 0)
  return {
    left,
    underWay: seen.requests,
    perCall: seen.perCall,
    rate: {
      room: rate.room,
      perSecond: rate.perSecond,
      pause: Math.max(0, limits.pausedUntil - at) / 1_000
    },
    concurrency: seen.allowed,
    callTakes: seen.callTakes === undefined ? undefined : seen.callTakes / 1_000,
    pace: done.pace,
    methods: Array.from(methods, ([method, { count, seconds }]) => {
      const flow = Limits.flowOf(limits, at, method)
      return flow === undefined
        ? []
        : [
            {
              share: count / waiting,
              cost: seconds / count,
              seconds: flow.seconds,
              perSecond: flow.perSecond,
              closed: flow.until === undefined ? 0 : Math.max(0, flow.until - at) / 1_000
            }
          ]
    }).flat()
  }
}
