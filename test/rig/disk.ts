import { readdirSync, rmSync, writeFileSync } from "node:fs"
import { Effect } from "effect"
import { run } from "./child.ts"
import { RigFailed } from "./until.ts"

/** Only root may mount a file system. */
export const mayMount = process.getuid?.() === 0

const path = "/usr/sbin:/usr/bin:/sbin:/bin"

const mustRun = (command: string, ...args: ReadonlyArray<string>) =>
  run({ command, args, env: { PATH: path }, cwd: "/" }).pipe(
    Effect.flatMap(({ code, err }) =>
      code === 0 ? Effect.void : Effect.fail(new RigFailed({ what: `${command} ${args.join(" ")}: ${err}` }))
    )
  )

/** Mounts a file system of two megabytes on a folder, for as long as the scope lasts. */
export const smallDisk = (folder: string) =>
  Effect.acquireRelease(mustRun("mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder), () =>
    Effect.ignore(mustRun("umount", folder))
  )

export const remount = (folder: string, how: "ro" | "rw") => mustRun("mount", "-o", `remount,${how}`, folder)

/** A program with a file system of two megabytes on a folder, which only it sees, and which ends with it. */
export const onSmallDisk = (
  folder: string,
  how: "ro" | "rw",
  program: ReadonlyArray<string>
): readonly [string, ...ReadonlyArray<string>] => {
  const script = `mount -t tmpfs -o size=2m,${how} tmpfs "$1" && shift && exec "$@"`
  return ["unshare", "--mount", "sh", "-c", script, "sh", folder, ...program]
}

/** The folder as a process sees it that `onSmallDisk` has started. */
export const seenBy = (pid: number, folder: string) => `/proc/${pid}/root${folder}`

/** The same as `remount`, for a process that `onSmallDisk` has started. */
export const remountFor = (pid: number, folder: string, how: "ro" | "rw") =>
  mustRun("nsenter", "-t", `${pid}`, "-m", "mount", "-o", `remount,${how}`, folder)

const filler = "filler-"

/** Fills a small disk to its last page. */
export const fill = (folder: string) =>
  Effect.sync(() => {
    for (const size of [1_000_000, 100_000, 10_000, 4_096, 4_096, 4_096, 4_096]) {
      for (let left = 40; left > 0; left--) {
        try {
          writeFileSync(`${folder}/${filler}${crypto.randomUUID()}`, Buffer.alloc(size))
        } catch {
          break
        }
      }
    }
  })

/** Takes away what `fill` has put there. */
export const empty = (folder: string) =>
  Effect.sync(() => {
    for (const name of readdirSync(folder)) if (name.startsWith(filler)) rmSync(`${folder}/${name}`)
  })
