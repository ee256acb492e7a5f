import { Console, Data, Effect, FileSystem, Option, Redacted, Runtime, Schema, Stream } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import { Report } from "./cause.ts"
import { openDaemon, Refused } from "./daemon.ts"
import { foundLines, statusLines } from "./present.ts"
import { CallAnswer, Found, Said } from "./steering.ts"

/**
 * The commands that talk to a running bridge. They end with 0 when done, 1 when the bridge will not do it or the portal
 * refuses, 3 when something is the matter (`status`) or nobody knows (`call`), 69 when no running bridge was found.
 */

/** Says with its exit code alone. */
class Ended extends Data.TaggedError("Ended")<{ readonly code: number }> {
  override readonly [Runtime.errorReported] = false
  override get [Runtime.errorExitCode]() {
    return this.code
  }
}

export const endWith = (code: number) => (code === 0 ? Effect.void : Effect.fail(new Ended({ code })))

export const socket = Flag.String("socket").pipe(
  Flag.withDescription("Socket of the bridge; else by AMPQURL and AMPQIN, else the only one that runs here"),
  Flag.optional
)

export const json = Flag.Boolean("json").pipe(Flag.withDescription("JSON, for scripts"), Flag.withDefault(false))

export const asJson = (value: unknown) => Console.log(JSON.stringify(value, undefined, 2))

/** What status ends with: 3 where a person has to see to something. */
const codeOf = ({ cause }: Report) => (cause.kind === "fails" ? 3 : 0)

const clear = "\u001b[H\u001b[2J"

const status = Command.make(
  "status",
  {
    socket,
    json,
    watch: Flag.Boolean("watch").pipe(Flag.withDescription("Again each second, until Ctrl-C"), Flag.withDefault(false))
  },
  Effect.fnUntraced(function* ({ socket, json, watch }) {
    const daemon = yield* openDaemon(socket)
    if (watch) {
      const before = process.stdout.isTTY && !json ? clear : ""
      const show = (report: Report) =>
        Console.log(json ? JSON.stringify(report) : before + statusLines(report).join("\n"))
      return yield* Stream.runForEach(daemon.reports, show)
    }
    const report = yield* daemon.get("/status", Report)
    yield* json ? asJson(report) : Console.log(statusLines(report).join("\n"))
    yield* endWith(codeOf(report))
  })
).pipe(Command.withDescription("Say what the bridge does, what waits and why, and when the backlog is through"))

const pause = Command.make("pause", { socket }, ({ socket }) => tellDaemon(socket, "/pause")).pipe(
  Command.withDescription("Let calls in flight end, and start and take nothing else until resume, also after a restart")
)

const resume = Command.make("resume", { socket }, ({ socket }) => tellDaemon(socket, "/resume")).pipe(
  Command.withDescription("Go on after a pause")
)

const tellDaemon = Effect.fnUntraced(function* (socket: Option.Option<string>, route: string, body: unknown = {}) {
  const daemon = yield* openDaemon(socket)
  const { says } = yield* daemon.post(route, body, Said)
  yield* Console.log(says)
})

const set = Command.make(
  "set",
  {
    assignment: Argument.String("NAME=VALUE").pipe(
      Argument.withDescription("rate=2/50, concurrency=8, pack=all or log-level=debug")
    ),
    socket
  },
  Effect.fnUntraced(function* ({ assignment, socket }) {
    const at = assignment.indexOf("=")
    if (at < 1) return yield* new Refused({ message: `read ${JSON.stringify(assignment)}; expected NAME=VALUE` })
    yield* tellDaemon(socket, "/set", { name: assignment.slice(0, at), value: assignment.slice(at + 1) })
  })
).pipe(Command.withDescription("Change rate, concurrency, pack or log-level until the next start"))

const find = Command.make(
  "find",
  { messageId: Argument.String("MESSAGE_ID"), json, socket },
  Effect.fnUntraced(function* ({ messageId, json, socket }) {
    const daemon = yield* openDaemon(socket)
    const found = yield* daemon.get(`/find/${encodeURIComponent(messageId)}`, Found)
    yield* json ? asJson(found) : Console.log(foundLines(found).join("\n"))
    yield* endWith(found.waiting.length + found.entries.length + found.kept.length === 0 ? 1 : 0)
  })
).pipe(Command.withDescription("Say what became of the writes of a message_id, and what is kept of it"))

