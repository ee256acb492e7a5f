import { expect } from "bun:test"
import { Effect } from "effect"
import { openPortal } from "../../src/sandbox/portal/server.ts"
import { live } from "../effect.ts"
import { type Bridge, startBridge } from "../rig/bridge.ts"
import { command } from "../rig/command.ts"
import { checkAnswers, collector, declareQueues, publishAll, requests } from "../rig/producer.ts"
import { vhost } from "../rig/rabbit.ts"
import { until } from "../rig/until.ts"

/** How many times as long as in `npm test` an experiment takes. */
const full = Number(process.env["B24RMQ_FAULTS_SCALE"] ?? 1) > 1

const queueIn = "bitrix24in"
const queueOut = "bitrix24out"
const queueRejected = `${queueIn}.rejected`
const token = "secret0token"

/** `B24RMQ rejected ...` beside a bridge: its exit code, and what it says as JSON. */
const commandOf = (bridge: Bridge) =>
  Effect.fnUntraced(function* (...args: ReadonlyArray<string>) {
    const { code, out } = yield* command(bridge, ["rejected", ...args])
    const said: Readonly<Record<string, unknown>> = JSON.parse(out)
    return { code, said }
  })

/** Adds a deal each, by turns with one of two webhooks. Each has a key of its own, by which the portal counts how often it ran. */
const deals = (count: number) =>
  requests(count, (n) => {
    const messageId = crypto.randomUUID()
    return {
      messageId,
      user: `${1 + (n % 2)}`,
      method: "crm.deal.add",
      params: { fields: { TITLE: "Deal", ORIGIN_ID: messageId } }
    }
  })

for (const type of full ? (["classic", "quorum"] as const) : (["classic"] as const)) {
  live(
    `a replay of which half is refused again stops by itself, goes on, and loses and doubles nothing: ${type}`,
    () =>
      Effect.gen(function* () {
        const { queueDepth, url } = yield* vhost
        const portal = yield* openPortal({ latency: 5 })
        yield* declareQueues(url, { in: queueIn, out: queueOut, type })
        yield* declareQueues(url, { in: queueRejected, type })
        for (const user of [1, 2]) portal.credential(`${user}/${token}`, "revoked")
        const settings = { AMPQURL: url, B24REST: portal.url, B24RMQ_REJECTED: "{AMPQIN}.rejected" }
        const bridge = yield* startBridge({ env: settings })
        const rejected = commandOf(bridge)
        const answers = yield* collector(url, queueOut)
        const asked = deals(full ? 1_000 : 150)
        yield* publishAll(url, queueIn, asked)
        yield* answers.has(asked.length)
        const kept = (count: number) =>
          until(
            `${count} are kept`,
            Effect.map(queueDepth(queueRejected), ({ ready, unacked }) => ready === count && unacked === 0)
          )
        yield* kept(asked.length)

        // Only one of the webhooks is mended.
        portal.credential(`1/${token}`, "good")
        const rate = full ? [] : ["--rate", "32"]
        const stopped = yield* rejected("replay", "--json", ...rate)
        expect([stopped.code, stopped.said["state"]]).toEqual([3, "stopped"])
        expect(stopped.said["reason"]).toMatch(/^\d+ of the last \d+ requests came back$/)
        const moved = Number(stopped.said["moved"])
        expect(moved).toBeLessThan(asked.length / 4)
        // It can be resumed though the cause is not removed, and stops again.
        const again = yield* rejected("replay", "--resume", "--json")
        expect([again.code, again.said["state"]]).toEqual([3, "stopped"])
        expect(Number(again.said["moved"])).toBeLessThan(asked.length / 2)

        portal.credential(`2/${token}`, "good")
        const finished = yield* rejected("replay", "--resume", "--json")
        expect([finished.code, finished.said]).toMatchObject([
          0,
          { state: "finished", moved: asked.length, answered: asked.length }
        ])
        // What came back in a replay is not moved by the same one.
        const back = Number(finished.said["again"])
        expect(back).toBeGreaterThanOrEqual(6)
        yield* kept(back)
        const last = yield* rejected("replay", "--json", ...rate)
        expect(last.said).toMatchObject({ state: "finished", moved: back, answered: back, again: 0 })
        yield* kept(0)

        const got = yield* answers.quietFor(200)
        const done = [...got.values()].map((list) => list.filter(({ outcome }) => outcome === "done").length)
        console.log(
          JSON.stringify({
            replay: type,
            kept: asked.length,
            "moved until the first stop": moved,
            "until the second": again.said["moved"],
            "refused again": back,
            "not done": done.filter((times) => times === 0).length,
            "done twice": done.filter((times) => times > 1).length,
            "run twice": portal.doubles().length
          })
        )
        const checked = checkAnswers(asked, got)
        expect(checked).toMatchObject({ lost: [], unasked: [] })
        expect(checked.byOutcome).toEqual({ done: asked.length, refused: asked.length + back })
        expect(done.every((times) => times === 1)).toBe(true)
        expect(portal.doubles()).toEqual([])
        expect(portal.count("crm.deal.add")).toBe(asked.length)
      }),
    full ? 300_000 : 60_000
  )
}

live("what a killed bridge had moved without removing it is moved again, and runs once all the same", () =>
  Effect.gen(function* () {
    const { queueDepth, url } = yield* vhost
    const portal = yield* openPortal({ latency: 20 })
    yield* declareQueues(url, { in: queueIn, out: queueOut })
    portal.credential("*", "revoked")
    // What was sent and not answered when the bridge was killed is looked for after this limit.
    const env = { AMPQURL: url, B24REST: portal.url, B24RMQ_REJECTED: "yes", B24RMQ_PORTAL_LIMIT: "1" }
    const bridge = yield* startBridge({ env })
    const answers = yield* collector(url, queueOut)
    const asked = deals(120)
    yield* publishAll(url, queueIn, asked)
    yield* answers.has(asked.length)
    portal.credential("*", "good")
    yield* commandOf(bridge)("replay", "--detach", "--json", "--rate", "64")
    yield* portal.until(({ count }) => count("crm.deal.add") >= 20)
    yield* bridge.kill("SIGKILL")
    yield* bridge.exited
    const next = yield* startBridge({ env, cwd: bridge.cwd })
    const { code, said } = yield* commandOf(next)("replay", "--json", "--rate", "64")
    expect([code, said["state"], said["again"]]).toEqual([0, "finished", 0])
    yield* until(
      "everything is answered, and nothing kept",
      Effect.gen(function* () {
        const depths = yield* Effect.forEach([queueIn, `${queueIn}.rejected`], queueDepth)
        return depths.every(({ ready, unacked }) => ready + unacked === 0)
      })
    )
    const got = yield* answers.quietFor(200)
    const done = [...got.values()].map((list) => list.some(({ outcome }) => outcome === "done"))
    expect(done.filter((isDone) => isDone)).toHaveLength(asked.length)
    expect(portal.doubles()).toEqual([])
    expect(portal.count("crm.deal.add")).toBe(asked.length)
  })
)
