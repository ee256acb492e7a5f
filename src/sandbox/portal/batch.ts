import { isErrorInside, lifted, Refusal, refusalBody, timeBlock, type Outcome, type Timing } from "./envelope.ts"
import { parseCommand, parseStr } from "./php.ts"
import { substitute } from "./references.ts"
import { Entries, entriesOf, isTrue, type Value } from "./value.ts"

/** What became of one method: how it ended and when it ran. */
export interface Performed {
  readonly outcome: Outcome
  readonly timing: Timing
}

/** Runs one command with the credential of the batch. */
export type Perform = (method: string, params: Value) => Performed | Promise<Performed>

// bitrix24/b24restdocs:limits.md
const longest = 50

const forbidden = new Set(["batch", "upload", "download"])

interface Maps {
  readonly result: Entries
  readonly error: Entries
  readonly total: Entries
  readonly next: Entries
  readonly time: Entries
}

const names = ["result", "error", "total", "next", "time"] as const

const refuse = (maps: Maps, key: string, refusal: Refusal): void => maps.error.set(key, refusalBody(refusal))

const note = (maps: Maps, key: string, { outcome, timing }: Performed): boolean => {
  if (outcome instanceof Refusal) {
    refuse(maps, key, outcome)
    return false
  }
  if (isErrorInside(outcome as Value)) {
    maps.error.set(key, outcome as Value)
    return false
  }
  const page = lifted(outcome)
  maps.result.set(key, page.result)
  if (page.total !== undefined) maps.total.set(key, page.total)
  if (page.next !== undefined) maps.next.set(key, page.next)
  maps.time.set(key, timeBlock(timing))
  return true
}

/** What an earlier command left, for `$result[key][field]`. */
const earlier =
  (maps: Maps) =>
  (name: string): Value | undefined => {
    const known = names.find((one) => one === name)
    return known === undefined ? undefined : maps[known].value()
  }

const halting = (params: Value): boolean => isTrue(entriesOf(params).find(([key]) => key.toLowerCase() === "halt")?.[1])

/**
 * `batch` of v2: commands one after another, each command line read as PHP reads an address
 * (bitrix24/b24restdocs:settings/how-to-call-rest-api/batch.md). Each of the five maps of the answer is a list or an
 * object for itself, by its own keys. `stopped` is asked before every command: a request that ran out of time has done
 * what it did.
 */
export const runBatch = async (params: Value, perform: Perform, stopped: () => boolean): Promise<Value> => {
  const maps: Maps = {
    result: new Entries(),
    error: new Entries(),
    total: new Entries(),
    next: new Entries(),
    time: new Entries()
  }
  const commands = entriesOf(params).find(([key]) => key.toLowerCase() === "cmd")?.[1]
  const halt = halting(params)
  let count = 0
  for (const [key, command] of entriesOf(commands)) {
    if (stopped()) break
    // What is no text is skipped without a trace: no result, no error.
    if (typeof command !== "string") continue
    let good = false
    const { method, query } = parseCommand(command)
    if (++count > longest) {
      refuse(maps, key, new Refusal(400, "ERROR_BATCH_LENGTH_EXCEEDED", "Max batch length exceeded"))
    } else if (forbidden.has(method.toLowerCase())) {
      refuse(maps, key, new Refusal(405, "ERROR_BATCH_METHOD_NOT_ALLOWED", "Method is not allowed for batch usage"))
    } else {
      const performed = perform(method, substitute(parseStr(query), earlier(maps)))
      good = note(maps, key, performed instanceof Promise ? await performed : performed)
    }
    if (!good && halt) break
  }
  return {
    result: maps.result.value(),
    result_error: maps.error.value(),
    result_total: maps.total.value(),
    result_next: maps.next.value(),
    result_time: maps.time.value()
  }
}

/** The methods that a batch names, without running it. */
export const methodsIn = (params: Value): ReadonlyArray<string> => {
  const commands = entriesOf(params).find(([key]) => key.toLowerCase() === "cmd")?.[1]
  return entriesOf(commands).flatMap(([, command]) =>
    typeof command === "string" ? [parseCommand(command).method] : []
  )
}
