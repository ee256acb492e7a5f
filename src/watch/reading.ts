import { Clock, Effect, Schedule, Stream } from "effect"
import { type HttpRouter, HttpServerResponse } from "effect/http"
import packaged from "../../package.json" with { type: "json" }
import { readyOf, type Report, reportOf } from "./cause.ts"
import { prometheus } from "./metrics.ts"
import { Overview } from "./overview.ts"

/** Those who may follow the events at once: a page is one, and a forgotten one is one, too. */
const mostListeners = 16

/** How long a report is good for, in milliseconds: all who follow get the same. */
const fresh = 500

/** A response that is not to be kept by anybody. */
export const json = (body: unknown, status = 200) =>
  HttpServerResponse.text(JSON.stringify(body), { status, contentType: "application/json" })

/** What may be read by whoever may read: nothing here changes anything, or shows a secret. */
export const reading = Effect.fnUntraced(function* (router: HttpRouter.HttpRouter) {
  const overview = yield* Overview
  const metrics = Effect.provide(prometheus, yield* Effect.context<Effect.Services<typeof prometheus>>())
  let listeners = 0
  let last: { readonly at: number; readonly text: string; readonly report: Report } | undefined

  const report = Effect.gen(function* () {
    yield* overview.attend
    const at = yield* Clock.currentTimeMillis
    if (last !== undefined && at - last.at < fresh) return last
    const report = reportOf(yield* overview.status)
    last = { at, report, text: JSON.stringify(report) }
    return last
  })

  yield* router.add(
    "GET",
    "/status",
    Effect.map(report, ({ text }) => HttpServerResponse.text(text, { contentType: "application/json" }))
  )
  yield* router.add(
    "GET",
    "/history",
    Effect.map(overview.history, (points) => json(points))
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
      if (listeners >= mostListeners) return json({ error: `${mostListeners} follow already; close one of them` }, 503)
      listeners++
      const events = Stream.fromEffect(report).pipe(
        Stream.repeat(Schedule.spaced("1 second")),
        Stream.map(({ text }) => `data: ${text}\n\n`),
        Stream.encodeText,
        Stream.ensuring(Effect.sync(() => void listeners--))
      )
      return HttpServerResponse.stream(events, { contentType: "text/event-stream" })
    })
  )
})
