import { Data, Effect, type Scope } from "effect"
import { control, isControl } from "./control.ts"
import { Core } from "./core.ts"
import type { Revision, Standing } from "./credentials.ts"
import type { Crm } from "./crm.ts"
import { Door } from "./door.ts"
import type { Outcome } from "./envelope.ts"
import type { Execution, KeyRule } from "./executions.ts"
import type { Fault } from "./faults.ts"
import type { LimitOptions, Preset } from "./limits.ts"
import type { Call, Method } from "./method.ts"
import type { Latency } from "./registry.ts"

export interface PortalOptions {
  readonly hostname?: string
  /** 0, the default, takes a free one. */
  readonly port?: number
  /** Certificate and key in PEM: the portal then speaks HTTPS. */
  readonly tls?: { readonly cert: string; readonly key: string }
  /** How much is kept: executions in the log, rows in a table, counted keys. */
  readonly keep?: number
  /** Which entity types are smart processes. */
  readonly smartProcesses?: ReadonlyArray<number>
  /** By what executions are told apart. */
  readonly key?: KeyRule
  readonly latency?: Latency
  /** A preset, or what differs from one; by default those of a box, which are none. */
  readonly limits?: LimitOptions | Preset
  /** Whether `/_/` on this machine controls the portal: faults, limits, executions. See `control.ts`. */
  readonly control?: boolean
  /** The longest body in bytes; more is a 413 of the web server. */
  readonly longestBody?: number
}

/** The portal could not take its port. */
export class PortalFailed extends Data.TaggedError("PortalFailed")<{
  readonly address: string
  readonly cause: unknown
}> {
  override get message() {
    return `the simulated portal cannot listen on ${this.address}`
  }
}

export interface Portal {
  /** `http://127.0.0.1:PORT/rest/`, to which a credential and a method are added. */
  readonly url: string
  readonly origin: string
  readonly port: number
  /** The address of a webhook, with a slash at its end. */
  readonly webhook: (user?: number, secret?: string) => string
  /** Switches a fault on; what comes back switches it off again. */
  readonly fault: (fault: Fault) => () => void
  readonly clearFaults: () => void
  /** Sets what the portal holds against `USER/SECRET`, a token, or everybody (`*`). */
  readonly credential: (name: string, standing: Standing) => void
  /** From now on only credentials that were set are accepted. */
  readonly acceptOnlyKnown: () => void
  /** With the statuses of which revision of the vendor's page credentials are refused. */
  readonly answerAs: (revision: Revision) => void
  readonly latency: (latency: Latency) => void
  /** Sets the limits anew, with empty buckets. */
  readonly limit: (limits: LimitOptions | Preset) => void
  /** Adds a method, or replaces one. It is a write unless said otherwise. */
  readonly define: (
    name: string,
    run: (call: Call) => Outcome | Promise<Outcome>,
    options?: Partial<Pick<Method, "scope" | "write">> & { readonly version?: 2 | 3 }
  ) => void
  /** The methods that ran, oldest first. */
  readonly executions: ReadonlyArray<Execution>
  /** How many methods ran without being refused: all, of one name, of one name with one key. */
  readonly count: (method?: string, key?: string) => number
  /** Writes that ran more than once with one key. */
  readonly doubles: () => ReadonlyArray<{ readonly method: string; readonly key: string; readonly count: number }>
  /** Writes with keys beyond what is kept, among which doubles are not seen. */
  readonly uncounted: number
  /** HTTP requests that came so far, are being answered, and were being answered at most at once. */
  readonly requests: number
  readonly inFlight: number
  readonly maxInFlight: number
  /** How often each error code was answered. */
  readonly refusals: ReadonlyMap<string, number>
  readonly crm: Crm
  /** Waits until something is so; looked at with every request, execution and answer. */
  readonly until: (enough: (portal: Portal) => boolean) => Effect.Effect<void>
  /** Forgets all that has happened and been set. */
  readonly reset: () => void
  /** Closes the door: connections are reset, new ones refused. Executions go on. */
  readonly down: Effect.Effect<void>
  /** Opens it again on the same port. */
  readonly up: Effect.Effect<void, PortalFailed>
}

// bitrix24/b24restdocs:api-reference/files/index.md
const cloudBody = 2 * 1024 ** 3

/** A simulated Bitrix24 portal behind a real socket; it closes with its scope. */
export const openPortal = (options: PortalOptions = {}): Effect.Effect<Portal, PortalFailed, Scope.Scope> =>
  Effect.gen(function* () {
    const hostname = options.hostname ?? "127.0.0.1"
    const core = new Core({
      keep: options.keep ?? 100_000,
      smartProcesses: options.smartProcesses ?? [31, 128, 1042],
      ...(options.key === undefined ? {} : { key: options.key }),
      ...(options.latency === undefined ? {} : { latency: options.latency }),
      ...(options.limits === undefined ? {} : { limits: options.limits })
    })
    const door: Door = new Door(
      {
        hostname,
        port: options.port ?? 0,
        longestBody: options.longestBody ?? cloudBody,
        ...(options.tls === undefined ? {} : { tls: options.tls })
      },
      (request) =>
        options.control === true && isControl(request) ? control(core, door, request) : core.answer(request)
    )
    const up = Effect.try({
      try: () => door.open(),
      catch: (cause) => new PortalFailed({ address: `${hostname}:${door.port}`, cause })
    })
    yield* Effect.acquireRelease(up, () => Effect.sync(() => door.lock()))
    const { port } = door
    const origin = `${options.tls === undefined ? "http" : "https"}://${hostname.includes(":") ? `[${hostname}]` : hostname}:${port}`

    const portal: Portal = {
      url: `${origin}/rest/`,
      origin,
      port,
      webhook: (user = 1, secret = "sandbox") => `${origin}/rest/${user}/${secret}/`,
      fault: (fault) => core.faults.add(fault),
      clearFaults: () => core.faults.clear(),
      credential: (name, standing) => core.credentials.set(name, standing),
      acceptOnlyKnown: () => core.credentials.acceptOnlyKnown(),
      answerAs: (revision) => core.credentials.answerAs(revision),
      latency: (latency) => {
        core.performer.latency = latency
      },
      limit: (limits) => core.limit(limits),
      define: (name, run, { scope = "", write = true, version = 2 } = {}) =>
        (version === 2 ? core.second : core.third).define(name, { scope, write, run }),
      get executions() {
        return core.executions.all()
      },
      count: (method, key) => core.executions.count(method, key),
      doubles: () => core.executions.doubles(),
      get uncounted() {
        return core.executions.uncounted
      },
      get requests() {
        return core.requests
      },
      get inFlight() {
        return core.inFlight
      },
      get maxInFlight() {
        return core.maxInFlight
      },
      refusals: core.performer.refusals,
      crm: core.crm,
      until: (enough) =>
        Effect.callback<void>((resume) => {
          const stop = core.watch(() => {
            const done = enough(portal)
            if (done) resume(Effect.void)
            return done
          })
          return Effect.sync(stop)
        }),
      reset: () => core.reset(),
      down: Effect.sync(() => door.close()),
      up
    }
    return portal
  })
