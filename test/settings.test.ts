import { NodeServices } from "@effect/platform-node"
import { describe, expect, test } from "bun:test"
import { Duration, Effect, MutableRef, Redacted, Result } from "effect"
import fc from "fast-check"
import { mkdirSync, writeFileSync } from "node:fs"
import { rootCertificates } from "node:tls"
import { fileURLToPath } from "node:url"
import {
  change,
  describeSettings,
  type Environment,
  isLoopback,
  readSettings,
  type Settings,
  settingsAsText
} from "../src/settings.ts"
import { effect, live } from "./effect.ts"
import { run, temporaryFolder } from "./rig/child.ts"
import { readmes, settingsTable, tableIn } from "./settings-table.ts"

type Read = Settings["Service"]

const needed = { AMPQURL: "amqp://guest:guest@127.0.0.1:5672/", B24REST: "https://portal.example/rest/" }

const read = (env: Environment) =>
  Effect.provide(Effect.result(readSettings({ ...needed, ...env })), NodeServices.layer)

/** The lines that a person is told, none where all is well. */
const problems = (env: Environment) =>
  Effect.map(read(env), (result) => (Result.isFailure(result) ? result.failure.problems : []))

const value = <A>(env: Environment, get: (settings: Read) => A) =>
  Effect.map(read(env), (result) => {
    if (Result.isFailure(result)) throw new Error(result.failure.message)
    return get(result.success)
  })

interface Case {
  readonly get: (settings: Read) => unknown
  /** What an absent setting means; "required" where it may not be absent. */
  readonly absent: unknown
  readonly good: ReadonlyArray<readonly [text: string, means: unknown]>
  readonly wrong: ReadonlyArray<string>
}

const notWhole = ["zero", "1.5", "-1", "1e99", "16 calls", "NaN", "Infinity"]
const seconds = (get: (settings: Read) => Duration.Duration) => (settings: Read) => Duration.toSeconds(get(settings))

