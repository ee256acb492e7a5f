import { Effect } from "effect"
import { mkdirSync, writeFileSync } from "node:fs"
import { run } from "./child.ts"
import { RigFailed } from "./until.ts"

/** A file system of two megabytes below a folder. Only root may mount one. */
export const smallDisk = Effect.fnUntraced(function* (folder: string) {
  const disk = `${folder}/disk`
  mkdirSync(disk)
  const mount = (...args: ReadonlyArray<string>) =>
    Effect.flatMap(
      run({ command: "mount", args, env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" }, cwd: "/" }),
      ({ code, err }) => (code === 0 ? Effect.void : Effect.fail(new RigFailed({ what: `mount: ${err}` })))
    )
  yield* Effect.acquireRelease(mount("-t", "tmpfs", "-o", "size=2m", "tmpfs", disk), () =>
    Effect.ignore(run({ command: "umount", args: [disk], env: { PATH: "/usr/bin:/bin" }, cwd: "/" }))
  )
  return {
    disk,
    remount: (how: "ro" | "rw") => mount("-o", `remount,${how}`, disk),
    /** Takes all of its room, the last page, too. */
    fill: Effect.sync(() => {
      for (const size of [1_000_000, 100_000, 10_000, 4096, 4096, 4096, 4096]) {
        for (let at = 0; at < 40; at++) {
          try {
            writeFileSync(`${disk}/filler-${size}-${at}`, Buffer.alloc(size))
          } catch {
            break
          }
        }
      }
    }),
    empty: Effect.promise(() => Bun.$`rm -f ${{ raw: `${disk}/filler-*` }}`.quiet())
  }
})
