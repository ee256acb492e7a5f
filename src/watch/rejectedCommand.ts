import { Console, Effect, Option, Schedule, Schema } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import { asJson, endWith, json, socket } from "./commands.ts"
import { openDaemon, Refused } from "./daemon.ts"
import { listedLines, replayLine, shownLines } from "./present.ts"
import { type Chosen, Dropped, Listed, ReplayState, Shown } from "./rejected.ts"

/** A time span as people write it, in seconds. */
const span = Schema.String.check(
  Schema.isPattern(/^[1-9]\d{0,8}[smhd]$/, { message: "Expected a span such as 30m, 2h or 7d" })
)

const secondsIn = { s: 1, m: 60, h: 3_600, d: 86_400 } as const

const secondsOf = (text: string) => Number(text.slice(0, -1)) * secondsIn[text.slice(-1) as keyof typeof secondsIn]

const filters = {
  id: Flag.String("id").pipe(Flag.withDescription("The one that list shows under this id"), Flag.optional),
  code: Flag.String("code").pipe(Flag.withDescription("Its error code, such as B24RMQ_BAD_JSON"), Flag.optional),
  method: Flag.String("method").pipe(
    Flag.withDescription("Its method; a star at the end covers any ending"),
    Flag.optional
  ),
  user: Flag.String("user").pipe(Flag.withDescription("The user of its webhook"), Flag.optional),
  messageId: Flag.String("message-id").pipe(Flag.withDescription("Its message_id"), Flag.optional),
  olderThan: Flag.String("older").pipe(
    Flag.withSchema(span),
    Flag.withDescription("Kept for longer than this: 30m, 2h, 7d"),
    Flag.optional
  ),
  newerThan: Flag.String("newer").pipe(
    Flag.withSchema(span),
    Flag.withDescription("Kept for less than this"),
    Flag.optional
  )
}

type Filters = { readonly [K in keyof typeof filters]: Option.Option<string> }

const chosenOf = ({ olderThan, newerThan, ...names }: Filters): typeof Chosen.Type => {
  const given = (entries: Readonly<Record<string, Option.Option<string | number>>>) =>
    Object.fromEntries(
      Object.entries(entries).flatMap(([name, value]) => (Option.isSome(value) ? [[name, value.value]] : []))
    )
  return given({
    id: names.id,
    code: names.code,
    method: names.method,
    user: names.user,
    messageId: names.messageId,
    olderThan: Option.map(olderThan, secondsOf),
    newerThan: Option.map(newerThan, secondsOf)
  })
}

const positive = (name: string) =>
  Flag.Int(name).pipe(
    Flag.withSchema(
      Schema.Finite.check(Schema.isBetween({ minimum: 1, maximum: 10_000 }, { message: "Expected 1 to 10000" }))
    )
  )

const list = Command.make(
  "list",
  {
    ...filters,
    limit: positive("limit").pipe(Flag.withDescription("How many to show, the oldest first"), Flag.withDefault(50)),
    json,
    socket
  },
  Effect.fnUntraced(function* ({ json, limit, socket, ...filters }) {
    const daemon = yield* openDaemon(socket)
    const listed = yield* daemon.post("/rejected/list", { chosen: chosenOf(filters), limit }, Listed)
    yield* json ? asJson(listed) : Console.log(listedLines(listed).join("\n"))
  })
).pipe(Command.withDescription("List what is kept"))

const show = Command.make(
  "show",
  { id: Argument.String("ID"), json, socket },
  Effect.fnUntraced(function* ({ id, json, socket }) {
    const daemon = yield* openDaemon(socket)
    const shown = yield* daemon.get(`/rejected/show/${encodeURIComponent(id)}`, Shown)
    yield* json ? asJson(shown) : Console.log(shownLines(shown).join("\n"))
  })
).pipe(Command.withDescription("Show one with its body, without its token"))

const drop = Command.make(
  "drop",
  {
    ...filters,
    all: Flag.Boolean("all").pipe(Flag.withDescription("All that are kept"), Flag.withDefault(false)),
    json,
    socket
  },
  Effect.fnUntraced(function* ({ all, json, socket, ...filters }) {
    const chosen = chosenOf(filters)
    if (all === Object.keys(chosen).length > 0) {
      return yield* new Refused({
        message: "drop removes for good: say which by --id, --code, --method, ..., or --all"
      })
    }
    const daemon = yield* openDaemon(socket)
    const { beyond, dropped, left } = yield* daemon.post("/rejected/drop", { chosen }, Dropped)
    if (json) return yield* asJson({ dropped, left, beyond })
    yield* Console.log(
      `Dropped ${dropped}; ${left} are left.${beyond > 0 ? ` ${beyond} of them were not looked at: drop again.` : ""}`
    )
  })
).pipe(Command.withDescription("Remove what is kept, for good"))

/** What a replay ends with: 3 where a person has to see to something. */
const codeOf = ({ state }: typeof ReplayState.Type) => (state === "stopped" ? 3 : 0)

const flag = (name: string, description: string) =>
  Flag.Boolean(name).pipe(Flag.withDescription(description), Flag.withDefault(false))

const replay = Command.make(
  "replay",
  {
    ...filters,
    rate: positive("rate").pipe(
      Flag.withDescription("Requests in the first second; twice as many in each that follows, up to 512"),
      Flag.withDefault(1)
    ),
    resume: flag("resume", "Go on with the one that has stopped"),
    stop: flag("stop", "Stop the one that is under way"),
    status: flag("status", "Only say how far it is"),
    detach: flag("detach", "Do not wait for its end"),
    json,
    socket
  },
  Effect.fnUntraced(function* ({ detach, json, rate, resume, socket, status, stop, ...filters }) {
    if ([resume, stop, status].filter((asked) => asked).length > 1)
      return yield* new Refused({ message: "only one of --resume, --stop and --status can be done" })
    const daemon = yield* openDaemon(socket)
    const say = (state: typeof ReplayState.Type) => (json ? asJson(state) : Console.log(replayLine(state)))
    const look = daemon.get("/rejected/replay", ReplayState)
    const begun = status
      ? yield* look
      : stop
        ? yield* daemon.post("/rejected/stop", {}, ReplayState)
        : resume
          ? yield* daemon.post("/rejected/resume", {}, ReplayState)
          : yield* daemon.post("/rejected/replay", { chosen: chosenOf(filters), rate }, ReplayState)
    if (status || stop || detach) return yield* say(begun)
    const ended = yield* Effect.repeat(look, {
      until: ({ state }) => state !== "running",
      schedule: Schedule.spaced("250 millis")
    })
    yield* say(ended)
    yield* endWith(codeOf(ended))
  })
).pipe(
  Command.withDescription(
    "Move what is kept back into its queue, slowly at first; stops by itself when requests come back, and goes on with --resume"
  )
)

export const rejectedCommand = Command.make("rejected").pipe(
  Command.withDescription("Requests that were rejected, or refused because of their webhook (B24RMQ_REJECTED)"),
  Command.withSubcommands([list, show, replay, drop])
)
