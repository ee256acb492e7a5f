import { NodeServices } from "@effect/platform-node"
import { expect, test } from "bun:test"
import { chmodSync, mkdirSync, readFileSync, readdirSync, statSync, truncateSync, writeFileSync } from "node:fs"
import { Duration, Effect, Fiber, Layer, Redacted, SubscriptionRef } from "effect"
import { TestClock } from "effect/testing"
import { Journal } from "../../src/journal/journal.ts"
import { nameOf, placeOf } from "../../src/journal/place.ts"
import { openSqlite } from "../../src/journal/sqlite.ts"
import { Settings } from "../../src/settings.ts"
import { effect, live } from "../effect.ts"
import { temporaryFolder } from "../rig/child.ts"
import { smallDisk } from "../rig/disk.ts"
import { until } from "../rig/until.ts"
import { otherProcess } from "./other.ts"
import { answer, answered, becomes, departing, done, fresh, request, settings, token } from "./requests.ts"

const inFile = <A, E>(file: string, body: Effect.Effect<A, E, Journal>, options: Parameters<typeof settings>[0] = {}) =>
  Effect.provide(body, Journal.layerOn(openSqlite(file), settings(options)), { local: true })

const needed = { AMPQURL: "amqp://guest:guest@127.0.0.1:5672/", B24REST: "https://portal.example/rest/" }

const isRoot = process.getuid?.() === 0

const name = (vhost: string, ...queues: ReadonlyArray<string>) => nameOf(vhost, queues)

test("a journal is named for people and for no two sets of queues alike", () => {
  expect(name("/", "bitrix24in")).toMatch(/^bitrix24in-[0-9a-f]{8}$/)
  const names = [
    name("/", "a"),
    name("", "a"),
    name("a"),
    name("/", "a,b"),
    name("/", "a", "b"),
    name("a", "b"),
    name("/", "жук"),
    name("/", "x".repeat(255)),
    name("/", "../../etc/passwd")
  ]
  expect(new Set(names).size).toBe(names.length)
  for (const each of names) expect(each).toMatch(/^[A-Za-z0-9-]{1,49}$/)
})

effect("a journal lies where it was put, else in the first folder that can be written", () =>
  Effect.gen(function* () {
    const folder = yield* temporaryFolder("state")
    writeFileSync(`${folder}/file`, "")
    const at = (journal: string, ...stateFolders: ReadonlyArray<string>) =>
      placeOf({
        journal: Redacted.make(journal),
        ampqUrl: Redacted.make("amqp://u:p@host/vhost%2Fone"),
        ampqIn: ["in"],
        stateFolders
      })
    const named = nameOf("vhost/one", ["in"])
    expect(at("off")).toEqual({ _tag: "Nowhere" })
    expect(at("/srv/a")).toEqual({ _tag: "File", file: "/srv/a" })
    expect(at("postgres://h/d")).toMatchObject({ _tag: "Database", schema: `b24rmq_${named}` })
    expect(at("auto", `${folder}/file/none`, `${folder}/new/one`)).toEqual({
      _tag: "File",
      file: `${folder}/new/one/${named}.journal`
    })
    expect(statSync(`${folder}/new/one`).mode & 0o777).toBe(0o700)
  })
)

effect("the settings choose the journal", () =>
  Effect.gen(function* () {
    const folder = yield* temporaryFolder("state")
    const remembers = (env: Readonly<Record<string, string>>) =>
      Effect.flatMap(Journal, ({ recall, release }) =>
        Effect.andThen(recall(request("m-1"), false), release(request("m-1")))
      ).pipe(
        Effect.provide(Layer.provide(Journal.layer, Settings.layerOf({ ...needed, ...env })), { local: true }),
        Effect.provide(NodeServices.layer)
      )
    yield* remembers({ B24RMQ_JOURNAL: "off", STATE_DIRECTORY: folder })
    expect(readdirSync(folder)).toEqual([])
    yield* remembers({ B24RMQ_JOURNAL: `${folder}/own` })
    yield* remembers({ STATE_DIRECTORY: folder })
    expect(readdirSync(folder).filter((name) => !name.endsWith(".lock"))).toEqual([
      `${nameOf("/", ["bitrix24in"])}.journal`,
      "own"
    ])
  })
)

effect("only its owner may read the files, and no token and no body of a request is in them", () =>
  Effect.gen(function* () {
    const folder = yield* temporaryFolder("journal")
    process.umask(0o000)
    const seen = yield* inFile(
      `${folder}/deep/journal`,
      Effect.gen(function* () {
        yield* done(request("m-1"), "the answer")
        yield* Effect.flatMap(Journal, (journal) => journal.recall(request("m-2"), false))
        return readdirSync(`${folder}/deep`).map((name) => [name, statSync(`${folder}/deep/${name}`).mode & 0o777])
      })
    )
    process.umask(0o022)
    expect(seen.toSorted()).toEqual([
      ["journal", 0o600],
      ["journal-wal", 0o600],
      ["journal.lock", 0o600]
    ])
    const bytes = readFileSync(`${folder}/deep/journal`).toString("latin1")
    expect(bytes).toContain("the answer")
    expect(bytes).not.toContain(token)
    expect(bytes).not.toContain("canary")
  })
)

