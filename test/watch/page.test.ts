import { expect, test } from "bun:test"
import { Effect, Schema } from "effect"
import { mkdirSync, statSync } from "node:fs"
import { join } from "node:path"
import type { BrowserContextOptions, Page } from "playwright-core"
import { openPortal } from "../../src/sandbox/portal/server.ts"
import { adviceFor } from "../../src/watch/advice.ts"
import { Report } from "../../src/watch/cause.ts"
import type { Language } from "../../src/watch/length.ts"
import { speechOf } from "../../src/watch/page/words.ts"
import { live } from "../effect.ts"
import { type Bridge, program, startBridge } from "../rig/bridge.ts"
import { browser } from "../rig/browser.ts"
import { run, temporaryFolder } from "../rig/child.ts"
import { freePort } from "../rig/ports.ts"
import { collector, declareQueues, publishAll, queueRequest, requests } from "../rig/producer.ts"
import { vhost } from "../rig/rabbit.ts"
import { until } from "../rig/until.ts"

// The full form: B24RMQ_PAGE_REQUESTS=5000 B24RMQ_PAGE_SHOTS=folder bun test/run.ts ./test/watch/page.test.ts
const count = Number(process.env["B24RMQ_PAGE_REQUESTS"] ?? 1_600)
const shots = process.env["B24RMQ_PAGE_SHOTS"]

const token = "canary0token"
const password = "canary0page"

/** Several, or the operating time of one would be used up half-way. */
const entities = ["deal", "lead", "contact", "company"]

/** Those who look: both languages, dark and light, desk and phone. */
const looks: Readonly<
  Record<string, { readonly language: Language; readonly isDark: boolean; readonly width: number }>
> = {
  "en-light": { language: "en", isDark: false, width: 1200 },
  "ru-dark": { language: "ru", isDark: true, width: 1200 },
  "ru-light-phone": { language: "ru", isDark: false, width: 360 },
  "en-dark-phone": { language: "en", isDark: true, width: 360 }
}

const optionsOf = ({ isDark, language, width }: (typeof looks)[string]): BrowserContextOptions => ({
  locale: { en: "en-US", ru: "ru-RU" }[language],
  colorScheme: isDark ? "dark" : "light",
  viewport: { width, height: 800 },
  httpCredentials: { username: "admin", password }
})

const statusAsJson = (bridge: Bridge) =>
  Effect.gen(function* () {
    const [command, ...before] = program()
    const env = { PATH: process.env["PATH"] ?? "/usr/bin:/bin", RUNTIME_DIRECTORY: bridge.cwd }
    const { out } = yield* run({ command, args: [...before, "status", "--json"], env, cwd: bridge.cwd })
    return Schema.decodeUnknownSync(Report)(JSON.parse(out))
  })

/** What is used of a browser by the functions that run in it. */
interface Part {
  readonly textContent: string
  readonly dateTime: string
  readonly max: number
  readonly value: number
  readonly lang: string
  readonly scrollWidth: number
  readonly toDataURL: () => string
}
interface Seen {
  readonly at: number
  readonly cause: string | undefined
  readonly figures: ReadonlyArray<number>
  readonly waits: ReadonlyArray<number>
  readonly gauges: ReadonlyArray<readonly [number, number]>
  readonly refusals: ReadonlyArray<string>
}
interface InBrowser {
  seen: Array<Seen>
  readonly document: {
    readonly querySelectorAll: (selector: string) => Iterable<Part>
    readonly documentElement: Part
    readonly body: Part
  }
  readonly getComputedStyle: (part: Part) => { readonly backgroundColor: string }
  readonly innerWidth: number
  readonly MutationObserver: new (changed: () => void) => { observe: (part: Part, options: object) => void }
}

/**
 * Has the page keep all that it shows. Each time is read at once, and numbers as a person reads them, whatever parts the
 * thousands.
 */