const cases: Readonly<Record<string, Case>> = {
  AMPQURL: {
    get: (s) => Redacted.value(s.ampqUrl),
    absent: "required",
    good: [
      ["amqp://u:p@rabbit:5672/vhost", "amqp://u:p@rabbit:5672/vhost"],
      ["amqps://u:p%2Fq@rabbit", "amqps://u:p%2Fq@rabbit"],
      ["amqp://u:p@ss@rabbit/%2F", "amqp://u:p@ss@rabbit/%2F"],
      ["amqp://u:50%@rabbit/", "amqp://u:50%@rabbit/"],
      ["amqp://u:[p]!$&'()*+,;=:~ я@rabbit/", "amqp://u:[p]!$&'()*+,;=:~ я@rabbit/"],
      ["amqp://rabbit?heartbeat=5", "amqp://rabbit?heartbeat=5"]
    ],
    wrong: [
      "rabbit:5672",
      "http://rabbit/",
      "amqp://",
      "amqp://u:p@rabbit:port/",
      "amqp://u:pass/word@rabbit/",
      "amqp://u:12/34@rabbit/",
      "amqp://u:pass?word@rabbit/",
      "amqp://u:pass#word@rabbit/",
      "amqp://u:pass@with/slash@rabbit/"
    ]
  },
  B24REST: {
    get: (s) => s.b24Rest.href,
    absent: "required",
    good: [
      ["https://portal.example/rest/", "https://portal.example/rest/"],
      ["https://portal.example/rest", "https://portal.example/rest/"],
      ["https://portal.example/rest//", "https://portal.example/rest/"],
      ["https://portal.example//rest/", "https://portal.example//rest/"],
      ["https://portal.example:8443/rest/api", "https://portal.example:8443/rest/api/"],
      ["https://портал.рф/rest", "https://xn--80awhdgm.xn--p1ai/rest/"],
      ["http://127.0.0.1:8080/rest", "http://127.0.0.1:8080/rest/"]
    ],
    wrong: [
      "portal.example/rest/",
      "ftp://portal.example/rest/",
      "https://",
      "https://user:word@portal.example/rest/",
      "https://portal.example/rest/?auth=x",
      "https://portal.example/rest/#x",
      "https://portal.example/rest/1/",
      "https://portal.example/rest/1/abcdef0123456789/",
      "https://portal.example/rest/1/abcdef0123456789/profile.json",
      "https://portal.example/rest/api/1/abcdef0123456789/"
    ]
  },
  AMPQIN: {
    get: (s) => s.ampqIn,
    absent: ["bitrix24in"],
    good: [
      ["in", ["in"]],
      ["очередь запросов", ["очередь запросов"]],
      ["urgent, bulk", ["urgent", "bulk"]],
      ["q".repeat(255), ["q".repeat(255)]]
    ],
    wrong: ["q".repeat(256), "ж".repeat(128), "a,,b", ",", "a,"]
  },
  AMPQOUT: {
    get: (s) => s.ampqOut,
    absent: "bitrix24out",
    good: [["out", "out"]],
    wrong: ["q".repeat(256)]
  },
  B24RMQ_REJECTED: {
    get: (s) => s.rejected,
    absent: undefined,
    good: [
      ["no", undefined],
      ["yes", "bitrix24in.rejected"],
      ["{AMPQIN}.rejected", "bitrix24in.rejected"],
      ["kept.{AMPQIN}", "kept.bitrix24in"],
      ["отклонённые", "отклонённые"]
    ],
    wrong: ["q".repeat(256), "{QUEUE}.rejected", "AMPQIN}.rejected"]
  },
  B24RMQ_DECLARE: {
    get: (s) => s.declare,
    absent: true,
    good: [
      ["yes", true],
      ["no", false]
    ],
    wrong: ["true", "YES", "1", "no "]
  },
  B24RMQ_CONCURRENCY: {
    get: (s) => s.concurrency,
    absent: 16,
    good: [
      ["1", 1],
      ["1000", 1000]
    ],
    wrong: ["0", "1001", ...notWhole]
  },
  B24RMQ_PREFETCH: {
    get: (s) => s.prefetch,
    absent: 1000,
    good: [
      ["1", 1],
      ["1000", 1000]
    ],
    wrong: ["0", "1001", ...notWhole]
  },
  B24RMQ_RATE: {
    get: (s) => s.rate,
    absent: "auto",
    good: [
      ["off", "off"],
      ["2/50", { rate: 2, depth: 50 }],
      ["5/250", { rate: 5, depth: 250 }]
    ],
    wrong: ["2", "2/", "/50", "0/50", "2/0", "-2/50", "2.5/50", "2/50/1", "AUTO", "none"]
  },
  B24RMQ_PACK: {
    get: (s) => s.pack,
    absent: "all",
    good: [
      ["reads", "reads"],
      ["off", "off"]
    ],
    wrong: ["writes", "yes", "READS"]
  },
  B24RMQ_PORTAL_LIMIT: {
    get: seconds((s) => s.portalLimit),
    absent: 60,
    good: [
      ["1", 1],
      ["3600", 3600]
    ],
    wrong: ["0", "3601", "60s", ...notWhole]
  },
  B24RMQ_HOLD: {
    get: seconds((s) => s.hold),
    absent: 1200,
    good: [
      ["1", 1],
      ["86400", 86_400]
    ],
    wrong: ["0", "86401", ...notWhole]
  },
  B24RMQ_MAX_AGE: {
    get: (s) => s.maxAge && Duration.toSeconds(s.maxAge),
    absent: undefined,
    good: [
      ["1", 1],
      ["31536000", 31_536_000]
    ],
    wrong: ["0", "31536001", "off", ...notWhole]
  },
  B24RMQ_DRAIN: {
    get: seconds((s) => s.drain),
    absent: 75,
    good: [
      ["0", 0],
      ["3600", 3600]
    ],
    wrong: ["3601", ...notWhole]
  },
  B24RMQ_MAX_REQUEST: {
    get: (s) => s.maxRequest,
    absent: 15_728_640,
    good: [
      ["1024", 1024],
      ["134217728", 134_217_728]
    ],
    wrong: ["1023", "134217729", "15MB", ...notWhole]
  },
  B24RMQ_MAX_ANSWER: {
    get: (s) => s.maxAnswer,
    absent: 15_728_640,
    good: [
      ["1024", 1024],
      ["134217728", 134_217_728]
    ],
    wrong: ["1023", "134217729", ...notWhole]
  },
  B24RMQ_READS: {
    get: (s) => s.ownReads,
    absent: [],
    good: [
      ["erp.order.find", ["erp.order.find"]],
      [" erp.order.find , erp.report.* ,", ["erp.order.find", "erp.report.*"]]
    ],
    wrong: ["erp.order.find erp.report.get", "erp.*.get", "erp/order", "erp.order.find;erp.report.get"]
  },
  B24RMQ_DOUBT: {
    get: (s) => s.doubt,
    absent: [],
    good: [
      ["erp.order.sync=again", [{ method: "erp.order.sync", remedy: "again" }]],
      [
        " erp.order.add = lookup : erp.order.list : ORIGIN_ID , REGION ; erp.*=tell; ",
        [
          { method: "erp.order.add", remedy: { list: "erp.order.list", fields: ["ORIGIN_ID", "REGION"] } },
          { method: "erp.*", remedy: "tell" }
        ]
      ],
      [";", []]
    ],
    wrong: [
      "erp.order.add",
      "=again",
      "erp order=again",
      "erp.*.add=tell",
      "erp.order.add=Again",
      "erp.order.add=lookup",
      "erp.order.add=lookup:erp.order.list",
      "erp.order.add=lookup:erp.order.*:ID",
      "erp.order.add=lookup:erp.order.list:",
      "erp.order.add=lookup:erp.order.list:A,,B",
      "erp.order.add=lookup:erp.order.list:A:B",
      "erp.order.add=again,erp.order.sync=again",
      "a.b=again;A.B=tell"
    ]
  },
  B24RMQ_STAMP: {
    get: (s) => s.stamp,
    absent: false,
    good: [
      ["yes", true],
      ["no", false]
    ],
    wrong: ["true", "1"]
  },
  B24RMQ_JOURNAL: {
    get: (s) => Redacted.value(s.journal),
    absent: "auto",
    good: [
      ["auto", "auto"],
      ["off", "off"],
      ["/srv/b24rmq/main.journal", "/srv/b24rmq/main.journal"],
      ["postgres://u:p@db:5432/b24rmq?sslmode=require", "postgres://u:p@db:5432/b24rmq?sslmode=require"],
      ["postgresql://db/b24rmq", "postgresql://db/b24rmq"]
    ],
    wrong: ["no", "main.journal", "/srv/", "/srv/a?mode=ro", "postgres://db", "postgres:///b24rmq", "mysql://db/b24rmq"]
  },
  B24RMQ_JOURNAL_KEEP: {
    get: seconds((s) => s.journalKeep),
    absent: 86_400,
    good: [
      ["60", 60],
      ["31536000", 31_536_000]
    ],
    wrong: ["59", "31536001", "24h", ...notWhole]
  },
  B24RMQ_JOURNAL_MAX: {
    get: (s) => s.journalMax,
    absent: 1_073_741_824,
    good: [
      ["1048576", 1_048_576],
      ["1099511627776", 1_099_511_627_776]
    ],
    wrong: ["1048575", "1099511627777", "1GB", ...notWhole]
  },
  B24RMQ_HTTP: {
    get: (s) => s.http,
    absent: undefined,
    good: [
      ["127.0.0.1:8024", { host: "127.0.0.1", port: 8024 }],
      ["localhost:1", { host: "localhost", port: 1 }],
      ["[::1]:8024", { host: "[::1]", port: 8024 }]
    ],
    wrong: [
      "8024",
      "127.0.0.1",
      ":8024",
      "127.0.0.1:http",
      "127.0.0.1:99999",
      "http://127.0.0.1:8024",
      "::1:8024",
      "a b:1"
    ]
  },
  B24RMQ_HTTP_PASSWORD: {
    get: (s) => Redacted.value(s.httpPassword),
    absent: "",
    good: [["a secret", "a secret"]],
    wrong: []
  },
  B24RMQ_CA: {
    get: (s) => s.ca,
    absent: "",
    good: [],
    wrong: ["/nowhere/ca.pem", "/", fileURLToPath(import.meta.url)]
  },
  B24RMQ_ALLOW_HTTP: {
    get: (s) => s.allowHttp,
    absent: false,
    good: [
      ["yes", true],
      ["no", false]
    ],
    wrong: ["true"]
  },
  HTTPS_PROXY: {
    get: (s) => Redacted.value(s.proxy),
    absent: "",
    good: [
      ["http://proxy:3128", "http://proxy:3128"],
      ["https://u:p@proxy", "https://u:p@proxy"]
    ],
    wrong: ["proxy:3128", "socks5://proxy:1080", "http://"]
  },
  NO_PROXY: {
    get: (s) => s.noProxy,
    absent: [],
    good: [
      ["localhost, .example.com,,", ["localhost", ".example.com"]],
      ["*", ["*"]]
    ],
    wrong: []
  },
  B24RMQ_LOG: {
    get: (s) => s.log,
    absent: "auto",
    good: [
      ["auto", "auto"],
      ["logfmt", "logfmt"],
      ["json", "json"]
    ],
    wrong: ["JSON", "text"]
  },
  B24RMQ_LOG_LEVEL: {
    get: (s) => s.logLevel,
    absent: "info",
    good: [
      ["debug", "debug"],
      ["info", "info"],
      ["warn", "warn"],
      ["error", "error"]
    ],
    wrong: ["trace", "Info"]
  }
}

