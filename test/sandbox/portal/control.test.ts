import { expect, test } from "bun:test"
import { Effect } from "effect"
import { control } from "../../../src/sandbox/portal/control.ts"
import { Core } from "../../../src/sandbox/portal/core.ts"
import { Door } from "../../../src/sandbox/portal/door.ts"
import type { Fault } from "../../../src/sandbox/portal/faults.ts"
import { openPortal, type Portal } from "../../../src/sandbox/portal/server.ts"
import { live } from "../../effect.ts"
import { ask, call, over, post } from "./client.ts"

const controlled = <E>(name: string, body: (portal: Portal) => Effect.Effect<unknown, E>) =>
  live(name, () => Effect.flatMap(openPortal({ control: true }), body))

const send = (portal: Portal, verb: string, path: string, body?: unknown) =>
  ask(`${portal.origin}/_/${path}`, {
    method: verb,
    ...(body === undefined ? {} : { headers: { "content-type": "application/json" }, body: JSON.stringify(body) })
  })

controlled("faults are switched on and off", (portal) =>
  Effect.gen(function* () {
    const fault = { kind: "html", status: 502, when: { next: 1, method: "server.time" } }
    expect((yield* send(portal, "POST", "faults", fault)).json).toEqual([fault])
    expect((yield* call(portal, "server.time")).status).toBe(502)
    expect((yield* send(portal, "GET", "faults")).json).toEqual([])
    yield* send(portal, "POST", "faults", [{ kind: "reset" }, { kind: "slow", ms: 1 }])
    expect(yield* Effect.flip(call(portal, "server.time"))).toBe("ECONNRESET")
    yield* send(portal, "DELETE", "faults")
    expect((yield* call(portal, "server.time")).status).toBe(200)
    for (const wrong of [
      { kind: "flood" },
      { kind: "html" },
      { kind: "reset", when: { metod: "a" } },
      [{ kind: "slow", ms: "1" }]
    ]) {
      const refused = yield* send(portal, "POST", "faults", wrong)
      expect([refused.status, (yield* send(portal, "GET", "faults")).json]).toEqual([400, []])
    }
    expect((yield* send(portal, "POST", "faults", { kind: "reset", when: { metod: "a" } })).text).toContain("metod")
  })
)

controlled("every fault can be ordered", (portal) =>
  Effect.gen(function* () {
    const all: ReadonlyArray<Fault> = [
      { kind: "html", status: 502, executed: true },
      { kind: "empty", status: 500 },
      { kind: "answer", status: 400, body: { error: "", error_description: "x" } },
      { kind: "notJson" },
      { kind: "redirect", to: "https://new.example" },
      { kind: "reset" },
      { kind: "close" },
      { kind: "hang", executed: true },
      { kind: "cut", after: 5, chunked: true, reset: true },
      { kind: "trickle", bytes: 1, every: 0 },
      { kind: "closeIdle", after: 0, reset: true },
      { kind: "notUtf8" },
      { kind: "gzip" },
      { kind: "huge", bytes: 100 },
      { kind: "slow", ms: 1 },
      {
        kind: "slowMethod",
        ms: 1,
        when: { only: "writes", containing: "x", every: 2, probability: 0.5, seed: 7, next: 3 }
      }
    ]
    expect((yield* send(portal, "POST", "faults", all)).json).toEqual(all)
  })
)

