/** How fast a replay goes, and what came of the last requests that it moved. Pure. */
export interface Pace {
  /** Requests in the next second, and the most that are on their way at a time. */
  readonly rate: number
  /** Of the last outcomes, the latest last: true where a request came back. */
  readonly recent: ReadonlyArray<boolean>
}

/** Outcomes that are looked at. */
const looked = 20

/** Fewer that come back prove nothing. */
const few = 3

/** Of the last outcomes this part may come back. */
const bearable = 1 / 5

export const fastest = 512

/** How a replay begins, also when it goes on after a stop. */
export const begin = (rate: number): Pace => ({ rate, recent: [] })

export const learn = (pace: Pace, cameBack: boolean): Pace => ({
  ...pace,
  recent: [...pace.recent, cameBack].slice(-looked)
})

const back = ({ recent }: Pace) => recent.filter((cameBack) => cameBack).length

/** So many come back that the cause is not removed: the rest had better stay where it is. */
export const mustStop = (pace: Pace): boolean => back(pace) >= few && back(pace) >= bearable * pace.recent.length

/** In words, what `mustStop` has seen. */
export const whyStopped = (pace: Pace): string => `${back(pace)} of the last ${pace.recent.length} requests came back`

/** The pace after all that were moved have their outcome: twice as fast, or half as fast if one came back. */
export const next = (pace: Pace, cameBack: number): Pace => ({
  ...pace,
  rate: cameBack === 0 ? Math.min(fastest, pace.rate * 2) : Math.max(1, Math.floor(pace.rate / 2))
})
