import { Cause, Effect, Option, Redacted, Result, Schedule, type Scope } from "effect"
import { HttpEffect, HttpRouter, type HttpServerRequest } from "effect/http"
import { createHash, timingSafeEqual } from "node:crypto"
import { lstatSync, rmSync } from "node:fs"
import { connect } from "node:net"
import { join } from "node:path"
import { tell } from "../events.ts"
import { isWritable, nameFor } from "../journal/place.ts"
import { type HttpAddress, isLoopback, Settings } from "../settings.ts"
import { page } from "./page.ts"
import { reading, reports } from "./reading.ts"
import { rejected } from "./rejected.ts"
import { steering } from "./steering.ts"

type Handler = (request: Request) => Promise<Response>

/** Between attempts to open what could not be opened: another bridge may have had it, and end. */
const again = Schedule.spaced("5 seconds")

/** Opens the socket for commands and, where it is wanted, the address for readers. Neither ever stops the bridge. */
export const openInterface = Effect.gen(function* () {
  const settings = yield* Settings
  const { http, httpPassword } = settings
  const path = socketPath(settings)
  const report = yield* reports
  const steered = yield* HttpRouter.make
  yield* reading(steered, report)
  yield* steering(steered)
  yield* rejected(steered)
  yield* untilOpen(listenOn(path, yield* handlerOf(steered)), (reason) =>
    tell("socket-failed", { socket: path, reason })
  ).pipe(Effect.andThen(tell("socket-open", { socket: path })), Effect.forkScoped)
  if (http === undefined) return
  const address = `${http.host}:${http.port}`
  const read = yield* HttpRouter.make
  yield* reading(read, report)
  yield* page(read)
  const handler = guarded(http, httpPassword, yield* handlerOf(read))
  yield* untilOpen(listenAt(http, handler), (reason) => tell("http-failed", { address, reason })).pipe(
    Effect.andThen(tell("http-open", { address })),
    Effect.forkScoped
  )
})

/** Its routes as a function of the platform's own requests. */
const handlerOf = (router: HttpRouter.HttpRouter): Effect.Effect<Handler> =>
  Effect.map(Effect.context<never>(), (context) =>
    HttpEffect.toWebHandlerWith<never, HttpServerRequest.HttpServerRequest | Scope.Scope>(context)(
      router.asHttpEffect()
    )
  )

/** The socket of the bridge with these settings. */
const socketPath = (settings: Settings["Service"]) => {
  const { runtimeFolders } = settings
  // Others may look into the folder: who may open the socket is said by the socket.
  const folder = runtimeFolders.find((one) => isWritable(one, 0o755)) ?? runtimeFolders[0] ?? "."
  return join(folder, `${nameFor(settings)}.sock`)
}

/** Tries for ever; what is the same failure again is told once. */
const untilOpen = <E, R>(open: Effect.Effect<void, E, R>, failed: (reason: string) => Effect.Effect<void>) => {
  let told = ""
  return open.pipe(
    Effect.tapCause((cause) => {
      const error = Option.getOrUndefined(Cause.findErrorOption(cause))
      const reason = error instanceof Error ? error.message : String(error ?? Cause.pretty(cause))
      const isNew = reason !== told
      told = reason
      return isNew ? failed(reason) : Effect.void
    }),
    Effect.retry(again)
  )
}

const serve = (options: Parameters<typeof Bun.serve>[0]): Effect.Effect<void, unknown, Scope.Scope> =>
  Effect.asVoid(
    Effect.acquireRelease(
      Effect.try({ try: () => Bun.serve(options), catch: (cause) => cause }),
      // Those who follow the events would never hang up.
      (server) => Effect.promise(() => server.stop(true))
    )
  )

/** Whether somebody answers on a socket. */
const lives = (path: string) =>
  Effect.callback<boolean>((resume) => {
    const socket = connect({ path })
    const end = (alive: boolean) => {
      socket.destroy()
      resume(Effect.succeed(alive))
    }
    socket.once("connect", () => end(true)).once("error", () => end(false))
  })

const inodeOf = (path: string) => Result.getOrUndefined(Result.try(() => lstatSync(path).ino))

/** Who may open the file may steer: its owner and its group. */
const listenOn = (path: string, handler: Handler) =>
  Effect.gen(function* () {
    if (inodeOf(path) !== undefined) {
      if (yield* lives(path)) return yield* Effect.fail(new Error("another process listens there"))
      yield* Effect.sync(() => rmSync(path, { force: true }))
    }
    const before = process.umask(0o117)
    yield* serve({ unix: path, fetch: handler }).pipe(Effect.ensuring(Effect.sync(() => void process.umask(before))))
    const inode = inodeOf(path)
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        if (inodeOf(path) === inode) rmSync(path, { force: true })
      })
    )
  })

const listenAt = ({ host, port }: HttpAddress, handler: Handler) =>
  serve({ hostname: host.replace(/^\[|\]$/g, ""), port, fetch: handler, idleTimeout: 30 })

/** Nothing is loaded from elsewhere, and no other page may show this one or read what it reads. */
const headers: Readonly<Record<string, string>> = {
  "content-security-policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "cross-origin-resource-policy": "same-origin",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
  "cache-control": "no-store"
}

const digest = (text: string) => createHash("sha256").update(text).digest()

/**
 * Only those get through who call this machine by its own name, or a page of somebody else could have its name point here
 * (DNS rebinding); where there is a password, those who know it: a browser tells it to no other name.
 */
const guarded = (address: HttpAddress, password: Redacted.Redacted<string>, handler: Handler): Handler => {
  const secret = Redacted.value(password)
  const expected = digest(secret)
  const refuse = (status: number, text: string, more: Readonly<Record<string, string>> = {}) =>
    new Response(`${text}\n`, { status, headers: { ...headers, ...more } })
  return async (request) => {
    if (secret !== "") {
      const [, credentials = ""] = /^Basic (.+)$/i.exec(request.headers.get("authorization") ?? "") ?? []
      const text = Buffer.from(credentials, "base64").toString("utf8")
      const isRight = timingSafeEqual(digest(text.slice(text.indexOf(":") + 1)), expected)
      if (!isRight || !text.includes(":"))
        return refuse(401, "a password is needed", { "www-authenticate": 'Basic realm="B24RMQ"' })
    } else if (isLoopback(address.host) && !isLoopback(hostIn(request))) {
      return refuse(421, `this is ${address.host}:${address.port}, and it is not known by another name`)
    }
    if (request.method !== "GET" && request.method !== "HEAD") return refuse(405, "nothing can be changed here")
    const response = await handler(request)
    for (const [name, value] of Object.entries(headers))
      if (!response.headers.has(name)) response.headers.set(name, value)
    return response
  }
}

const hostIn = (request: Request) => URL.parse(`http://${request.headers.get("host") ?? ""}`)?.hostname ?? ""
