import { Result } from "effect"
import { readCredentials, readDown, readFaults, readLatency, readLimits } from "./controlBodies.ts"
import type { Core } from "./core.ts"
import type { Door } from "./door.ts"
import type { Reply, WireRequest } from "./http.ts"

const loopback = /^(?:127\.|::1$|::ffff:127\.)/

const answer = (status: number, body: unknown): Reply => ({
  status,
  headers: "Content-Type: application/json\r\n",
  body: Buffer.from(JSON.stringify(body))
})

const done = answer(200, { ok: true })

interface Order {
  readonly core: Core
  readonly door: Door
  readonly body: unknown
  readonly query: URLSearchParams
}

type Route = (order: Order) => Reply

const taking =
  <A>(read: (body: unknown) => Result.Result<A, string>, act: (read: A, order: Order) => unknown): Route =>
  (order) =>
    Result.match(read(order.body), {
      onFailure: (error) => answer(400, { error }),
      onSuccess: (value) => answer(200, act(value, order) ?? { ok: true })
    })

const state = ({ core }: Order): Reply =>
  answer(200, {
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

const executions = ({ core, query }: Order): Reply => {
  const method = query.get("method") ?? undefined
  const key = query.get("key") ?? undefined
  const found = core.executions
    .all()
    .filter((one) => (method === undefined || one.method === method) && (key === undefined || one.key === key))
  return answer(200, {
    count: core.executions.count(method, key),
    doubles: core.executions.doubles(),
    // A secret is for a test to match, not for whoever reads this.
    executions: found
      .slice(-1000)
      .map(({ at, user, method, key, write, error }) => ({ at, user, method, key, write, error }))
  })
}

const routes: Readonly<Record<string, Route>> = {
  "GET /_/": state,
  "GET /_/faults": ({ core }) => answer(200, core.faults.list()),
  "POST /_/faults": taking(readFaults, (faults, { core }) => {
    for (const fault of "kind" in faults ? [faults] : faults) core.faults.add(fault)
    return core.faults.list()
  }),
  "DELETE /_/faults": ({ core }) => {
    core.faults.clear()
    return done
  },
  "GET /_/limits": ({ core }) => answer(200, core.limitsNow),
  "PUT /_/limits": taking(readLimits, (limits, { core }) => {
    core.limit(limits)
    return core.limitsNow
  }),
  "PUT /_/latency": taking(readLatency, (latency, { core }) => {
    core.performer.latency = latency
  }),
  "PUT /_/credentials": taking(readCredentials, ({ standings = {}, onlyKnown, revision }, { core }) => {
    for (const [name, standing] of Object.entries(standings)) core.credentials.set(name, standing)
    if (onlyKnown === true) core.credentials.acceptOnlyKnown()
    if (revision !== undefined) core.credentials.answerAs(revision)
  }),
  "GET /_/executions": executions,
  "POST /_/down": taking(readDown, ({ ms }, { door }) => {
    // Its own answer still has to leave by that door.
    setTimeout(() => door.closeFor(ms), 20)
  }),
  "POST /_/reset": ({ core }) => {
    core.reset()
    return done
  }
}

/** Whether a request is for the control of the sandbox: no portal has such a path. */
export const isControl = (request: WireRequest): boolean => request.target.startsWith("/_/")

const readBody = (request: WireRequest): Result.Result<unknown, Reply> => {
  const text = Buffer.from(request.body).toString()
  if (text === "") return Result.succeed(undefined)
  // A web page can send a form to this address unasked, but not JSON.
  if (!(request.headers.get("content-type") ?? "").startsWith("application/json")) {
    return Result.fail(answer(415, { error: "the body must be application/json" }))
  }
  return Result.try({
    try: (): unknown => JSON.parse(text),
    catch: () => answer(400, { error: "the body is not JSON" })
  })
}

/**
 * The control of a portal that runs on its own: JSON in, JSON out, for this machine only.
 *
 * `GET /_/` shows its state; `GET|POST|DELETE /_/faults`, `GET|PUT /_/limits`, `PUT /_/latency`, `PUT /_/credentials`,
 * `GET /_/executions?method=&key=`, `POST /_/down {"ms"}` and `POST /_/reset` do what their names say. What is not
 * understood is refused with the reason, and changes nothing.
 */
export const control = (core: Core, door: Door, request: WireRequest): Reply => {
  if (!loopback.test(request.remoteAddress)) return answer(403, { error: "the control answers to this machine only" })
  const url = URL.parse(request.target, "http://localhost")
  const route = routes[`${request.verb} ${url?.pathname}`]
  if (url === null || route === undefined)
    return answer(404, { error: "no such control", controls: Object.keys(routes) })
  return Result.match(readBody(request), {
    onFailure: (refusal) => refusal,
    onSuccess: (body) => route({ core, door, body, query: url.searchParams })
  })
}
