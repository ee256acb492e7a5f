/** A bar: a value, and between which values it was measured. */
export interface Bar {
  readonly name: string
  readonly value: number
  readonly least?: number
  readonly most?: number
  /** One of ours. */
  readonly ours: boolean
}

const width = 860
const labels = 280
const row = 26
const top = 44
const room = width - labels - 90

const escaped = (text: string) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;")

/** Three digits are more than any of these figures is worth. */
const shown = (value: number) =>
  value >= 1_000 ? Math.round(value).toLocaleString("en-US") : value.toPrecision(value >= 100 ? 3 : 2)

/**
 * Bars that lie beside each other, as SVG. Readable on a light page and on a dark one. With `log` each step of the same
 * length is ten times as much.
 */
export const barsOf = (title: string, bars: ReadonlyArray<Bar>, { log = false }: { readonly log?: boolean } = {}) => {
  const largest = Math.max(...bars.map(({ value, most }) => Math.max(value, most ?? 0)))
  const smallest = Math.min(...bars.map(({ value }) => value))
  const floor = 10 ** Math.floor(Math.log10(smallest / 2))
  const at = (value: number) =>
    Math.round(room * (log ? Math.max(0, Math.log10(value / floor) / Math.log10(largest / floor)) : value / largest))
  const height = top + bars.length * row + 10
  const drawn = bars.map(({ name, value, least, most, ours }, index) => {
    const y = top + index * row
    const spread =
      least === undefined || most === undefined
        ? ""
        : `<path d="M${labels + at(least)} ${y + 10}H${labels + at(most)}" stroke="#57606a" stroke-width="2"/>`
    const end = labels + Math.max(at(value), most === undefined ? 0 : at(most))
    return [
      `<text x="${labels - 8}" y="${y + 14}" text-anchor="end">${escaped(name)}</text>`,
      `<rect x="${labels}" y="${y + 2}" width="${Math.max(1, at(value))}" height="16" fill="${ours ? "#2da44e" : "#8c959f"}"/>`,
      spread,
      `<text x="${end + 6}" y="${y + 14}">${shown(value)}</text>`
    ].join("")
  })
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="13" fill="#768390">
<text x="8" y="24" font-size="15" font-weight="bold">${escaped(title)}</text>
${drawn.join("\n")}
</svg>
`
}
