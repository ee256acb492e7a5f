import { Context, Duration, Effect, Layer, Redacted } from "effect"
import { rootCertificates } from "node:tls"
import type { Request } from "../message/request.ts"
import { Settings } from "../settings.ts"
import { judge, moved, type Outcome, oversized, Unavailable, Unknown } from "./outcome.ts"

/** What one call needs to know of a request. */
export type Call = Pick<Request, "method" | "user" | "token" | "body"> & {
  /**
   * Sent as `Idempotency-Key`: under `/rest/api/` a repeat with the same key and body is answered from the portal's memory
   * (bitrix24/b24restdocs:api-reference/rest-v3.md). 1 to 255 printable ASCII characters.
   */
  readonly key?: string | undefined
}

/** The one place that speaks HTTP with the portal. No address, and so no token, ever leaves it. */
export class Portal extends Context.Service<
  Portal,
  {
    /** Sends a call once. Total: however it ends, it ends as an Outcome. An interrupted call is given up. */
    readonly call: (call: Call) => Effect.Effect<Outcome>
    /** Asks `server.time` without a credential: whatever a portal would say to that proves that it lives. */
    readonly probe: Effect.Effect<Outcome>
  }
>()("b24rmq/Portal") {
  static readonly layer = Layer.effect(
    Portal,
    Effect.suspend(() => open)
  )
}

/** How much longer than the portal's own limit a call is waited for: giving up early makes a slow success unknown. */
const patience = Duration.seconds(10)

const probeLimit = Duration.seconds(10)
const noParameters = Buffer.from("{}")

/** Codes of `fetch` on Bun that mean: no byte of the request left. All others leave it open whether it was executed. */
const notSent = new Set([
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EAI_FAIL",
  "EAI_NODATA",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENETDOWN",
  "EPROTO",
  "ERR_PROXY_TUNNEL",
  "ERR_TLS_CERT_ALTNAME_INVALID",
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "SELF_SIGNED_CERT_IN_CHAIN",
  "UNABLE_TO_GET_ISSUER_CERT",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
  "CERT_HAS_EXPIRED",
  "CERT_NOT_YET_VALID",
  "CERT_REVOKED",
  "CERT_UNTRUSTED"
])

/** Only the code is kept of an error: message and other fields of `fetch` errors hold the address, with the token. */
const failed = (cause: unknown): Outcome => {
  const code = typeof cause === "object" && cause !== null && "code" in cause ? String(cause.code) : "no answer"
  return notSent.has(code)
    ? Unavailable({ reason: code, alarm: undefined })
    : Unknown({ reason: code, status: undefined, silent: true, timedOut: false })
}

const late = Unknown({ reason: "no answer in time", status: undefined, silent: true, timedOut: true })

/**
 * Reads a body; undefined if it has more than `limit` bytes. A compressed one may grow while it is read, so that only
 * the length of a plain one can be trusted.
 */
const readBody = async (response: Response, limit: number): Promise<Uint8Array | undefined> => {
  const length = response.headers.get("content-length")
  if (length !== null && !response.headers.has("content-encoding") && Number(length) <= limit) return response.bytes()
  const parts: Array<Uint8Array> = []
  let size = 0
  for await (const part of response.body ?? []) {
    size += part.length
    if (size > limit) return undefined // leaving the loop cancels the stream
    parts.push(part)
  }
  return Buffer.concat(parts)
}

const skipsProxy = (host: string, entries: ReadonlyArray<string>) =>
  entries.some((entry) => {
    const name = entry.replace(/^\*?\./, "")
    return entry === "*" || host === name || host.endsWith(`.${name}`)
  })

type Sent = Pick<Call, "body" | "key">

const open = Effect.gen(function* () {
  const settings = yield* Settings
  const base = settings.b24Rest
  const limit = settings.maxAnswer
  const deadline = Duration.sum(settings.portalLimit, patience)
  const proxy = Redacted.value(settings.proxy)
  const init = {
    method: "POST",
    // A redirected POST would become a GET without its parameters (bitrix24/b24restdocs: change-domen.md).
    redirect: "manual",
    headers: { "content-type": "application/json", accept: "application/json", "user-agent": "B24RMQ" },
    // Bun ends a silent fetch after five minutes by itself; the deadline here is ours.
    timeout: false,
    ...(settings.authorities.length === 0 ? {} : { tls: { ca: [...rootCertificates, ...settings.authorities] } }),
    proxy: base.protocol === "https:" && proxy !== "" && !skipsProxy(base.hostname, settings.noProxy) ? proxy : ""
  } satisfies BunFetchRequestInit & { timeout: boolean }

  const send = async (address: string, sent: Sent, signal: AbortSignal): Promise<Outcome> => {
    const { body, key } = sent
    const headers = key === undefined ? init.headers : { ...init.headers, "idempotency-key": key }
    const response = await fetch(address, { ...init, headers, body, signal })
    const { status } = response
    if (status >= 300 && status < 400) return moved(status, response.headers.get("location"))
    const answer = await readBody(response, limit)
    return answer === undefined ? oversized(status) : judge(status, answer)
  }

  // A plain timer: Effect.timeout runs two more fibers for each call, a third of what a call costs.
  const ask = (address: string, sent: Sent, within: Duration.Duration): Effect.Effect<Outcome> =>
    Effect.callback((resume) => {
      const abort = new AbortController()
      const end = (outcome: Outcome) => {
        clearTimeout(timer)
        resume(Effect.succeed(outcome))
      }
      const giveUp = () => {
        end(late)
        abort.abort()
      }
      const timer = setTimeout(giveUp, Duration.toMillis(within))
      send(address, sent, abort.signal).then(end, (cause) => end(failed(cause)))
      return Effect.sync(giveUp)
    })

  return Portal.of({
    call: ({ method, user, token, body, key }) =>
      ask(`${base.href}${user}/${Redacted.value(token)}/${method}`, { body, key }, deadline),
    probe: ask(`${base.href}server.time`, { body: noParameters }, Duration.min(probeLimit, deadline))
  })
})
