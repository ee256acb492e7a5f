import {
  existsSync,
  mkdirSync,
  openSync,
  closeSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync
} from "node:fs"
import { connect } from "node:net"
import { join } from "node:path"
import { Effect, Exit, Schedule, Scope, Semaphore } from "effect"
import { type Child, run, startChild, temporaryFolder } from "./child.ts"
import { freePort } from "./ports.ts"
import { RigFailed, until } from "./until.ts"

// Debian's wrappers in /usr/sbin change the user and need root; the scripts below are the broker's own and run as anyone.
const debian = "/usr/lib/rabbitmq"

/** Where the broker is installed, or undefined. */
const installed = () => {
  const lib = join(debian, "lib")
  if (!existsSync(lib)) return undefined
  const home = readdirSync(lib).find((name) => name.startsWith("rabbitmq_server-"))
  return home === undefined ? undefined : { plugins: join(lib, home, "plugins"), sbin: join(lib, home, "sbin") }
}

/** What is needed to talk to a node that somebody started. */
export interface Address {
  readonly name: string
  readonly port: number
  readonly epmd: number
  readonly cookie: string
  readonly home: string
}

export interface Depth {
  readonly ready: number
  readonly unacked: number
  readonly consumers: number
}

export interface Vhost {
  readonly name: string
  readonly url: string
  /** Messages and consumers of a queue, exact for classic queues, a quarter of a second late for quorum queues. */
  readonly queueDepth: (queue: string) => Effect.Effect<Depth, RigFailed>
  /** The names of the queues. */
  readonly queues: Effect.Effect<ReadonlyArray<string>, RigFailed>
  readonly deleteQueue: (queue: string) => Effect.Effect<void, RigFailed>
  readonly purgeQueue: (queue: string) => Effect.Effect<void, RigFailed>
  /** Sets a policy on the queues whose name matches: `policy("full", "^out$", { "max-length": 10 })`. */
  readonly policy: (
    name: string,
    pattern: string,
    definition: Readonly<Record<string, string | number | boolean>>
  ) => Effect.Effect<void, RigFailed>
  readonly clearPolicy: (name: string) => Effect.Effect<void, RigFailed>
  /** How many connections are open. */
  readonly connections: Effect.Effect<number, RigFailed>
  /** How many of them have a name, as bridges give to theirs. */
  readonly bridges: Effect.Effect<number, RigFailed>
  /** Closes every connection of this vhost as an administrator does (320, CONNECTION-FORCED). */
  readonly closeConnections: Effect.Effect<void, RigFailed>
}

/** A node that others use too: nothing here disturbs them. */
export interface SharedNode {
  readonly address: Address
  readonly port: number
  /** The default vhost. */
  readonly url: string
  /** A vhost that goes away with the scope, and every connection to it. */
  readonly vhost: (name?: string) => Effect.Effect<Vhost, RigFailed, Scope.Scope>
  /** Evaluates an Erlang expression inside the node and gives the result as a term. Takes milliseconds. */
  readonly evaluate: (expression: string) => Effect.Effect<string, RigFailed>
  /** `rabbitmqctl`: takes about a second, so prefer what is here. */
  readonly ctl: (...args: ReadonlyArray<string>) => Effect.Effect<string, RigFailed>
  /** Waits until the node answers an AMQP handshake. */
  readonly ready: Effect.Effect<void, RigFailed>
}

/** A node of one's own, which may be maltreated. */
export interface Node extends SharedNode {
  /** The process id of the Erlang machine. */
  readonly pid: () => number
  /** The log of the node up to now. */
  readonly log: () => string
  /** SIGKILL, the data stays. */
  readonly kill9: Effect.Effect<void>
  /** Starts the killed node again, with the same ports and data, and waits until it is ready. */
  readonly start: Effect.Effect<void, RigFailed>
  /** Stops the broker in an orderly way while its Erlang machine goes on. */
  readonly stopApp: Effect.Effect<void, RigFailed>
  readonly startApp: Effect.Effect<void, RigFailed>
  readonly closeAllConnections: Effect.Effect<void, RigFailed>
  /** SIGSTOP: sockets stay open and nobody answers. */
  readonly freeze: Effect.Effect<void>
  readonly thaw: Effect.Effect<void>
  /** Raises or clears the memory alarm, which blocks every connection that publishes. */
  readonly memoryAlarm: (on: boolean) => Effect.Effect<void, RigFailed>
  /** Raises or clears the disk alarm. */
  readonly diskAlarm: (on: boolean) => Effect.Effect<void, RigFailed>
}

