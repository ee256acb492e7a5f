import { expect } from "bun:test"
import { Effect } from "effect"
import { openPortal } from "../../src/sandbox/portal/server.ts"
import { live } from "../effect.ts"
import { startBridge } from "../rig/bridge.ts"
import { command } from "../rig/command.ts"
import { collector, declareQueues, publishAll, queueRequest } from "../rig/producer.ts"
import { vhost } from "../rig/rabbit.ts"

const canary = "canary0token"

/** A bridge that keeps what it rejects, some requests that it has rejected, and its commands. */
const scene = Effect.fnUntraced(function* (env: Readonly<Record<string, string>>) {
  const broker = yield* vhost
  const portal = yield* openPortal()
  portal.credential(`2/${canary}`, "revoked")
  portal.credential(`3/${canary}`, { scope: ["im"] })
  yield* declareQueues(broker.url, { in: "bitrix24in", out: "bitrix24out" })
  const bridge = yield* startBridge({ env: { AMPQURL: broker.url, B24REST: portal.url, ...env } })
  const answers = yield* collector(broker.url, "bitrix24out")
  const of = (messageId: string, user: string, params: unknown, method: unknown = "crm.deal.add") =>
    queueRequest({ messageId, user, token: canary, method, params, headers: { note: "own" } })
  const asked = [
    of("good", "1", { fields: { TITLE: "Deal" } }),
    of("bad JSON", "1", "{"),
    of("revoked", "2", { fields: {} }),
    of("scope", "3", { fields: {} }),
    of("not there", "1", { id: 999 }, "crm.deal.get"),
    of("bytes", "1", Buffer.from([0xff, 0xfe])),
    of("address", "1", {}, `https://portal.example/rest/1/${canary}/`)
  ]
  // One after the other, so that their order is known.
  for (const one of asked) {
    yield* publishAll(broker.url, "bitrix24in", [one])
    yield* answers.answerTo(one.id ?? "")
  }
  const rejected = (...args: ReadonlyArray<string>) => command(bridge, ["rejected", ...args])
  const kept = Effect.fnUntraced(function* (...args: ReadonlyArray<string>) {
    const { out } = yield* rejected("list", "--json", ...args)
    const { entries, ...rest }: { entries: ReadonlyArray<Record<string, unknown>> } = JSON.parse(out)
    return { entries, rest, ids: entries.map(({ messageId }) => messageId) }
  })
  return { broker, portal, bridge, answers, rejected, kept }
})

