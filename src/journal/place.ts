import { accessSync, constants, mkdirSync } from "node:fs"
import { hash } from "node:crypto"
import { join } from "node:path"
import { Redacted, Result } from "effect"
import type { Settings } from "../settings.ts"

export type Place =
  | { readonly _tag: "Nowhere" }
  | { readonly _tag: "File"; readonly file: string }
  | { readonly _tag: "Database"; readonly url: Redacted.Redacted<string>; readonly schema: string }

type Wanted = Pick<Settings["Service"], "journal" | "ampqUrl" | "ampqIn" | "stateFolders">

/** Where the journal of these settings is kept. */
export const placeOf = ({ journal, ampqUrl, ampqIn, stateFolders }: Wanted): Place => {
  const text = Redacted.value(journal)
  const name = nameFor({ ampqUrl, ampqIn })
  if (text === "off") return { _tag: "Nowhere" }
  if (text.startsWith("/")) return { _tag: "File", file: text }
  // PostgreSQL cuts names at 63 bytes.
  if (text !== "auto") return { _tag: "Database", url: journal, schema: `b24rmq_${name}` }
  const folder = stateFolders.find((folder) => isWritable(folder)) ?? stateFolders[0] ?? "."
  return { _tag: "File", file: join(folder, `${name}.journal`) }
}

/** The name of a bridge, by its vhost and its queues. */
export const nameFor = ({ ampqUrl, ampqIn }: Pick<Wanted, "ampqUrl" | "ampqIn">) =>
  nameOf(vhostIn(Redacted.value(ampqUrl)), ampqIn)

/** A name for files that people can read, and that no two sets of queues share. */
export const nameOf = (vhost: string, queues: ReadonlyArray<string>) => {
  const text = JSON.stringify([vhost, ...queues])
  const readable = [vhost, ...queues]
    .join(" ")
    .replace(/[^A-Za-z0-9]+/g, "-")
    .replace(/^-|-$/g, "")
    .slice(0, 40)
  return `${readable || "journal"}-${hash("sha256", text).slice(0, 8)}`
}

const vhostIn = (url: string) => {
  const path = URL.parse(url)?.pathname.slice(1) ?? ""
  return path === ""
    ? "/"
    : Result.getOrElse(
        Result.try(() => decodeURIComponent(path)),
        () => path
      )
}

/** Makes the folder where it may, for its owner alone unless told otherwise. */
export const isWritable = (folder: string, mode = 0o700) =>
  Result.isSuccess(
    Result.try(() => {
      mkdirSync(folder, { recursive: true, mode })
      accessSync(folder, constants.W_OK | constants.X_OK)
    })
  )
