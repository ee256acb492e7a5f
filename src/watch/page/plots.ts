import uPlot from "uplot"
import type { Point } from "../status.ts"
import { h, show } from "./dom.ts"
import type { Speech } from "./words.ts"

type Points = ReadonlyArray<typeof Point.Type>

/** The length of a step in seconds, and what the axis shows at least and at most. */
const step = 5
const least = 300
const most = 3_600

interface Line {
  readonly name: string
  readonly color: string
  readonly filled?: boolean
  readonly of: (point: Points[number]) => number | null
}

interface Plot {
  readonly element: Element
  readonly set: (points: Points, now: number) => void
}

const color = (name: string) => getComputedStyle(document.documentElement).getPropertyValue(name).trim()

/** One plot over time, and above it what its lines say at the cursor, or last. */
const plot = (title: string, lines: ReadonlyArray<Line>, write: (value: number) => string, speech: Speech): Plot => {
  const { clock, minute, words } = speech
  const readout = h("p", { class: "readout" })
  const room = h("div", { class: "plot", role: "img" })
  const element = h("section", { class: "card" }, h("h2", {}, title), readout, room)
  let points: Points = []

  const tell = (n: number | null | undefined) => {
    const point = points[n ?? points.length - 1]
    if (point === undefined) return show(readout, [document.createTextNode(words.gathering)])
    const told = lines.map(({ name, of }) => {
      const value = of(point)
      return [name, value === null ? "–" : write(value)] as const
    })
    show(readout, [
      ...told.map(([name, value], n) => h("span", { class: `line${n}` }, `${name} `, h("b", {}, value))),
      h("time", {}, clock(point.at + step * 1_000))
    ])
    if (n == null) room.setAttribute("aria-label", `${title}: ${told.map((words) => words.join(" ")).join(", ")}`)
  }

  const axis: uPlot.Axis = {
    stroke: color("--muted"),
    grid: { stroke: color("--line"), width: 1 },
    ticks: { show: false },
    font: "12px system-ui, sans-serif"
  }
  const chart = new uPlot(
    {
      width: 300,
      height: 190,
      padding: [8, 18, 0, 0],
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 } },
      scales: { x: { time: true, auto: false }, y: { range: (_, __, top) => [0, Math.max(top * 1.1, 1)] } },
      axes: [
        { ...axis, size: 26, space: 60, values: (_, at) => at.map((seconds) => minute(seconds * 1_000)) },
        {
          ...axis,
          size: 52,
          space: 36,
          values: (_, values) => values.map((value) => (value === 0 ? "0" : write(value)))
        }
      ],
      series: [
        {},
        ...lines.map(({ color, filled }) => ({
          stroke: color,
          width: 1.5,
          points: { show: false },
          ...(filled ? { fill: `${color}22` } : {})
        }))
      ],
      hooks: { setCursor: [({ cursor }) => tell(cursor.idx)] }
    },
    [[], ...lines.map(() => [])],
    room as HTMLElement
  )
  new ResizeObserver(([entry]) => {
    const width = Math.floor(entry?.contentRect.width ?? 0)
    if (width > 0) chart.setSize({ width, height: 190 })
  }).observe(room)

  return {
    element,
    set: (next, now) => {
      points = next
      const end = now / 1_000
      const span = Math.min(most, Math.max(least, end - (points[0]?.at ?? now) / 1_000))
      chart.batch(() => {
        chart.setData([points.map(({ at }) => at / 1_000 + step), ...lines.map(({ of }) => points.map(of))], false)
        chart.setScale("x", { min: end - span, max: end })
      })
      tell(chart.cursor.idx)
    }
  }
}

/** Answers and latency over the last hour. The colours are those of the page at this moment. */
export const plots = (speech: Speech): ReadonlyArray<Plot> => {
  const { decimal, latency, words } = speech
  const [blue, red, gray] = [color("--accent"), color("--fails"), color("--second")]
  return [
    plot(
      words.answersPlot,
      [
        { name: words.answered, color: blue, filled: true, of: ({ sum }) => sum.answers / step },
        { name: words.refused, color: red, of: ({ sum }) => sum.refused / step }
      ],
      decimal,
      speech
    ),
    plot(
      words.latencyPlot,
      [
        { name: words.half, color: blue, of: ({ sum }) => sum.half },
        { name: words.most95, color: gray, of: ({ sum }) => sum.most }
      ],
      latency,
      speech
    )
  ]
}
