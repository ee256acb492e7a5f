import type { Channel } from "amqplib"
import { afterAll, beforeAll, test } from "bun:test"
import { Effect, Exit, Schema, Scope } from "effect"
import { openPortal, type Portal } from "../../src/sandbox/portal/server.ts"
import { Ready, Report } from "../../src/watch/cause.ts"
import { live } from "../effect.ts"
import { type Bridge, startBridge } from "../rig/bridge.ts"
import { temporaryFolder } from "../rig/child.ts"
import { smallDisk } from "../rig/disk.ts"
import { type Notified, startNotified } from "../rig/notify.ts"
import { type Asked, declareQueues, onLink, publishAll, requests } from "../rig/producer.ts"
import { type Proxy, startProxy } from "../rig/proxy.ts"
import { type Node, type Vhost, victim, vhost } from "../rig/rabbit.ts"
import { until } from "../rig/until.ts"

// Status, /ready, STATUS= of systemd and the log say the one true cause within two seconds.

interface Scene {
  readonly broker: Pick<Vhost, "url">
  readonly portal: Portal
  readonly bridge: Bridge
  readonly notified: Notified
  readonly ask: <A>(route: string, schema: Schema.Codec<A, unknown>) => Effect.Effect<A>
  readonly tell: (route: string) => Effect.Effect<unknown>
  readonly set: (name: string, value: string) => Effect.Effect<unknown>
  readonly send: (count: number, asked?: Asked) => Effect.Effect<unknown, unknown>
}

interface Setting {
  readonly env?: Readonly<Record<string, string>>
  readonly broker?: Pick<Vhost, "url">
  /** The address by which the bridge reaches the broker. */
  readonly url?: string
  readonly ready?: false
}

const queues = { in: "bitrix24in", out: "bitrix24out" }

const open = Effect.fnUntraced(function* (setting: Setting = {}) {
  const broker = setting.broker ?? (yield* vhost)
  const portal = yield* openPortal()
  const notified = yield* startNotified
  yield* declareQueues(broker.url, queues)
  const bridge = yield* startBridge({
    env: {
      AMPQURL: setting.url ?? broker.url,
      B24REST: portal.url,
      NOTIFY_SOCKET: notified.NOTIFY_SOCKET,
      ...setting.env
    },
    ...(setting.ready === false ? { ready: false } : {})
  })
  const { fields } = yield* bridge.waitForLine("socket-open")
  const unix = String(fields?.["socket"])
  const get = (route: string, init: RequestInit = {}) =>
    Effect.promise(() => fetch(`http://b24rmq${route}`, { unix, ...init }).then((response) => response.json()))
  const scene: Scene = {
    broker,
    portal,
    bridge,
    notified,
    ask: (route, schema) => Effect.map(get(route), Schema.decodeUnknownSync(schema)),
    tell: (route) => get(route, { method: "POST" }),
    set: (name, value) => get("/set", { method: "POST", body: JSON.stringify({ name, value }) }),
    send: (count, asked = {}) =>
      publishAll(
        broker.url,
        queues.in,
        requests(count, () => asked)
      )
  }
  return scene
})

/** Two seconds from now all four say so, in a sentence that names the remedy. */
const says = ({ ask, bridge, notified }: Scene, code: string, sentence: RegExp, ready = false) =>
  until(
    `${code} is said by all`,
    Effect.gen(function* () {
      const { cause } = yield* ask("/status", Report)
      const told = yield* ask("/ready", Ready)
      const logged = bridge.lines().findLast(({ event }) => event === "doing" || event === "hindered")
      return (
        cause.code === code &&
        sentence.test(cause.en) &&
        told.cause.code === code &&
        told.ready === ready &&
        sentence.test(notified.last("STATUS") ?? "") &&
        logged?.fields?.["why"] === code &&
        sentence.test(String(logged.fields["says"]))
      )
    }),
    { within: "2 seconds", every: "50 millis" }
  ).pipe(
    Effect.tapError(() =>
      Effect.gen(function* () {
        const { cause } = yield* ask("/status", Report)
        console.log({
          cause,
          ready: yield* ask("/ready", Ready),
          status: notified.last("STATUS"),
          log: bridge
            .lines()
            .slice(-6)
            .map(({ text }) => text)
        })
      })
    )
  )

// One bridge goes through most of it, on a node that may be harmed and by a way that may be cut.
const scope = Scope.makeUnsafe()
let shared: Scene & { readonly proxy: Proxy; readonly node: Node }

beforeAll(
  () =>
    Effect.gen(function* () {
      const node = yield* victim
      const broker = yield* node.vhost()
      const proxy = yield* startProxy(broker.url)
      yield* proxy.refuse("closed")
      shared = { ...(yield* open({ broker, url: proxy.url, ready: false })), proxy, node }
    }).pipe(Scope.provide(scope), Effect.runPromise),
  60_000
)
afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))

/** All is as before for the next row. */
const over = Effect.suspend(() => says(shared, "idle", /nothing to do: bitrix24in is empty; send requests there/, true))

const onQueues = (work: (channel: Channel) => Promise<unknown>) =>
  Effect.suspend(() => onLink(shared.broker.url, async (link) => work(await link.createChannel())))

const row = <E>(code: string, body: () => Effect.Effect<unknown, E, Scope.Scope>) =>
  live(`the cause is ${code}`, body, 20_000)

