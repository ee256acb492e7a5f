import { Clock, Effect, Schedule, Stream } from "effect"
import { type HttpRouter, HttpServerRequest, HttpServerResponse } from "effect/http"
import packaged from "../../package.json" with { type: "json" }
import { readyOf, reportOf } from "./cause.ts"
import { prometheus } from "./metrics.ts"
import { Overview } from "./overview.ts"

/** Those who may follow the events at once: a page is one, and a forgotten one is one, too. */
const mostListeners = 16

/** How long a report is good for, in milliseconds. */
const fresh = 250

/** Between two reports to those who follow, in milliseconds. */
const between = 1_000

/** Less than a step of the history, in milliseconds. */
const slack = 1_000

/** A response that is not to be kept by anybody. */
export const json = (body: unknown, status = 200) =>
  HttpServerResponse.text(JSON.stringify(body), { status, contentType: "application/json" })

/** What a command is told when it cannot be done; the reason is for a person. */
export const refusal = (error: string, status = 409) => json({ error }, status)

export const badBody = Effect.succeed(refusal("the request is not as this version of the program sends it", 400))

/** The last report: one for all who read, whichever way, so that it is made and written once. */
export const reports = Effect.gen(function* () {
  const overview = yield* Overview
  let last: { readonly at: number; readonly text: string; readonly event: Uint8Array } | undefined
  let listeners = 0

  const make = Effect.gen(function* () {
    yield* overview.attend
    const at = yield* Clock.currentTimeMillis
    const text = JSON.stringify(reportOf(yield* overview.status))
    return (last = { at, text, event: Buffer.from(`data: ${text}\n\n`) })
  })

  /** While anybody follows all get what was told last: whoever compares two of them sees the same. */
  const now = Effect.flatMap(Clock.currentTimeMillis, (at) =>
    last !== undefined && at - last.at < (listeners > 0 ? between : fresh) ? Effect.succeed(last) : make
  )

  return {
    now,
    /** One each second; undefined where too many follow already. */
    follow: () => {
      if (listeners >= mostListeners) return undefined
      listeners++
      return Stream.fromEffect(now).pipe(
        Stream.repeat(Schedule.spaced(between)),
        Stream.ensuring(Effect.sync(() => void listeners--))
      )
    }
  }
})

/** What may be read by whoever may read: nothing here changes anything, or shows a secret. */
export const reading = Effect.fnUntraced(function* (
  router: HttpRouter.HttpRouter,
  report: Effect.Success<typeof reports>
) {
  const overview = yield* Overview
  const metrics = Effect.provide(prometheus, yield* Effect.context<Effect.Services<typeof prometheus>>())

  yield* router.add(
    "GET",
    "/status",
    Effect.map(report.now, ({ text }) => HttpServerResponse.text(text, { contentType: "application/json" }))
  )
  yield* router.add(
    "GET",
    "/history",
    Effect.gen(function* () {
      const { url } = yield* HttpServerRequest.HttpServerRequest
      const after = Number(new URL(url, "http://b24rmq").searchParams.get("after") ?? -Infinity)
      const points = yield* overview.history
      // The wall clock is read anew each time: the same point may come out a little later.
      return json(points.filter(({ at }) => at - slack > after))
    })
  )
  yield* router.add(
    "GET",
    "/metrics",
    Effect.map(metrics, (text) =>
      HttpServerResponse.text(text, { contentType: "text/plain; version=0.0.4; charset=utf-8" })
    )
  )
  yield* router.add("GET", "/health", Effect.succeed(json({ alive: true, version: packaged.version })))
  yield* router.add(
    "GET",
    "/ready",
    Effect.map(overview.status, (status) => {
      const ready = readyOf(status)
      return json(ready, ready.ready ? 200 : 503)
    })
  )
  yield* router.add(
    "GET",
    "/events",
    Effect.sync(() => {
      const followed = report.follow()
      if (followed === undefined) return json({ error: `${mostListeners} follow already; close one of them` }, 503)
      const events = Stream.map(followed, ({ event }) => event)
      return HttpServerResponse.stream(events, { contentType: "text/event-stream" })
    })
  )
})