const names = describeSettings("en").map(({ name }) => name)

const secrets = new Set(["AMPQURL", "B24REST", "B24RMQ_JOURNAL", "B24RMQ_HTTP_PASSWORD", "HTTPS_PROXY"])

test("every setting of the table has its cases", () => {
  expect(Object.keys(cases).toSorted()).toEqual(
    describeSettings("en")
      .map(({ name }) => name)
      .toSorted()
  )
})

for (const [name, { get, absent, good, wrong }] of Object.entries(cases)) {
  effect(`${name}: absent or empty, good, wrong`, () =>
    Effect.gen(function* () {
      for (const text of [undefined, ""]) {
        if (absent === "required") {
          const [line, ...more] = yield* problems({ [name]: text })
          expect(line).toStartWith(`${name}: not set; expected `)
          expect(more).toEqual([])
        } else expect(yield* value({ [name]: text }, get)).toEqual(absent)
      }
      for (const [text, means] of good) expect(yield* value({ [name]: text }, get)).toEqual(means)
      for (const text of wrong) {
        const [line = "", ...more] = yield* problems({ [name]: text })
        expect(line).toStartWith(`${name}: read ${secrets.has(name) ? "" : JSON.stringify(text)}`)
        expect(line).toContain("; expected ")
        expect(line).not.toContain("\n")
        expect(more).toEqual([])
      }
    })
  )
}

