import { Effect } from "effect"
import type { PortalFailed } from "../../src/sandbox/portal/server.ts"
import type { RigFailed } from "../../test/rig/until.ts"
import { type Broken, brokenBroker } from "./brokers.ts"
import { cost } from "./cost.ts"
import { keys, type KeysRun } from "./keys.ts"
import { type BorderName, borders, killed, type Pack } from "./kills.ts"
import { landedLate, type LateRun } from "./late.ts"
import { cut, thrice } from "./portals.ts"
import { type Report, type Row, rowOf } from "./report.ts"
import { type Fall, standby } from "./standby.ts"

type Run = Effect.Effect<ReadonlyArray<Row>, RigFailed | PortalFailed>

export interface Experiment {
  /** What is done in it, for the document. */
  readonly about: string
  /** A hundred rounds give the full figures. */
  readonly runs: (rounds: number, seed: number) => ReadonlyArray<Run>
  /** How many runs go on at once: most of their time is waiting. One by default. */
  readonly atOnce?: number
  /** It asks what only this bridge has: another one cannot be tried with it. */
  readonly ours?: true
  readonly withPostgres?: true
}

const packs: ReadonlyArray<Pack> = ["off", "all"]
const breaks: ReadonlyArray<Broken> = ["broker", "link", "both", "all three"]
const lates: ReadonlyArray<LateRun> = ["doubt", "doubt, own", "killed", "killed, own", "killed once answered, own"]
const keysRuns: ReadonlyArray<KeysRun> = ["cut", "killed", "landing late", "published twice at once", "key used before"]
const falls: ReadonlyArray<Fall> = [
  "killed",
  "frozen",
  "killed",
  "PostgreSQL restarted",
  "killed",
  "frozen for a while"
]

const one = <E>(run: Effect.Effect<Report, E>) => Effect.map(run, (report) => [rowOf(report)])

export const experiments: Readonly<Record<string, Experiment>> = {
  kill: {
    about:
      "The bridge is killed with `kill -9` at a border in the life of a request, once a round, and started again with the journal that it had. 40 requests a round, reads and writes mixed. `any moment` is at a random time.",
    atOnce: 4,
    runs: (rounds, seed) =>
      (Object.keys(borders) as ReadonlyArray<BorderName>).flatMap((border) =>
        packs.map((pack) => one(killed(border, pack, rounds, seed)))
      )
  },
  broker: {
    about:
      "RabbitMQ is killed with `kill -9` and brings back what was acknowledged and not yet written down (`broker`); the connection to it is reset after a random number of bytes, several times a round (`link`); both; and the bridge is killed, too (`all three`). 800 requests a round, every second round as a backlog without a break.",
    runs: (rounds, seed) =>
      breaks.flatMap((what) => packs.map((pack) => one(brokenBroker(what, pack, Math.ceil((rounds * 5) / 8), seed))))
  },
  standby: {
    about:
      "Two bridges share a journal in PostgreSQL, while writes flow. Whichever is active is killed with `kill -9` and started again, or frozen (SIGSTOP) until the other one works and then thawed (SIGCONT), or frozen for 1 to 14 seconds, which is about the ten seconds after which it loses the journal; and PostgreSQL is restarted, in good order and by `kill -9`. Each comes five seconds after the one before it is over. A round is one of these. Take-over is the time from the kill or the freezing until the other bridge takes requests: how often, median, longest. For one that was frozen most of it is the time until RabbitMQ closes its connection, after two to three heartbeats of 10 s: only then are the requests that it held in the queue again, in their order. A shorter one in the address (`AMPQURL=amqp://...?heartbeat=4`) shortens it.",
    ours: true,
    withPostgres: true,
    runs: (rounds, seed) => [
      one(standby({ falls, lasts: 3_000 * rounds, every: 5_000, requests: Math.ceil((rounds * 100 * 8) / 7), seed }))
    ]
  },
  cut: {
    about:
      "The portal executes every tenth write and resets the connection in place of an answer. Half of the writes are creators with a name of their own (`ORIGIN_ID`), the rest have none. With stamps (`B24RMQ_STAMP=yes`) all are creators, and can be found.",
    runs: (rounds, seed) =>
      [false, true].flatMap((stamp) => packs.map((pack) => one(cut(Math.min(2_000, 100 * rounds), stamp, pack, seed))))
  },
  keys: {
    about:
      "Writes under `/rest/api/` with their `Idempotency-Key`. `cut`: every tenth is executed and not answered. `killed`: the bridge is, once a round. `landing late`: every tenth goes on for a second after its caller was cut off, and a second call meanwhile would run, too. `published twice at once`: one call serves both. `key used before`: the portal knows the key with another body and says 422; at the first sending that is `refused`, after a doubt (every second request) `unknown`. 40 requests a round.",
    atOnce: 5,
    runs: (rounds, seed) => keysRuns.map((run) => one(keys(run, Math.ceil(rounds / 5), seed)))
  },
  thrice: {
    about: "The producer publishes each message three times: one execution, three answers.",
    runs: (rounds, seed) => packs.map((pack) => one(thrice(Math.min(2_000, 40 * rounds), pack, seed)))
  },
  late: {
    about:
      "The first of two updates of one entity is not answered, and lands a second after it was sent. The second has to be final. `own`: a method of which nothing is known. `killed`: the bridge is, in between.",
    atOnce: 5,
    runs: (rounds, seed) => lates.map((run) => one(landedLate(run, rounds, seed)))
  },
  cost: {
    about:
      "What the journal costs: writes from a full queue, each called alone, 50 calls in flight, without a journal, with one in a file, and in PostgreSQL, one after the other and again. Medians of the rounds. The portal, RabbitMQ, the producer and the reader of answers share the machine; CPU is that of the bridge alone. A portal that takes 0 ms shows the most that a journal can cost; real ones take 50 ms and more. The size on disk is that after all rounds.",
    ours: true,
    withPostgres: true,
    runs: (rounds) => [
      cost(Math.min(5, rounds), Math.min(20_000, 200 * rounds), 0),
      cost(Math.min(5, rounds), Math.min(5_000, 50 * rounds), 50)
    ]
  }
}
