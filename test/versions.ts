/**
 * The bridge on other versions of RabbitMQ: `bun test/versions.ts [trixie|forky|here ...]`, all three without a word.
 * `here` is the broker of this machine, the others are those of Debian's suites (trixie 4.0.5, forky 4.3.6), fetched once
 * by debootstrap into $XDG_CACHE_HOME/b24rmq-versions or /var/cache/b24rmq-versions. Needs root.
 *
 * `bun test/versions.ts forky -- bun test test/faults.test.ts` runs any command where RabbitMQ is of that version.
 */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, renameSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Fiber } from "effect"
import { build } from "../build.ts"
import { binaryVariable, startBridge } from "./rig/bridge.ts"
import { openPortal } from "../src/sandbox/portal/server.ts"
import { child, temporaryFolder } from "./rig/child.ts"
import { checkAnswers, collect, declareQueues, publishAll, requests } from "./rig/producer.ts"
import { type Node, startNode } from "./rig/rabbit.ts"
import { RigFailed, until } from "./rig/until.ts"

const suites = ["here", "trixie", "forky"] as const
type Suite = (typeof suites)[number]
const isSuite = (word: string): word is Suite => (suites as ReadonlyArray<string>).includes(word)

const cache = () => join(process.env["XDG_CACHE_HOME"] || "/var/cache", "b24rmq-versions")

/** Where this machine gets its own packages from: whoever runs this may have no other way out. */
const mirror = () => {
  const folder = "/etc/apt/sources.list.d"
  const texts = readdirSync(folder)
    .filter((name) => name.endsWith(".sources"))
    .map((name) => readFileSync(join(folder, name), "utf8"))
  const [uri] = texts.flatMap((text) => /^URIs:\s*(\S+)/m.exec(text)?.[1] ?? [])
  const list = "/etc/apt/sources.list"
  return uri ?? /^deb (?:\[.*\] )?(\S+)/m.exec(existsSync(list) ? readFileSync(list, "utf8") : "")?.[1]
}

/** The folder with a suite's broker and all that it needs; fetched when it is not there yet, which takes a minute. */
const rootOf = Effect.fnUntraced(function* (suite: Exclude<Suite, "here">) {
  const root = join(cache(), suite)
  if (existsSync(root)) return root
  const from = mirror()
  if (from === undefined) return yield* new RigFailed({ what: "apt has no source to fetch from" })
  yield* Console.log(`fetching ${suite} into ${root}`)
  mkdirSync(cache(), { recursive: true })
  const part = mkdtempSync(`${root}.`)
  // An older debootstrap does not know the newer suites by name; all of them are made as sid is.
  const script = "/usr/share/debootstrap/scripts/sid"
  const args = ["--variant=minbase", "--include=rabbitmq-server,ca-certificates", suite, part, from, script]
  return yield* Effect.gen(function* () {
    const fetching = yield* child({
      command: "unshare", // so that what it mounts ends with it
      args: ["--mount", "debootstrap", ...args],
      env: { PATH: process.env["PATH"] ?? "" },
      cwd: "/",
      stdio: ["ignore", "ignore", 2]
    })
    const { code } = yield* fetching.exited
    if (code !== 0) return yield* new RigFailed({ what: `debootstrap ${args.join(" ")} ended with ${code}` })
    renameSync(part, root) // whole or not at all
    return root
  }).pipe(Effect.scoped, Effect.ensuring(Effect.sync(() => rmSync(part, { recursive: true, force: true }))))
})

/**
 * Runs the rest of its arguments in a mount namespace in which the broker's programs are another suite's. The rig starts
 * a node as ever, with files in the same temporary folder and on the same network, only that the Erlang machine finds the
 * libraries of its suite. The mounts end with the last process in it.
 */
const enter = `set -eu
root=$1 temporary=$2
shift 2
mount --bind /proc "$root/proc"
mount --rbind /dev "$root/dev"
mkdir -p "$root$temporary"
mount --bind "$temporary" "$root$temporary"
cp /etc/hosts "$root/etc/hosts"
lib=$(echo "$root"/usr/lib/rabbitmq/lib/rabbitmq_server-*)
home=\${lib#"$root"}
mkdir -p /usr/lib/rabbitmq
mount -t tmpfs tmpfs /usr/lib/rabbitmq
mkdir -p "$home/sbin" "$home/plugins"
mount --bind "$lib/plugins" "$home/plugins"
for tool in rabbitmq-server rabbitmqctl; do
  printf '#!/bin/sh\\nexec chroot "%s" "%s" "$@"\\n' "$root" "$home/sbin/$tool" > "$home/sbin/$tool"
  chmod 755 "$home/sbin/$tool"
done
exec "$@"`

