import { Data, Effect, Option, Runtime, Schema, Stream } from "effect"
import { FetchHttpClient, HttpClient, HttpClientRequest, type HttpClientResponse } from "effect/http"
import { readdirSync } from "node:fs"
import { join } from "node:path"
import { nameFor } from "../journal/place.ts"
import { environment, socketWanted } from "../settings.ts"
import { Report } from "./cause.ts"
import { Refusal } from "./steering.ts"

/** No running bridge can be asked. */
export class NoDaemon extends Data.TaggedError("NoDaemon")<{ readonly message: string }> {
  /** EX_UNAVAILABLE of sysexits.h. */
  override readonly [Runtime.errorExitCode] = 69
  override readonly [Runtime.errorReported] = false
}

/** The bridge will not do it. */
export class Refused extends Data.TaggedError("Refused")<{ readonly message: string }> {
  override readonly [Runtime.errorExitCode] = 1
  override readonly [Runtime.errorReported] = false
}

const filesIn = (folder: string): ReadonlyArray<string> => {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}

/** Sockets in the folder, and in those beside it that systemd makes for instances of a unit: b24rmq-NAME. */
const socketsIn = (folder: string): ReadonlyArray<string> => {
  const slash = folder.lastIndexOf("/")
  const [parent, name] = [folder.slice(0, slash), folder.slice(slash + 1)]
  return filesIn(parent)
    .filter((other) => other === name || other.startsWith(`${name}-`))
    .flatMap((other) => filesIn(join(parent, other)).map((file) => join(parent, other, file)))
    .filter((file) => file.endsWith(".sock"))
}

/** The socket of the bridge that is meant: by path, by the settings of that bridge, or the only one there is. */
const socketMeant = Effect.fnUntraced(function* (given: Option.Option<string>) {
  if (Option.isSome(given)) return given.value
  const { folders, bridge } = yield* socketWanted(yield* environment)
  const there = [...new Set(folders.flatMap(socketsIn))]
  if (bridge !== undefined) {
    const name = `${nameFor(bridge)}.sock`
    const path = there.find((file) => file.endsWith(`/${name}`))
    if (path !== undefined) return path
    return yield* new NoDaemon({
      message: `No running bridge with these settings: there is no ${folders.map((folder) => join(folder, name)).join(" nor ")}. Is it running, and may you open its folder? --socket names another one.`
    })
  }
  const [only, ...others] = there
  if (only !== undefined && others.length === 0) return only
  return yield* new NoDaemon({
    message:
      only === undefined
        ? `No running bridge was found in ${folders.join(" nor ")}. Is it running, and may you open its folder? --socket names it.`
        : `Several bridges run here; name one with --socket:\n${there.map((file) => `  ${file}`).join("\n")}`
  })
})

/** Asks the running bridge over its socket. */
export const openDaemon = Effect.fnUntraced(function* (given: Option.Option<string>) {
  const path = yield* socketMeant(given)
  const client = yield* Effect.provide(HttpClient.HttpClient, FetchHttpClient.layer)
  // A call waits as long as the portal lets it, and no proxy of the environment is meant.
  const over: BunFetchRequestInit & { timeout: boolean } = { unix: path, timeout: false, proxy: "" }
  const unreachable = () =>
    new NoDaemon({
      message: `Nobody answers on ${path}: the bridge has ended, or you may not open the file (its owner, its group and root may).`
    })

  const send = Effect.fnUntraced(function* (request: HttpClientRequest.HttpClientRequest) {
    const response = yield* client
      .execute(request)
      .pipe(Effect.provideService(FetchHttpClient.RequestInit, over), Effect.mapError(unreachable))
    if (response.status < 400) return response
    const told = yield* Effect.option(Effect.flatMap(response.json, Schema.decodeUnknownEffect(Refusal)))
    const message = Option.match(told, {
      onNone: () => `the bridge answered ${response.status}`,
      onSome: ({ error }) => error
    })
    return yield* new Refused({ message })
  })

  const readAs =
    <A, I>(schema: Schema.Codec<A, I>) =>
    (response: HttpClientResponse.HttpClientResponse) =>
      Effect.flatMap(response.json, Schema.decodeUnknownEffect(schema)).pipe(
        Effect.mapError(
          () => new Refused({ message: "the bridge is another version than this command; use the same for both" })
        )
      )

  return {
    get: <A, I>(route: string, schema: Schema.Codec<A, I>) =>
      Effect.flatMap(send(HttpClientRequest.get(host + route)), readAs(schema)),
    post: <A, I>(route: string, body: unknown, schema: Schema.Codec<A, I>) =>
      Effect.flatMap(
        send(HttpClientRequest.bodyJsonUnsafe(HttpClientRequest.post(host + route), body)),
        readAs(schema)
      ),
    /** The reports as they come, until the bridge ends. */
    reports: Stream.unwrap(
      Effect.map(send(HttpClientRequest.get(`${host}/events`)), ({ stream }) =>
        stream.pipe(
          Stream.decodeText,
          Stream.splitLines,
          Stream.filter((line) => line.startsWith(data)),
          Stream.mapEffect((line) =>
            Schema.decodeUnknownEffect(Schema.fromJsonString(Report))(line.slice(data.length))
          ),
          Stream.mapError(unreachable)
        )
      )
    )
  }
})

/** Any name would do: the socket is the address. */
const host = "http://b24rmq"
const data = "data: "