row("broker-down", () =>
  Effect.gen(function* () {
    const sentence = /no connection to the broker for .* \(.*\): start RabbitMQ, or correct AMPQURL/
    yield* says(shared, "broker-down", sentence)
    yield* shared.proxy.refuse(false)
    yield* shared.bridge.consuming()
    yield* over
    yield* shared.proxy.refuse("closed")
    yield* shared.proxy.cut
    yield* says(shared, "broker-down", sentence)
    yield* shared.proxy.refuse(false)
    yield* shared.bridge.consuming({ after: shared.bridge.mark() })
    yield* over
  })
)

row("paused", () =>
  Effect.gen(function* () {
    yield* shared.tell("/pause")
    yield* says(shared, "paused", /paused by the operator for .*: the command resume goes on/)
    yield* shared.tell("/resume")
    yield* over
  })
)

row("broker-blocked", () =>
  Effect.gen(function* () {
    // The broker blocks whoever publishes during the alarm: calls have to be under way.
    shared.portal.latency(500)
    yield* shared.send(50)
    yield* shared.portal.until(({ inFlight }) => inFlight > 0)
    yield* Effect.acquireRelease(shared.node.memoryAlarm(true), () => Effect.ignore(shared.node.memoryAlarm(false)))
    yield* shared.bridge.waitForLine("broker-blocked")
    yield* says(shared, "broker-blocked", /the broker takes no messages \(low on memory\): free memory or disk space/)
    yield* shared.node.memoryAlarm(false)
    shared.portal.latency(0)
    yield* until(
      "all is answered",
      Effect.map(shared.ask("/status", Report), ({ pace, backlog }) => pace.answers >= 50 && backlog.left === 0)
    )
  })
)

row("portal-down", () =>
  Effect.gen(function* () {
    yield* shared.portal.down
    yield* shared.send(3)
    yield* says(shared, "portal-down", /the portal 127.0.0.1:\d+ does not answer for .*: see that it works and can be/)
    yield* shared.portal.up
    yield* shared.bridge.waitForLine("portal-back")
  })
)

row("credential-refused", () =>
  Effect.gen(function* () {
    shared.portal.credential("1/revoked", "revoked")
    yield* shared.send(2, { token: "revoked" })
    yield* says(
      shared,
      "credential-refused",
      /the portal refuses the webhook 1#[0-9a-f]{8} \(INVALID_CREDENTIALS\): create a new one, or correct/,
      true
    )
    shared.portal.credential("1/revoked", "good")
    yield* shared.send(1, { token: "revoked" })
  })
)

row("queue-missing", () =>
  Effect.gen(function* () {
    yield* onQueues((channel) => channel.deleteQueue(queues.in))
    yield* says(shared, "queue-missing", /the queue bitrix24in does not exist: create it, or wait until it is declared/)
    const mark = shared.bridge.mark()
    yield* declareQueues(shared.broker.url, queues)
    yield* shared.bridge.consuming({ after: mark })
  })
)

row("answer-queue-missing", () =>
  Effect.gen(function* () {
    yield* onQueues((channel) => channel.deleteQueue(queues.out))
    yield* shared.send(1)
    yield* says(shared, "answer-queue-missing", /the answer queue bitrix24out does not exist: create it, or wait/)
    yield* declareQueues(shared.broker.url, queues)
    yield* until(
      "the answer is out",
      Effect.map(
        shared.ask("/status", Report),
        ({ answers, backlog }) => answers.trouble === null && backlog.left === 0
      )
    )
  })
)

row("rate-bound", () =>
  Effect.gen(function* () {
    yield* shared.set("rate", "5/5")
    yield* shared.set("pack", "off")
    yield* shared.send(30)
    yield* says(
      shared,
      "rate-bound",
      /^\d+\/min, waiting for rate, \d+ left, about \d+ s: the portal takes 5\/s; B24RMQ_PACK/,
      true
    )
    yield* shared.set("rate", "off")
    yield* until(
      "all is answered",
      Effect.map(shared.ask("/status", Report), ({ backlog }) => backlog.left === 0)
    )
  })
)

row("idle", () => over)

row("method-closed", () =>
  Effect.gen(function* () {
    shared.portal.limit({ operating: { state: "on", limit: 1, cost: { "crm.deal.list": 3 } } })
    yield* shared.set("concurrency", "1")
    yield* shared.send(5, { method: "crm.deal.list" })
    yield* says(
      shared,
      "method-closed",
      /^\d+\/min, crm.deal.list waits for its operating time \(opens in .*\), \d left.*: wait, or ask less of this/,
      true
    )
  })
)

// Only root may mount a file system.
const onSmallDisk = process.getuid?.() === 0 ? row : (code: string) => test.skip(code, () => {})

onSmallDisk("journal-failed: the disk is full, and standby for the next bridge", () =>
  Effect.gen(function* () {
    const { disk, fill } = yield* smallDisk(yield* temporaryFolder("journal"))
    const env = { B24RMQ_JOURNAL: `${disk}/journal` }
    const scene = yield* open({ env })
    const other = yield* open({ broker: scene.broker, env, ready: false })
    yield* says(other, "standby", /standing by: another bridge holds this journal and works; nothing to do/)
    yield* scene.send(1, { method: "crm.lead.add" })
    yield* fill
    yield* scene.send(20, { method: "crm.lead.add" })
    yield* says(scene, "journal-failed", /the journal cannot be written \(.*the disk is full: free some space\), so/)
  })
)
