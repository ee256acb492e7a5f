import { expect, test } from "bun:test"
import { chmodSync, readdirSync, truncateSync } from "node:fs"
import { Effect } from "effect"
import { openPortal } from "../../src/sandbox/portal/server.ts"
import { live } from "../effect.ts"
import { startBridge } from "../rig/bridge.ts"
import { temporaryFolder } from "../rig/child.ts"
import { smallDisk } from "../rig/disk.ts"
import { checkAnswers, collector, declareQueues, type Message, publishAll, queueRequest } from "../rig/producer.ts"
import { vhost } from "../rig/rabbit.ts"
import { deals, isWrite, queueIn, queueOut, settled, stopped } from "./load.ts"

// The journal's disk fails under the whole bridge. What the journal itself does then is told in test/journal/file.test.ts.

/** Only root may mount a file system. */
const mayMount = process.getuid?.() === 0

const onSmallDisk = mayMount ? live : (name: string) => test.skip(name, () => {})

const isRead = (message: Message) => !isWrite(message)

onSmallDisk("the disk is full: writes wait and say so, reads go on, and all is done once there is room", () =>
  Effect.gen(function* () {
    const own = yield* vhost
    const portal = yield* openPortal()
    const { disk, empty, fill } = yield* smallDisk(yield* temporaryFolder("state"))
    const bridge = yield* startBridge({ env: { AMPQURL: own.url, B24REST: portal.url, STATE_DIRECTORY: disk } })
    const answers = yield* collector(own.url, queueOut)
    const before = deals(20)
    yield* publishAll(own.url, queueIn, before)
    yield* answers.has(before.length)

    yield* fill
    const mark = bridge.mark()
    const during = deals(40)
    yield* publishAll(own.url, queueIn, during)
    yield* answers.has(before.length + during.filter(isRead).length)
    const said = yield* bridge.waitForLine("journal-failed", { after: mark })
    expect(said.fields).toMatchObject({
      level: "error",
      reason: expect.stringContaining("the disk is full: free some")
    })
    yield* answers.quietFor(500)
    expect(portal.count("crm.deal.add")).toBe(before.filter(isWrite).length)
    expect([...answers.answers.keys()].filter((id) => during.some((one) => isWrite(one) && one.id === id))).toEqual([])

    yield* empty
    yield* bridge.waitForLine("journal-ready", { after: mark })
    const sent = [...before, ...during]
    const checked = checkAnswers(sent, yield* answers.has(sent.length))
    expect(checked).toMatchObject({ lost: [], duplicated: [], byOutcome: { done: sent.length } })
    expect(portal.doubles()).toEqual([])
    expect(portal.count("crm.deal.add")).toBe(sent.filter(isWrite).length)
    yield* settled(own)
    yield* stopped(bridge)
  })
)

live("the folder may not be written: the bridge starts, writes wait and say so, reads go on, until it may", () =>
  Effect.gen(function* () {
    const own = yield* vhost
    const portal = yield* openPortal()
    const folder = yield* temporaryFolder("state")
    const { disk, remount } = mayMount
      ? yield* smallDisk(folder)
      : {
          disk: folder,
          remount: (how: "ro" | "rw") => Effect.sync(() => chmodSync(folder, how === "ro" ? 0o500 : 0o700))
        }
    yield* remount("ro")
    const bridge = yield* startBridge({ env: { AMPQURL: own.url, B24REST: portal.url, STATE_DIRECTORY: disk } })
    const said = yield* bridge.waitForLine("journal-failed")
    expect(said.fields).toMatchObject({ level: "error", reason: expect.stringContaining("may not be written") })
    const answers = yield* collector(own.url, queueOut)
    const sent = deals(40)
    yield* publishAll(own.url, queueIn, sent)
    yield* answers.has(sent.filter(isRead).length)
    yield* answers.quietFor(500)
    expect(portal.count("crm.deal.add")).toBe(0)

    yield* remount("rw")
    yield* bridge.waitForLine("journal-ready")
    const checked = checkAnswers(sent, yield* answers.has(sent.length))
    expect(checked).toMatchObject({ lost: [], duplicated: [], byOutcome: { done: sent.length } })
    expect(portal.doubles()).toEqual([])
    expect(portal.count("crm.deal.add")).toBe(sent.filter(isWrite).length)
    yield* settled(own)
    yield* stopped(bridge)
  })
)

