import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { copyFile } from "node:fs/promises"
import { dirname, join } from "node:path"
import { Data, Effect, type Scope } from "effect"
import { child, type Child, run, temporaryFolder } from "./child.ts"
import { RigFailed, until } from "./until.ts"

const path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/**
 * Puts a cgroup of its own around all that follows, so that the systemd inside takes its root for the root, and nothing
 * of it lands beside the groups of this machine. The first mount namespace is for this mount alone.
 */
const enclose = `set -eu
mkdir "$1/cgroup"
mount -t cgroup2 none "$1/cgroup"
mkdir "$1/cgroup/$2"
echo $$ > "$1/cgroup/$2/cgroup.procs"
umount "$1/cgroup"
exec unshare --fork --pid --kill-child --mount --uts --ipc --cgroup /bin/sh -c "$3" boot "$1"`

/**
 * The machine that systemd finds: this one's files under an overlay that forgets, its network, and a /proc, /sys and /dev
 * of its own with which it can do no harm (no devices, no sysctl, no uevents). Of the units that Debian starts at boot
 * only the journal is left: what else is enabled here is none of our business and would take seconds.
 */
const boot = `set -eu
read -r pid _ < /proc/self/stat # before /proc is a new one: the number as it is outside
mount -t tmpfs -o mode=755 tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" overlay "$1/root"
cd "$1/root"
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for device in null:3 zero:5 full:7 random:8 urandom:9; do mknod -m 666 "dev/\${device%:*}" c 1 "\${device#*:}"; done
mknod -m 666 dev/tty c 5 0
rm -rf etc/fstab etc/systemd usr/local/lib/systemd usr/lib/systemd/system/*.target.wants
rm -rf usr/lib/systemd/system-generators usr/lib/systemd/system-environment-generators var/log/journal
mkdir -p etc/systemd/system/sysinit.target.wants etc/systemd/system/sockets.target.wants
for unit in sysinit.target:systemd-journald.service sockets.target:systemd-journald.socket sockets.target:systemd-journald-dev-log.socket
do ln -s "/lib/systemd/system/\${unit#*:}" "etc/systemd/system/\${unit%:*}.wants/\${unit#*:}"; done
printf '[Journal]\\nStorage=volatile\\nRateLimitIntervalSec=0\\nReadKMsg=no\\nAudit=\\n' > etc/systemd/journald.conf
echo rig > etc/hostname
tr -d - < proc/sys/kernel/random/uuid > etc/machine-id # a machine without one is new: it would enable what Debian presets
mkdir .old
pivot_root . .old
umount -l /.old
rmdir /.old
mount --make-rshared / # as the manager of a container does: credentials reach their service by propagation
echo "$pid"
exec env -i PATH=${path} container=b24rmq-rig /lib/systemd/systemd --system --unit=basic.target --log-target=journal --show-status=no`

/** A command that ran inside and said no. */
export class Refused extends Data.TaggedError("Refused")<{
  readonly command: string
  readonly code: number | null
  readonly said: string
}> {
  override get message() {
    return `${this.command} ended with ${this.code}: ${this.said}`
  }
}

/** A real systemd, process 1 of a namespace of its own, on the files and the network of this machine. */
export interface Systemd {
  /** Process 1, as its number is outside. */
  readonly pid: number
  /** Where its root folder is seen from outside. What is written there is gone with it. */
  readonly root: string
  /** Runs a command inside and gives what it wrote. */
  readonly inside: (
    ...command: readonly [string, ...ReadonlyArray<string>]
  ) => Effect.Effect<string, RigFailed | Refused>
  readonly systemctl: (...args: ReadonlyArray<string>) => Effect.Effect<string, RigFailed | Refused>
  /** Writes a unit's text and makes it known. */
  readonly install: (unit: string, text: string) => Effect.Effect<void, RigFailed | Refused>
  /**
   * Has systemd keep a unit in mind. It forgets one that has stopped well, and with it how it ended: it would then say
   * `Result=success` and exit code 0 of anything.
   */
  readonly remember: (unit: string) => Effect.Effect<void, RigFailed | Refused>
  /** Writes a file inside, its folders included. */
  readonly write: (path: string, text: string, mode?: number) => Effect.Effect<void>
  /** Copies a file of this machine to another place inside. */
  readonly copy: (from: string, to: string) => Effect.Effect<void>
  /** All that the unit has logged, a message a line. */
  readonly journal: (unit: string) => Effect.Effect<string, RigFailed | Refused>
  /** Waits until the unit has logged a text, and gives all that it has logged. */
  readonly logs: (unit: string, text: string) => Effect.Effect<string, RigFailed | Refused>
  /** A property of a unit, such as ActiveState, MainPID, NRestarts, StatusText. */
  readonly show: (unit: string, property: string) => Effect.Effect<string, RigFailed | Refused>
  /** Waits until a property has a value. Says what the unit logged if it never has. */
  readonly reaches: (unit: string, property: string, value: string) => Effect.Effect<void, RigFailed | Refused>
  /** Sends the signal to the main process of the unit. */
  readonly kill: (unit: string, signal: NodeJS.Signals) => Effect.Effect<void, RigFailed | Refused>
  /** What the main process of the unit keeps in memory, in bytes (VmRSS). */
  readonly memory: (unit: string) => Effect.Effect<number, RigFailed | Refused>
}

