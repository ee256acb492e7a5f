import { Effect } from "effect"
import { connect } from "node:net"
import type { Portal } from "../../../src/sandbox/portal/server.ts"

export interface Answered {
  readonly status: number
  readonly headers: Headers
  readonly text: string
  /** The body as JSON, `undefined` where it is none. */
  readonly json: unknown
}

const parsed = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** A request to any address; it fails with the code of the system's error. */
export const ask = (url: string, init: RequestInit = {}): Effect.Effect<Answered, string> =>
  Effect.tryPromise({
    try: async (signal) => {
      const response = await fetch(url, { redirect: "manual", signal, ...init })
      const text = await response.text()
      return { status: response.status, headers: response.headers, text, json: parsed(text) }
    },
    catch: (error) => (error instanceof Error && "code" in error ? String(error.code) : String(error))
  })

/** A POST of JSON; a text is sent as it is. */
export const post = (url: string, body: unknown, headers: Readonly<Record<string, string>> = {}) =>
  ask(url, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: typeof body === "string" ? body : JSON.stringify(body)
  })

/** A v2 call by the portal's usual webhook. */
export const call = (portal: Portal, method: string, body: unknown = {}) => post(portal.webhook() + method, body)

/** A v3 call. */
export const callThird = (
  portal: Portal,
  method: string,
  body: unknown = {},
  headers?: Readonly<Record<string, string>>
) => post(`${portal.origin}/rest/api/1/sandbox/${method}`, body, headers)

/** What a method answered: its status and its JSON without the time block, which no two calls share. */
export const said = ({ status, json }: Answered): unknown => {
  if (typeof json !== "object" || json === null) return [status, json]
  const { time: _time, ...rest } = json as Record<string, unknown>
  return [status, rest]
}

/** The `result` of an answer. */
export const result = ({ json }: Answered): unknown =>
  typeof json === "object" && json !== null && "result" in json ? json.result : undefined

/** The rows of a list. */
export const rows = (answered: Answered): ReadonlyArray<unknown> => {
  const found = result(answered)
  return Array.isArray(found) ? found : []
}

/** What a bare socket sees: the bytes, and how the connection ended. */
export interface Seen {
  readonly text: string
  readonly end: "end" | "ECONNRESET" | "open"
}

/** Sends bytes over a socket of its own and reads until the connection ends, or until `enough` has come. */
export const over = (
  port: number,
  bytes: string | ReadonlyArray<string | Uint8Array>,
  enough: (text: string) => boolean = () => false
): Effect.Effect<Seen> =>
  Effect.callback<Seen>((resume) => {
    let text = ""
    const socket = connect(port, "127.0.0.1", () => {
      for (const part of typeof bytes === "string" ? [bytes] : bytes) socket.write(part)
    })
    const done = (end: Seen["end"]): void => {
      resume(Effect.succeed({ text, end }))
      socket.destroy()
    }
    socket.setNoDelay(true)
    socket.on("data", (data) => {
      text += data.toString("latin1")
      if (enough(text)) done("open")
    })
    socket.on("end", () => done("end"))
    socket.on("error", (error) => done("code" in error && error.code === "ECONNRESET" ? "ECONNRESET" : "end"))
    return Effect.sync(() => socket.destroy())
  })

/** A request of JSON as bytes. */
export const request = (path: string, body: string, headers = ""): string =>
  `POST ${path} HTTP/1.1\r\nHost: portal\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n${headers}\r\n${body}`
