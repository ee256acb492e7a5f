import { bufferOf } from "../message/bytes.ts"
import type { Request } from "../message/request.ts"
import { spelled, stamperFor } from "./handles.ts"
import { Cursor } from "./json.ts"
import { nameOf } from "./methods.ts"

/** What the bridge calls itself where a source of data is named. */
const source = "b24rmq"

const openMap = 0x7b

/**
 * The request with a name for what it creates, so that it can be found again: for creators that have a field for it and
 * do not carry one, even an empty one. All other bytes stay. The same request gets the same name each time. Left alone
 * are requests without a message_id (two may be alike and yet be meant twice), and bodies whose `fields` is missing,
 * empty, no map, spelled another way or there twice. Pure and total.
 */
export const stamped = (request: Request): Request => {
  const finder = request.messageId === undefined ? undefined : stamperFor(nameOf(request.method), request.parameters)
  if (finder?.stamp === undefined) return request
  // A byte is a character here, so that everything keeps its bytes.
  const text = bufferOf(request.body).toString("latin1")
  const place = placeIn(text)
  if (place === undefined || place.keys.has(spelled(finder.stamp))) return request
  const { beside, stamp } = finder
  const origin = beside === undefined || place.keys.has(spelled(beside)) ? "" : `"${beside}":"${source}",`
  const body = `${text.slice(0, place.at)}${origin}"${stamp}":"${request.id}",${text.slice(place.at)}`
  const bytes = Buffer.from(body, "latin1")
  return { ...request, body: bytes, parameters: JSON.parse(bytes.toString("utf8")), stamped: true }
}

interface Place {
  /** Behind the bracket that opens the fields. */
  readonly at: number
  /** Their names, spelled alike. */
  readonly keys: ReadonlySet<string>
}

const placeIn = (text: string): Place | undefined => {
  const cursor = new Cursor(text)
  const keys = new Set<string>()
  let at: number | undefined
  const whole = cursor.entries((key) => {
    if (key.toLowerCase() !== "fields") {
      cursor.skip()
      return true
    }
    if (key !== "fields" || at !== undefined || cursor.peek() !== openMap) return false
    at = cursor.at + 1
    return cursor.entries((field) => {
      keys.add(spelled(field))
      cursor.skip()
      return true
    })
  })
  return whole && at !== undefined && keys.size > 0 ? { at, keys } : undefined
}