live("what is kept is listed, shown and dropped by its filters, and no token is told", () =>
  Effect.gen(function* () {
    const { bridge, broker, kept, rejected } = yield* scene({ B24RMQ_REJECTED: "yes" })
    const { entries, ids, rest } = yield* kept()
    // What the portal refuses for other reasons is between it and the producer.
    expect(ids).toEqual(["bad JSON", "revoked", "scope", "bytes", "address"])
    expect(rest).toEqual({ queue: "bitrix24in.rejected", total: 5, beyond: 0, matching: 5 })
    expect(entries[1]).toEqual({
      id: expect.stringMatching(/^[a-z0-9]{10}$/),
      at: expect.any(Number),
      code: "INVALID_CREDENTIALS",
      reason: "Invalid request credentials",
      queue: "bitrix24in",
      method: "crm.deal.add",
      credential: expect.stringMatching(/^2#[0-9a-f]{8}$/),
      messageId: "revoked",
      correlationId: null,
      bytes: 13
    })
    expect((yield* kept("--method", "crm.deal.*", "--user", "1")).ids).toEqual(["bad JSON", "bytes"])
    expect((yield* kept("--code", "insufficient_scope")).ids).toEqual(["scope"])
    expect((yield* kept("--older", "1h")).ids).toEqual([])
    const two = yield* kept("--newer", "1h", "--limit", "2")
    expect([two.ids, two.rest]).toMatchObject([["bad JSON", "revoked"], { matching: 5 }])

    const table = yield* rejected("list", "--limit", "3")
    expect(table.out).toMatch(/^kept +id +code +method +credential +message_id +bytes\n/)
    expect(table.out).toMatch(
      /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d +\S{10} +B24RMQ_BAD_JSON +crm\.deal\.add +1#\S{8} +bad JSON +1$/m
    )
    expect(table.out).toMatch(/the oldest 3 of 5 that match; 5 in bitrix24in\.rejected\n$/)

    const shown = yield* rejected("show", String(entries[0]?.["id"]))
    expect(shown.out).toMatch(/^reason +The body is not valid JSON\. .*Nothing was sent to the portal\.$/m)
    expect(shown.out).toMatch(/^headers +.*method.*note.*$/m)
    expect(shown.out).toEndWith("\n\n{\n")
    const asJson = yield* rejected("show", "--json", String(entries[3]?.["id"]))
    expect(JSON.parse(asJson.out)).toMatchObject({ messageId: "bytes", body: null, base64: "//4=" })
    const address = yield* rejected("show", String(entries[4]?.["id"]))
    expect(address.out).toMatch(/^method +\(none, or not well-formed\)$/m)
    for (const { out, err } of [table, shown, asJson, address]) expect(out + err).not.toContain(canary)
    expect(bridge.output()).not.toContain(canary)

    const found = yield* command(bridge, ["find", "revoked"])
    expect([found.code, found.out]).toEqual([
      0,
      expect.stringMatching(/^\d{4}\S+ \S+ +crm\.deal\.add was kept as [a-z0-9]{10}: INVALID_CREDENTIALS\n/)
    ])

    const all = yield* rejected("drop")
    expect([all.code, all.err]).toEqual([1, expect.stringContaining("say which by")])
    const some = yield* rejected("drop", "--code", "B24RMQ_BAD_JSON")
    expect([some.code, some.out]).toEqual([0, "Dropped 1; 4 are left.\n"])
    expect((yield* kept()).ids).toEqual(["revoked", "scope", "bytes", "address"])
    const gone = yield* rejected("show", String(entries[0]?.["id"]))
    expect([gone.code, gone.err]).toEqual([1, `nothing is kept under ${String(entries[0]?.["id"])}\n`])
    const rest2 = yield* rejected("drop", "--all", "--json")
    expect(JSON.parse(rest2.out)).toEqual({ dropped: 4, left: 0, beyond: 0 })
    expect((yield* rejected("list")).out).toBe("Nothing is kept in bitrix24in.rejected.\n")
    expect(yield* broker.queueDepth("bitrix24in.rejected")).toMatchObject({ ready: 0, unacked: 0 })
  })
)

live("a replay is told what it cannot do", () =>
  Effect.gen(function* () {
    const { portal, rejected, answers } = yield* scene({ B24RMQ_REJECTED: "{AMPQIN}.rejected" })
    const none = yield* rejected("replay", "--status")
    expect([none.code, none.err]).toEqual([1, "there was no replay since the bridge was started\n"])
    const notStopped = yield* rejected("replay", "--resume")
    expect([notStopped.code, notStopped.err]).toEqual([
      1,
      "no replay has stopped since the bridge was started; begin a new one\n"
    ])
    const both = yield* rejected("replay", "--resume", "--stop")
    expect([both.code, both.err]).toEqual([1, "only one of --resume, --stop and --status can be done\n"])
    portal.credential(`3/${canary}`, "good")
    const one = yield* rejected("replay", "--code", "insufficient_scope")
    expect([one.code, one.out]).toEqual([0, "Finished: 1 moved, 1 answered, 0 of these kept again.\n"])
    expect(answers.answers.get("scope")?.map(({ outcome }) => outcome)).toEqual(["refused", "done"])
    // What cannot be sent comes back each time, under a new id. Three that came back are enough; a fourth may be on its way.
    const all = yield* rejected("replay", "--rate", "100")
    expect([all.code, all.out]).toEqual([
      3,
      expect.stringMatching(
        /^Stopped: [34] moved, \d answered, \d of these kept again\. Why: (\d) of the last \1 requests came back\. See "rejected list", remove the cause, then "rejected replay --resume"\.\n$/
      )
    ])
  })
)

live("where nothing is kept, the commands say how it would be", () =>
  Effect.gen(function* () {
    const { broker, rejected } = yield* scene({})
    for (const args of [["list"], ["show", "abc"], ["drop", "--all"], ["replay"]]) {
      const { code, err } = yield* rejected(...args)
      expect([code, err]).toEqual([1, "nothing is kept: set B24RMQ_REJECTED=yes, and restart the bridge\n"])
    }
    expect(yield* broker.queues).not.toContain("bitrix24in.rejected")
  })
)