/** Writes that come again after the journal was lost. `named`: they can be looked for. `ran`: before that. */
const fates = [
  { id: "named, ran", named: true, ran: true, outcome: "done", resolved: "found" },
  { id: "named, did not run", named: true, ran: false, outcome: "done", resolved: "repeated" },
  { id: "bare, ran", named: false, ran: true, outcome: "unknown", resolved: undefined },
  { id: "bare, did not run", named: false, ran: false, outcome: "unknown", resolved: undefined },
  { id: "named, never sent", named: true, ran: false, outcome: "done", resolved: "repeated" },
  { id: "bare, never sent", named: false, ran: false, outcome: "unknown", resolved: undefined }
]

const deal = (id: string, named: boolean) =>
  queueRequest({
    messageId: id,
    method: "crm.deal.add",
    params: { fields: { TITLE: id, ...(named ? { ORIGIN_ID: id } : {}) } }
  })

live("the journal was cut while the bridge was down: it is set aside, and writes that come again are in doubt", () =>
  Effect.gen(function* () {
    const own = yield* vhost
    const portal = yield* openPortal({ key: ["TITLE"] })
    const folder = yield* temporaryFolder("state")
    yield* declareQueues(own.url, { in: queueIn, out: queueOut })
    const start = startBridge({
      env: {
        AMPQURL: own.url,
        B24REST: portal.url,
        STATE_DIRECTORY: folder,
        B24RMQ_CONCURRENCY: "4",
        B24RMQ_PACK: "off",
        B24RMQ_PORTAL_LIMIT: "2"
      }
    })
    const answers = yield* collector(own.url, queueOut)
    const before = Array.from({ length: 40 }, (_, n) => deal(`before ${n}`, true))
    yield* publishAll(own.url, queueIn, before)
    // What is written down moves from the log beside the file into the file when the bridge stops.
    const gone = yield* start
    yield* answers.has(before.length)
    yield* stopped(gone)
    const first = yield* start
    const stop = [true, false].map((executed) =>
      portal.fault({ kind: "hang", executed, when: { containing: executed ? ", ran" : ", did not run" } })
    )
    yield* publishAll(
      own.url,
      queueIn,
      fates.map(({ id, named }) => deal(id, named))
    )
    yield* portal.until(({ inFlight, count }) => inFlight === 4 && count() === before.length + 2)
    yield* first.kill("SIGKILL")
    yield* first.exited
    stop.forEach((off) => off())
    const journal = readdirSync(folder).find((name) => name.endsWith(".journal")) ?? ""
    // Two pages are left.
    truncateSync(`${folder}/${journal}`, 8_192)

    const bridge = yield* start
    const said = yield* bridge.waitForLine("journal-damaged")
    const aside = readdirSync(folder).find((name) => name.startsWith(`${journal}.damaged-2`))
    expect(said.fields).toMatchObject({ level: "error", file: `${folder}/${aside}` })
    yield* publishAll(own.url, queueIn, [deal("new", false)])
    const got = yield* answers.has(before.length + fates.length + 1)
    const ended = fates.map(({ id }) => {
      const answer = got.get(id)?.[0]
      const resolved = answer?.headers["x-b24rmq-resolved"]
      return { id, outcome: answer?.outcome, resolved, runs: portal.count("crm.deal.add", id) }
    })
    expect(ended).toEqual(
      fates.map(({ id, outcome, resolved, ran }) => ({
        id,
        outcome,
        resolved,
        runs: ran || resolved !== undefined ? 1 : 0
      }))
    )
    // What has never come before is no doubt.
    expect(got.get("new")?.[0]).toMatchObject({ outcome: "done", attempts: 1 })
    expect(portal.count("crm.deal.add", "new")).toBe(1)
    yield* settled(own)
    yield* stopped(bridge)
  })
)
