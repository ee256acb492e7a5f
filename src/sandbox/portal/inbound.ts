import type { Credential } from "./credentials.ts"
import { decodeJson } from "./json.ts"
import { parseMultipart, parseStr, textOfBytes } from "./php.ts"
import { at, Entries, entriesOf, isPhpArray, textOf, type Value } from "./value.ts"
import type { WireRequest } from "./http.ts"

/** Where a request is addressed to. */
export interface Address {
  readonly version: 2 | 3
  readonly method: string
  readonly format: "json" | "xml"
  /** From the path; an application's is among the parameters. */
  readonly webhook: Credential | undefined
  readonly query: string
}

const decodePath = (text: string): string => {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

/** Takes the address of a request apart; nothing for what lies outside `/rest/`. */
export const addressOf = (target: string): Address | undefined => {
  const mark = target.indexOf("?")
  const path = mark < 0 ? target : target.slice(0, mark)
  const query = mark < 0 ? "" : target.slice(mark + 1)
  const parts = path.split("/")
  if (parts[0] !== "" || parts[1] !== "rest") return undefined
  if (parts.at(-1) === "") parts.pop()
  const version = parts[2] === "api" ? 3 : 2
  const rest = parts.slice(version === 3 ? 3 : 2).map(decodePath)
  if (rest.length > 3) return undefined
  const [user, secret] = rest
  const webhook: Credential | undefined =
    rest.length >= 2 && user !== undefined && secret !== undefined ? { kind: "webhook", user, secret } : undefined
  const name = rest.length === 2 ? "" : (rest.at(-1) ?? "")
  // Version 3 knows no suffix: it would be part of the name, and so of no method.
  const suffix = version === 2 ? /^(.+)\.(json|xml)$/.exec(name) : null
  return {
    version,
    method: suffix?.[1] ?? name,
    format: suffix?.[2] === "xml" ? "xml" : "json",
    webhook,
    query
  }
}

const contentType = (request: WireRequest): { readonly type: string; readonly boundary: string } => {
  const header = request.headers.get("content-type") ?? ""
  return {
    type: (header.split(";")[0] ?? "").trim(),
    boundary: /boundary="?([^";]+)/i.exec(header)?.[1] ?? ""
  }
}

/**
 * The parameters in a v2 body. Broken JSON is no error: the method runs without parameters. A body of any type but JSON
 * is read as a query string.
 */
const bodyOf = (request: WireRequest): Value => {
  if (request.body.length === 0 || request.verb !== "POST") return []
  const { type, boundary } = contentType(request)
  const text = textOfBytes(request.body)
  if (type === "application/json") {
    // The portal trims what PHP's `trim` does, which is more than JSON's white space.
    // oxlint-disable-next-line no-control-regex
    return decodeJson(text.replace(/^[ \t\n\r\0\u000b]+|[ \t\n\r\0\u000b]+$/g, "")) ?? []
  }
  return type === "multipart/form-data" ? parseMultipart(text, boundary) : parseStr(text)
}

/** What a request asks for, once body and query are merged. */
export interface Asked {
  readonly params: Value
  readonly start: number
  readonly auth: string | undefined
  readonly token: string | undefined
}

// Names with a meaning of their own: they never reach the method.
const own = new Set(["start", "state", "auth", "method", "aplogin", "ap", "token"])

/** The parameters of a v2 request: the query first, the body's keys over it. */
export const askedOf = (request: WireRequest, query: string): Asked => {
  const body = bodyOf(request)
  const asked = query === "" ? body : parseStr(query)
  const keys = isPhpArray(body) ? entriesOf(body) : []
  if (query === "" && !keys.some(([key]) => own.has(key))) {
    return { params: isPhpArray(body) ? body : [], start: 0, auth: bearer(request), token: undefined }
  }
  const merged = new Entries()
  for (const [key, value] of entriesOf(asked)) merged.set(key, value)
  for (const [key, value] of keys) merged.set(key, value)
  return separate(merged.value(), request)
}

const bearer = (request: WireRequest): string | undefined =>
  /^Bearer\s+(\S+)$/i.exec(request.headers.get("authorization") ?? "")?.[1]

const separate = (all: Value, request: WireRequest): Asked => {
  const params = new Entries()
  for (const [key, value] of entriesOf(all)) if (!own.has(key)) params.set(key, value)
  const auth = at(all, "auth")
  const token = at(all, "token")
  return {
    params: params.value(),
    start: startOf(all),
    auth: typeof auth === "string" && auth !== "" ? auth : bearer(request),
    token: token === undefined ? undefined : textOf(token)
  }
}

/** `start` among parameters that did not come over HTTP, such as those of a batch command. */
export const withoutStart = (all: Value): { readonly params: Value; readonly start: number } => {
  if (at(all, "start") === undefined) return { params: all, start: 0 }
  const params = new Entries()
  for (const [key, value] of entriesOf(all)) if (key !== "start") params.set(key, value)
  return { params: params.value(), start: startOf(all) }
}

const startOf = (all: Value): number => {
  const start = Number.parseInt(textOf(at(all, "start")), 10)
  return Number.isNaN(start) ? 0 : start
}
