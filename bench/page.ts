/**
 * What the page and the metrics cost: `bun run page [ROUNDS]`. Milliseconds until Debian's Chromium paints the page, and the
 * CPU time of a report (a page that is open gets one each second) and of a scrape, each while the bridge works off a
 * backlog as fast as it can. Needs a RabbitMQ that is installed, and starts a node of its own.
 */
import { Effect, Schedule } from "effect"
import { browser } from "../test/rig/browser.ts"
import { freePort } from "../test/rig/ports.ts"
import { contestants } from "./bench/contestants.ts"
import { asked, idlePortal, stand, usageOf } from "./bench/stand.ts"
import { median } from "./limits/witness.ts"
import { buildOnce } from "./machine.ts"

const rounds = Number(process.argv[2] ?? 5)
if (!(Number.isInteger(rounds) && rounds > 0)) {
  console.error("usage: bun run page [ROUNDS]")
  process.exit(2)
}
await buildOnce()

const messages = 60_000
const paints = 20

/** What is asked for, and how often a second; a report is made anew four times a second at most. */
const visits = {
  nothing: { path: "", perSecond: 0 },
  report: { path: "/status", perSecond: 4 },
  scrape: { path: "/metrics", perSecond: 10 }
} as const
type Visit = keyof typeof visits

const packed = contestants.find(({ name }) => name === "packed")

/** CPU seconds of the bridge for each request, the time that it took, and how often it was asked. */
const loaded = (visit: Visit) =>
  Effect.gen(function* () {
    if (packed === undefined) return yield* Effect.die("no such contestant")
    const { path, perSecond } = visits[visit]
    const { start, answered, publish } = yield* stand()
    const rest = yield* idlePortal()
    const port = yield* freePort
    yield* publish(asked(packed, messages))
    const { pid } = yield* start(packed, rest, { B24RMQ_HTTP: `127.0.0.1:${port}` })
    const first = yield* answered(messages / 2)
    const [began, before] = [performance.now(), usageOf(pid).cpu]
    let asks = 0
    const ask = Effect.promise(async () => {
      await (await fetch(`http://127.0.0.1:${port}${path}`)).arrayBuffer()
      asks++
    })
    if (perSecond > 0) yield* Effect.forkScoped(Effect.repeat(ask, Schedule.fixed(1_000 / perSecond)))
    yield* answered(messages)
    const seconds = (performance.now() - began) / 1_000
    return { each: (usageOf(pid).cpu - before) / (messages - first), seconds, asks, requests: messages - first }
  }).pipe(Effect.scoped)

/** Milliseconds from the start of a navigation to the first paint, in a browser that runs. */
const painted = Effect.gen(function* () {
  if (packed === undefined) return yield* Effect.die("no such contestant")
  const { start } = yield* stand()
  const port = yield* freePort
  yield* start(packed, yield* idlePortal(), { B24RMQ_HTTP: `127.0.0.1:${port}` })
  const open = yield* browser
  const page = yield* open({})
  const times: Array<number> = []
  yield* Effect.promise(async () => {
    // The first time it starts a process of its own.
    for (let index = 0; index <= paints; index++) {
      await page.goto(`http://127.0.0.1:${port}/?${index}`)
      await page.waitForSelector(".figures dd")
      const [paint] = await page.evaluate(() => performance.getEntriesByName("first-contentful-paint"))
      if (index > 0) times.push(paint?.startTime ?? Number.NaN)
    }
  })
  return times
}).pipe(Effect.scoped)

const times = await Effect.runPromise(painted)
console.log(`first paint, ms: median ${median(times).toFixed(0)}, most ${Math.max(...times).toFixed(0)}, of ${paints}`)

const found: Record<Visit, Array<Effect.Success<ReturnType<typeof loaded>>>> = { nothing: [], report: [], scrape: [] }
for (let round = 0; round < rounds; round++)
  for (const visit of ["nothing", "report", "scrape"] as const)
    found[visit].push(await Effect.runPromise(loaded(visit)))

const bare = median(found.nothing.map(({ each }) => each))
console.log(`full load: ${(bare * 1e6).toFixed(0)} us of CPU a request`)
for (const visit of ["report", "scrape"] as const) {
  const costs = found[visit].map(({ asks, each, requests }) => ((each - bare) * requests) / asks)
  const cost = median(costs)
  console.log(
    `${visit}: ${(cost * 1e3).toFixed(2)} ms of CPU (${costs.map((one) => (one * 1e3).toFixed(1)).join(" ")}); one each second is ${(cost * 100).toFixed(2)} % of a core`
  )
}
process.exit(0)
