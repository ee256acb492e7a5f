/**
 * `bun build.ts` writes dist/ with B24RMQ for linux-x64, its man page and completions, the units, what a monitoring
 * needs, and SHA256SUMS; `--all` adds linux-arm64 and linux-x64-musl.
 *
 * A compiled program is our bundle appended to a Bun runtime. Since Bun 1.4 there is one runtime for x64, compiled for
 * Nehalem (2008, SSE4.2) and choosing wider instructions only after it has asked the processor: what older versions
 * shipped apart as `baseline` is the same file now, byte for byte. So linux-x64 runs on CPUs without AVX2 too;
 * test/build.test.ts runs it on an emulated Nehalem.
 */
import { existsSync } from "node:fs"
import { chmod, copyFile, mkdir, mkdtemp, readdir, rename, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { NodeServices } from "@effect/platform-node"
import { Effect } from "effect"
import { completions, manual } from "./src/manual.ts"

interface Artefact {
  readonly file: string
  readonly target: Bun.Build.CompileTarget
  /** The npm package that holds the runtime. */
  readonly runtime: string
  /** What the runtime is started by: tells which of the runtimes this process is. */
  readonly loader: string
}

const usual: Artefact = {
  file: "B24RMQ",
  target: "bun-linux-x64",
  runtime: "@oven/bun-linux-x64",
  loader: "/lib64/ld-linux-x86-64.so.2"
}
const others: ReadonlyArray<Artefact> = [
  {
    file: "B24RMQ-linux-arm64",
    target: "bun-linux-arm64",
    runtime: "@oven/bun-linux-aarch64",
    loader: "/lib/ld-linux-aarch64.so.1"
  },
  {
    file: "B24RMQ-linux-x64-musl",
    target: "bun-linux-x64-musl",
    runtime: "@oven/bun-linux-x64-musl",
    loader: "/lib/ld-musl-x86_64.so.1"
  }
]

/** What goes into dist as it is, and its name there. */
const copied = [
  ["packaging/b24rmq.service", "b24rmq.service"],
  ["packaging/b24rmq@.service", "b24rmq@.service"],
  ["packaging/b24rmq.env.example", "b24rmq.env.example"],
  ["packaging/prometheus/b24rmq.rules.yml", "b24rmq.rules.yml"],
  ["packaging/grafana/b24rmq.json", "b24rmq.dashboard.json"],
  ["LICENSE", "LICENSE"]
] as const

const here = import.meta.dir
const cache = join(here, "node_modules", ".cache", "b24rmq-runtimes")

const fail = (what: string): never => {
  console.error(what)
  process.exit(1)
}

/** Which version of a package bun.lock names, and the hash that it must have. */
const locked = async (name: string) => {
  const lock = await Bun.file(join(here, "bun.lock")).text()
  const line = new RegExp(`"${name}@([^"]+)", .*"(sha512-[^"]+)"`).exec(lock)
  return line?.[1] && line[2] ? { version: line[1], hash: line[2] } : fail(`bun.lock does not name ${name}`)
}

/**
 * The file of a runtime. That of this very process was checked when it was installed. The others are foreign to this
 * machine, so `bun install` leaves them out, and what Bun would fetch for `--target` by itself no lock file vouches for:
 * they come through npm and have to match bun.lock.
 */
const runtimeOf = async ({ loader, runtime }: Artefact) => {
  const head = new TextDecoder("latin1").decode(await Bun.file(process.execPath).slice(0, 4096).arrayBuffer())
  if (head.includes(`${loader}\0`)) return process.execPath
  const { hash, version } = await locked(runtime)
  const file = join(cache, `${runtime.replaceAll("/", "-")}-${version}`)
  if (existsSync(file)) return file
  const folder = await mkdtemp(join(tmpdir(), "b24rmq-build-"))
  try {
    const packed = Bun.spawnSync(["npm", "pack", "--silent", `${runtime}@${version}`], {
      cwd: folder,
      stderr: "inherit"
    })
    const [archive] = await readdir(folder)
    if (!packed.success || archive === undefined) return fail(`npm does not give ${runtime}@${version}`)
    const bytes = await Bun.file(join(folder, archive)).bytes()
    const found = `sha512-${new Bun.CryptoHasher("sha512").update(bytes).digest("base64")}`
    if (found !== hash) return fail(`${runtime}@${version} is not what bun.lock names: ${found} in place of ${hash}`)
    const binary = (await new Bun.Archive(bytes).files("package/bin/bun")).get("package/bin/bun")
    if (binary === undefined) return fail(`${runtime}@${version} holds no bin/bun`)
    await mkdir(cache, { recursive: true })
    await Bun.write(`${file}.part`, binary)
    await chmod(`${file}.part`, 0o755)
    await rename(`${file}.part`, file) // whole or not at all
    return file
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

const compile = async (entry: string, artefact: Artefact, folder: string) => {
  const outfile = join(folder, artefact.file)
  const built = await Bun.build({
    entrypoints: [entry],
    target: "bun",
    format: "esm",
    // Parsed ahead of time: consuming 70 ms after the start in place of 130. Minifying would gain 2 ms more, and cost
    // readable stacks.
    bytecode: true,
    // Goes into the binary, compressed: the stack of a defect names our files and lines.
    sourcemap: "linked",
    compile: {
      target: artefact.target,
      executablePath: await runtimeOf(artefact),
      outfile,
      // Else Bun reads .env and bunfig.toml from the working directory before our code runs, and a planted `preload`
      // there would be code run as the user of the service.
      autoloadDotenv: false,
      autoloadBunfig: false,
      autoloadTsconfig: false,
      autoloadPackageJson: false
    }
  })
  await rm(`${outfile}.map`, { force: true })
  if (!built.success) fail(built.logs.join("\n"))
}

/** Builds `entry` and what belongs to it into `dist`, which is replaced as a whole. */
export const build = async (options: { readonly all: boolean; readonly entry?: string; readonly dist?: string }) => {
  const dist = options.dist ?? join(here, "dist")
  const entry = options.entry ?? join(here, "src", "main.ts")
  const { version } = await locked("bun")
  if (Bun.version !== version) fail(`this is Bun ${Bun.version}; bun.lock asks for ${version}: use \`npm run build\``)

  const folder = await mkdtemp(`${dist}.`)
  try {
    for (const artefact of options.all ? [usual, ...others] : [usual]) await compile(entry, artefact, folder)
    for (const [from, to] of copied) await copyFile(join(here, from), join(folder, to))
    await Bun.write(join(folder, "B24RMQ.1"), await Effect.runPromise(Effect.provide(manual, NodeServices.layer)))
    for (const shell of ["bash", "zsh", "fish"] as const)
      await Bun.write(join(folder, `B24RMQ.${shell}`), completions(shell))
    const files = (await readdir(folder)).sort()
    const sums: Array<string> = []
    for (const file of files) {
      const hash = new Bun.CryptoHasher("sha256").update(await Bun.file(join(folder, file)).bytes()).digest("hex")
      sums.push(`${hash}  ${file}\n`)
    }
    await Bun.write(join(folder, "SHA256SUMS"), sums.join(""))
    await chmod(folder, 0o755)
    await rm(dist, { recursive: true, force: true })
    await rename(folder, dist)
    return [...files, "SHA256SUMS"]
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

if (import.meta.main) {
  const [flag, ...rest] = process.argv.slice(2)
  if ((flag !== undefined && flag !== "--all") || rest.length > 0) fail("usage: bun build.ts [--all]")
  for (const file of await build({ all: flag === "--all" })) {
    console.log(`dist/${file}  ${(Bun.file(join(here, "dist", file)).size / 1e6).toFixed(1)} MB`)
  }
}
