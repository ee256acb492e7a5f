import { Effect } from "effect"
import { publishAll } from "../../test/rig/producer.ts"
import { sharedNode } from "../../test/rig/rabbit.ts"
import { type Case, creatorWithHandle, creatorWithout, mixed, ownWrite } from "./load.ts"
import type { Pack } from "./kills.ts"
import { randomOf } from "./random.ts"
import type { Report } from "./report.ts"
import { queueIn, stage } from "./stage.ts"

/**
 * The portal executes every tenth write and resets the connection instead of answering. What can be found again is
 * `done`; of the rest nobody knows. With stamps all of it can be found again.
 */
export const cut = (count: number, stamp: boolean, pack: Pack, seed: number) =>
  Effect.gen(function* () {
    const random = randomOf(seed)
    const env = { B24RMQ_PACK: pack, B24RMQ_CONCURRENCY: "16", ...(stamp ? { B24RMQ_STAMP: "yes" } : {}) }
    const { portal, start, publish, answered, report } = yield* stage(yield* sharedNode, { latency: 5, env })
    portal.fault({ kind: "reset", executed: true, when: { only: "writes", probability: 0.1, seed } })
    const make: ReadonlyArray<(id: string, index: number) => Case> = [
      creatorWithHandle,
      creatorWithout,
      creatorWithHandle,
      stamp ? creatorWithout : ownWrite
    ]
    const load = Array.from({ length: count }, (_, index) => make[index % make.length]?.(`1.${index}`, index >> 1))
    yield* start
    yield* publish(random.shuffled(load.flatMap((one) => one ?? [])))
    yield* answered("5 minutes")
    const run = `${stamp ? "with stamps" : "without stamps"}, ${pack === "all" ? "packed" : "single"}`
    const found: Report = yield* report({ experiment: "cut", run, rounds: 1, seed })
    const { unknown, resolved } = found.verdict
    const more = [
      ...(stamp && unknown.length > 0 ? [`unknown ${unknown.length}, in spite of stamps`] : []),
      ...(resolved === 0 && pack === "off" ? ["nothing was in doubt"] : [])
    ]
    return { ...found, more: [...found.more, ...more] }
  }).pipe(Effect.scoped)

const republish = (url: string, load: ReadonlyArray<Case>) =>
  publishAll(
    url,
    queueIn,
    load.map(({ message }) => message)
  )

/** A producer that publishes each message three times. */
export const thrice = (count: number, pack: Pack, seed: number) =>
  Effect.gen(function* () {
    const random = randomOf(seed)
    const { broker, portal, answers, cases, start, publish, answered, report } = yield* stage(yield* sharedNode, {
      env: { B24RMQ_PACK: pack }
    })
    const load = mixed(portal, "1", count, random)
    yield* start
    yield* publish(load)
    // The second may overtake nothing of the first: what is in order stays so. The third comes when all is answered.
    yield* republish(broker.url, load)
    yield* answered()
    yield* republish(broker.url, load)
    yield* answers.quietFor(500)
    const found: Report = yield* report({
      experiment: "thrice",
      run: pack === "all" ? "packed" : "single",
      rounds: 1,
      seed
    })
    const other = cases.filter(({ message }) => answers.answers.get(message.id ?? "")?.length !== 3)
    const more = [
      ...(other.length === 0 ? [] : [`${other.length} have not three answers`]),
      ...(found.verdict.repeats === 0 ? [] : [`${found.verdict.repeats} executed again`])
    ]
    return { ...found, more: [...found.more, ...more] }
  }).pipe(Effect.scoped)