effect("all problems are told at once, a line each", () =>
  Effect.gen(function* () {
    const env = Object.fromEntries(
      Object.entries(cases).flatMap(([name, { wrong }]) => (wrong[0] === undefined ? [] : [[name, wrong[0]]]))
    )
    const lines = yield* problems(env)
    expect(lines.map((line) => line.slice(0, line.indexOf(":"))).toSorted()).toEqual(Object.keys(env).toSorted())
    const mixed = yield* problems({
      AMPQURL: "",
      AMPQIN: "one",
      AMPQOUT: "one",
      B24RMQ_LOG: "x",
      B24REST: "http://a.b/rest"
    })
    expect(mixed).toEqual([
      "AMPQURL: not set; expected amqp://USER:PASSWORD@HOST:5672/VHOST or amqps://...",
      'B24RMQ_LOG: read "x"; expected auto, logfmt or json',
      'AMPQOUT: read "one", which AMPQIN names, too; expected another queue, or each answer would come back as a request',
      "B24REST: read an http:// address of a.b; expected https://, or tokens would travel in the clear; B24RMQ_ALLOW_HTTP=yes allows it all the same"
    ])
  })
)

effect("a page that others can reach needs a password", () =>
  Effect.gen(function* () {
    for (const host of ["0.0.0.0", "192.168.1.5", "bridge.example", "[::]"]) {
      const [line, ...more] = yield* problems({ B24RMQ_HTTP: `${host}:8024` })
      expect(line).toStartWith(`B24RMQ_HTTP: read "${host}:8024", which others can reach; expected `)
      expect(line).toContain("B24RMQ_HTTP_PASSWORD_FILE")
      expect(more).toEqual([])
      expect(yield* problems({ B24RMQ_HTTP: `${host}:8024`, B24RMQ_HTTP_PASSWORD: "secret" })).toEqual([])
    }
  })
)

