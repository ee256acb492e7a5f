import { Effect, Fiber } from "effect"
import type { Portal } from "../../src/sandbox/portal/server.ts"
import { sharedNode } from "../../test/rig/rabbit.ts"
import { RigFailed } from "../../test/rig/until.ts"
import { ownUpdate, update } from "./load.ts"
import { randomOf } from "./random.ts"
import type { Report } from "./report.ts"
import { portalLimit, stage } from "./stage.ts"

/** `own`: by a self-written method, which is not sent again. */
export type LateRun = "doubt" | "doubt, own" | "killed" | "killed, own" | "killed once answered, own"

/** When the first one lands, and when the connection to its caller is reset, in milliseconds. */
const lands = 1_000
const cutAfter = 300

/** When something is so for the first time, in milliseconds of `performance.now()`. */
const moment = (portal: Portal, isSo: (portal: Portal) => boolean) =>
  Effect.timeoutOrElse(
    Effect.map(portal.until(isSo), () => performance.now()),
    { duration: "30 seconds", orElse: () => Effect.fail(new RigFailed({ what: "no call came" })) }
  )

/**
 * The first of two updates of one entity is in doubt, and lands late: the portal's web server gives up while the method
 * goes on. The second has to be final. Then the same with the bridge killed in between.
 */
export const landedLate = (run: LateRun, rounds: number, seed: number) =>
  Effect.gen(function* () {
    const random = randomOf(seed)
    const { portal, answers, start, publish, answered, report } = yield* stage(yield* sharedNode, {
      limits: { time: { after: cutAfter, answer: "reset", goesOn: true } }
    })
    const pair = run.endsWith("own") ? ownUpdate : update
    const more: Array<string> = []
    let bridge = yield* start
    for (let round = 1; round <= rounds; round++) {
      const entity = portal.crm.table("deal").add([["TITLE", "of the bench"]])
      portal.fault({ kind: "slowMethod", ms: lands, when: { next: 1, containing: `${round}.1` } })
      const [first, second] = [pair(`${round}.1`, entity), pair(`${round}.2`, entity)]
      const { requests } = portal
      const came = yield* Effect.forkScoped(moment(portal, ({ requests: now }) => now > requests))
      const landed = yield* Effect.forkScoped(moment(portal, ({ count }) => count(first.method, first.key) > 0))
      yield* publish([first, second])
      const begun = yield* Fiber.join(came)
      if (run.startsWith("killed")) {
        if (run.includes("answered")) yield* answers.answerTo(`${round}.1`)
        else yield* Effect.sleep(random.below(cutAfter + 200))
        yield* bridge.kill("SIGKILL")
        yield* bridge.exited
        bridge = yield* start
      }
      yield* answered()
      // Whatever else is to land has landed by then.
      yield* Effect.sleep(lands)
      if ((yield* Fiber.join(landed)) - begun > 1_000 * portalLimit)
        return yield* new RigFailed({ what: "this machine is too slow: the portal has exceeded its own limit" })
      const order = portal.executions.filter(({ key }) => key?.startsWith(`${round}.`)).map(({ key }) => key)
      // One that was killed before it was called has not landed at all, and is answered so.
      if (order.includes(second.key) && order.at(-1) !== second.key)
        more.push(`round ${round}: ${order.at(-1)} is final`)
    }
    const found: Report = yield* report({ experiment: "late", run, rounds, seed })
    return { ...found, more: [...found.more, ...more] }
  }).pipe(Effect.scoped)
