import type { Core } from "./core.ts"
import type { Door } from "./door.ts"
import type { Revision, Standing } from "./credentials.ts"
import type { Fault } from "./faults.ts"
import type { Reply, WireRequest } from "./http.ts"
import type { LimitOptions } from "./limits.ts"
import type { Latency } from "./registry.ts"

const loopback = /^(?:127\.|::1$|::ffff:127\.)/

const answer = (status: number, body: unknown): Reply => ({
  status,
  headers: "Content-Type: application/json\r\n",
  body: Buffer.from(JSON.stringify(body))
})

const done = answer(200, { ok: true })

const faultKinds = new Set([
  "html",
  "empty",
  "answer",
  "notJson",
  "redirect",
  "reset",
  "close",
  "hang",
  "cut",
  "trickle",
  "closeIdle",
  "notUtf8",
  "gzip",
  "huge",
  "slow",
  "slowMethod"
])

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const isFault = (value: unknown): value is Fault =>
  isRecord(value) && typeof value["kind"] === "string" && faultKinds.has(value["kind"])

const state = (core: Core) => ({
  requests: core.requests,
  inFlight: core.inFlight,
  maxInFlight: core.maxInFlight,
  executed: core.executions.count(),
  refusals: Object.fromEntries(core.performer.refusals),
  doubles: core.executions.doubles(),
  faults: core.faults.list(),
  limits: core.limitsNow,
  latency: core.performer.latency
})

type Route = (core: Core, door: Door, body: unknown, query: URLSearchParams) => Reply | undefined

// Nothing that a route does not understand is half done: it answers 400 and changes nothing.
const routes: Readonly<Record<string, Route>> = {
  "GET /_/": (core) => answer(200, state(core)),
  "GET /_/faults": (core) => answer(200, core.faults.list()),
  "POST /_/faults": (core, _, body) => {
    const faults = Array.isArray(body) ? body : [body]
    if (!faults.every(isFault)) return undefined
    for (const fault of faults) core.faults.add(fault)
    return answer(200, core.faults.list())
  },
  "DELETE /_/faults": (core) => (core.faults.clear(), done),
  "GET /_/limits": (core) => answer(200, core.limitsNow),
  "PUT /_/limits": (core, _, body) => {
    if (!isRecord(body)) return undefined
    core.limit(body as LimitOptions)
    return answer(200, core.limitsNow)
  },
  "PUT /_/latency": (core, _, body) => {
    if (typeof body !== "number" && !isRecord(body)) return undefined
    core.performer.latency = body as Latency
    return done
  },
  "PUT /_/credentials": (core, _, body) => {
    if (!isRecord(body)) return undefined
    const { onlyKnown, revision, ...standings } = body
    if (onlyKnown === true) core.credentials.acceptOnlyKnown()
    if (revision === "earlier" || revision === "later") core.credentials.answerAs(revision satisfies Revision)
    for (const [name, standing] of Object.entries(standings)) core.credentials.set(name, standing as Standing)
    return done
  },
  "GET /_/executions": (core, _, __, query) => {
    const method = query.get("method") ?? undefined
    const key = query.get("key") ?? undefined
    const found = core.executions
      .all()
      .filter((one) => (method === undefined || one.method === method) && (key === undefined || one.key === key))
    return answer(200, {
      count: core.executions.count(method, key),
      doubles: core.executions.doubles(),
      // The secret is a matter between a test and its portal, not of a log that somebody reads.
      executions: found
        .slice(-1000)
        .map(({ at, user, method, key, write, error }) => ({ at, user, method, key, write, error }))
    })
  },
  "POST /_/down": (_, door, body) => {
    const ms = isRecord(body) ? body["ms"] : undefined
    if (typeof ms !== "number" || !(ms > 0)) return undefined
    // Its own answer still has to leave by that door.
    setTimeout(() => door.closeFor(ms), 20)
    return done
  },
  "POST /_/reset": (core) => (core.reset(), done)
}

/** Whether a request is for the control of the sandbox: no portal has such a path. */
export const isControl = (request: WireRequest): boolean => request.target.startsWith("/_/")

/**
 * The control of a portal that runs on its own: JSON in, JSON out, for this machine only.
 *
 * `GET /_/` shows its state; `GET|POST|DELETE /_/faults`, `GET|PUT /_/limits`, `PUT /_/latency`, `PUT /_/credentials`,
 * `GET /_/executions?method=&key=`, `POST /_/down {"ms"}` and `POST /_/reset` do what their names say.
 */
export const control = (core: Core, door: Door, request: WireRequest): Reply => {
  if (!loopback.test(request.remoteAddress)) return answer(403, { error: "the control answers to this machine only" })
  const url = URL.parse(request.target, "http://localhost")
  const route = routes[`${request.verb} ${url?.pathname}`]
  if (url === null || route === undefined)
    return answer(404, { error: "no such control", controls: Object.keys(routes) })
  const text = Buffer.from(request.body).toString()
  // A web page can send a form to this address unasked, but not JSON.
  const isJson = (request.headers.get("content-type") ?? "").startsWith("application/json")
  if (text !== "" && !isJson) return answer(415, { error: "the body must be application/json" })
  try {
    const body: unknown = text === "" ? undefined : JSON.parse(text)
    return (
      route(core, door, body, url.searchParams) ?? answer(400, { error: "the body is not what this control takes" })
    )
  } catch {
    return answer(400, { error: "the body is not JSON" })
  }
}
