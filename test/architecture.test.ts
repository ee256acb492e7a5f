import { readFileSync, readdirSync } from "node:fs"
import { basename, dirname, join, normalize, relative } from "node:path"
import { expect, test } from "bun:test"

// The rules of the house (docs and src/bridge/bridge.ts tell what they are for), kept by reading the sources.

const repository = normalize(join(import.meta.dir, ".."))
const notOurs = new Set(["node_modules", "dist", ".git"])

const walk = (folder: string): ReadonlyArray<string> =>
  readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) return notOurs.has(entry.name) ? [] : walk(path)
    return entry.isFile() ? [path] : []
  })

const files = walk(repository).map((path) => relative(repository, path))

interface Import {
  /** A file of ours as `queue/intake.ts`, relative to src, or the name of a package. */
  readonly what: string
  readonly ours: boolean
  readonly typeOnly: boolean
}

interface Source {
  /** Relative to src. */
  readonly file: string
  /** The folder in src, and the file itself where it lies directly there. */
  readonly room: string
  /** Without comments and types. */
  readonly code: string
  readonly imports: ReadonlyArray<Import>
}

const transpiler = new Bun.Transpiler({ loader: "ts", target: "bun", deadCodeElimination: false })

const importsOf = (file: string, code: string): ReadonlyArray<Import> => {
  const found = code.matchAll(
    /(?:^|\n)(import|export)\s(type\s)?(?:[^"';]*?\sfrom\s)?"([^"]+)"|\bimport\(\s*"([^"]+)"\s*\)/g
  )
  return [...found].map(([, , type, from = "", dynamic = ""]) => {
    const what = from || dynamic
    const ours = what.startsWith(".")
    return { what: ours ? normalize(join(dirname(file), what)) : what, ours, typeOnly: type !== undefined }
  })
}

const sources: ReadonlyArray<Source> = files
  .filter((file) => file.startsWith("src/") && file.endsWith(".ts") && !file.endsWith(".d.ts"))
  .map((path) => {
    const file = path.slice("src/".length)
    const text = readFileSync(join(repository, path), "utf8")
    return {
      file,
      room: file.split("/")[0] ?? "",
      // A macro would be run.
      code: transpiler.transformSync(text.replaceAll(' with { type: "macro" }', "")),
      imports: importsOf(file, text)
    }
  })

const leaves = ["settings.ts", "schedules.ts", "events.ts", "metrics.ts"]
/** What a room may know besides itself. */
const knows: Readonly<Record<string, ReadonlyArray<string>>> = {
  message: [],
  queue: ["message", ...leaves],
  portal: ["message", ...leaves],
  journal: ["message", ...leaves],
  bridge: ["queue", "portal", "journal", "message", ...leaves],
  watch: ["bridge", "queue", "portal", "journal", "message", ...leaves],
  sandbox: ["bridge", "queue", "portal", "journal", "message", ...leaves],
  "main.ts": ["command.ts"],
  "manual.ts": ["command.ts", ...leaves],
  "command.ts": ["bridge", "queue", "portal", "journal", "message", "watch", "sandbox", ...leaves],
  ...Object.fromEntries(leaves.map((leaf) => [leaf, leaves]))
}

/** The places that break a rule, as "file: what". */
const offences = (find: (source: Source) => ReadonlyArray<string>) =>
  sources.flatMap((source) => find(source).map((what) => `${source.file}: ${what}`))

const packages = (source: Source, wanted: (name: string) => boolean) =>
  source.imports.filter(({ ours, what }) => !ours && wanted(what)).map(({ what }) => what)

const matches = (source: Source, pattern: RegExp) => [...source.code.matchAll(pattern)].map(([text]) => text.trim())

test("the sources are found, and their imports are read", () => {
  expect(sources.map(({ file }) => file)).toContain("bridge/bridge.ts")
  expect(sources.find(({ file }) => file === "settings.ts")?.code).toContain("process.env")
  expect(sources.find(({ file }) => file === "portal/client.ts")?.code).toContain("await fetch(")
  const read = importsOf(
    "bridge/a.ts",
    'import type { A } from "../queue/a.ts"\nimport {\n  type B,\n  b\n} from "./b.ts"\nimport "effect"\nexport * from "../portal/c.ts"\nconst d = () => import("../watch/d.ts")\n'
  )
  expect(read.map(({ what, typeOnly }) => [what, typeOnly])).toEqual([
    ["queue/a.ts", true],
    ["bridge/b.ts", false],
    ["effect", false],
    ["portal/c.ts", false],
    ["watch/d.ts", false]
  ])
})

test("arrows point one way", () => {
  expect(
    offences(({ imports, room }) =>
      imports
        .filter(({ ours, what }) => ours && !what.startsWith(".."))
        .map(({ what }) => what)
        .filter((what) => {
          const other = what.split("/")[0] ?? ""
          return other !== room && !knows[room]?.includes(other)
        })
    )
  ).toEqual([])
})

test("doubt never asks back: dispatch does not know it, nor the bridge", () => {
  expect(
    offences(({ file, imports }) =>
      ["bridge/dispatch.ts", "bridge/order.ts"].includes(file)
        ? imports.map(({ what }) => what).filter((what) => ["bridge/doubt.ts", "bridge/bridge.ts"].includes(what))
        : []
    )
  ).toEqual([])
})

test("the simulated portal shares nothing with what it tests", () => {
  expect(
    offences(({ file, imports }) =>
      file.startsWith("sandbox/portal/")
        ? imports.filter(({ ours, what }) => ours && !what.startsWith("sandbox/portal/")).map(({ what }) => what)
        : []
    )
  ).toEqual([])
})

test("amqplib is touched in queue only; the sandbox stands in for it and may name its types", () => {
  expect(
    offences((source) =>
      source.imports
        .filter(({ what }) => what === "amqplib" || what.startsWith("amqplib/"))
        .filter(({ typeOnly }) => source.room !== "queue" && !(source.room === "sandbox" && typeOnly))
        .map(({ what }) => what)
    )
  ).toEqual([])
})

test("the fake broker is in the sandbox only", () => {
  expect(
    offences((source) =>
      source.room === "sandbox" ? [] : packages(source, (name) => name.startsWith("@onify/fake-amqplib"))
    )
  ).toEqual([])
})

test("the portal is called in portal/client.ts only; the page, in a browser, asks the bridge", () => {
  // `fetch(request) {` is the method of a server.
  const call = /(?<![.\w])(?:globalThis\.|Bun\.)?fetch\((?![^()]*\)\s*(?::[^{]*)?\{)/g
  expect("await fetch(url)".match(call)).toHaveLength(1)
  expect("Bun.serve({ fetch(request) { return no } })".match(call)).toBeNull()
  expect(
    offences((source) =>
      source.file === "portal/client.ts" || source.file.startsWith("watch/page/") ? [] : matches(source, call)
    )
  ).toEqual([])
})

test("SQL is in the journal only", () => {
  const statement =
    /\b(?:SELECT\s+\S+[\s\S]{0,200}?\sFROM|INSERT\s+(?:OR\s+\w+\s+)?INTO|DELETE\s+FROM|CREATE\s+TABLE)\b/g
  const database = (name: string) => /^(?:bun:sqlite|node:sqlite|pg|postgres|@effect\/sql.*)$/.test(name)
  expect(
    offences((source) =>
      source.room === "journal"
        ? []
        : [...matches(source, statement), ...matches(source, /\bBun\.SQL\b/g), ...packages(source, database)]
    )
  ).toEqual([])
})

test("the environment is read in settings.ts only", () => {
  expect(
    offences((source) =>
      source.file === "settings.ts" ? [] : matches(source, /\b(?:process|Bun|import\.meta)\.env\b/g)
    )
  ).toEqual([])
})

test("time and chance come from Effect", () => {
  expect(
    offences((source) =>
      source.room === "sandbox" ? [] : matches(source, /\bDate\.now\(|\bMath\.random\(|\bnew Date\(\)/g)
    )
  ).toEqual([])
})

test("no barrel files, no rooms for leftovers, no names that say nothing", () => {
  expect(files.filter((file) => file.startsWith("src/") && basename(file) === "index.ts")).toEqual([])
  expect(files.filter((file) => file.split("/").includes("utils"))).toEqual([])
  expect(
    files.filter((file) => file.endsWith(".ts") && /(?:manager|helper|service|util)s?$/i.test(basename(file, ".ts")))
  ).toEqual([])
  expect(offences((source) => matches(source, /\bclass\s+\w*(?:Manager|Helper|Service|Util)s?\b/g))).toEqual([])
})

test("the repository names no package registry and no path of the machine it was written on", () => {
  const registries =
    /\/\/registry\.|\bregistry\.(?:npm|yarn)|\bnpmjs\.(?:org|com)|\byarnpkg\.|\bpypi\.org|\bproxy\.golang\.org|\bcrates\.io|\b(?:ghcr|quay|docker)\.io\/|\bartifactory|\bverdaccio|\bjfrog|\b(?:deb|security)\.debian\.org/i
  const paths = /(?:^|[\s"'`(=:])\/work\//m
  const found = files
    .filter((file) => join(repository, file) !== import.meta.path)
    .flatMap((file) => {
      const bytes = readFileSync(join(repository, file))
      if (bytes.subarray(0, 8_000).includes(0)) return []
      const text = bytes.toString()
      return [registries, paths].flatMap((pattern) => {
        const [hit] = pattern.exec(text) ?? []
        return hit === undefined ? [] : [`${file}: ${hit.trim()}`]
      })
    })
  expect(found).toEqual([])
})