/** The command that runs `command` where RabbitMQ is of that suite. */
const inSuite = (suite: Suite, command: ReadonlyArray<string>) =>
  suite === "here"
    ? Effect.succeed(command)
    : Effect.map(rootOf(suite), (root) => [
        "unshare",
        "--mount",
        "/bin/sh",
        "-c",
        enter,
        "enter",
        root,
        tmpdir(),
        ...command
      ])

/** Runs a command where RabbitMQ is of that suite, with our environment and output, and gives its exit code. */
const runIn = (suite: Suite, command: ReadonlyArray<string>, binary?: string) =>
  Effect.gen(function* () {
    const [first = "", ...rest] = yield* inSuite(suite, command)
    const env = Object.entries({ ...process.env, ...(binary === undefined ? {} : { [binaryVariable]: binary }) })
    const running = yield* child({
      command: first,
      args: rest,
      env: Object.fromEntries(env.flatMap(([name, value]) => (value === undefined ? [] : [[name, value]]))),
      cwd: process.cwd(),
      stdio: ["ignore", 1, 2]
    })
    return (yield* running.exited).code ?? 1
  }).pipe(Effect.scoped)

/** A portal with some deals, and a clerk before it who writes down which bytes it gave for which bytes. */
const recordedPortal = Effect.gen(function* () {
  const portal = yield* openPortal()
  const given = new Map<string, Array<string>>()
  const server = yield* Effect.acquireRelease(
    Effect.sync(() =>
      Bun.serve({
        port: 0,
        hostname: "127.0.0.1",
        idleTimeout: 0,
        fetch: async (asked) => {
          const body = await asked.text()
          const said = await fetch(portal.origin + new URL(asked.url).pathname, {
            method: asked.method,
            headers: { "content-type": asked.headers.get("content-type") ?? "" },
            body
          })
          const bytes = await said.bytes()
          given.set(body, [...(given.get(body) ?? []), Buffer.from(bytes).toString("latin1")])
          return new Response(bytes, { status: said.status, headers: { "content-type": "application/json" } })
        }
      })
    ),
    (server) => Effect.promise(() => server.stop(true))
  )
  for (let deal = 0; deal < 60; deal++) {
    yield* Effect.promise(() =>
      fetch(`${portal.webhook()}crm.deal.add`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ fields: { TITLE: `Deal ${deal}` } })
      })
    )
  }
  return { portal, url: `http://127.0.0.1:${server.port}/rest/`, given }
})

/** No two of these are alike, so that what the portal gave for each can be told apart. */
const lists = (count: number) =>
  requests(count, (index) => ({
    method: "crm.deal.list",
    params: {
      order: { ID: "ASC" },
      filter: { ">ID": index % 50, "!TITLE": `request ${index}` },
      select: ["ID", "TITLE"]
    }
  }))

interface Row {
  readonly version: string
  readonly queues: string
  readonly what: string
  readonly sent: number
  readonly lost: number
  readonly twice: number
  readonly unequal: number
  readonly seconds: number
}

interface Harm {
  readonly what: string
  /** What a call takes meanwhile, in milliseconds. */
  readonly latency: number
  readonly happen: (alive: Effect.Effect<void, RigFailed>) => Effect.Effect<void, RigFailed>
}

const trial = Effect.fnUntraced(function* (node: Node, type: "classic" | "quorum", count: number, harm?: Harm) {
  const version = (yield* node.ctl("version")).trim().split("\n").at(-1) ?? "?"
  const vhost = yield* node.vhost()
  const { given, portal, url } = yield* recordedPortal
  yield* declareQueues(vhost.url, { in: "in", out: "out", type })
  const bridge = yield* startBridge({
    env: { AMPQURL: vhost.url, B24REST: url, AMPQIN: "in", AMPQOUT: "out", B24RMQ_PACK: "off", B24RMQ_LOG: "json" }
  })
  const sent = lists(count)
  if (harm !== undefined) portal.latency(harm.latency)
  const started = performance.now()
  const publishing = yield* Effect.forkChild(publishAll(vhost.url, "in", sent), { startImmediately: true })
  const consuming = until(
    "the bridge consumes again",
    vhost.queueDepth("in").pipe(
      Effect.map(({ consumers }) => consumers > 0),
      Effect.orElseSucceed(() => false) // a node that is busy closing connections may refuse one more
    ),
    { within: "30 seconds" }
  ).pipe(Effect.asVoid)
  if (harm !== undefined) yield* harm.happen(consuming)
  portal.latency(0)
  yield* Fiber.join(publishing)
  // Only now: what is collected through a fault is handed out twice by the broker itself.
  const answers = yield* collect(vhost.url, "out", { until: count, within: "5 minutes" })
  const seconds = (performance.now() - started) / 1_000
  const checked = checkAnswers(sent, answers)
  // Every answer is one that the portal gave to this very request. Reading twice may find the clock a little later.
  const unequal = sent.filter(({ content, id = "" }) =>
    answers.get(id)?.some(({ body, outcome, properties }) => {
      const equal = given.get(content.toString())?.includes(body.toString("latin1"))
      return !equal || outcome !== "done" || properties.correlationId !== id
    })
  )
  const { ready, unacked } = yield* until(
    "the queue is empty",
    Effect.map(vhost.queueDepth("in"), (depth) => depth.ready + depth.unacked === 0 && depth)
  )
  if (bridge.ended() !== undefined || ready + unacked > 0) return yield* new RigFailed({ what: "the bridge has ended" })
  const row: Row = {
    version,
    queues: type,
    what: harm?.what ?? "lists",
    sent: checked.sent,
    lost: checked.lost.length + checked.unasked.length,
    twice: checked.duplicated.length,
    unequal: unequal.length,
    seconds
  }
  return row
}, Effect.scoped)

