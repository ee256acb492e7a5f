import { expect } from "bun:test"
import { existsSync } from "node:fs"
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import { connect } from "amqplib"
import { Effect, Fiber } from "effect"
import { live } from "../effect.ts"
import {
  checkAnswers,
  collect,
  collector,
  declareQueues,
  onLink,
  publishAll,
  queueRequest,
  requests
} from "./producer.ts"
import { sharedNode, victim, vhost } from "./rabbit.ts"
import { until } from "./until.ts"

live("a vhost is a world of its own and goes away", () =>
  Effect.gen(function* () {
    const node = yield* sharedNode
    const name = yield* Effect.scoped(
      Effect.gen(function* () {
        const one = yield* vhost
        const other = yield* vhost
        yield* declareQueues(one.url, { in: "in", out: "out" })
        expect([...(yield* one.queues)].sort()).toEqual(["in", "out"])
        expect(yield* other.queues).toEqual([])
        yield* publishAll(one.url, "in", requests(3))
        expect(yield* one.queueDepth("in")).toEqual({ ready: 3, unacked: 0, consumers: 0 })
        yield* one.purgeQueue("in")
        expect(yield* one.queueDepth("in")).toEqual({ ready: 0, unacked: 0, consumers: 0 })
        yield* one.deleteQueue("in")
        expect((yield* Effect.flip(one.queueDepth("in"))).message).toBe("no queue in")
        return one.name
      })
    )
    expect(yield* node.evaluate("rabbit_vhost:list_names()")).not.toContain(name)
  })
)

live("an answer is found by its message_id, and what is lost or double is told", () =>
  Effect.gen(function* () {
    const { url } = yield* vhost
    yield* declareQueues(url, { out: "out" })
    const answer = queueRequest({
      messageId: "a",
      params: { result: 1 },
      headers: {
        "x-b24rmq-outcome": "done",
        "x-b24rmq-status": 200,
        "x-b24rmq-attempts": 2,
        "x-b24rmq-method": "profile"
      }
    })
    const collecting = yield* collector(url, "out")
    yield* publishAll(url, "out", [answer, answer, queueRequest({ messageId: "b" })])
    const { id, outcome, status, attempts, method, json } = yield* collecting.answerTo("a")
    expect({ id, outcome, status, attempts, method, body: json() }).toEqual({
      id: "a",
      outcome: "done",
      status: 200,
      attempts: 2,
      method: "profile",
      body: { result: 1 }
    })
    yield* until(
      "all three",
      Effect.sync(() => collecting.received() === 3)
    )
    expect(checkAnswers(["a", "c"], collecting.answers)).toEqual({
      sent: 2,
      answered: 1,
      lost: ["c"],
      duplicated: ["a"],
      different: [],
      unasked: ["b"],
      byOutcome: { done: 2, none: 1 }
    })
  })
)

live("a policy and an administrator reach a vhost", () =>
  Effect.gen(function* () {
    const { url, policy, connections, closeConnections, clearPolicy } = yield* vhost
    yield* declareQueues(url, { in: "in" })
    yield* policy("full", "^in$", { "max-length": 2, overflow: "reject-publish" })
    const published = yield* publishAll(url, "in", requests(5))
    expect(published.refused.length).toBe(3)
    yield* clearPolicy("full")
    const closed = yield* onLink(url, async (link) => {
      const close = new Promise<Error | undefined>((done) => link.once("close", done))
      await Effect.runPromise(
        until(
          "the connection is known",
          Effect.map(connections, (open) => open === 1)
        )
      )
      await Effect.runPromise(closeConnections)
      return close
    })
    expect(closed?.message).toContain("320")
  })
)

for (const type of ["classic", "quorum"] as const)
  live(`a ${type} queue keeps what was confirmed when the node is killed under load`, () =>
    Effect.gen(function* () {
      const node = yield* victim
      const { url, queueDepth } = yield* node.vhost()
      yield* declareQueues(url, { in: "in", type })
      const messages = requests(10_000)
      const publishing = yield* Effect.forkChild(publishAll(url, "in", messages))
      yield* until(
        "some are in",
        Effect.map(queueDepth("in"), ({ ready }) => ready > 1_000)
      )
      const pid = node.pid()
      yield* node.kill9
      yield* node.start
      expect(node.pid()).not.toBe(pid)
      const { confirmed, republished } = yield* Fiber.join(publishing)
      expect(confirmed).toBe(10_000)
      expect(republished).toBeGreaterThan(0)
      const answers = yield* collect(url, "in", { until: 10_000 })
      expect(checkAnswers(messages, answers).lost).toEqual([])
    })
  )

live("a node stops and starts, freezes and thaws, and raises its alarms", () =>
  Effect.gen(function* () {
    const node = yield* victim
    const { url } = yield* node.vhost()
    const link = yield* Effect.promise(() => connect(url))
    const seen: Array<string> = []
    link.on("error", (error: Error) => seen.push(error.message))
    link.on("blocked", (reason) => seen.push(`blocked: ${reason}`))
    link.on("unblocked", () => seen.push("unblocked"))
    link.on("close", () => seen.push("close"))
    const says = (what: string) =>
      until(
        what,
        Effect.sync(() => seen.at(-1) === what),
        { within: "10 seconds" }
      )
    const publish = Effect.promise(() =>
      link.createChannel().then((channel) => channel.sendToQueue("none", Buffer.of()))
    )
    yield* node.memoryAlarm(true)
    yield* publish
    yield* says("blocked: low on memory")
    yield* node.memoryAlarm(false)
    yield* says("unblocked")
    yield* node.diskAlarm(true)
    yield* publish
    yield* says("blocked: low on disk")
    yield* node.diskAlarm(false)
    yield* says("unblocked")
    yield* node.freeze
    const silent = yield* Effect.promise(() => connect(url, { timeout: 300 }).then(String, String))
    expect(silent).toContain("ETIMEDOUT")
    yield* node.thaw
    yield* node.ready
    yield* node.stopApp
    yield* says("close")
    yield* node.startApp
    yield* node.vhost()
  })
)

live("nothing is left of a test process that was killed", () =>
  Effect.gen(function* () {
    const script = `
      import { Effect } from "effect"
      import { startNode } from ${JSON.stringify(fileURLToPath(new URL("rabbit.ts", import.meta.url)))}
      await Effect.runPromise(Effect.scoped(Effect.flatMap(startNode(), (node) => {
        console.log(node.pid() + " " + node.address.home)
        return Effect.never
      })))`
    const test = yield* Effect.acquireRelease(
      Effect.sync(() => spawn(process.execPath, ["-e", script], { stdio: ["ignore", "pipe", "inherit"] })),
      (test) => Effect.sync(() => test.kill("SIGKILL"))
    )
    const line = yield* Effect.promise(
      () => new Promise<string>((done) => test.stdout.once("data", (text) => done(String(text))))
    )
    const [pid = "", home = ""] = line.trim().split(" ")
    const machine = Effect.promise(() =>
      Bun.file(`/proc/${pid}/cmdline`)
        .text()
        .catch(() => "")
    )
    expect(yield* machine).toContain("beam.smp")
    test.kill("SIGINT")
    yield* until(
      "the node and its folder are gone",
      Effect.map(machine, (text) => !text.includes("beam.smp") && !existsSync(home))
    )
  })
)
