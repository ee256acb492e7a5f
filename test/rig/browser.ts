import { chromium, type BrowserContextOptions } from "playwright-core"
import { Effect } from "effect"
import { temporaryFolder } from "./child.ts"
import { RigFailed } from "./until.ts"

/** Nothing of its own on the network, and no sandbox, which root has not got. */
const flags = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync"
]

/** Debian's Chromium with a new profile; gives how to open a page, which closes with its scope as the browser does. */
export const browser = Effect.gen(function* () {
  const profile = yield* temporaryFolder("chromium")
  const context = yield* Effect.acquireRelease(
    Effect.tryPromise({
      try: () => chromium.launchPersistentContext(profile, { executablePath: "/usr/bin/chromium", args: flags }),
      catch: (cause) => new RigFailed({ what: "Chromium does not start", cause })
    }),
    (context) => Effect.promise(() => context.close())
  )
  return (options: BrowserContextOptions) =>
    Effect.acquireRelease(
      Effect.tryPromise({
        try: async () => {
          const own = await context.browser()?.newContext(options)
          if (own === undefined) throw new Error("it has gone")
          return own.newPage()
        },
        catch: (cause) => new RigFailed({ what: "Chromium opens no page", cause })
      }),
      (page) => Effect.promise(() => page.context().close())
    )
})