controlled("limits, latency and credentials are set", (portal) =>
  Effect.gen(function* () {
    const limits = yield* send(portal, "PUT", "limits", { preset: "cloud", rate: { burst: 1, fall: 0 } })
    expect(limits.json).toMatchObject({ rate: { burst: 1 }, operating: { limit: 480 } })
    expect([(yield* call(portal, "scope")).status, (yield* call(portal, "scope")).status]).toEqual([200, 503])
    yield* send(portal, "PUT", "limits", {})
    yield* send(portal, "PUT", "credentials", { standings: { "1/sandbox": "overload" }, revision: "earlier" })
    expect((yield* call(portal, "scope")).status).toBe(503)
    yield* send(portal, "PUT", "credentials", { onlyKnown: true, standings: { "2/x": "good" } })
    expect((yield* post(`${portal.webhook(3)}scope`, {})).status).toBe(403)
    expect((yield* post(`${portal.url}2/x/scope`, {})).status).toBe(200)
    yield* send(portal, "PUT", "latency", { scope: 30 })
    const slow = yield* post(`${portal.url}2/x/scope`, {})
    expect(slow.json).toMatchObject({ time: { processing: expect.any(Number) } })
    expect((yield* send(portal, "PUT", "latency", "fast")).status).toBe(400)
  })
)

controlled("executions are shown, by method and key, without secrets", (portal) =>
  Effect.gen(function* () {
    for (const origin of ["a", "b", "a"]) yield* call(portal, "crm.deal.add", { fields: { ORIGIN_ID: origin } })
    const shown = yield* send(portal, "GET", "executions?method=crm.deal.add&key=a")
    expect(shown.json).toMatchObject({
      count: 2,
      doubles: [{ method: "crm.deal.add", key: "a", count: 2 }],
      executions: [{ key: "a" }, { key: "a" }]
    })
    expect(shown.text).not.toContain("sandbox")
    expect((yield* send(portal, "GET", "")).json).toMatchObject({ requests: 3, executed: 3, inFlight: 0, faults: [] })
    yield* send(portal, "POST", "reset")
    expect((yield* send(portal, "GET", "executions")).json).toEqual({ count: 0, doubles: [], executions: [] })
  })
)

controlled("the portal goes down for a while", (portal) =>
  Effect.gen(function* () {
    // A connection that ends tells when the door has closed.
    const ended = over(portal.port, "")
    const down = Effect.suspend(() => send(portal, "POST", "down", { ms: 60 }))
    const [{ end }] = yield* Effect.all([ended, down], { concurrency: 2 })
    expect(end).toBe("ECONNRESET")
    expect(yield* Effect.flip(call(portal, "server.time"))).toBe("ECONNREFUSED")
    yield* Effect.eventually(call(portal, "server.time"))
    expect((yield* send(portal, "POST", "down", { ms: "x" })).status).toBe(400)
  })
)

controlled("what is no control says what there is, and takes JSON only", (portal) =>
  Effect.gen(function* () {
    const unknown = yield* send(portal, "GET", "nothing")
    expect(unknown.status).toBe(404)
    expect(unknown.json).toMatchObject({ controls: expect.arrayContaining(["POST /_/faults"]) })
    const form = {
      method: "POST",
      body: "kind=reset",
      headers: { "content-type": "application/x-www-form-urlencoded" }
    }
    expect((yield* ask(`${portal.origin}/_/faults`, form)).status).toBe(415)
    const broken = { method: "POST", body: "{", headers: { "content-type": "application/json" } }
    expect((yield* ask(`${portal.origin}/_/faults`, broken)).status).toBe(400)
  })
)

live("a portal inside a process has no such path", () =>
  Effect.gen(function* () {
    const portal = yield* openPortal()
    expect((yield* send(portal, "GET", "")).status).toBe(404)
  })
)

test("other machines are sent away", () => {
  const core = new Core({ keep: 10, smartProcesses: [] })
  const door = new Door({ hostname: "127.0.0.1", port: 0, longestBody: 0 }, () => "never")
  const from = (remoteAddress: string) =>
    control(core, door, {
      verb: "GET",
      target: "/_/faults",
      headers: new Map(),
      body: new Uint8Array(0),
      remoteAddress,
      peer: { whenGone: () => undefined }
    }).status
  expect(["127.0.0.1", "::1", "::ffff:127.0.0.1"].map(from)).toEqual([200, 200, 200])
  expect(["10.0.0.7", "::ffff:10.0.0.7", "fe80::1"].map(from)).toEqual([403, 403, 403])
})
