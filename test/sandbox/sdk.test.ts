import { readFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { expect } from "bun:test"
import { Effect, type Scope } from "effect"
import { openPortal, type Portal } from "../../src/sandbox/portal/server.ts"
import { live } from "../effect.ts"
import { run, temporaryFolder } from "../rig/child.ts"
import { RigFailed } from "../rig/until.ts"

// The vendor's own client is a referee of the simulated portal: it shares no code with us, and real portals understand it.

const openssl = Bun.which("openssl")

/** A certificate for this machine, and its key. The SDK speaks https only. */
const certificate = Effect.gen(function* () {
  if (openssl === null) {
    return yield* new RigFailed({ what: "openssl is missing: install it (Debian: apt-get install openssl)" })
  }
  const folder = yield* temporaryFolder("certificate")
  const made = yield* run({
    command: openssl,
    args: [
      ..."req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=portal".split(" "),
      ..."-addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out cert.pem".split(" ")
    ],
    env: { PATH: process.env["PATH"] ?? "/usr/bin:/bin" },
    cwd: folder
  })
  if (made.code !== 0) return yield* new RigFailed({ what: `openssl makes no certificate: ${made.err.trim()}` })
  const file = join(folder, "cert.pem")
  return { file, cert: readFileSync(file, "utf8"), key: readFileSync(join(folder, "key.pem"), "utf8") }
})

/** What the SDK made of the portal, as `sdk.ts` prints it. */
type Told = Readonly<Record<string, unknown>>

const sdk = <E>(
  name: string,
  part: string,
  prepare: (portal: Portal) => void,
  check: (told: Told, portal: Portal) => Effect.Effect<unknown, E, Scope.Scope> | void
) =>
  live(
    `the SDK ${name}`,
    () =>
      Effect.gen(function* () {
        const { cert, key, file } = yield* certificate
        const portal = yield* openPortal({ tls: { cert, key } })
        prepare(portal)
        const ended = yield* run({
          command: process.execPath,
          args: [fileURLToPath(new URL("sdk.ts", import.meta.url)), portal.webhook(), part],
          env: { PATH: process.env["PATH"] ?? "/usr/bin:/bin", NODE_EXTRA_CA_CERTS: file },
          cwd: fileURLToPath(new URL(".", import.meta.url))
        })
        if (ended.code !== 0) return yield* new RigFailed({ what: `the SDK ended with ${ended.code}: ${ended.err}` })
        yield* check(JSON.parse(ended.out) as Told, portal) ?? Effect.void
      }),
    60_000
  )

const upTo = (last: number, first = 1) => Array.from({ length: last - first + 1 }, (_, index) => index + first)
const done = { isSuccess: true, errors: [] }
const alone = { total: 0, isMore: false }

const deals = (portal: Portal) => {
  for (const n of upTo(120)) portal.crm.table("deal").add([["TITLE", `deal ${n}`]])
}

const tasks = (portal: Portal) => {
  for (const n of upTo(60)) portal.crm.table("task").add([["TITLE", `task ${n}`]])
}

sdk("works with the second version: calls, pages, lists, batches, refusals", "second", deals, (told, portal) => {
  expect(told).toMatchObject({
    contact: { ...done, ...alone, result: 1 },
    read: {
      ...done,
      result: {
        ID: "1",
        NAME: "Анна & Co <№1> 100%",
        PHONE: [{ VALUE: "+7 900 000-00-00", VALUE_TYPE: "MOBILE", TYPE_ID: "PHONE" }]
      }
    },
    filtered: {
      ...done,
      total: 11,
      isMore: false,
      result: [7, 70, 71, 72, 73, 74, 75, 76, 77, 78, 79].map((n) => ({ TITLE: `deal ${n}` }))
    },
    first: { total: 120, isMore: true, ids: upTo(50) },
    following: upTo(100, 51),
    all: upTo(120),
    items: upTo(60),
    pages: [50, 50, 20],
    listed: {
      isSuccess: true,
      data: [
        { ID: "7", TITLE: "deal 7" },
        { ID: "1", NAME: "Анна" }
      ],
      errors: {}
    },
    named: {
      isSuccess: false,
      errors: { missing: "Item not found" },
      data: {
        made: 121,
        read: { ID: "121", TITLE: "made in a batch", COMMENTS: "a=b&c[d]=100 %+" },
        after: { ID: "1" }
      }
    },
    halted: { isSuccess: false, data: {}, errors: { missing: "Item not found" } },
    chunks: { isSuccess: true, ids: upTo(120) },
    unknown: { code: "ERROR_METHOD_NOT_FOUND", message: "Method not found!", status: 404 },
    refused: { code: "NOT_FOUND", message: "Item not found", status: 400 }
  })
  expect(told["named"]).not.toHaveProperty("data.missing")
  expect(told["halted"]).not.toHaveProperty("data.after")
  expect(portal.count("crm.deal.add")).toBe(1)
  expect(portal.count("crm.contact.add")).toBe(1)
  // 2 for the contact, 1 filtered, 2 + 3 + 3 + 2 pages, 3 batches, 3 chunks, 2 refusals.
  expect(portal.requests).toBe(21)
})

sdk("works with the third version: calls, lists, batches, refusals", "third", tasks, (told) => {
  const refusedWith = (text: string) => ({ isSuccess: false, errors: [text] })
  expect(told).toEqual({
    added: { ...done, ...alone, result: { item: { id: 61, title: "задача", status: "pending" } } },
    read: { ...done, ...alone, result: { item: { id: 3, title: "task 3" } } },
    all: upTo(61),
    listed: {
      isSuccess: true,
      data: [{ item: { id: 1, title: "task 1" } }, { item: { id: 2, title: "task 2" } }],
      errors: {}
    },
    named: {
      isSuccess: true,
      data: { one: { item: { title: "task 4" } }, list: { items: [{ id: 1 }, { id: 2 }] } },
      errors: {}
    },
    failed: { isSuccess: false, data: [], errors: { "base-error": "Entity with ID `999999` is not found" } },
    invalid: {
      ...alone,
      ...refusedWith("Error validating request object. Required field `title` is not specified")
    },
    missing: { ...alone, ...refusedWith("Entity with ID `999999` is not found") },
    unknown: { ...alone, ...refusedWith("Method not found") }
  })
})

sdk(
  "that keeps to the vendor's arithmetic is never refused",
  "paced",
  (portal) => {
    deals(portal)
    // Ten more than the SDK takes itself to have: it knows when it sends, the portal only when that arrives.
    portal.limit({ rate: { burst: 20, fall: 20, period: 1_000, stepwise: false } })
  },
  (told, portal) => {
    expect(told).toMatchObject({ good: 60, stats: { retries: 0, failedRequests: 0 } })
    expect(portal.requests).toBe(60)
    expect([...portal.refusals]).toEqual([])
  }
)

sdk(
  "that is too fast understands the refusal, waits and comes again",
  "hasty",
  (portal) => {
    deals(portal)
    portal.limit({ rate: { burst: 2, fall: 1, period: 500 } })
  },
  (told, portal) => {
    expect(told).toMatchObject({
      good: 3,
      stats: { retries: 1, failedRequests: 1, lastErrors: [{ method: "crm.deal.get" }] }
    })
    expect(portal.requests).toBe(4)
    expect([...portal.refusals]).toEqual([["QUERY_LIMIT_EXCEEDED", 1]])
  }
)

sdk(
  "reads the operating time of single calls and of commands",
  "worked",
  (portal) => {
    deals(portal)
    portal.limit({ operating: { state: "on", limit: 480, cost: { "crm.deal.list": 3, "crm.deal.get": 1 } } })
  },
  (told) => {
    expect(Object.keys(told).sort()).toEqual(["batch", "batch::crm.deal.get", "batch::crm.deal.list", "crm.deal.list"])
    // What was stated, and the milliseconds that they took beside it.
    expect(told["crm.deal.list"]).toBeCloseTo(3, 0)
    expect(told["batch::crm.deal.list"]).toBeCloseTo(6, 0)
    expect(told["batch::crm.deal.get"]).toBeCloseTo(1, 0)
  }
)
