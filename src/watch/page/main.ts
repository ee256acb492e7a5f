import type { Report } from "../cause.ts"
import type { Point } from "../status.ts"
import { show, the } from "./dom.ts"
import { plots } from "./plots.ts"
import { head, rest, top } from "./view.ts"
import { speechOf } from "./words.ts"

/** Milliseconds: between two looks at the history, until a silence is told, and until a refused follower asks again. */
const step = 5_000
const patience = 4_000
const again = 3_000
const hour = 3_600_000

const known = navigator.languages.map((name) => name.slice(0, 2)).find((name) => name === "ru" || name === "en")
const speech = speechOf(known === "ru" ? "ru" : "en")
document.documentElement.lang = speech.language

let points: ReadonlyArray<typeof Point.Type> = []
let drawn = plots(speech)
let last: Report | undefined
let heardAt = performance.now()
let lookedAt = -Infinity
let events: EventSource | undefined

const draw = () => {
  if (last !== undefined) for (const { set } of drawn) set(points, last.at)
}

/** The address may hold a password, which only the page itself may be asked for with. */
const at = (path: string) => location.origin + path

/** The first time the whole hour, then what has come since. */
const grow = async () => {
  lookedAt = performance.now()
  const newest = points.at(-1)?.at
  const answer = await fetch(at(newest === undefined ? "/history" : `/history?after=${newest}`))
  if (!answer.ok) return
  const more = (await answer.json()) as typeof points
  points = [...points, ...more].filter(({ at }) => at > (last?.at ?? 0) - hour)
  draw()
}

const hear = (report: Report) => {
  if (report.cause.code !== last?.cause.code) the("told").textContent = report.cause[speech.language]
  last = report
  heardAt = performance.now()
  document.body.classList.remove("silent")
  document.title = `${report.cause.kind === "fails" ? "⚠" : speech.whole(report.backlog.left)} · B24RMQ`
  show(the("head"), head(report, speech) as Array<Element>)
  show(the("top"), top(report, speech) as Array<Element>)
  show(the("rest"), rest(report, speech) as Array<Element>)
  if (performance.now() - lookedAt >= step) void grow().catch(() => undefined)
  else draw()
}

const follow = () => {
  events?.close()
  const source = new EventSource(at("/events"))
  events = source
  source.addEventListener("message", ({ data }) => hear(JSON.parse(data as string) as Report))
  // It tries again by itself, unless what answered was no stream: then there are too many followers, or a proxy spoke.
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) setTimeout(() => source === events && follow(), again)
  })
}

setInterval(() => {
  const silence = performance.now() - heardAt
  if (document.hidden || silence < patience) return
  document.body.classList.add("silent")
  the("silence").textContent = speech.words.silent(speech.length(silence / 1_000))
}, 1_000)

// A page that nobody looks at costs the bridge nothing.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return events?.close()
  heardAt = performance.now()
  follow()
})

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  drawn = plots(speech)
  the("plots").replaceChildren(...drawn.map(({ element }) => element))
  draw()
})

the("plots").replaceChildren(...drawn.map(({ element }) => element))
follow()