effect("some settings may change while the bridge runs, and a bad value changes nothing", () =>
  Effect.gen(function* () {
    const live = yield* value({ B24RMQ_RATE: "2/50" }, (s) => s.live)
    const now = () => MutableRef.get(live)
    expect(now()).toEqual({ rate: { rate: 2, depth: 50 }, concurrency: 16, pack: "all", logLevel: "info" })
    for (const [name, text] of [
      ["rate", "5/250"],
      ["B24RMQ_CONCURRENCY", "8"],
      ["Pack", "all"],
      ["log_level", "debug"]
    ] as const)
      expect(Result.isSuccess(change(live, name, text))).toBe(true)
    const changed = { rate: { rate: 5, depth: 250 }, concurrency: 8, pack: "all", logLevel: "debug" } as const
    expect(now()).toEqual(changed)
    expect(change(live, "rate", "fast")).toEqual(
      Result.fail('B24RMQ_RATE: read "fast"; expected auto, off, or RATE/BURST such as 2/50')
    )
    expect(change(live, "concurrency", "0")).toEqual(
      Result.fail('B24RMQ_CONCURRENCY: read "0"; expected a whole number from 1 to 1000')
    )
    expect(change(live, "prefetch", "5")).toEqual(
      Result.fail(
        "prefetch: it cannot be changed while the bridge runs; expected one of rate, concurrency, pack, log-level"
      )
    )
    expect(now()).toEqual(changed)
  })
)

effect("settings as text show no secret", () =>
  Effect.gen(function* () {
    const secret = "canary"
    const text = yield* value(
      {
        AMPQURL: `amqp://user:${secret}@rabbit:5672/vhost?password=${secret}`,
        B24RMQ_JOURNAL: `postgres://user:${secret}@db/b24rmq?password=${secret}`,
        HTTPS_PROXY: `http://user:${secret}@proxy:3128`,
        B24RMQ_HTTP_PASSWORD: `http://${secret}/`,
        B24RMQ_PACK: "all"
      },
      (s) => Object.fromEntries(settingsAsText(s))
    )
    expect(JSON.stringify(text)).not.toContain(secret)
    expect(text).toMatchObject({
      AMPQURL: "amqp://rabbit:5672/vhost",
      B24REST: "https://portal.example/rest/",
      B24RMQ_JOURNAL: "postgres://db/b24rmq",
      HTTPS_PROXY: "http://proxy:3128/",
      B24RMQ_HTTP_PASSWORD: "(set, not shown)",
      B24RMQ_PACK: "all",
      B24RMQ_PREFETCH: "1000"
    })
    expect(Object.keys(text)).toEqual(Object.keys(cases).toSorted((a, b) => names.indexOf(a) - names.indexOf(b)))
  })
)