/** Kills it and waits until nothing is left: the kernel ends all of the namespace, and with it go the mounts. */
const close = (unshare: Child, pid: () => number | undefined, folder: string, cgroup: string) =>
  Effect.gen(function* () {
    const systemd = pid()
    if (systemd !== undefined && unshare.ended() === undefined) {
      yield* Effect.sync(() => process.kill(systemd, "SIGKILL"))
      yield* Effect.ignore(Effect.timeout(unshare.exited, "10 seconds")) // it waits for its child, so we need not
    }
    yield* unshare.destroy
    // A cgroup is removed leaf by leaf, and only once the kernel has buried the last process in it.
    const remove = `mkdir -p "$1/cgroup" && mount -t cgroup2 none "$1/cgroup" &&
      { [ ! -d "$1/cgroup/$2" ] || find "$1/cgroup/$2" -depth -type d -exec rmdir {} + ; }`
    yield* until(
      "its cgroup is gone",
      Effect.map(
        outside("unshare", "--mount", "/bin/sh", "-c", remove, "remove", folder, cgroup),
        (it) => it.code === 0
      )
    )
  })

const outside = (command: string, ...args: ReadonlyArray<string>) =>
  // A stop may take as long as TimeoutStopSec= says.
  run({ command, args, env: { PATH: path, LANG: "C.UTF-8" }, cwd: "/", within: "2 minutes" })

/**
 * Starts a systemd, ready to take units. Closing the scope leaves no process, no mount and no file behind, and neither
 * does a test process that is killed. Needs root.
 */
export const startSystemd: Effect.Effect<Systemd, RigFailed, Scope.Scope> = Effect.gen(function* () {
  if (process.getuid?.() !== 0) return yield* new RigFailed({ what: "a systemd of its own needs root" })
  if (!existsSync("/lib/systemd/systemd")) return yield* new RigFailed({ what: "systemd is not installed" })
  const folder = yield* temporaryFolder("systemd")
  const cgroup = `b24rmq-${folder.split("/").slice(-2).join("-")}`
  let pid: number | undefined
  let said = ""
  const unshare = yield* Effect.acquireRelease(
    child({
      command: "unshare",
      args: ["--mount", "/bin/sh", "-c", enclose, "enclose", folder, cgroup, boot],
      env: { PATH: path },
      cwd: "/",
      stdio: ["ignore", "pipe", "pipe"]
    }),
    (it) => Effect.orDie(close(it, () => pid, folder, cgroup))
  )
  for (const stream of [unshare.process.stdout, unshare.process.stderr]) {
    stream?.setEncoding("utf8").on("data", (text: string) => (said += text))
  }
  pid = yield* until(
    "the machine of systemd is set up",
    Effect.suspend(() => {
      if (unshare.ended() !== undefined) return Effect.fail(new RigFailed({ what: `no systemd: ${said}` }))
      return Effect.succeed(Number(/^\d+$/m.exec(said)?.[0]) || undefined)
    })
  )
  const systemd = attach(pid)
  yield* until(
    "systemd has started",
    systemd.systemctl("is-active", "basic.target").pipe(Effect.orElseSucceed(() => false))
  )
  return systemd
})

const attach = (pid: number): Systemd => {
  const root = `/proc/${pid}/root`
  const inside: Systemd["inside"] = (...command) =>
    outside("nsenter", `--target=${pid}`, "--mount", "--uts", "--ipc", "--pid", "--cgroup", "--", ...command).pipe(
      Effect.flatMap(({ code, err, out }) =>
        code === 0
          ? Effect.succeed(out)
          : Effect.fail(new Refused({ command: command.join(" "), code, said: `${out}${err}`.trim() }))
      )
    )
  const systemctl: Systemd["systemctl"] = (...args) => inside("systemctl", ...args)
  const reload = Effect.asVoid(systemctl("daemon-reload"))
  const show: Systemd["show"] = (unit, property) =>
    Effect.map(systemctl("show", "--value", "--property", property, unit), (text) => text.trim())
  const journal: Systemd["journal"] = (unit) =>
    inside("journalctl", "--no-pager", "--output=cat", "--all", `--unit=${unit}`)
  const write: Systemd["write"] = (path, text, mode = 0o644) =>
    Effect.sync(() => {
      mkdirSync(dirname(join(root, path)), { recursive: true })
      writeFileSync(join(root, path), text, { mode })
    })
  return {
    pid,
    root,
    inside,
    systemctl,
    show,
    journal,
    logs: (unit, text) =>
      until(
        `${unit} logs ${text}`,
        Effect.map(journal(unit), (logged) => logged.includes(text) && logged)
      ),
    write,
    install: (unit, text) => Effect.andThen(write(`/etc/systemd/system/${unit}`, text), reload),
    remember: (unit) =>
      Effect.andThen(write(`/etc/systemd/system/basic.target.d/${unit}.conf`, `[Unit]\nAfter=${unit}\n`), reload),
    copy: (from, to) =>
      Effect.promise(async () => {
        mkdirSync(dirname(join(root, to)), { recursive: true })
        await copyFile(from, join(root, to))
      }),
    reaches: (unit, property, value) =>
      until(
        `${property} of ${unit} is ${value}`,
        Effect.map(show(unit, property), (now) => now === value)
      ).pipe(
        Effect.catchTag("RigFailed", (cause) =>
          Effect.flatMap(
            systemctl("status", "--lines=30", "--full", unit).pipe(
              Effect.catchTag("Refused", (it) => Effect.succeed(it.said))
            ),
            (status) => Effect.fail(new RigFailed({ what: `${cause.what}\n${status}` }))
          )
        ),
        Effect.asVoid
      ),
    kill: (unit, signal) => Effect.asVoid(systemctl("kill", "--kill-who=main", `--signal=${signal}`, unit)),
    memory: (unit) =>
      Effect.flatMap(show(unit, "MainPID"), (main) =>
        // Its number inside; /proc of the namespace is seen below root.
        Effect.sync(() => {
          const status = readFileSync(join(root, "proc", main, "status"), "utf8")
          return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024
        })
      )
  }
}