const damages: Readonly<Record<string, (file: string) => void>> = {
  "full of noise": (file) => writeFileSync(file, Buffer.alloc(50_000, 0x5a)),
  "cut in the middle": (file) => truncateSync(file, Math.floor(statSync(file).size / 2)),
  "cut to nothing": (file) => truncateSync(file, 0),
  "damaged behind its first page": (file) => {
    const bytes = readFileSync(file)
    writeFileSync(file, bytes.fill(0x5a, 4096))
  }
}

for (const [what, damage] of Object.entries(damages)) {
  effect(`a journal that is ${what} is set aside, a new one is begun and knows that memory was lost`, () =>
    Effect.gen(function* () {
      const folder = yield* temporaryFolder("journal")
      const file = `${folder}/journal`
      yield* TestClock.adjust("20000 days")
      const at = Duration.toMillis("20000 days")
      yield* inFile(
        file,
        Effect.forEach(Array.from({ length: 100 }), (_, at) => done(request(`m-${at}`), "1"))
      )
      damage(file)
      const looked = inFile(
        file,
        Effect.gen(function* () {
          const journal = yield* Journal
          const known = yield* journal.recall(request("m-1"), false)
          return { known, since: yield* journal.lostMemorySince }
        })
      )
      const looking = yield* Effect.forkChild(looked)
      // It opens the file again after a pause when it finds the damage only later.
      while (looking.pollUnsafe() === undefined) {
        yield* TestClock.adjust("1 second")
        yield* Effect.promise(() => new Promise(setImmediate))
      }
      const { known, since } = yield* Fiber.join(looking)
      expect(known).toEqual(fresh)
      expect(since).toBeGreaterThanOrEqual(at)
      expect(readdirSync(folder).filter((name) => /^journal\.damaged-2024-[\dTZ-]*$/.test(name)).length).toBe(1)
      expect((yield* looked).since).toBe(since)
      yield* TestClock.adjust("25 hours")
      expect((yield* looked).since).toBeUndefined()
    })
  )
}

effect("a new journal has lost nothing", () =>
  Effect.gen(function* () {
    const folder = yield* temporaryFolder("journal")
    yield* inFile(
      `${folder}/journal`,
      Effect.gen(function* () {
        const journal = yield* Journal
        yield* journal.recall(request("m-1"), false)
        expect(yield* journal.lostMemorySince).toBeUndefined()
      })
    )
  })
)

live("a journal of a newer version is left as it is", () =>
  Effect.gen(function* () {
    const folder = yield* temporaryFolder("journal")
    const file = `${folder}/journal`
    yield* inFile(file, done(request("m-1"), "1"))
    const version = (to: number) =>
      Effect.promise(async () => {
        const sql = new Bun.SQL({ adapter: "sqlite", filename: file })
        await sql.unsafe(`PRAGMA user_version = ${to}`)
        await sql.close()
      })
    yield* version(99)
    yield* inFile(
      file,
      Effect.gen(function* () {
        const journal = yield* Journal
        yield* becomes("failed")
        expect(SubscriptionRef.getUnsafe(journal.state)).toMatchObject({ reason: expect.stringContaining("schema 99") })
      })
    )
    yield* version(1)
    yield* inFile(
      file,
      Effect.gen(function* () {
        const journal = yield* Journal
        expect(yield* journal.recall(request("m-1"), false)).toEqual(answered("1", true))
      })
    )
  })
)

/** Only root may mount a file system. */
const onSmallDisk = isRoot ? live : (name: string) => test.skip(name, () => {})

