import { hash } from "node:crypto"
import { namesIn } from "../message/request.ts"
import { copyOf, type Raw } from "./raw.ts"

/** Why a request is kept: the code of its answer, and what that says to a person. */
export interface Why {
  readonly code: string
  readonly text: string
}

/** What is written on a request when it is kept. */
export interface Note extends Why {
  /** Tells it from all others that are kept. */
  readonly id: string
  /** Milliseconds since 1970. */
  readonly at: number
  /** The queue that it came from, and goes back to. */
  readonly queue: string
}

/** A request that is kept, as an operator sees it. Holds no token. */
export interface Entry extends Omit<Note, "at"> {
  /** Undefined where somebody else has put it there. */
  readonly at: number | undefined
  readonly messageId: string | undefined
  readonly correlationId: string | undefined
  readonly method: string | undefined
  readonly user: string | undefined
  readonly credential: string | undefined
  readonly bytes: number
  /** The replay that it has come back from. */
  readonly replay: string | undefined
}

/** Its id is its own: what somebody else has put there may be alike. */
export const isOurs = ({ at }: Entry) => at !== undefined

/** Which of those that are kept are meant; what is not given means all. */
export interface Filter {
  readonly id?: string | undefined
  readonly code?: string | undefined
  /** A star at its end covers any ending. */
  readonly method?: string | undefined
  readonly user?: string | undefined
  readonly messageId?: string | undefined
  /** Kept before this time, in milliseconds since 1970. */
  readonly before?: number | undefined
  /** Kept at this time or later. */
  readonly since?: number | undefined
}

/** The header by which a replayed request is recognised: names the replay and the entry. */
export const replayHeader = "x-b24rmq-replay"

/** Longer texts are cut: they stand in a header, and some come from the portal. */
const longestText = 500

const headersOf = (note: Note | undefined) => ({
  "x-b24rmq-rejected-id": note?.id,
  "x-b24rmq-rejected-code": note?.code,
  "x-b24rmq-rejected-reason": note?.text.slice(0, longestText).toWellFormed(),
  "x-b24rmq-rejected-at": note && new Date(note.at).toISOString(),
  "x-b24rmq-rejected-queue": note?.queue
})

/** Whatever else the bridge has written on it belongs to where it comes from. */
const bare = ({ headers, properties }: Raw) => ({ ...properties, headers })

/** A request as it is kept. The header of a replay stays: it tells where it has come back from. */
export const keptCopy = (raw: Raw, note: Note) => copyOf(bare(raw), headersOf(note))

/**
 * A request that was kept, as it goes back to its queue at this time, in milliseconds since 1970: whoever replays it wants it
 * as of now, however old it is.
 */
export const replayedCopy = (raw: Raw, replay: string, at: number) => ({
  ...copyOf(bare(raw), { ...headersOf(undefined), [replayHeader]: replay }),
  timestamp: Math.floor(at / 1_000)
})

const textIn = ({ headers }: Raw, name: string): string | undefined => {
  const value = Object.hasOwn(headers, name) ? headers[name] : undefined
  return typeof value === "string" ? value : undefined
}

/** What is written on a replayed request, or undefined. */
export const replayOf = (raw: Raw): string | undefined => textIn(raw, replayHeader)

/** A portal's words may repeat what it was sent. */
const withoutToken = (text: string, token: string | undefined) => (token ? text.replaceAll(token, "...") : text)

/** A name for what somebody else has put there: the same each time, and the same for two that are alike. */
const nameOf = ({ body, messageId }: Raw) =>
  hash("sha256", Buffer.concat([Buffer.from(`${messageId} `), body])).slice(0, 10)

/** Reads what is kept. */
export const entryOf = (raw: Raw): Entry => {
  const at = Date.parse(textIn(raw, "x-b24rmq-rejected-at") ?? "")
  return {
    id: textIn(raw, "x-b24rmq-rejected-id") ?? nameOf(raw),
    code: textIn(raw, "x-b24rmq-rejected-code") ?? "",
    text: withoutToken(textIn(raw, "x-b24rmq-rejected-reason") ?? "", textIn(raw, "token")),
    at: Number.isNaN(at) ? undefined : at,
    queue: textIn(raw, "x-b24rmq-rejected-queue") ?? "",
    messageId: raw.messageId,
    correlationId: raw.correlationId,
    ...namesIn(raw),
    bytes: raw.body.length,
    replay: replayOf(raw)
  }
}

const covers = (pattern: string, method: string | undefined) => {
  const name = method?.toLowerCase()
  const wanted = pattern.toLowerCase()
  return wanted.endsWith("*") ? (name ?? "").startsWith(wanted.slice(0, -1)) : name === wanted
}

/** Whether a filter means an entry. */
export const fits = (filter: Filter, entry: Entry): boolean => {
  const { id, code, method, user, messageId, before, since } = filter
  return (
    (id === undefined || id === entry.id) &&
    (code === undefined || code === entry.code) &&
    (method === undefined || covers(method, entry.method)) &&
    (user === undefined || user === entry.user) &&
    (messageId === undefined || messageId === entry.messageId) &&
    (before === undefined || (entry.at !== undefined && entry.at < before)) &&
    (since === undefined || (entry.at !== undefined && entry.at >= since))
  )
}
