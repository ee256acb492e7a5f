import { expect } from "bun:test"
import { Effect } from "effect"
import { brokenBroker } from "../../bench/faults/brokers.ts"
import { type BorderName, killed, type Pack } from "../../bench/faults/kills.ts"
import { landedLate } from "../../bench/faults/late.ts"
import { cut, thrice } from "../../bench/faults/portals.ts"
import { broken, line, type Report } from "../../bench/faults/report.ts"
import { live } from "../effect.ts"
import { scale } from "./load.ts"

// The short form of `bun run faults`: each experiment once, by one seed.

const seed = 5
const rounds = scale
const limit = 60_000 * scale

const kept = <E>(run: Effect.Effect<Report, E>) =>
  Effect.map(run, (report) => {
    console.log(line(report))
    expect(broken(report)).toEqual([])
  })

const kills: ReadonlyArray<readonly [BorderName, Pack]> = [
  ["after intent", "all"],
  ["before call", "off"],
  ["after the portal committed", "all"],
  ["after the answer is journaled", "off"],
  ["after publish", "all"],
  ["before acknowledge", "off"]
]

for (const [border, pack] of kills) {
  live(`the bridge is killed: ${border}, ${pack}`, () => kept(killed(border, pack, rounds, seed)), limit)
}

live("bridge, broker and link are broken", () => kept(brokenBroker("all three", "all", rounds, seed, 300)), limit)

for (const stamp of [false, true]) {
  live(
    `the portal cuts every tenth write${stamp ? ", with stamps" : ""}`,
    () => kept(cut(200 * rounds, stamp, stamp ? "all" : "off", seed)),
    limit
  )
}

live("each message is published three times", () => kept(thrice(40 * rounds, "all", seed)), limit)

live("the first of two updates lands late", () => kept(landedLate("killed once answered, own", rounds, seed)), limit)
