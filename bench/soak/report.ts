import type { Setting } from "../machine.ts"
import { median } from "../limits/witness.ts"
import type { Soak } from "./run.ts"
import { slopeOf } from "./slope.ts"
import type { Round } from "./station.ts"

/** Part of the time after which a process has what it needs: its code is compiled, its buffers are as large as they get. */
const warmUp = 0.25

/** Most that the memory at rest may grow, in megabytes an hour. */
const growth = 5

/** Below this many rounds after the warm-up a slope says nothing. */
const fewest = 20

const megabytes = (bytes: number) => bytes / 1e6

/** What a soak has shown. */
export const verdictOf = ({ hours, rounds, doubled }: Soak) => {
  const steady = rounds.filter(({ station }) => station === "steady")
  const warm = steady.filter(({ hour }) => hour >= hours * warmUp)
  const slope = (of: (round: Round) => number) =>
    warm.length < fewest ? undefined : slopeOf(warm.map((round) => ({ hour: round.hour, value: of(round) })))
  const lost = rounds.flatMap((round) => round.lost)
  const wrong = rounds.flatMap((round) => round.wrong)
  const memory = slope(({ rss }) => megabytes(rss))
  const handles = slope((round) => round.handles)
  const third = Math.ceil(warm.length / 3)
  return {
    requests: rounds.reduce((sum, { attempted }) => sum + attempted, 0),
    lost,
    doubled,
    wrong,
    twice: rounds.reduce((sum, { twice }) => sum + twice, 0),
    unknown: rounds.reduce((sum, { unknown }) => sum + unknown, 0),
    memory,
    handles,
    p50: slope(({ p50 }) => p50),
    steady,
    warm,
    handlesFirst: median(warm.slice(0, third).map((round) => round.handles)),
    handlesLast: median(warm.slice(-third).map((round) => round.handles)),
    missed: [
      ...(lost.length > 0 ? [`lost ${lost.length}: ${lost.slice(0, 5).join(" ")}`] : []),
      ...(doubled.length > 0 ? [`doubled ${doubled.length}: ${doubled.slice(0, 5).join(", ")}`] : []),
      ...(wrong.length > 0 ? [`wrong ${wrong.length}: ${wrong.slice(0, 5).join(", ")}`] : []),
      ...(memory !== undefined && memory.upper > growth
        ? [`memory may grow by ${memory.upper.toFixed(1)} MB an hour`]
        : []),
      ...(handles !== undefined && handles.upper > 1 ? [`handles may grow by ${handles.upper.toFixed(1)} an hour`] : [])
    ]
  }
}

const faultsOf = (rounds: ReadonlyArray<Round>) => {
  const counts = new Map<string, number>()
  for (const fault of rounds.flatMap(({ faults }) => faults)) counts.set(fault, (counts.get(fault) ?? 0) + 1)
  return Array.from(counts, ([fault, count]) => `${fault} ${count}`).join(", ")
}

interface SoakSetting extends Setting {
  readonly seed: number
}

const line = (name: string, value: string, target: string) => `| ${name} | ${value} | ${target} |`

/** The report as Markdown. */
export const reportOf = (soak: Soak, setting: SoakSetting): string => {
  const found = verdictOf(soak)
  const { memory, handles, p50, steady, warm } = found
  const grows = (slope: typeof memory, unit: string, digits: number) =>
    slope === undefined
      ? "too short to tell"
      : `${slope.perHour.toFixed(digits)} ${unit} an hour, below ${slope.upper.toFixed(digits)} at 95 %`
  // Forty rows tell how it went; a longer run is thinned out.
  const every = Math.ceil(steady.length / 40)
  const shown = steady.filter((_, index) => index % every === 0 || index === steady.length - 1)
  return `# Endurance

<!-- Written by \`${setting.command}\`. -->

Two bridges on one broker, each with a simulated portal of 20 ms a call, take a random mix of reads and writes while links are cut, the broker is stopped and started, and the portal answers 502, resets connections after it has executed, or refuses them. One of the two is stopped (SIGTERM) and started again in every round; the other lives through the whole run, and its memory and handles are what is measured. A round is load with faults, then load without (latency), then rest (memory: the least of the round; handles).

| | |
| --- | --- |
| Command | \`${setting.command}\` |
| Seed | ${setting.seed} |
| Machine | ${setting.machine} |
| Versions | ${setting.versions} |
| Commit | ${setting.commit} |
| Date | ${setting.date} |
| Took | ${soak.hours.toFixed(2)} hours, ${steady.length} rounds, of which the first ${steady.length - warm.length} are warm-up |
| Faults | ${faultsOf(soak.rounds)} |

| What | Measured | Target |
| --- | --- | --- |
${[
  line("Requests", String(found.requests), ""),
  line("Lost (never answered)", String(found.lost.length), "0"),
  line("Doubled (a write that does not converge ran twice)", String(found.doubled.length), "0"),
  line("Late, wrong, needlessly unknown, crashes", String(found.wrong.length), "0"),
  line("Answered more than once (a lost confirm)", String(found.twice), ""),
  line("Answered unknown (nobody can know)", String(found.unknown), ""),
  line("Memory at rest", grows(memory, "MB", 2), `below ${growth} MB an hour at 95 %`),
  line("Handles at rest", `${found.handlesFirst} in the first third, ${found.handlesLast} in the last`, "flat"),
  line("Slope of the handles", grows(handles, "", 2), "below 1 an hour at 95 %"),
  line("Latency without faults, p50", `${median(warm.map((round) => round.p50)).toFixed(1)} ms`, ""),
  line("Latency without faults, p99", `${median(warm.map((round) => round.p99)).toFixed(1)} ms`, ""),
  line("Slope of p50", grows(p50, "ms", 2), "")
].join("\n")}

${found.missed.length === 0 ? "Everything that was measured is within its target." : found.missed.map((text) => `Missed: ${text}`).join("\n")}

The bridge that lives through the run:

| Minute | Memory at rest, MB | Handles | p50, ms | p99, ms | Faults of the round |
| ---: | ---: | ---: | ---: | ---: | --- |
${shown
  .map(
    ({ hour, rss, handles, p50, p99, faults }) =>
      `| ${(hour * 60).toFixed(0)} | ${megabytes(rss).toFixed(1)} | ${handles} | ${p50.toFixed(1)} | ${p99.toFixed(1)} | ${faults.join(", ")} |`
  )
  .join("\n")}
`
}