/** A binary of Erlang, safe for every character. */
const binary = (text: string) => `<<${[...Buffer.from(text)].join(",")}>>`

/** True once the port greets a client with connection.start; a node that is still starting refuses or is silent. */
const greets = (port: number) =>
  Effect.promise(
    (signal) =>
      new Promise<boolean>((done) => {
        const socket = connect({ port, host: "127.0.0.1" })
        const end = (answered: boolean) => {
          socket.destroy()
          done(answered)
        }
        signal.addEventListener("abort", () => end(false))
        socket.setTimeout(500, () => end(false))
        socket.once("error", () => end(false))
        socket.once("close", () => end(false))
        socket.once("data", (bytes) => end(bytes[0] === 1))
        socket.once("connect", () => socket.write("AMQP\u0000\u0000\u0009\u0001"))
      })
  )

const environment = (at: Address) => ({
  PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
  LANG: "C.UTF-8",
  HOME: at.home,
  ERL_EPMD_PORT: `${at.epmd}`,
  ERL_EPMD_ADDRESS: "127.0.0.1",
  ERL_AFLAGS: "-start_epmd false",
  RABBITMQ_NODENAME: at.name,
  RABBITMQ_CONF_ENV_FILE: "/dev/null"
})

let vhosts = 0

/** What can be done with a running node without owning it. */
const attach = (at: Address): SharedNode => {
  const failed = (what: string, said: { readonly out: string; readonly err: string }) =>
    new RigFailed({ what: `${what} on ${at.name}: ${said.out} ${said.err}`.trim() })

  const ctl = (...args: ReadonlyArray<string>) =>
    Effect.gen(function* () {
      const sbin = installed()?.sbin
      if (sbin === undefined) return yield* new RigFailed({ what: "rabbitmq-server is not installed" })
      const ended = yield* run({ command: join(sbin, "rabbitmqctl"), args, env: environment(at), cwd: at.home })
      return ended.code === 0 ? ended.out : yield* failed(`rabbitmqctl ${args.join(" ")}`, ended)
    })

  // erl_call is a small C program: 5 ms, where rabbitmqctl starts an Erlang machine. It prints strings safely, so the
  // result travels as the text of its term.
  const evaluate = (expression: string) =>
    run({
      command: "erl_call",
      args: ["-c", at.cookie, "-name", at.name, "-e"],
      input: `binary_to_list(base64:encode(unicode:characters_to_binary(io_lib:format("~0tp", [begin ${expression} end])))).\n`,
      env: environment(at),
      cwd: at.home
    }).pipe(
      Effect.flatMap((ended) => {
        const result = /^\{ok, "([A-Za-z0-9+/=]*)"\}/.exec(ended.out)?.[1]
        return result === undefined
          ? Effect.fail(failed(expression, ended))
          : Effect.succeed(Buffer.from(result, "base64").toString())
      }),
      // It may find no way to a node that several ask at once, or that is closing connections; nothing was asked then.
      Effect.retry({
        times: 20,
        schedule: Schedule.spaced("100 millis"),
        while: ({ message }) => message.includes("failed to connect to node")
      })
    )

  const must = (expression: string) =>
    Effect.flatMap(evaluate(expression), (term) =>
      term.startsWith("ok") || term.startsWith("{ok") || term === "[]"
        ? Effect.void
        : Effect.fail(failed(expression, { out: term, err: "" }))
    )

  const openVhost = (name: string): Vhost => {
    const vhost = binary(name)
    const queue = (queue: string) => `rabbit_misc:r(${vhost}, queue, ${binary(queue)})`
    const withQueue = (name: string, expression: string) =>
      evaluate(`case rabbit_amqqueue:lookup(${queue(name)}) of {ok, Q} -> ${expression}; _ -> no_queue end`).pipe(
        Effect.flatMap((term) =>
          term === "no_queue" ? Effect.fail(new RigFailed({ what: `no queue ${name}` })) : Effect.succeed(term)
        )
      )
    return {
      name,
      url: `amqp://guest:guest@127.0.0.1:${at.port}/${encodeURIComponent(name)}`,
      queueDepth: (name) =>
        Effect.map(
          withQueue(
            name,
            "{ok, Ready, Consumers} = rabbit_amqqueue:stat(Q), [{_, Unacked}] = rabbit_amqqueue:info(Q, [messages_unacknowledged]), [Ready, Unacked, Consumers, last]"
          ),
          (term) => {
            const [ready = 0, unacked = 0, consumers = 0] = (term.match(/-?\d+/g) ?? []).map(Number)
            return { ready, unacked, consumers }
          }
        ),
      queues: Effect.map(
        evaluate(
          `[base64:encode(element(4, amqqueue:get_name(Q))) || Q <- rabbit_amqqueue:list(${vhost}), is_tuple(Q)]`
        ),
        (term) => [...term.matchAll(/"([^"]*)"/g)].map(([, name]) => Buffer.from(name ?? "", "base64").toString())
      ),
      deleteQueue: (name) =>
        Effect.asVoid(withQueue(name, `rabbit_amqqueue:delete(Q, false, false, ${binary("rig")})`)),
      purgeQueue: (name) => Effect.asVoid(withQueue(name, "rabbit_amqqueue:purge(Q)")),
      policy: (name, pattern, definition) =>
        must(
          `rabbit_policy:parse_set(${vhost}, ${binary(name)}, ${binary(pattern)}, ${binary(JSON.stringify(definition))}, "0", ${binary("queues")}, ${binary("rig")})`
        ),
      clearPolicy: (name) => must(`rabbit_policy:delete(${vhost}, ${binary(name)}, ${binary("rig")})`),
      // The broker's own table of connections may keep one that was reset while it was being opened: ask those that live.
      connections: Effect.map(
        evaluate(`length([V || [{vhost, V}] <- rabbit_networking:connection_info_all([vhost]), V =:= ${vhost}])`),
        Number
      ),
      bridges: Effect.map(
        evaluate(
          `length([V || [{vhost, V}, {client_properties, P}] <- rabbit_networking:connection_info_all([vhost, client_properties]), V =:= ${vhost}, lists:keymember(${binary("connection_name")}, 1, P)])`
        ),
        Number
      ),
      closeConnections: must(
        `rabbit_connection_tracking_handler:close_connections(rabbit_connection_tracking:list(${vhost}), "rig", 0)`
      )
    }
  }

  return {
    address: at,
    port: at.port,
    url: `amqp://guest:guest@127.0.0.1:${at.port}/`,
    vhost: (name = `test-${process.pid}-${++vhosts}`) =>
      Effect.acquireRelease(
        Effect.as(
          must(
            `ok = rabbit_vhost:add(${binary(name)}, ${binary("rig")}), ok = rabbit_auth_backend_internal:set_permissions(${binary("guest")}, ${binary(name)}, ${binary(".*")}, ${binary(".*")}, ${binary(".*")}, ${binary("rig")})`
          ),
          openVhost(name)
        ),
        // A node that the test left dead takes its vhosts with it.
        () => Effect.ignore(evaluate(`rabbit_vhost:delete(${binary(name)}, ${binary("rig")})`))
      ),
    evaluate,
    ctl,
    ready: Effect.asVoid(until(`${at.name} answers on ${at.port}`, greets(at.port), { within: "60 seconds" }))
  }
}