effect("what is kept has a queue of its own", () =>
  Effect.gen(function* () {
    for (const B24RMQ_REJECTED of ["bitrix24out", "bitrix24in", "second", "{AMPQIN}", "bitrix24in.parked"]) {
      const [line, ...others] = yield* problems({ AMPQIN: "bitrix24in,second", B24RMQ_REJECTED })
      expect(others).toEqual([])
      expect(line).toStartWith(`B24RMQ_REJECTED: read "${B24RMQ_REJECTED}", which comes to "`)
      expect(line).toEndWith("not one of AMPQIN, not AMPQOUT, not the queue of parked requests")
    }
    const long = { AMPQIN: "q".repeat(250), B24RMQ_REJECTED: "yes" }
    expect(yield* problems(long)).toHaveLength(1)
    const several = { AMPQIN: "first,second", B24RMQ_REJECTED: "yes" }
    expect(yield* value(several, (s) => s.rejected)).toBe("first.rejected")
  })
)

effect("AMQPURL is another name of AMPQURL, which goes first; small letters name a proxy", () =>
  Effect.gen(function* () {
    const url = (env: Environment) => value({ AMPQURL: undefined, ...env }, (s) => Redacted.value(s.ampqUrl))
    expect(yield* url({ AMQPURL: "amqp://second" })).toBe("amqp://second")
    expect(yield* url({ AMPQURL: "amqp://first", AMQPURL: "amqp://second" })).toBe("amqp://first")
    expect(yield* url({ AMPQURL: "", AMQPURL: "amqp://second" })).toBe("amqp://second")
    expect((yield* problems({ AMPQURL: "", AMQPURL: "nonsense" }))[0]).toStartWith("AMQPURL: read ")
    expect(yield* value({ https_proxy: "http://p:1" }, (s) => Redacted.value(s.proxy))).toBe("http://p:1")
    expect(yield* value({ no_proxy: "a,b" }, (s) => s.noProxy)).toEqual(["a", "b"])
  })
)

effect("a secret may come from a file or from a systemd credential, the variable goes first", () =>
  Effect.gen(function* () {
    const folder = yield* temporaryFolder("settings")
    const put = (name: string, text: string) => {
      writeFileSync(`${folder}/${name}`, text)
      return `${folder}/${name}`
    }
    const file = put("url", "\n amqp://from-file \n")
    const credentials = `${folder}/credentials`
    mkdirSync(credentials)
    writeFileSync(`${credentials}/AMPQURL`, "amqp://from-credential\n")
    const url = (env: Environment) => value({ AMPQURL: undefined, ...env }, (s) => Redacted.value(s.ampqUrl))
    expect(yield* url({ AMPQURL_FILE: file })).toBe("amqp://from-file")
    expect(yield* url({ AMQPURL_FILE: file })).toBe("amqp://from-file")
    expect(yield* url({ CREDENTIALS_DIRECTORY: credentials })).toBe("amqp://from-credential")
    expect(yield* url({ AMPQURL_FILE: file, CREDENTIALS_DIRECTORY: credentials })).toBe("amqp://from-file")
    expect(yield* url({ AMPQURL: "amqp://from-variable", AMPQURL_FILE: file })).toBe("amqp://from-variable")
    expect(
      yield* value({ B24REST: undefined, B24REST_FILE: put("rest", "https://p.example/rest") }, (s) => s.b24Rest.href)
    ).toBe("https://p.example/rest/")

    const lines = (env: Environment) => problems({ AMPQURL: undefined, ...env })
    expect(yield* lines({ AMPQURL_FILE: `${folder}/none` })).toEqual([
      `AMPQURL_FILE: the file ${folder}/none cannot be read; check that it exists, and its rights`
    ])
    expect(yield* lines({ AMPQURL_FILE: put("empty", " \n") })).toEqual([
      `AMPQURL_FILE: the file ${folder}/empty is empty`
    ])
    const [wrong = ""] = yield* lines({ AMPQURL_FILE: put("wrong", "canary-password") })
    expect(wrong).toStartWith("AMPQURL_FILE: read ")
    expect(wrong).not.toContain("canary")
    // Only secrets are looked for in files: a file would hide what the others say.
    expect(yield* value({ AMPQIN_FILE: file }, (s) => s.ampqIn)).toEqual(["bitrix24in"])
    writeFileSync(`${credentials}/AMPQIN`, "elsewhere")
    expect(yield* value({ CREDENTIALS_DIRECTORY: credentials }, (s) => s.ampqIn)).toEqual(["bitrix24in"])
  })
)

