import { expect } from "bun:test"
import { Duration, Effect } from "effect"
import type { Fault } from "../../../src/sandbox/portal/faults.ts"
import { openPortal, type Portal } from "../../../src/sandbox/portal/server.ts"
import { live } from "../../effect.ts"
import { call, over, post, request, result } from "./client.ts"

const portal = <E>(name: string, body: (portal: Portal) => Effect.Effect<unknown, E>) =>
  live(name, () => Effect.flatMap(openPortal(), body))

const addBody = JSON.stringify({ fields: { TITLE: "t" } })
const add = (portal: Portal) => call(portal, "crm.deal.add", addBody)
/** The same call, on a socket of its own. */
const rawAdd = (portal: Portal, enough?: (text: string) => boolean) =>
  over(portal.port, request("/rest/1/sandbox/crm.deal.add", addBody), enough)

portal("an answer of the web server, an empty one, a JSON one: executed or not", (portal) =>
  Effect.gen(function* () {
    const cases: ReadonlyArray<readonly [Fault, number, RegExp]> = [
      [{ kind: "html", status: 502 }, 502, /^<html>.*502 Bad Gateway/s],
      [{ kind: "html", status: 503 }, 503, /^<html>.*503 Service Temporarily Unavailable/s],
      [{ kind: "empty", status: 500 }, 500, /^$/],
      [{ kind: "answer", status: 500 }, 500, /"error":"INTERNAL_SERVER_ERROR"/],
      [{ kind: "answer", status: 400, body: { error: "", error_description: "Disk resource exhausted" } }, 400, /Disk/],
      [{ kind: "notJson" }, 200, /^<br \/>/]
    ]
    for (const [fault, status, text] of cases) {
      for (const executed of [false, true]) {
        portal.reset()
        portal.fault({ ...fault, executed, when: { next: 1 } } as Fault)
        const answer = yield* add(portal)
        expect(answer.status).toBe(status)
        expect(answer.text).toMatch(text)
        expect(portal.count("crm.deal.add")).toBe(executed ? 1 : 0)
        expect((yield* add(portal)).status).toBe(200)
      }
    }
  })
)

portal("a redirect names another host, and is not the portal's own answer", (portal) =>
  Effect.gen(function* () {
    portal.fault({ kind: "redirect", to: "https://new.example/rest/" })
    const answer = yield* add(portal)
    expect([answer.status, answer.headers.get("location")]).toEqual([302, "https://new.example/rest/"])
    expect(portal.count()).toBe(0)
  })
)

portal("a connection is reset or closed without an answer, before or after the method has run", (portal) =>
  Effect.gen(function* () {
    for (const [kind, end] of [
      ["reset", "ECONNRESET"],
      ["close", "end"]
    ] as const) {
      for (const executed of [false, true]) {
        portal.reset()
        portal.fault({ kind, executed, when: { next: 1 } })
        expect(yield* rawAdd(portal)).toEqual({ text: "", end })
        expect(portal.count("crm.deal.add")).toBe(executed ? 1 : 0)
      }
    }
    portal.fault({ kind: "reset", when: { next: 1 } })
    expect(yield* Effect.flip(add(portal))).toBe("ECONNRESET")
  })
)

portal("an answer is cut in its middle, by the end of the connection or by a reset", (portal) =>
  Effect.gen(function* () {
    for (const chunked of [false, true]) {
      for (const reset of [false, true]) {
        portal.reset()
        portal.fault({ kind: "cut", after: 9, chunked, reset, when: { next: 2 } })
        const { text, end } = yield* rawAdd(portal)
        const [head, body] = text.split("\r\n\r\n")
        expect(head).toContain(chunked ? "Transfer-Encoding: chunked" : "Content-Length: ")
        expect(body).toBe(chunked ? '9\r\n{"result"\r\n' : '{"result"')
        expect(end).toBe(reset ? "ECONNRESET" : "end")
        expect(yield* Effect.flip(add(portal))).toBeString()
        expect(portal.count("crm.deal.add")).toBe(2)
      }
    }
  })
)

portal("a call hangs for as long as its caller waits, run or not", (portal) =>
  Effect.gen(function* () {
    for (const executed of [false, true]) {
      portal.reset()
      portal.fault({ kind: "hang", executed })
      const hanging = add(portal).pipe(Effect.raceFirst(portal.until(({ inFlight }) => inFlight === 1)))
      yield* hanging
      yield* portal.until(({ inFlight }) => inFlight === 0)
      expect(portal.count("crm.deal.add")).toBe(executed ? 1 : 0)
    }
  })
)

portal("a slow request and slow methods: every command of a batch pays", (portal) =>
  Effect.gen(function* () {
    const timed = (call: Effect.Effect<unknown, string>) => Effect.map(Effect.timed(call), ([time]) => time)
    portal.fault({ kind: "slow", ms: 40 })
    expect(Duration.toMillis(yield* timed(add(portal)))).toBeGreaterThan(38)
    portal.clearFaults()
    portal.fault({ kind: "slowMethod", ms: 20 })
    expect(
      Duration.toMillis(yield* timed(call(portal, "batch", { cmd: ["server.time", "server.time", "server.time"] })))
    ).toBeGreaterThan(57)
  })
)

portal("an answer trickles", (portal) =>
  Effect.gen(function* () {
    portal.fault({ kind: "trickle", bytes: 50, every: 2 })
    expect(result(yield* add(portal))).toBe(1)
    const seen = yield* rawAdd(portal, (text) => text.includes('{"result"'))
    expect(seen.text.endsWith("}}")).toBe(false)
    // The connection goes on after the trickle.
    const two = request("/rest/1/sandbox/server.time", "{}").repeat(2)
    expect((yield* over(portal.port, two, (text) => text.split("}}").length === 3)).end).toBe("open")
  })
)

