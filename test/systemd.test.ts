import { afterAll, beforeAll, describe, expect } from "bun:test"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Effect, Fiber } from "effect"
import { build } from "../build.ts"
import { openPortal } from "../src/sandbox/portal/server.ts"
import { live } from "./effect.ts"
import { binaryVariable } from "./rig/bridge.ts"
import { checkAnswers, type Collector, collector, declareQueues, publishAll, requests } from "./rig/producer.ts"
import { type Vhost, victim } from "./rig/rabbit.ts"
import { startSystemd, type Systemd } from "./rig/systemd.ts"
import { until } from "./rig/until.ts"

const packaged = (file: string) => readFileSync(join(import.meta.dir, "..", "packaging", file), "utf8")

const folder = mkdtempSync(join(tmpdir(), "b24rmq-service-"))
let binary = process.env[binaryVariable] ?? ""

beforeAll(async () => {
  if (binary !== "") return
  await build({ all: false, dist: join(folder, "dist") })
  binary = join(folder, "dist", "B24RMQ")
}, 60_000)

afterAll(() => rmSync(folder, { recursive: true, force: true }))

/** A unit as it is packaged, and how the four settings get into it. */
interface Installation {
  readonly unit: string
  readonly install: (systemd: Systemd, settings: Readonly<Record<string, string>>) => Effect.Effect<void, unknown>
}

const original: Installation = {
  unit: "original.service",
  install: (systemd, settings) =>
    systemd.install(
      "original.service",
      packaged("original.service").replaceAll(/^Environment=(\w+)=.*$/gm, (line, name: string) =>
        name in settings ? `Environment=${name}=${settings[name]}` : line
      )
    )
}

const lines = (settings: Readonly<Record<string, string>>) =>
  Object.entries(settings)
    .map(([name, value]) => `${name}=${value}\n`)
    .join("")

const ours: Installation = {
  unit: "b24rmq.service",
  install: (systemd, settings) =>
    Effect.andThen(
      systemd.write("/etc/b24rmq/b24rmq.env", lines(settings), 0o600),
      systemd.install("b24rmq.service", packaged("b24rmq.service"))
    )
}

/** An instance with its secrets as credentials, in the way that the unit's comment shows. */
const instance: Installation = {
  unit: "b24rmq@shop-1.service",
  install: (systemd, { AMPQURL = "", B24REST = "", ...settings }) =>
    Effect.gen(function* () {
      yield* systemd.write("/etc/b24rmq/shop-1.env", lines(settings), 0o600)
      yield* systemd.write("/etc/b24rmq/shop-1.ampqurl", `${AMPQURL}\n`, 0o600)
      yield* systemd.write("/etc/b24rmq/shop-1.b24rest", `${B24REST}\n`, 0o600)
      yield* systemd.install(
        "b24rmq@.service",
        packaged("b24rmq@.service").replaceAll("#LoadCredential", "LoadCredential")
      )
    })
}

/** Everything but the service, which is installed and not started. */
const scene = Effect.fnUntraced(function* ({ install, unit }: Installation) {
  const node = yield* victim
  const vhost = yield* node.vhost()
  const portal = yield* openPortal()
  const systemd = yield* startSystemd
  yield* declareQueues(vhost.url, { in: "in", out: "out" })
  yield* systemd.copy(binary, "/usr/local/bin/B24RMQ")
  yield* install(systemd, { AMPQURL: vhost.url, B24REST: portal.url, AMPQIN: "in", AMPQOUT: "out" })
  yield* systemd.remember(unit)
  const consuming = (times: number) =>
    until(
      `consuming for the ${times}. time`,
      Effect.map(systemd.journal(unit), (text) => text.split('"event":"consuming"').length > times)
    )
  return { node, vhost, portal, systemd, unit, consuming }
})

const adds = (count: number) =>
  requests(count, (index) => ({ method: "crm.deal.add", params: { fields: { TITLE: `Deal ${index}` } } }))
const lists = (count: number) => requests(count, () => ({ method: "crm.deal.list" }))

/** Sends requests through a bridge that works, and expects one answer to each. */
const works = Effect.fnUntraced(function* ({ url }: Vhost, answers: Collector) {
  const sent = lists(100)
  const before = answers.answers.size
  yield* publishAll(url, "in", sent)
  yield* answers.has(before + 100)
  const mine = new Map([...answers.answers].filter(([id]) => sent.some((message) => message.id === id)))
  expect(checkAnswers(sent, mine)).toMatchObject({ lost: [], duplicated: [], byOutcome: { done: 100 } })
})

