/** One request as it came over the wire. */
export interface WireRequest {
  readonly verb: string
  /** Path and query, not decoded. */
  readonly target: string
  /** By name in lower case; a header sent twice is joined with a comma. */
  readonly headers: ReadonlyMap<string, string>
  readonly body: Uint8Array
  readonly remoteAddress: string
  /** The connection it came by. */
  readonly peer: {
    /** Runs something once the connection is gone, or at once where it is. */
    readonly whenGone: (run: () => void) => void
  }
}

/** How an answer is written, where it is not simply written. */
export type Manner =
  | { readonly kind: "cut"; readonly after: number; readonly chunked: boolean; readonly reset: boolean }
  | { readonly kind: "trickle"; readonly bytes: number; readonly every: number }
  | { readonly kind: "closeIdle"; readonly after: number; readonly reset: boolean }

export interface Reply {
  readonly status: number
  /** Whole lines, each ended by CR LF. */
  readonly headers: string
  /** A string is ASCII: the portal's JSON always is. */
  readonly body: string | Uint8Array
  readonly manner?: Manner
}

/** What comes back for a request: an answer, or one of the ways in which none comes. */
export type Delivery = Reply | "reset" | "close" | "never"

export type Answerer = (request: WireRequest) => Delivery | Promise<Delivery>

const reasons: Readonly<Record<number, string>> = {
  200: "OK",
  302: "Found",
  400: "Bad Request",
  401: "Unauthorized",
  402: "Payment Required",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  413: "Request Entity Too Large",
  414: "Request-URI Too Large",
  422: "Unprocessable Entity",
  429: "Too Many Requests",
  500: "Internal Server Error",
  502: "Bad Gateway",
  503: "Service Temporarily Unavailable",
  504: "Gateway Time-out"
}

export const reasonOf = (status: number): string => reasons[status] ?? "Unknown"

/** The head of a request. */
export interface Head {
  readonly verb: string
  readonly target: string
  readonly headers: ReadonlyMap<string, string>
  readonly keepAlive: boolean
  readonly length: number
  readonly chunked: boolean
}

/** Reads a head without its empty line; nothing where it is none. */
export const readHead = (text: string): Head | undefined => {
  const lines = text.split("\r\n")
  const [verb, target, version] = (lines[0] ?? "").split(" ")
  if (verb === undefined || target === undefined || version === undefined || !version.startsWith("HTTP/1.")) {
    return undefined
  }
  const headers = new Map<string, string>()
  for (let at = 1; at < lines.length; at++) {
    const line = lines[at] ?? ""
    const colon = line.indexOf(":")
    if (colon <= 0) return undefined
    const name = line.slice(0, colon).toLowerCase()
    const value = line.slice(colon + 1).trim()
    const earlier = headers.get(name)
    headers.set(name, earlier === undefined ? value : `${earlier}, ${value}`)
  }
  const connection = headers.get("connection")?.toLowerCase()
  const length = headers.get("content-length") ?? "0"
  if (!/^\d+$/.test(length)) return undefined
  return {
    verb,
    target,
    headers,
    keepAlive: version === "HTTP/1.1" ? connection !== "close" : connection === "keep-alive",
    length: Number(length),
    chunked: headers.get("transfer-encoding")?.toLowerCase() === "chunked"
  }
}

/** The body out of its chunks: `undefined` while it is not complete, `null` where the framing is broken. */
export const readChunks = (bytes: Buffer): { readonly body: Uint8Array; readonly used: number } | undefined | null => {
  const parts: Array<Uint8Array> = []
  for (let at = 0; ;) {
    const line = bytes.indexOf("\r\n", at)
    if (line < 0) return undefined
    const size = Number.parseInt(bytes.toString("latin1", at, line), 16)
    if (!Number.isInteger(size) || size < 0) return null
    const start = line + 2
    if (size === 0) {
      const trailer = bytes.indexOf("\r\n", start)
      return trailer < 0 ? undefined : { body: Buffer.concat(parts), used: trailer + 2 }
    }
    if (bytes.length < start + size + 2) return undefined
    parts.push(bytes.subarray(start, start + size))
    at = start + size + 2
  }
}