portal("a kept-alive connection closes when nothing comes for a while, by an end or a reset", (portal) =>
  Effect.gen(function* () {
    portal.fault({ kind: "closeIdle", after: 5 })
    expect((yield* rawAdd(portal)).end).toBe("end")
    portal.clearFaults()
    portal.fault({ kind: "closeIdle", after: 5, reset: true })
    const { text, end } = yield* rawAdd(portal)
    expect([text.includes('"result":2'), end]).toEqual([true, "ECONNRESET"])
  })
)

portal("an answer that is no UTF-8, one that is packed, a huge one", (portal) =>
  Effect.gen(function* () {
    portal.fault({ kind: "notUtf8", when: { next: 1 } })
    const seen = yield* rawAdd(portal, (text) => text.endsWith('"}'))
    expect(seen.text).toContain('{"result":"\xff\xfe"}')
    portal.fault({ kind: "gzip", when: { next: 1 } })
    const packed = yield* add(portal)
    expect([packed.headers.get("content-encoding"), result(packed)]).toEqual(["gzip", 2])
    portal.fault({ kind: "huge", bytes: 5_000_000, when: { next: 1 } })
    const huge = yield* add(portal)
    expect(huge.text).toHaveLength(5_000_000)
    expect(result(huge)).toHaveLength(5_000_000 - 13)
  })
)

portal("a portal that is down refuses connections and comes back on its port", (portal) =>
  Effect.gen(function* () {
    portal.latency(30)
    const cut = yield* Effect.all(
      [Effect.flip(add(portal)), portal.until(({ inFlight }) => inFlight === 1).pipe(Effect.andThen(portal.down))],
      {
        concurrency: 2
      }
    )
    expect(cut[0]).toBe("ECONNRESET")
    expect(yield* Effect.flip(add(portal))).toBe("ECONNREFUSED")
    // PHP works on though nobody waits for it.
    yield* portal.until(({ count }) => count("crm.deal.add") === 1)
    yield* portal.up
    yield* portal.up
    expect(result(yield* add(portal))).toBe(2)
  })
)

portal("a fault strikes what it is told to", (portal) =>
  Effect.gen(function* () {
    const statuses = (times: number, method = "crm.deal.add", body: unknown = addBody) =>
      Effect.map(
        Effect.forEach(Array.from({ length: times }), () => call(portal, method, body)),
        (answers) => answers.map(({ status }) => status)
      )
    const fault = (when: NonNullable<Fault["when"]>) => portal.fault({ kind: "html", status: 502, when })

    let off = fault({ every: 3, next: 2 })
    expect(yield* statuses(10)).toEqual([200, 200, 502, 200, 200, 502, 200, 200, 200, 200])
    off()
    off = fault({ method: ["crm.deal.add", "batch"] })
    expect([yield* statuses(1), yield* statuses(1, "server.time"), yield* statuses(1, "Batch")]).toEqual([
      [502],
      [200],
      [502]
    ])
    off()
    off = fault({ only: "writes" })
    expect([yield* statuses(1), yield* statuses(1, "crm.deal.list", {})]).toEqual([[502], [200]])
    expect(yield* statuses(1, "batch", { cmd: ["crm.deal.list", "server.time"] })).toEqual([200])
    expect(yield* statuses(1, "batch", { cmd: ["crm.deal.list", "crm.deal.add"] })).toEqual([502])
    off()
    off = fault({ only: "reads" })
    expect([yield* statuses(1), yield* statuses(1, "crm.deal.list", {})]).toEqual([[200], [502]])
    off()
    off = fault({ containing: "m-7" })
    expect([yield* statuses(1), yield* statuses(1, "crm.deal.add", { fields: { ORIGIN_ID: "m-7" } })]).toEqual([
      [200],
      [502]
    ])
    off()
    expect(yield* statuses(1)).toEqual([200])
  })
)

portal("chance is drawn from a seed, so that a run can be repeated", (portal) =>
  Effect.gen(function* () {
    const draw = (seed: number) =>
      Effect.gen(function* () {
        portal.clearFaults()
        portal.fault({ kind: "empty", status: 500, when: { probability: 0.3, seed } })
        return yield* Effect.forEach(Array.from({ length: 100 }), () =>
          Effect.map(call(portal, "server.time"), ({ status }) => status)
        )
      })
    const first = yield* draw(1)
    expect(yield* draw(1)).toEqual(first)
    expect(yield* draw(2)).not.toEqual(first)
    const struck = first.filter((status) => status === 500).length
    expect([struck > 15, struck < 45]).toEqual([true, true])
  })
)

portal("several faults at once: late, and then no answer", (portal) =>
  Effect.gen(function* () {
    portal.fault({ kind: "slow", ms: 5 })
    portal.fault({ kind: "closeIdle", after: 1000 })
    portal.fault({ kind: "html", status: 504, executed: true })
    expect((yield* add(portal)).status).toBe(504)
    expect(portal.count("crm.deal.add")).toBe(1)
  })
)

portal("faults strike the third version as well", (portal) =>
  Effect.gen(function* () {
    portal.fault({ kind: "html", status: 502, executed: true, when: { only: "writes" } })
    const body = { fields: { title: "t" } }
    const answer = yield* post(`${portal.origin}/rest/api/1/sandbox/tasks.task.add`, body, { "idempotency-key": "k" })
    expect(answer.status).toBe(502)
    portal.clearFaults()
    const again = yield* post(`${portal.origin}/rest/api/1/sandbox/tasks.task.add`, body, { "idempotency-key": "k" })
    expect([again.headers.get("idempotent-replayed"), portal.count("tasks.task.add")]).toEqual(["true", 1])
  })
)