effect("without a journal writes are not packed, unless that is asked for", () =>
  Effect.gen(function* () {
    const pack = (env: Environment) => value({ B24RMQ_JOURNAL: "off", ...env }, (s) => [s.pack, s.live.current.pack])
    expect(yield* pack({})).toEqual(["reads", "reads"])
    expect(yield* pack({ B24RMQ_PACK: "" })).toEqual(["reads", "reads"])
    expect(yield* pack({ B24RMQ_PACK: "all" })).toEqual(["all", "all"])
    expect(yield* pack({ B24RMQ_JOURNAL: "auto" })).toEqual(["all", "all"])
  })
)

effect("what has to outlive the process lies where systemd says, else in the system's folder or one's own", () =>
  Effect.gen(function* () {
    const folders = (env: Environment) => value(env, (s) => s.stateFolders)
    expect(yield* folders({ STATE_DIRECTORY: "/var/lib/a:/var/lib/b", HOME: "/home/me" })).toEqual(["/var/lib/a"])
    expect(yield* folders({ HOME: "/home/me" })).toEqual(["/var/lib/b24rmq", "/home/me/.local/state/b24rmq"])
    expect(yield* folders({ HOME: "/home/me", XDG_STATE_HOME: "/state" })).toEqual(["/var/lib/b24rmq", "/state/b24rmq"])
    expect(yield* folders({})).toEqual(["/var/lib/b24rmq"])
  })
)

effect("B24RMQ_CA reads certificates", () =>
  Effect.gen(function* () {
    const folder = yield* temporaryFolder("settings")
    const pem = rootCertificates.slice(0, 2).join("\n")
    writeFileSync(`${folder}/ca.pem`, pem)
    expect(yield* value({ B24RMQ_CA: `${folder}/ca.pem` }, (s) => s.authorities)).toEqual([pem])
    const path = `${folder}/broken.pem`
    for (const broken of [pem.replaceAll("M", "A"), pem.slice(0, 200), ""]) {
      writeFileSync(path, broken)
      expect(yield* problems({ B24RMQ_CA: path })).toEqual([
        `B24RMQ_CA: read "${path}"; expected a readable PEM file with certificates`
      ])
    }
    expect(yield* value({}, (s) => s.authorities)).toEqual([])
  })
)

effect("http:// is for this machine, or for those who asked for it", () =>
  Effect.gen(function* () {
    for (const host of ["localhost", "127.0.0.1:8080", "127.9.9.9", "[::1]:80"]) {
      expect(yield* problems({ B24REST: `http://${host}/rest/` })).toEqual([])
    }
    for (const host of ["portal.example", "localhost.example", "127.0.0.1.example", "128.0.0.1", "[::2]", "10.0.0.1"]) {
      expect((yield* problems({ B24REST: `http://${host}/rest/` })).length).toBe(1)
      expect(yield* problems({ B24REST: `http://${host}/rest/`, B24RMQ_ALLOW_HTTP: "yes" })).toEqual([])
    }
    expect(isLoopback("127.0.0.1.example")).toBe(false)
  })
)