/** `key=value` as parameters; a value that is JSON counts as such, and `a.b=1` goes into `a`. */
export const parametersOf = (assignments: ReadonlyArray<string>): Record<string, unknown> | string => {
  const parameters: Record<string, unknown> = {}
  for (const assignment of assignments) {
    const at = assignment.indexOf("=")
    if (at < 1) return `read ${JSON.stringify(assignment)}; expected KEY=VALUE`
    const path = assignment.slice(0, at).split(".")
    const text = assignment.slice(at + 1)
    let place = parameters
    for (const key of path.slice(0, -1)) {
      const inner = Object.hasOwn(place, key) ? place[key] : undefined
      const next: Record<string, unknown> =
        typeof inner === "object" && inner !== null && !Array.isArray(inner) ? { ...inner } : {}
      Object.defineProperty(place, key, { value: next, enumerable: true, configurable: true, writable: true })
      place = next
    }
    Object.defineProperty(place, path.at(-1) ?? "", {
      value: valueOf(text),
      enumerable: true,
      configurable: true,
      writable: true
    })
  }
  return parameters
}

const valueOf = (text: string): unknown => {
  try {
    const value: unknown = JSON.parse(text)
    // Digits beyond what a number holds would become another number.
    return typeof value === "number" && String(value) !== text ? text : value
  } catch {
    return text
  }
}

const callWith = (webhook: {
  readonly user: Flag.Flag<Option.Option<string>>
  readonly token: Flag.Flag<Option.Option<Redacted.Redacted<string>>>
}) =>
  Command.make(
    "call",
    {
      method: Argument.String("METHOD"),
      assignments: Argument.String("KEY=VALUE").pipe(
        Argument.withDescription("Parameters; a value may be JSON, and filter.ID=5 goes into filter"),
        Argument.variadic()
      ),
      body: Flag.File("json").pipe(Flag.withDescription("File with the parameters as JSON"), Flag.optional),
      socket,
      ...webhook
    },
    Effect.fnUntraced(function* ({ method, assignments, body, socket, user, token }) {
      const files = yield* FileSystem.FileSystem
      if (Option.isNone(user) || Option.isNone(token)) {
        return yield* new Refused({
          message: "call needs a webhook: --user and --token, or B24RMQ_CHECK_USER and B24RMQ_CHECK_TOKEN"
        })
      }
      const parameters = parametersOf(assignments)
      if (typeof parameters === "string") return yield* new Refused({ message: parameters })
      const text = Option.isNone(body)
        ? JSON.stringify(parameters)
        : yield* Effect.mapError(
            files.readFileString(body.value),
            () => new Refused({ message: `${body.value} cannot be read` })
          )
      const daemon = yield* openDaemon(socket)
      const answer = yield* daemon.post(
        "/call",
        { method, user: user.value, token: Redacted.value(token.value), body: text },
        CallAnswer
      )
      yield* Console.log(answer.body)
      yield* endWith({ done: 0, refused: 1, unknown: 3 }[answer.outcome])
    })
  ).pipe(
    Command.withDescription("Send one request through the running bridge, with its limits; the answer comes back here")
  )

const diag = Command.make(
  "diag",
  {
    out: Flag.String("out").pipe(
      Flag.withDescription("File to write; b24rmq-diag-TIME.tar.gz otherwise"),
      Flag.optional
    ),
    socket
  },
  Effect.fnUntraced(function* ({ out, socket }) {
    const files = yield* FileSystem.FileSystem
    const daemon = yield* openDaemon(socket)
    const parts = yield* daemon.get("/diag", Schema.Record(Schema.String, Schema.String))
    const { at } = yield* daemon.get("/status", Report)
    const time = new Date(at).toISOString().replace(/[:.]/g, "-")
    const name = Option.getOrElse(out, () => `b24rmq-diag-${time}.tar.gz`)
    const inside = Object.fromEntries(Object.entries(parts).map(([file, text]) => [`b24rmq-diag/${file}`, text]))
    const bytes = yield* Effect.promise(() => new Bun.Archive(inside, { compress: "gzip" }).bytes())
    yield* Effect.mapError(
      files.writeFile(name, bytes, { mode: 0o600 }),
      () => new Refused({ message: `${name} cannot be written` })
    )
    yield* Console.log(`${name}: ${Object.keys(parts).join(", ")}. No token, password or body of a request is in it.`)
  })
).pipe(
  Command.withDescription("Write one archive with settings, state, log and versions, for a report; without secrets")
)

/** All of them. `webhook`: the flags that name a webhook of the portal. */
export const commandsWith = (webhook: Parameters<typeof callWith>[0]) =>
  [status, pause, resume, set, find, callWith(webhook), diag] as const
