import type { Credential } from "./credentials.ts"
import type { Crm } from "./crm.ts"
import { Refusal, type Outcome } from "./envelope.ts"
import { at, integerOf, param, type Value } from "./value.ts"
import type { WireRequest } from "./http.ts"

/** What a method is called with. */
export interface Call {
  /** As it was sent, after the portal has cut its suffix off. */
  readonly method: string
  /** Query and body merged; `start` and the credential are taken out. */
  readonly params: Value
  readonly start: number
  readonly credential: Credential
  readonly crm: Crm
  /** Milliseconds since 1970. */
  readonly now: number
  /** The HTTP request, which inside a batch is that of the batch. */
  readonly request: WireRequest
}

export interface Method {
  /** "" for what every credential may call. */
  readonly scope: string
  readonly write: boolean
  readonly run: (call: Call) => Outcome | Promise<Outcome>
}

export type Methods = Readonly<Record<string, Method>>

const names = (scope: string, write: boolean, runs: Readonly<Record<string, Method["run"]>>): Methods =>
  Object.fromEntries(Object.entries(runs).map(([name, run]) => [name, { scope, write, run }]))

/** Methods of a scope that change nothing. */
export const reads = (scope: string, runs: Readonly<Record<string, Method["run"]>>): Methods =>
  names(scope, false, runs)

export const writes = (scope: string, runs: Readonly<Record<string, Method["run"]>>): Methods =>
  names(scope, true, runs)

/** The most frequent refusal of the reference: an empty code, and a text that says it all. */
export const refused = (text: string, code: string | number = "", status = 400): Refusal =>
  new Refusal(status, code, text)

export const notFound = refused("Not found")

/** The `id` of a call, 0 where there is none that could be one. */
export const idOf = (call: Call, name = "id"): number => integerOf(param(call.params, name))

export const fieldsOf = (call: Call): Value | undefined => param(call.params, "fields")

/** The first of several spellings that is there. */
export const firstOf = (params: Value, ...spellings: ReadonlyArray<string>): Value | undefined => {
  for (const name of spellings) {
    const found = at(params, name)
    if (found !== undefined) return found
  }
  return undefined
}