effect("a pasted webhook address is explained", () =>
  Effect.gen(function* () {
    const [line = ""] = yield* problems({ B24REST: "https://portal.example/rest/1/canary0token/" })
    expect(line).toContain("this is a whole webhook address: leave only the part up to /rest/")
    expect(line).toContain("headers user and token")
    expect(line).not.toContain("canary")
  })
)

effect("a wrong entry of B24RMQ_DOUBT is named, and what is wrong with it", () =>
  Effect.gen(function* () {
    const hint = (text: string) =>
      Effect.map(problems({ B24RMQ_DOUBT: text }), ([line = ""]) => line.slice(line.lastIndexOf("; ") + 2))
    expect(yield* hint("a.b=again; erp.order.add")).toBe('"erp.order.add" does not begin with a method and =')
    expect(yield* hint("a.b=resend")).toBe('"a.b=resend" says neither again nor tell nor lookup:LIST:FIELD')
    expect(yield* hint("a.b=lookup:*:X")).toBe('"a.b=lookup:*:X" names no method that lists: lookup:LIST:FIELD')
    expect(yield* hint("a.b=lookup:a.list")).toBe(
      '"a.b=lookup:a.list" names no fields: lookup:LIST:FIELD or lookup:LIST:FIELD,FIELD'
    )
    expect(yield* hint("a.b=again;A.b=tell")).toBe('"A.b" is there twice')
  })
)

effect("a password that was cut by its own slash is explained", () =>
  Effect.gen(function* () {
    for (const mark of ["/", "?", "#", "@with/"]) {
      const [line = ""] = yield* problems({ AMPQURL: `amqp://user:canary1${mark}canary2@rabbit/vhost` })
      expect(line).toContain("%2F")
      expect(line).not.toContain("canary")
    }
  })
)

effect("no problem repeats a secret, whatever was written", () =>
  Effect.promise(() =>
    fc.assert(
      fc.asyncProperty(
        fc.constantFrom("AMPQURL", "AMQPURL", "B24REST", "B24RMQ_JOURNAL", "HTTPS_PROXY"),
        fc.array(
          fc.oneof(
            { weight: 3, arbitrary: fc.constant("canary0word") },
            fc.constantFrom(
              "amqp://",
              "https://",
              "http://",
              "/",
              ":",
              "@",
              "#",
              "?",
              "%",
              "rest/",
              "1/",
              " ",
              "\n",
              "host"
            ),
            fc.string({ maxLength: 4 })
          ),
          { minLength: 1, maxLength: 9 }
        ),
        async (name, parts) => {
          const env = name === "AMQPURL" ? { AMPQURL: undefined } : {}
          const lines = await Effect.runPromise(problems({ ...env, [name]: parts.join("") }))
          // An http:// address of another host is told by its host, which is no secret.
          const shown = lines.filter((line) => !line.includes("an http:// address of")).join("\n")
          expect(shown).not.toContain("canary")
          expect(lines.every((line) => !line.includes("\n"))).toBe(true)
        }
      ),
      { numRuns: 2_000 }
    )
  )
)

describe("the table is the same everywhere", () => {
  for (const language of ["en", "ru"] as const) {
    test(`in ${readmes[language]} (bun test/settings-table.ts --write)`, () => {
      expect(tableIn(language)).toBe(settingsTable(language))
    })
  }

  live("in --help", () =>
    Effect.gen(function* () {
      const main = fileURLToPath(new URL("../src/main.ts", import.meta.url))
      const said = yield* run({
        command: process.execPath,
        args: [main, "--help"],
        env: { PATH: "/usr/bin:/bin" },
        cwd: "/"
      })
      expect(said.code).toBe(0)
      // A terminal's width breaks lines.
      const words = (text: string) => text.replace(/\s+/g, " ")
      for (const { name, meaning } of describeSettings("en")) {
        expect(words(said.out)).toContain(name)
        expect(words(said.out)).toContain(words(meaning))
      }
    })
  )
})