export interface NodeOptions {
  /** Plugins to enable, such as rabbitmq_management. */
  readonly plugins?: ReadonlyArray<string>
  /** Lines for rabbitmq.conf, such as "consumer_timeout = 10000". */
  readonly conf?: ReadonlyArray<string>
}

/** Writes the node's files. */
const prepare = (folder: string, ports: { amqp: number; dist: number; epmd: number }, options: NodeOptions) => {
  const found = installed()
  if (found === undefined) throw new Error("rabbitmq-server is not installed")
  const at: Address = {
    name: `rig${ports.amqp}@localhost`,
    port: ports.amqp,
    epmd: ports.epmd,
    cookie: `rig${ports.amqp}`,
    home: folder
  }
  const file = (name: string, text: string, mode = 0o644) => writeFileSync(join(folder, name), text, { mode })
  const plugins = options.plugins ?? []
  file(".erlang.cookie", at.cookie, 0o400)
  file("enabled_plugins", `[${plugins.join(",")}].`)
  file("rabbitmq.conf", [`listeners.tcp.1 = 127.0.0.1:${ports.amqp}`, ...(options.conf ?? []), ""].join("\n"))
  // Quorum queues publish their counters every five seconds otherwise.
  file("advanced.config", "[{rabbit, [{quorum_tick_interval, 250}]}].")
  for (const name of ["mnesia", "log", "plugins"]) mkdirSync(join(folder, name))
  // At its start the node reads every module of every plugin in the folder, enabled or not: a second of CPU time.
  for (const name of plugins.length > 0 ? [] : readdirSync(found.plugins)) {
    if (name.startsWith("rabbitmq_") && !name.startsWith("rabbitmq_prelaunch")) continue
    symlinkSync(join(found.plugins, name), join(folder, "plugins", name))
  }
  const env = {
    ...environment(at),
    RABBITMQ_NODE_PORT: `${ports.amqp}`,
    RABBITMQ_DIST_PORT: `${ports.dist}`,
    RABBITMQ_MNESIA_BASE: join(folder, "mnesia"),
    RABBITMQ_LOG_BASE: join(folder, "log"),
    RABBITMQ_ENABLED_PLUGINS_FILE: join(folder, "enabled_plugins"),
    RABBITMQ_PLUGINS_DIR: plugins.length > 0 ? found.plugins : join(folder, "plugins"),
    RABBITMQ_CONFIG_FILE: join(folder, "rabbitmq.conf"),
    RABBITMQ_ADVANCED_CONFIG_FILE: join(folder, "advanced.config"),
    RABBITMQ_PID_FILE: join(folder, "pid"),
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none",
    // Lets the start script become the Erlang machine instead of waiting for it: the child's pid is the machine's.
    RUNNING_UNDER_SYSTEMD: "true"
  }
  return { at, env, server: join(found.sbin, "rabbitmq-server") }
}