/** Fifty times: all connections are closed by the administrator as soon as the bridge has taken requests again. */
const closings = (node: Node, latency: number): Harm => ({
  what: `50 closings, calls of ${latency} ms`,
  latency,
  happen: (consuming) =>
    Effect.gen(function* () {
      for (let round = 0; round < 50; round++) {
        yield* consuming
        yield* Effect.retry(node.closeAllConnections, { times: 3 })
      }
      yield* consuming
    })
})

const cells = (row: Row) => [
  row.version,
  row.queues,
  row.what,
  `${row.sent}`,
  `${row.lost}`,
  `${row.twice}`,
  `${row.unequal}`,
  row.seconds.toFixed(1)
]
const heading = ["RabbitMQ", "queues", "", "sent", "lost", "twice", "unequal", "seconds"]
const widths = [8, 7, 31, 6, 5, 5, 7, 7]
const line = (texts: ReadonlyArray<string>) => texts.map((text, at) => text.padEnd(widths[at] ?? 0)).join("  ")

/** All trials on the broker that is found here, a line each; false if one of them went wrong. */
const trials = Effect.gen(function* () {
  const node = yield* startNode()
  const rows: Array<Row> = []
  const show = (row: Row) =>
    Effect.andThen(
      Effect.sync(() => rows.push(row)),
      Console.log(line(cells(row)))
    )
  for (const type of ["classic", "quorum"] as const) yield* Effect.flatMap(trial(node, type, 10_000), show)
  yield* Effect.flatMap(trial(node, "quorum", 10_000, closings(node, 50)), show)
  // Slower than the closings: no call of the first ones ends before its delivery was returned many times.
  yield* Effect.flatMap(trial(node, "quorum", 1_500, closings(node, 2_000)), show)
  // An answer whose confirm was lost with its link is published again; without faults each comes once.
  return rows.every(({ lost, twice, unequal, what }) => lost + unequal === 0 && (twice === 0 || what !== "lists"))
}).pipe(Effect.scoped)

const main = Effect.gen(function* () {
  const words = process.argv.slice(2)
  if (words[0] === "--inside") return (yield* trials) ? 0 : 1
  const split = words.indexOf("--")
  const command = split < 0 ? [] : words.slice(split + 1)
  const asked = split < 0 ? words : words.slice(0, split)
  if (!asked.every(isSuite)) return yield* new RigFailed({ what: `known are ${suites.join(", ")}` })
  const chosen = asked.length > 0 ? asked : suites
  if (command.length > 0) {
    const codes = yield* Effect.forEach(chosen, (suite) => runIn(suite, command))
    return Math.max(...codes)
  }
  const folder = yield* temporaryFolder("versions")
  const given = process.env[binaryVariable]
  const dist = join(folder, "dist")
  if (given === undefined) yield* Effect.promise(() => build({ all: false, dist }))
  yield* Console.log(line(heading))
  const inside = [process.execPath, import.meta.path, "--inside"]
  const codes = yield* Effect.forEach(chosen, (suite) => runIn(suite, inside, given ?? join(dist, "B24RMQ")))
  return Math.max(...codes)
}).pipe(Effect.scoped)

NodeRuntime.runMain(
  Effect.flatMap(main, (code) => Effect.sync(() => void (process.exitCode = code))),
  { teardown: (exit, end) => end(exit._tag === "Success" ? Number(process.exitCode ?? 0) : 1) }
)
