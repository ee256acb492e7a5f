import { Effect, Fiber, Result } from "effect"
import { readRequest } from "../../src/message/request.ts"
import { keyOf } from "../../src/portal/remedies.ts"
import type { Portal } from "../../src/sandbox/portal/server.ts"
import { publishAll } from "../../test/rig/producer.ts"
import { sharedNode } from "../../test/rig/rabbit.ts"
import { RigFailed } from "../../test/rig/until.ts"
import { type Case, creatorWithKey, creatorWithUsedKey, taskUpdate } from "./load.ts"
import { randomOf } from "./random.ts"
import type { Report } from "./report.ts"
import { queueIn, stage } from "./stage.ts"

export type KeysRun = "cut" | "killed" | "landing late" | "published twice at once" | "key used before"

/** Requests in a round. */
const size = 40

/** Two updates of each of two tasks among eight requests. */
const keyed = (portal: Portal, name: string, count: number): ReadonlyArray<Case> => {
  const tasks = [0, 1].map(() => portal.crm.table("task").add([["TITLE", "of the bench"]]))
  return Array.from({ length: count }, (_, index) => {
    const id = `${name}.${index}`
    return index % 4 === 3 ? taskUpdate(id, tasks[(index >> 2) % 2] ?? 0) : creatorWithKey(id)
  })
}

/** Uses the key that the bridge will give to a request for another body. */
const useKeyOf = ({ message, method }: Case, portal: Portal) =>
  Effect.tryPromise({
    try: async () => {
      const { headers, messageId } = message.options
      const incoming = { body: message.content, headers: headers as Record<string, unknown>, messageId }
      const request = Result.getOrThrow(
        readRequest({ ...incoming, correlationId: undefined, timestamp: undefined }, Infinity)
      )
      const response = await fetch(`${portal.origin}/rest/api/${headers?.["user"]}/${headers?.["token"]}/${method}`, {
        method: "POST",
        headers: { "Content-Type": "application/json", "Idempotency-Key": keyOf(request) ?? "" },
        body: JSON.stringify({ fields: { title: "another one" } })
      })
      if (response.status !== 200) throw new Error(await response.text())
    },
    catch: (cause) => new RigFailed({ what: "the key could not be used", cause })
  })

/**
 * Writes under `/rest/api/`, which the portal recognises by their `Idempotency-Key`. Of two calls with one key at the same
 * time it runs both: so the second must not leave before the first has surely ended.
 */
export const keys = (run: KeysRun, rounds: number, seed: number) =>
  Effect.gen(function* () {
    const random = randomOf(seed)
    const { broker, portal, answers, cases, start, publish, answered, report } = yield* stage(yield* sharedNode, {
      third: true,
      ...(run === "landing late" ? { limits: { time: { after: 300, answer: "reset", goesOn: true } } } : {})
    })
    const more: Array<string> = []
    let bridge = yield* start
    if (run === "cut") portal.fault({ kind: "reset", executed: true, when: { only: "writes", probability: 0.1, seed } })
    if (run === "landing late") portal.fault({ kind: "slowMethod", ms: 1_500, when: { probability: 0.1, seed } })
    for (let round = 1; round <= rounds; round++) {
      const load =
        run === "key used before"
          ? Array.from({ length: size }, (_, index) => creatorWithUsedKey(`${round}.${index}`))
          : keyed(portal, `${round}`, size)
      if (run === "key used before") {
        for (const [index, one] of load.entries()) {
          yield* useKeyOf(one, portal)
          // Every second one is not answered at first, and sent again.
          if (index % 2 === 1) portal.fault({ kind: "reset", when: { next: 1, containing: `"${round}.${index}"` } })
        }
      }
      if (run === "published twice at once") {
        const messages = load.map(({ message }) => message)
        yield* Effect.all([publish(load), publishAll(broker.url, queueIn, messages)], { concurrency: "unbounded" })
      } else if (run !== "killed") yield* publish(load)
      else {
        const enough = portal.count() + 1 + random.below(size / 2)
        const publishing = yield* Effect.forkScoped(publish(load))
        yield* portal.until(({ count }) => count() >= enough)
        yield* bridge.kill("SIGKILL")
        yield* bridge.exited
        yield* Fiber.join(publishing)
        bridge = yield* start
      }
      yield* answered()
    }
    if (run === "published twice at once") {
      yield* answers.quietFor(500)
      const other = cases.filter(({ message }) => answers.answers.get(message.id ?? "")?.length !== 2)
      if (other.length > 0) more.push(`${other.length} have not two answers`)
    }
    const found: Report = yield* report({ experiment: "keys", run, rounds, seed })
    const { unknown, resolved } = found.verdict
    if (run === "key used before" && unknown.length !== (rounds * size) / 2)
      more.push(`${unknown.length} are unknown in place of half of them`)
    if (["cut", "killed", "landing late"].includes(run) && resolved === 0) more.push("nothing was in doubt")
    return { ...found, more: [...found.more, ...more] }
  }).pipe(Effect.scoped)
