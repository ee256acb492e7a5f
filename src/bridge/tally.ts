import { Clock, Context, Effect, Layer } from "effect"
import type { OutcomeWord } from "../message/answer.ts"
import { Hour, type Point, type Sum } from "./hour.ts"

/** A request that was refused by the portal, or rejected by the bridge; the same again is one entry. */
export interface Refusal {
  /** Milliseconds since 1970, of the last time. */
  readonly at: number
  readonly times: number
  readonly code: string
  readonly method: string | undefined
  /** User id and the start of the token's digest. */
  readonly credential: string | undefined
  /** Of the last one. */
  readonly messageId: string | undefined
}

/** What has been done so far. */
export interface Done {
  /** Requests that have arrived and whose journey has not ended. */
  readonly open: number
  /** Answers a second in the last quarter of a minute, as far as there was always something to do; undefined before a second is over. */
  readonly pace: number | undefined
  readonly minute: Sum
  /** The last ten seconds. */
  readonly moment: Sum
  readonly hour: Sum
  /** Since the start. */
  readonly answers: number
  readonly outcomes: Readonly<Record<OutcomeWord, number>>
  /** The oldest first. */
  readonly refusals: ReadonlyArray<Refusal>
  /** Credentials that the portal has refused and not accepted since. */
  readonly refusedCredentials: ReadonlyArray<Refusal>
}

/** What has been done so far, and how fast. Told by those who do it; costs them a few additions. */
export class Tally extends Context.Service<
  Tally,
  {
    /** A request has arrived, and its journey has ended, however it did. */
    readonly begun: () => void
    readonly ended: () => void
    /** An answer was confirmed by the broker; its delivery came at `since`, in milliseconds of the monotonic clock. */
    readonly answered: (outcome: OutcomeWord, since: number) => void
    readonly refused: (refusal: Omit<Refusal, "at" | "times">) => void
    readonly credentialRefused: (credential: string, code: string, method: string) => void
    readonly credentialAccepted: (credential: string) => void
    readonly done: Effect.Effect<Done>
    /** The steps of the last hour; `at` in milliseconds since 1970. */
    readonly history: Effect.Effect<ReadonlyArray<Point>>
  }
>()("b24rmq/Tally") {
  static readonly layer = Layer.effect(
    Tally,
    Effect.gen(function* () {
      const clock = yield* Clock.Clock
      const now = () => Number(clock.monotonicTimeNanosUnsafe() / 1_000_000n)
      const hour = new Hour()
      const outcomes: Record<OutcomeWord, number> = { done: 0, refused: 0, unknown: 0, rejected: 0 }
      const refusals = new Map<string, Refusal>()
      const credentials = new Map<string, Refusal>()

      let open = 0
      let answers = 0
      /** How much was answered at some times since there is something to do. */
      let marks: Array<{ readonly at: number; readonly answers: number }> = []

      const pace = (at: number) => {
        const first = marks.find((mark) => at - mark.at <= paceOver)
        return first === undefined || at - first.at < paceFrom
          ? undefined
          : ((answers - first.answers) * 1_000) / (at - first.at)
      }

      /** The last comes last, and the oldest goes. */
      const keep = (list: Map<string, Refusal>, key: string, refusal: Omit<Refusal, "at" | "times">) => {
        const times = (list.get(key)?.times ?? 0) + 1
        list.delete(key)
        list.set(key, { ...refusal, at: clock.currentTimeMillisUnsafe(), times })
        const [oldest] = list.keys()
        if (list.size > mostKept && oldest !== undefined) list.delete(oldest)
      }

      return Tally.of({
        begun: () => {
          if (open++ === 0) marks = [{ at: now(), answers }]
        },
        ended: () => void open--,
        answered: (outcome, since) => {
          const at = now()
          outcomes[outcome]++
          answers++
          if (at - (marks.at(-1)?.at ?? 0) >= paceFrom) {
            marks.push({ at, answers })
            if (at - (marks[0]?.at ?? at) > 2 * paceOver) marks.shift()
          }
          hour.add(at, at - since, outcome === "refused" || outcome === "rejected")
        },
        refused: (refusal) =>
          keep(refusals, `${refusal.code} ${refusal.method ?? ""} ${refusal.credential ?? ""}`, refusal),
        credentialRefused: (credential, code, method) =>
          keep(credentials, credential, { credential, code, method, messageId: undefined }),
        credentialAccepted: (credential) => {
          if (credentials.size > 0) credentials.delete(credential)
        },
        done: Effect.sync(() => {
          const at = now()
          return {
            open,
            pace: open === 0 ? undefined : pace(at),
            minute: hour.sum(at, 60_000),
            moment: hour.sum(at, 10_000),
            hour: hour.all(at),
            answers,
            outcomes: { ...outcomes },
            refusals: [...refusals.values()],
            refusedCredentials: [...credentials.values()]
          }
        }),
        history: Effect.sync(() => {
          const ahead = clock.currentTimeMillisUnsafe() - now()
          return hour.points(now()).map(({ at, sum }) => ({ at: at + ahead, sum }))
        })
      })
    })
  )
}

/** Milliseconds. */
const paceOver = 15_000
const paceFrom = 1_000

/** Different refusals that are kept. */
const mostKept = 20
