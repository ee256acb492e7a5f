import { expect, test } from "bun:test"
import { Effect, Schema } from "effect"
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { openPortal, type PortalOptions } from "../../src/sandbox/portal/server.ts"
import { Report } from "../../src/watch/cause.ts"
import { parametersOf } from "../../src/watch/commands.ts"
import { live } from "../effect.ts"
import { type Bridge, program, startBridge } from "../rig/bridge.ts"
import { run } from "../rig/child.ts"
import { checkAnswers, collector, declareQueues, publishAll, requests } from "../rig/producer.ts"
import { vhost } from "../rig/rabbit.ts"
import { until } from "../rig/until.ts"

const scene = Effect.fnUntraced(function* (options: PortalOptions = {}) {
  const broker = yield* vhost
  const portal = yield* openPortal(options)
  yield* declareQueues(broker.url, { in: "bitrix24in", out: "bitrix24out" })
  const answers = yield* collector(broker.url, "bitrix24out")
  const settings = { AMPQURL: broker.url, B24REST: portal.url }
  return { broker, portal, answers, settings }
})

/** Runs a command of the program where a bridge has its socket. */
const command = (
  bridge: Pick<Bridge, "cwd">,
  args: ReadonlyArray<string>,
  env: Readonly<Record<string, string>> = {}
) => {
  const [first, ...before] = program()
  const { cwd } = bridge
  return run({
    command: first,
    args: [...before, ...args],
    env: { PATH: process.env["PATH"] ?? "/usr/bin:/bin", HOME: cwd, RUNTIME_DIRECTORY: cwd, ...env },
    cwd
  })
}

const socketOf = (bridge: Bridge) =>
  Effect.map(bridge.waitForLine("socket-open"), ({ fields }) => String(fields?.["socket"]))

const ask = (unix: string, route: string, init: RequestInit = {}) =>
  Effect.promise(() => fetch(`http://b24rmq${route}`, { unix, ...init }).then((response) => response.json()))

const report = (unix: string) => Effect.map(ask(unix, "/status"), Schema.decodeUnknownSync(Report))

const setTo = (unix: string, name: string, value: string) =>
  ask(unix, "/set", { method: "POST", body: JSON.stringify({ name, value }) })

test("parameters of a call are words or JSON, and dots go inside", () => {
  expect(parametersOf([])).toEqual({})
  expect(parametersOf(["id=5", "name=Anna=1", "filter.ID=7", "filter.>DATE=2026-01-01", 'select=["ID"]'])).toEqual({
    id: 5,
    name: "Anna=1",
    filter: { ID: 7, ">DATE": "2026-01-01" },
    select: ["ID"]
  })
  // What would be another number stays as it was written.
  expect(parametersOf(["id=007", "phone=79161234567890123456", "on=true"])).toEqual({
    id: "007",
    phone: "79161234567890123456",
    on: true
  })
  expect(parametersOf(["nothing"])).toBe('read "nothing"; expected KEY=VALUE')
  expect(Object.keys(parametersOf(["__proto__.a=1"]))).toEqual(["__proto__"])
})