/** Starts the processes of a node; whether it comes up is told by `node.start`. */
const launch = (folder: string, options: NodeOptions) =>
  Effect.gen(function* () {
    const ports = { amqp: yield* freePort, dist: yield* freePort, epmd: yield* freePort }
    const { at, env, server } = yield* Effect.try({
      try: () => prepare(folder, ports, options),
      catch: (cause) => new RigFailed({ what: "no broker", cause })
    })
    const output = join(folder, "output")
    const start = (command: string, args: ReadonlyArray<string>) =>
      Effect.acquireUseRelease(
        Effect.sync(() => openSync(output, "a")),
        (fd) => startChild({ command, args, env, cwd: folder, stdio: ["ignore", fd, fd] }),
        (fd) => Effect.sync(() => closeSync(fd))
      )
    // In the foreground, so that it is a child of ours: a node would leave one behind as a daemon.
    let epmd: Child | undefined
    let machine: Child | undefined
    const begun = Effect.uninterruptible(
      Effect.gen(function* () {
        if (epmd === undefined || epmd.ended() !== undefined)
          epmd = yield* start("epmd", ["-port", `${ports.epmd}`, "-address", "127.0.0.1"])
        if (machine === undefined || machine.ended() !== undefined) machine = yield* start(server, [])
        return machine
      })
    )
    const withMachine = (act: (machine: Child) => Effect.Effect<unknown>) =>
      Effect.suspend(() => (machine === undefined ? Effect.void : Effect.asVoid(act(machine))))
    const killed = withMachine((machine) => machine.destroy)
    const stopEpmd = Effect.suspend(() => epmd?.destroy ?? Effect.void)
    const shared = attach(at)
    const log = () => readFileSync(output, "utf8")
    const must = (expression: string) => Effect.asVoid(shared.evaluate(expression))
    // 3.10.8 writes down that a queue was declared, and where the log of a new quorum queue is, only half a second later.
    // Killed before that, the queue is gone, comes back without a confirmed message in it, or never elects a leader again.
    // This is the broker's own affair and no test of ours: whoever kills a node means its queues to be settled.
    const settled = shared
      .evaluate("mnesia:sync_log(), dets:sync(ra_directory_reverse)")
      .pipe(Effect.timeout("2 seconds"), Effect.ignore)
    const node: Node = {
      ...shared,
      pid: () => machine?.pid ?? 0,
      log,
      kill9: Effect.andThen(settled, killed),
      start: Effect.flatMap(begun, (machine) =>
        Effect.raceFirst(
          shared.ready,
          Effect.flatMap(machine.exited, () =>
            Effect.fail(new RigFailed({ what: `${at.name} ended: ${log().slice(-2_000)}` }))
          )
        )
      ),
      stopApp: Effect.asVoid(shared.ctl("stop_app")),
      startApp: Effect.andThen(shared.ctl("start_app"), shared.ready),
      // One by one: a connection that ends by itself meanwhile is no reason to leave the others open.
      closeAllConnections: must(
        `lists:foreach(fun(One) -> catch rabbit_networking:close_connection(One, "rig") end, rabbit_networking:connections())`
      ),
      freeze: withMachine((machine) => machine.kill("SIGSTOP")),
      thaw: withMachine((machine) => machine.kill("SIGCONT")),
      memoryAlarm: (on) => must(`vm_memory_monitor:set_vm_memory_high_watermark(${on ? "0.00000001" : "0.4"})`),
      diskAlarm: (on) => must(`rabbit_disk_monitor:set_disk_free_limit(${on ? "1000000000000000" : "50000000"})`)
    }
    return { node, stop: Effect.andThen(killed, stopEpmd) }
  })