for (const installation of [original, ours, instance]) {
  describe(installation.unit, () => {
    live(
      "is active, and back after kill -9 with nothing lost",
      () =>
        Effect.gen(function* () {
          const { consuming, portal, systemd, unit, vhost } = yield* scene(installation)
          yield* systemd.systemctl("start", unit)
          yield* consuming(1)
          expect(yield* systemd.show(unit, "ActiveState")).toBe("active")
          const answers = yield* collector(vhost.url, "out")
          yield* works(vhost, answers)
          // Root finds the bridge by its socket, wherever its unit has put that.
          expect(yield* systemd.inside("/usr/local/bin/B24RMQ", "status")).toMatch(
            /^B24RMQ .*nothing to do: in is empty/
          )
          if (installation !== original)
            expect(yield* systemd.show(unit, "StatusText")).toMatch(/nothing to do: in is empty|\d+\/min/)

          portal.latency(20)
          const sent = lists(1_000)
          const publishing = yield* Effect.forkChild(publishAll(vhost.url, "in", sent))
          yield* until(
            "requests are under way",
            Effect.sync(() => answers.received() > 300)
          )
          yield* systemd.kill(unit, "SIGKILL")
          yield* consuming(2)
          yield* Fiber.join(publishing)
          expect(checkAnswers(sent, yield* answers.has(1_100)).lost).toEqual([])
          expect(yield* systemd.show(unit, "NRestarts")).toBe("1")
          expect(yield* systemd.show(unit, "ActiveState")).toBe("active")
        }),
      60_000
    )

    if (installation === instance) return // the rest of it is what the other two have
    live(
      "starts while the broker is down and is well once it comes",
      () =>
        Effect.gen(function* () {
          const { consuming, node, systemd, unit, vhost } = yield* scene(installation)
          yield* node.kill9
          yield* systemd.systemctl("start", unit) // with notify: returns only once the service said that it is ready
          expect(yield* systemd.show(unit, "ActiveState")).toBe("active")
          if (installation !== original) expect(yield* systemd.show(unit, "StatusText")).toMatch(/broker/)
          yield* node.start
          yield* consuming(1)
          yield* works(vhost, yield* collector(vhost.url, "out"))
          expect(yield* systemd.show(unit, "NRestarts")).toBe("0")
        }),
      90_000
    )

    live(
      "stops with requests in flight: exit code 0, nothing lost, nothing done twice",
      () =>
        Effect.gen(function* () {
          const { consuming, portal, systemd, unit, vhost } = yield* scene(installation)
          yield* systemd.systemctl("start", unit)
          yield* consuming(1)
          portal.latency(1_000)
          const answers = yield* collector(vhost.url, "out")
          const sent = adds(200)
          yield* publishAll(vhost.url, "in", sent)
          yield* portal.until(({ inFlight }) => inFlight >= 5)
          yield* systemd.systemctl("stop", unit)
          expect(yield* systemd.show(unit, "Result")).toBe("success")
          expect(yield* systemd.show(unit, "ExecMainCode")).toBe("1") // CLD_EXITED: by itself, by no signal
          expect(yield* systemd.show(unit, "ExecMainStatus")).toBe("0")
          expect(portal.inFlight).toBe(0)
          // What was under way is answered, the rest is in the queue.
          const { ready, unacked } = yield* vhost.queueDepth("in")
          expect(unacked).toBe(0)
          expect(yield* answers.has(200 - ready)).toHaveProperty("size", 200 - ready)
          expect(portal.count("crm.deal.add")).toBe(200 - ready)

          portal.latency(0)
          yield* systemd.systemctl("start", unit)
          expect(checkAnswers(sent, yield* answers.has(200))).toMatchObject({
            lost: [],
            duplicated: [],
            byOutcome: { done: 200 }
          })
          expect(portal.doubles()).toEqual([])
        }),
      60_000
    )
  })
}

live(
  "wrong settings are said once and not tried again",
  () =>
    Effect.gen(function* () {
      const { systemd, unit } = yield* scene(ours)
      yield* systemd.write("/etc/b24rmq/b24rmq.env", "AMPQURL=http://secret0canary@127.0.0.1/\n", 0o600)
      yield* systemd.systemctl("start", unit).pipe(Effect.catchTag("Refused", () => Effect.void))
      yield* systemd.reaches(unit, "ActiveState", "failed")
      expect(yield* systemd.show(unit, "ExecMainStatus")).toBe("78")
      expect(yield* systemd.show(unit, "NRestarts")).toBe("0")
      const logged = yield* systemd.journal(unit)
      expect(logged).toContain("AMPQURL")
      expect(logged).toContain("B24REST: not set")
      expect(logged).not.toContain("canary")
    }),
  30_000
)

live(
  "it consumes soon after its start, and needs less than 120 MB when idle",
  () =>
    Effect.gen(function* () {
      const { consuming, systemd, unit } = yield* scene(ours)
      const times: Array<number> = []
      for (let round = 1; round <= 5; round++) {
        yield* systemd.systemctl("restart", unit)
        yield* consuming(round)
        // Both by the clock of systemd: when it made the process, and when the process said that it is ready.
        const stamp = (property: string) => Effect.map(systemd.show(unit, `${property}Monotonic`), Number)
        times.push(((yield* stamp("ActiveEnterTimestamp")) - (yield* stamp("ExecMainStartTimestamp"))) / 1_000)
      }
      const memory = (yield* systemd.memory(unit)) / 1e6
      console.log(
        `    start to ready: ${times.map((ms) => ms.toFixed(0)).join(", ")} ms; idle: ${memory.toFixed(0)} MB`
      )
      // The bench measures it (`npm run bench`); here other tests run beside it.
      expect(Math.min(...times)).toBeLessThan(2_000)
      expect(memory).toBeLessThan(120)
    }),
  60_000
)
