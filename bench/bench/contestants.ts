import { existsSync } from "node:fs"
import { join } from "node:path"
import { folderOfProcess } from "../../test/rig/child.ts"

const rivals = join(import.meta.dir, "..", "rivals")
const rival = (file: string) => join(rivals, file)

export type Command = readonly [string, ...ReadonlyArray<string>]

/** A row of the tables: a program that takes requests from one queue and puts answers into the other. */
export interface Contestant {
  readonly name: string
  /** How it is told in the tables. */
  readonly title: string
  /** How it is started; the bridge under test where it is undefined. */
  readonly program?: () => Promise<Command>
  readonly env?: Readonly<Record<string, string>>
  /** Settings where the portal takes its time: as many calls at once for all that can have more than one. */
  readonly slow?: Readonly<Record<string, string>>
  /** What is not there, or undefined. */
  readonly lacks?: () => string | undefined
  /** Which requests it is given. */
  readonly asks: "reads" | "writes"
  /** Calls no portal, or does not tell whose an answer is. */
  readonly without?: "portal" | "ids"
  /** How many times fewer requests it is given: it is so much slower. */
  readonly fewer?: number
  /** Sends many requests in one call where they have to wait. */
  readonly packs?: true
}

/** Node does not read TypeScript everywhere: it gets the same program as one file of JavaScript. */
const forNode = async (): Promise<Command> => {
  const outdir = folderOfProcess("node")
  await Bun.build({ entrypoints: [rival("plain.ts")], target: "node", format: "esm", outdir, naming: "plain.mjs" })
  return ["node", join(outdir, "plain.mjs")]
}

const onBun = async (file: string): Promise<Command> => [process.execPath, rival(file)]

const lacksPackage = (name: string, path: string) => () => (existsSync(path) ? undefined : `${name} is not installed`)

const python = "/usr/bin/python3"

const off = { B24RMQ_PACK: "off" }
const fifty = { B24RMQ_CONCURRENCY: "50" }
const noJournal = { B24RMQ_JOURNAL: "off" }

export const contestants: ReadonlyArray<Contestant> = [
  {
    name: "floor",
    title: "broker floor: amqplib, no portal",
    program: () => onBun("floor.ts"),
    env: { PREFETCH: "256" },
    asks: "reads",
    without: "portal"
  },
  {
    name: "plain-bun",
    title: "plain amqplib + fetch, Bun",
    program: () => onBun("plain.ts"),
    env: { PREFETCH: "256" },
    slow: { PREFETCH: "50" },
    asks: "reads"
  },
  {
    name: "plain-node",
    title: "plain amqplib + fetch, Node",
    program: forNode,
    env: { PREFETCH: "256" },
    slow: { PREFETCH: "50" },
    lacks: () => (Bun.which("node") === null ? "node is not installed" : undefined),
    asks: "reads",
    fewer: 4
  },
  {
    name: "pika",
    title: "python3-pika, one by one",
    program: async () => [python, rival("one_by_one.py")],
    lacks: lacksPackage("python3-pika", "/usr/lib/python3/dist-packages/pika/__init__.py"),
    asks: "reads",
    fewer: 20
  },
  {
    name: "shell",
    title: "shell: amqp-tools + curl",
    program: async () => ["/bin/sh", rival("loop.sh")],
    env: { LOOPS: "4" },
    lacks: () =>
      lacksPackage("amqp-tools", "/usr/bin/amqp-consume")() ??
      (Bun.which("curl") === null ? "curl is not installed" : undefined),
    asks: "reads",
    without: "ids",
    fewer: 80
  },
  { name: "unpacked", title: "B24RMQ, unpacked", env: off, slow: { ...off, ...fifty }, asks: "reads" },
  { name: "packed", title: "B24RMQ, packed", slow: fifty, asks: "reads", packs: true },
  { name: "writes", title: "B24RMQ, unpacked writes, journal", env: off, asks: "writes" },
  { name: "writes-off", title: "B24RMQ, unpacked writes, no journal", env: { ...off, ...noJournal }, asks: "writes" },
  {
    name: "packed-writes",
    title: "B24RMQ, packed writes, journal",
    env: { B24RMQ_PACK: "all" },
    asks: "writes",
    packs: true
  },
  {
    name: "packed-writes-off",
    title: "B24RMQ, packed writes, no journal",
    env: { B24RMQ_PACK: "all", ...noJournal },
    asks: "writes",
    packs: true
  }
]
