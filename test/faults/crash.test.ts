import { expect } from "bun:test"
import { Effect } from "effect"
import { brokenBroker } from "../../bench/faults/brokers.ts"
import { keys } from "../../bench/faults/keys.ts"
import { type BorderName, killed, type Pack } from "../../bench/faults/kills.ts"
import { landedLate } from "../../bench/faults/late.ts"
import { cut, thrice } from "../../bench/faults/portals.ts"
import { broken, line, type Report, rowOf } from "../../bench/faults/report.ts"
import { queueIn, stage } from "../../bench/faults/stage.ts"
import { standby } from "../../bench/faults/standby.ts"
import { live } from "../effect.ts"
import { publishAll, queueRequest } from "../rig/producer.ts"
import { sharedNode } from "../rig/rabbit.ts"
import { scale, stopped } from "./load.ts"

// The short form of `bun run faults`: each experiment once, by one seed.

const seed = 5
const rounds = scale
const limit = 60_000 * scale

const kept = <E>(run: Effect.Effect<Report, E>) =>
  Effect.map(run, (report) => {
    console.log(line(rowOf(report)))
    expect(broken(report)).toEqual([])
  })

const kills: ReadonlyArray<readonly [BorderName, Pack]> = [
  ["after the portal committed", "all"],
  ["after the answer is journaled", "off"],
  ["before acknowledge", "off"]
]

for (const [border, pack] of kills) {
  live(`the bridge is killed: ${border}, ${pack}`, () => kept(killed(border, pack, rounds, seed)), limit)
}

live(
  "a write without a message_id that is in doubt is not given back by a stop",
  () =>
    Effect.gen(function* () {
      const { broker, portal, answers, start } = yield* stage(yield* sharedNode)
      portal.fault({ kind: "reset", executed: true, when: { only: "writes", next: 2 } })
      const bridge = yield* start
      const load = ["m-1", undefined].map((messageId) =>
        queueRequest({
          messageId,
          method: "crm.deal.add",
          params: { fields: { TITLE: `${messageId}`, ORIGIN_ID: `${messageId}` } }
        })
      )
      yield* publishAll(broker.url, queueIn, load)
      yield* bridge.waitForLine(({ event, fields }) => event === "outcome-in-doubt" && fields?.["message_id"] === "m-1")
      yield* bridge.waitForLine(
        ({ event, fields }) => event === "outcome-in-doubt" && fields?.["message_id"] === undefined
      )
      yield* stopped(bridge)
      yield* start
      const got = yield* answers.has(2)
      expect([got.get("m-1")?.[0]?.outcome, got.get("")?.[0]?.outcome]).toEqual(["done", "unknown"])
      expect(portal.count("crm.deal.add")).toBe(2)
    }),
  limit
)

live("bridge, broker and link are broken", () => kept(brokenBroker("all three", "all", rounds, seed, 150)), limit)

for (const stamp of [false, true]) {
  live(
    `the portal cuts every tenth write${stamp ? ", with stamps" : ""}`,
    () => kept(cut(200 * rounds, stamp, stamp ? "all" : "off", seed)),
    limit
  )
}

live("each message is published three times", () => kept(thrice(40 * rounds, "all", seed)), limit)

live("the first of two updates lands late", () => kept(landedLate("killed once answered, own", rounds, seed)), limit)

live(
  "calls with an Idempotency-Key are cut, published twice, and refused for a used one",
  () =>
    Effect.all(
      (["cut", "published twice at once", "key used before"] as const).map((run) => kept(keys(run, rounds, seed))),
      { concurrency: "unbounded" }
    ),
  limit
)

live(
  "one of two bridges on a journal in PostgreSQL is killed, and the server is restarted",
  () =>
    kept(
      standby({
        falls: ["killed", "PostgreSQL restarted"],
        lasts: 5_000 * scale,
        every: 1_000,
        requests: 200 * scale,
        seed
      })
    ),
  limit
)