live("status, call, find, set and diag talk to the running bridge over its socket", () =>
  Effect.gen(function* () {
    const { answers, broker, portal, settings } = yield* scene()
    const bridge = yield* startBridge({ env: settings })
    const socket = yield* socketOf(bridge)
    expect(statSync(socket).mode & 0o777).toBe(0o660)

    const status = yield* command(bridge, ["status"])
    expect(status).toMatchObject({ code: 0, err: "" })
    expect(status.out).toMatch(/^B24RMQ \S+, up for .*: nothing to do/)
    const asJson = yield* command(bridge, ["status", "--json", "--socket", socket])
    expect(Schema.decodeUnknownSync(Report)(JSON.parse(asJson.out)).cause.code).toBe("idle")

    const webhook = { B24RMQ_CHECK_USER: "1", B24RMQ_CHECK_TOKEN: "secret0token" }
    const called = yield* command(bridge, ["call", "crm.deal.add", "fields.TITLE=By hand"], webhook)
    expect(called).toMatchObject({ code: 0, err: "" })
    expect(JSON.parse(called.out)).toMatchObject({ result: expect.any(Number) })
    expect(portal.count("crm.deal.add")).toBe(1)
    writeFileSync(join(bridge.cwd, "call.json"), '{"id": 999999}')
    const refused = yield* command(bridge, ["call", "crm.deal.get", "--json", "call.json"], webhook)
    expect(refused.code).toBe(1)
    expect(JSON.parse(refused.out)).toHaveProperty("error")
    expect(yield* command(bridge, ["call", "crm deal get"], webhook)).toMatchObject({
      code: 1,
      err: expect.stringContaining("B24RMQ_BAD_METHOD")
    })
    // What was called by hand never enters the answer queue.
    const [write] = requests(1, () => ({ method: "crm.lead.add", params: { fields: { TITLE: "x" } } }))
    yield* publishAll(broker.url, "bitrix24in", write === undefined ? [] : [write])
    yield* until(
      "the answer is there",
      Effect.sync(() => answers.answers.size === 1)
    )
    expect([...answers.answers.keys()]).toEqual([write?.id ?? ""])

    const found = yield* command(bridge, ["find", write?.id ?? ""])
    expect(found.code).toBe(0)
    expect(found.out).toMatch(/crm.lead.add \(1#[0-9a-f]{8}\) from bitrix24in left for the portal\n.*: done, HTTP 200/)
    expect(yield* command(bridge, ["find", "nothing"])).toMatchObject({
      code: 1,
      out: expect.stringMatching(/^Nothing is known of nothing/)
    })

    expect(yield* command(bridge, ["set", "rate=fast"])).toMatchObject({
      code: 1,
      err: 'B24RMQ_RATE: read "fast"; expected auto, off, or RATE/BURST such as 2/50\n'
    })
    expect(yield* command(bridge, ["set", "rate=2/50"])).toMatchObject({ code: 0 })
    expect((yield* report(socket)).settings.rate).toBe("2/50")

    expect(yield* command(bridge, ["diag", "--out", "diag.tar.gz"])).toMatchObject({ code: 0, err: "" })
    const files = yield* Effect.promise(() => new Bun.Archive(readFileSync(join(bridge.cwd, "diag.tar.gz"))).files())
    expect([...files.keys()].toSorted()).toEqual(
      ["history.json", "log.txt", "metrics.txt", "settings.txt", "status.json", "versions.json"].map(
        (name) => `b24rmq-diag/${name}`
      )
    )

    yield* bridge.kill("SIGTERM")
    yield* bridge.exited
    expect(readdirSync(bridge.cwd).filter((name) => name.endsWith(".sock"))).toEqual([])
    expect(yield* command(bridge, ["status"])).toMatchObject({
      code: 69,
      err: expect.stringContaining("No running bridge")
    })
  })
)

live("a socket that a killed process has left is taken over, and that of a living one is not", () =>
  Effect.gen(function* () {
    const { settings } = yield* scene()
    const first = yield* startBridge({ env: settings })
    const socket = yield* socketOf(first)
    yield* first.kill("SIGKILL")
    yield* first.exited
    expect(statSync(socket).isSocket()).toBe(true)
    const env = { ...settings, RUNTIME_DIRECTORY: first.cwd }
    const second = yield* startBridge({ env })
    expect(yield* socketOf(second)).toBe(socket)
    const third = yield* startBridge({ env, ready: false })
    const { fields } = yield* third.waitForLine("socket-failed")
    expect(fields?.["reason"]).toBe("another process listens there")
    expect((yield* report(socket)).cause.code).toBe("idle")
  })
)

live("set under load is applied within a second, and nothing is lost", () =>
  Effect.gen(function* () {
    const { answers, broker, portal, settings } = yield* scene({ latency: 100 })
    const bridge = yield* startBridge({ env: { ...settings, B24RMQ_CONCURRENCY: "8", B24RMQ_PACK: "off" } })
    const socket = yield* socketOf(bridge)
    const sent = requests(600, () => ({ method: "crm.deal.list" }))
    yield* publishAll(broker.url, "bitrix24in", sent)
    yield* portal.until(({ inFlight }) => inFlight === 8)
    const within = { within: "1 second", every: "5 millis" } as const
    yield* setTo(socket, "concurrency", "2")
    yield* until(
      "two at most",
      Effect.sync(() => portal.inFlight <= 2),
      within
    )
    yield* setTo(socket, "concurrency", "16")
    yield* until(
      "sixteen",
      Effect.sync(() => portal.inFlight === 16),
      within
    )
    yield* setTo(socket, "rate", "1/1")
    yield* until(
      "none",
      Effect.sync(() => portal.inFlight === 0),
      within
    )
    yield* setTo(socket, "log-level", "debug")
    const mark = bridge.mark()
    yield* setTo(socket, "rate", "off")
    yield* bridge.waitForLine("request-answered", { after: mark, within: "1 second" })
    yield* setTo(socket, "pack", "reads")
    yield* until(
      "a batch",
      Effect.sync(() => portal.executions.length > portal.requests),
      { within: "2 seconds" }
    )
    yield* until(
      "all are answered",
      Effect.sync(() => answers.answers.size === sent.length)
    )
    expect(checkAnswers(sent, answers.answers)).toMatchObject({ lost: [], duplicated: [], unasked: [] })
  })
)

live("a pause lets calls in flight end, takes nothing more, and survives a restart", () =>
  Effect.gen(function* () {
    const { answers, broker, portal, settings } = yield* scene({ latency: 300 })
    const env = { ...settings, B24RMQ_CONCURRENCY: "4", B24RMQ_PACK: "off" }
    const bridge = yield* startBridge({ env })
    const socket = yield* socketOf(bridge)
    const sent = requests(40)
    yield* publishAll(broker.url, "bitrix24in", sent)
    yield* portal.until(({ inFlight }) => inFlight === 4)
    yield* ask(socket, "/pause", { method: "POST" })
    const departed = portal.requests
    yield* until(
      "those in flight are answered",
      Effect.sync(() => answers.answers.size === departed)
    )
    expect(portal.requests).toBe(departed)
    expect(yield* command(bridge, ["call", "profile", "--user", "1", "--token", "secret0token"])).toMatchObject({
      code: 1,
      err: expect.stringContaining("paused")
    })
    yield* bridge.kill("SIGTERM")
    yield* bridge.exited

    const next = yield* startBridge({ env, cwd: bridge.cwd, ready: false })
    yield* next.waitForLine("paused")
    const again = yield* socketOf(next)
    const paused = yield* until(
      "it knows the queue",
      Effect.map(report(again), (now) => (now.backlog.known ? now : undefined))
    )
    expect(paused.cause.code).toBe("paused")
    expect(paused.backlog.left).toBe(sent.length - departed)
    expect(next.lines().some(({ event }) => event === "consuming")).toBe(false)
    expect(portal.requests).toBe(departed)
    expect(yield* command(next, ["resume"])).toMatchObject({ code: 0 })
    yield* until(
      "all are answered",
      Effect.sync(() => answers.answers.size === sent.length)
    )
    expect(checkAnswers(sent, answers.answers)).toMatchObject({ lost: [], duplicated: [], unasked: [] })
    yield* next.kill("SIGTERM")
    yield* next.exited
    // And a resume is kept as well.
    const last = yield* startBridge({ env, cwd: bridge.cwd })
    expect(last.lines().some(({ event }) => event === "paused")).toBe(false)
  })
)