/** Writes must fail while it lasts, and what was answered meanwhile must be there afterwards. */
const survives = (
  file: string,
  begin: Effect.Effect<unknown, unknown>,
  end: Effect.Effect<unknown, unknown>,
  reason: RegExp
) =>
  Effect.gen(function* () {
    const [before, during, after] = [request("before"), request("during"), request("after")]
    yield* inFile(
      file,
      Effect.gen(function* () {
        const journal = yield* Journal
        yield* becomes("ready")
        for (const one of [before, during]) yield* journal.recall(one, false)
        yield* journal.intend(departing(before))
        yield* begin
        const failed = yield* Effect.flip(journal.intend(departing(during)))
        expect(failed).toMatchObject({ _tag: "JournalFailed", reason: expect.stringMatching(reason) })
        expect(SubscriptionRef.getUnsafe(journal.state)._tag).toBe("failed")
        // Reads go on.
        expect(yield* journal.recall(request("read"), true)).toEqual(fresh)
        const settling = yield* Effect.forkChild(journal.settle(before, answer("1")), {
          startImmediately: true
        })
        expect(settling.pollUnsafe()).toBeUndefined()
        yield* end
        yield* becomes("ready")
        yield* Fiber.join(settling)
        yield* journal.release(during)
        expect(yield* journal.recall(before, false)).toEqual(answered("1", false))
        expect(yield* journal.recall(during, false)).toEqual(fresh)
        yield* journal.recall(after, false)
        yield* journal.intend(departing(after))
      })
    )
    yield* inFile(
      file,
      Effect.gen(function* () {
        const journal = yield* Journal
        expect(yield* journal.recall(before, false)).toEqual(answered("1", false))
        expect(yield* journal.recall(during, false)).toEqual(fresh)
        expect(yield* journal.recall(after, false)).toMatchObject({ _tag: "InDoubt" })
      })
    )
  })

onSmallDisk("a full disk stops writes until there is room again", () =>
  Effect.gen(function* () {
    const { disk, empty, fill } = yield* smallDisk(yield* temporaryFolder("journal"))
    yield* survives(`${disk}/journal`, fill, empty, /the disk is full/)
  })
)

live("a folder that may not be written stops writes until it may", () =>
  Effect.gen(function* () {
    const folder = yield* temporaryFolder("journal")
    const change = isRoot
      ? yield* Effect.map(smallDisk(folder), ({ remount }) => remount)
      : (how: "ro" | "rw") => Effect.sync(() => chmodSync(`${folder}/disk`, how === "ro" ? 0o500 : 0o700))
    if (!isRoot) mkdirSync(`${folder}/disk`)
    yield* change("ro")
    yield* inFile(
      `${folder}/disk/journal`,
      Effect.gen(function* () {
        const journal = yield* Journal
        const one = request("m-1")
        yield* becomes("failed")
        expect(SubscriptionRef.getUnsafe(journal.state)).toMatchObject({
          reason: expect.stringContaining("may not be written: check")
        })
        expect(yield* journal.recall(one, true)).toEqual(fresh)
        const asking = yield* Effect.forkChild(journal.recall(request("m-2"), false), { startImmediately: true })
        expect(asking.pollUnsafe()).toBeUndefined()
        yield* change("rw")
        expect(yield* Fiber.join(asking)).toEqual(fresh)
        yield* journal.intend(departing(request("m-2")))
      })
    )
  })
)

live("a second process on one file stands by, and takes over when the first is killed", () =>
  Effect.gen(function* () {
    const file = `${yield* temporaryFolder("journal")}/journal`
    const first = yield* otherProcess(file)
    yield* first.waitFor("state ready")
    yield* first.ask("recall a")
    expect(yield* first.ask("intend a")).toBe("ok")
    yield* inFile(
      file,
      Effect.gen(function* () {
        const journal = yield* Journal
        yield* becomes("standby")
        const one = request("a")
        const asking = yield* Effect.forkChild(journal.recall(one, false), { startImmediately: true })
        expect(yield* first.ask("intend a")).toBe("ok")
        expect(asking.pollUnsafe()).toBeUndefined()
        yield* first.kill("SIGKILL")
        yield* becomes("ready")
        expect(yield* Fiber.join(asking)).toMatchObject({ _tag: "InDoubt", sent: { attempts: 2 } })
      })
    )
  })
)

for (const seed of [1, 2, 3, 4, 5]) {
  live(`a process killed after some ${seed * 777} lines leaves on the disk all that it has said`, () =>
    Effect.gen(function* () {
      const file = `${yield* temporaryFolder("journal")}/journal`
      const other = yield* otherProcess(file)
      yield* other.waitFor("state ready")
      yield* other.go
      yield* until(
        "it has written",
        Effect.sync(() => other.lines().length > seed * 777),
        { every: "1 millis" }
      )
      yield* other.kill("SIGKILL")
      yield* other.exited
      const said = other.lines()
      const of = (word: string) =>
        new Set(said.filter((line) => line.startsWith(word)).map((line) => line.slice(word.length + 1)))
      const [asked, intended, settled] = [of("asked"), of("intended"), of("settled")]
      expect(settled.size).toBeGreaterThan(50)
      yield* inFile(
        file,
        Effect.gen(function* () {
          const journal = yield* Journal
          for (const id of asked) {
            const known = yield* journal.recall(request(id), false)
            if (settled.has(id)) expect(known).toMatchObject({ _tag: "Answered", answer: answer(id) })
            else if (intended.has(id)) expect(["InDoubt", "Answered"]).toContain(known._tag)
            // What it did last it may not have said any more.
            else if (known._tag === "Answered") expect(known.answer).toEqual(answer(id))
          }
        })
      )
    })
  )
}