const keepWhatIsSeen = (page: Page) =>
  Effect.promise(() =>
    page.evaluate(() => {
      const browser = globalThis as unknown as InBrowser
      const { document } = browser
      const all = (selector: string) => [...document.querySelectorAll(selector)]
      const number = (text: string) => Number(text.replaceAll(/\D/g, ""))
      const look = () =>
        browser.seen.push({
          at: Date.parse(all("header time")[0]?.dateTime ?? ""),
          cause: all(".cause > p")[0]?.textContent,
          figures: all(".figures dd:first-of-type").map(({ textContent }) => number(textContent)),
          waits: all(".waits b").map(({ textContent }) => number(textContent)),
          gauges: all(".budgets meter").map(({ max, value }) => [max, value] as const),
          refusals: all(".entries .name code").map(({ textContent }) => textContent)
        })
      browser.seen = []
      look()
      new browser.MutationObserver(look).observe(document.body, {
        subtree: true,
        childList: true,
        attributes: true,
        attributeFilter: ["datetime"]
      })
    })
  )

/** What the page shows, or has shown of a moment. */
const read = (page: Page, moment?: number) =>
  Effect.promise(() =>
    page.evaluate((moment) => {
      const { seen } = globalThis as unknown as InBrowser
      return seen.findLast(({ at }) => moment === undefined || at === moment)
    }, moment)
  )

/** The same as the command says it. */
const expected = (report: Report, language: Language) => ({
  at: report.at,
  cause: report.cause[language],
  left: report.backlog.left,
  minute: report.pace.minute.answers,
  inFlight: report.inFlight.requests,
  waiting: report.waiting.reduce((sum, { count }) => sum + count, 0),
  unread: report.answers.ready,
  waits: report.waiting.map(({ count }) => count),
  gauges: [
    [report.rate.depth, report.rate.level] as const,
    ...report.budgets.slice(0, 12).map(({ allowed, used }) => [allowed, used] as const)
  ]
    .filter(([most]) => most !== null)
    .map(([most, used]) => [most, Number(Math.min(most ?? 0, used).toFixed(2))]),
  refusals: report.refusals.map(({ code }) => code || speechOf(language).words.noCode).toReversed()
})

/** Asks the command until its answer is about a moment that the page has shown, and compares the two. */
const agree = (bridge: Bridge, page: Page, language: Language) =>
  until(
    "page and command are about the same moment",
    Effect.gen(function* () {
      const report = yield* statusAsJson(bridge)
      yield* until(
        "the page is as new as the command",
        Effect.map(read(page), (seen) => seen !== undefined && seen.at >= report.at)
      )
      const seen = yield* read(page, report.at)
      if (seen === undefined) return undefined
      const { figures, ...rest } = seen
      const [left, minute, , inFlight, waiting, unread] = figures
      expect({ ...rest, left, minute, inFlight, waiting, unread } as unknown).toEqual(expected(report, language))
      return report
    })
  )

/** Pictures of the plots, as text. */
const drawn = (page: Page) =>
  Effect.promise(() =>
    page.evaluate(() => {
      const { document } = globalThis as unknown as InBrowser
      return [...document.querySelectorAll("canvas")].map((canvas) => canvas.toDataURL())
    })
  )

const styleOf = (page: Page) =>
  Effect.promise(() =>
    page.evaluate(() => {
      const { document, getComputedStyle, innerWidth } = globalThis as unknown as InBrowser
      const channels = getComputedStyle(document.body).backgroundColor.match(/[\d.]+/g) ?? []
      return {
        language: document.documentElement.lang,
        isDark: Math.max(...channels.slice(0, 3).map(Number)) < 128,
        isWider: document.documentElement.scrollWidth > innerWidth
      }
    })
  )

test("every code that the bridge rejects with has an advice of its own", () => {
  const general = adviceFor("anything")
  for (const code of ["NO_METHOD", "BAD_METHOD", "NO_USER", "BAD_USER", "NO_TOKEN", "BAD_TOKEN"])
    expect(adviceFor(`B24RMQ_${code}`)).not.toBe(general)
  for (const code of ["BAD_ENCODING", "BAD_JSON", "BAD_PARAMETERS", "TOO_DEEP", "REQUEST_TOO_LARGE"])
    expect(adviceFor(`B24RMQ_${code}`)).not.toBe(general)
  expect(adviceFor("constructor")).toBe(general)
})