/** A RabbitMQ node of one's own in a temporary folder, ready when given, killed when the scope closes. */
export const startNode = (options: NodeOptions = {}): Effect.Effect<Node, RigFailed, Scope.Scope> =>
  Effect.gen(function* () {
    const folder = yield* temporaryFolder("rabbit")
    const { node } = yield* Effect.acquireRelease(launch(folder, options), ({ stop }) => stop)
    yield* node.start
    return node
  })

/** The environment variable by which the test run tells its test processes of the node it has started. */
export const brokerVariable = "B24RMQ_TEST_BROKER"

/** Runs once in this process; what it opened stays open until the process ends, and then the guard removes it. */
const onceInProcess = <A>(make: Effect.Effect<A, RigFailed, Scope.Scope>): Effect.Effect<A, RigFailed> => {
  let made: Promise<Exit.Exit<A, RigFailed>> | undefined
  return Effect.flatMap(
    Effect.promise(() => (made ??= Effect.runPromiseExit(Scope.provide(make, Scope.makeUnsafe())))),
    (exit) => exit
  )
}

/** The node of the test run; started on first use where a test file is run by hand. Take a vhost of it. */
export const sharedNode: Effect.Effect<SharedNode, RigFailed> = Effect.suspend(() => {
  const given = process.env[brokerVariable]
  return given === undefined ? ownSharedNode : Effect.succeed(attach(JSON.parse(given) as Address))
})
// `bun test` kills every child of the process when a test exceeds its time: so whoever comes next starts it again. Twice,
// because news of the end of the old process may come only while the first start looks at it.
const nodeOfProcess = () => Effect.tap(onceInProcess(startNode()), (node) => Effect.retry(node.start, { times: 1 }))
const ownSharedNode = nodeOfProcess()

/** A vhost of the shared node: what most tests want. */
export const vhost = Effect.flatMap(sharedNode, (node) => node.vhost())

/**
 * A node that may be killed, frozen and alarmed, and is set right for the next test when the scope closes. One test
 * at a time has it. Saves the seconds that `startNode` takes; connections, vhosts and queues of earlier tests are gone.
 */
export const victim: Effect.Effect<Node, RigFailed, Scope.Scope> = Effect.suspend(() =>
  Effect.andThen(
    Effect.acquireRelease(turn.take(1), () => turn.release(1)),
    Effect.acquireRelease(ownVictim, (node) => Effect.ignore(setRight(node), { log: true }))
  )
)
const turn = Semaphore.makeUnsafe(1)
const ownVictim = nodeOfProcess()
const setRight = (node: Node) =>
  Effect.gen(function* () {
    yield* node.thaw
    yield* node.start
    yield* node.startApp
    yield* node.memoryAlarm(false)
    yield* node.diskAlarm(false)
    yield* node.closeAllConnections
  })