live(
  "the page shows what status says while a backlog is worked off, to everybody who looks",
  () =>
    Effect.gen(function* () {
      const { url } = yield* vhost
      const portal = yield* openPortal({ limits: "cloud", latency: 100 })
      yield* declareQueues(url, { in: "bitrix24in", out: "bitrix24out" })
      const port = yield* freePort
      const bridge = yield* startBridge({
        env: { AMPQURL: url, B24REST: portal.url, B24RMQ_HTTP: `127.0.0.1:${port}`, B24RMQ_HTTP_PASSWORD: password }
      })
      yield* bridge.waitForLine("http-open")
      const answers = yield* collector(url, "bitrix24out")
      const folder = shots ?? (yield* temporaryFolder("shots"))
      mkdirSync(folder, { recursive: true })

      const origin = `http://127.0.0.1:${port}`
      const told: Array<string> = []
      const bodies: Array<Promise<string>> = []
      const open = yield* browser
      const openPage = Effect.fnUntraced(function* (name: string) {
        const look = looks[name]
        if (look === undefined) throw new Error(name)
        const page = yield* open(optionsOf(look))
        page.on("console", (line) => told.push(`${line.type()}: ${line.text()}`))
        page.on("pageerror", (error) => told.push(String(error)))
        page.on("requestfailed", (request) => told.push(`failed: ${request.url()}`))
        page.on("request", (request) => {
          if (new URL(request.url()).origin !== origin) told.push(`another host: ${request.url()}`)
        })
        page.on("response", (response) => {
          if (!response.url().endsWith("/events")) bodies.push(response.text())
        })
        yield* Effect.promise(() => page.goto(origin))
        yield* keepWhatIsSeen(page)
        return { name, page, ...look }
      })

      const pages = yield* Effect.all(Object.keys(looks).map(openPage))
      const [first] = pages
      if (first === undefined) throw new Error("nobody looks")
      for (const { page } of pages) {
        yield* until(
          "there is nothing to do",
          Effect.map(
            read(page),
            (seen) => seen?.cause?.startsWith("nothing to do") || seen?.cause?.startsWith("делать нечего")
          )
        )
      }
      const blank = yield* drawn(first.page)
      expect(blank).toHaveLength(2)

      const sent = [
        queueRequest({ method: "crm.deal.get", token, params: { id: 0 } }),
        queueRequest({ method: "crm.deals.list", token }),
        queueRequest({ method: "crm.deal.list", token, params: `{"token":"${token}"` }),
        ...requests(count, (n) =>
          n % 16 === 0
            ? { method: "crm.deal.add", token, params: { fields: { TITLE: `deal ${n}` } } }
            : { method: `crm.${entities[n % entities.length]}.list`, token }
        )
      ]
      yield* publishAll(url, "bitrix24in", sent)

      yield* until(
        "the command tells of the backlog",
        Effect.map(statusAsJson(bridge), ({ backlog }) => backlog.left > 0)
      )

      for (const { isDark, language, name, page } of pages) {
        const report = yield* agree(bridge, page, language)
        expect([name, report.backlog.left]).not.toEqual([name, 0])
        expect(yield* styleOf(page)).toEqual({ language, isDark, isWider: false })
        expect(yield* Effect.promise(() => page.content())).not.toContain("canary")
      }

      // Both plots move, and move on.
      let before = blank
      for (const time of ["first", "second"]) {
        before = yield* until(
          `both plots have moved for the ${time} time`,
          Effect.map(drawn(first.page), (now) => now.every((picture, n) => picture !== before[n]) && now)
        )
      }
      yield* answers.has(sent.length / 2, "280 seconds")
      for (const { name, page } of pages) {
        const path = join(folder, `${name}.png`)
        yield* Effect.promise(() => page.screenshot({ path, fullPage: true }))
        expect(statSync(path).size).toBeGreaterThan(10_000)
      }
      yield* answers.has(sent.length, "280 seconds")
      yield* until(
        "the page says that all is done",
        Effect.map(read(first.page), (seen) => seen?.cause?.includes("nothing to do") && seen.figures[0] === 0)
      )
      const last = yield* agree(bridge, first.page, "en")
      expect(last.pace.answers).toBe(sent.length)
      expect(last.refusals.map(({ code }) => code)).toContain("B24RMQ_BAD_JSON")
      const said = yield* Effect.promise(() => Promise.all(bodies))
      expect(said.length).toBeGreaterThan(4 * 4)
      for (const text of [...said, yield* Effect.promise(() => first.page.content())])
        expect(text).not.toContain("canary")
      expect(told).toEqual([])

      // Once the bridge has ended the page says so, and does not pretend.
      yield* bridge.kill("SIGKILL")
      yield* until(
        "the page says that the bridge is silent",
        Effect.promise(() => first.page.locator("#silence").isVisible())
      )
    }),
  300_000
)
