const quote = 0x22
const comma = 0x2c
const colon = 0x3a
const openList = 0x5b
const backslash = 0x5c
const closeList = 0x5d
const openMap = 0x7b
const closeMap = 0x7d

/**
 * A place in JSON text, for what `JSON.parse` cannot say: how a number is written, in which order the keys of a map stand,
 * where a value begins and ends. It expects text that `JSON.parse` has accepted. In other text it may not see what is
 * wrong, but it throws nothing and comes to an end.
 */
export class Cursor {
  readonly text: string
  at = 0

  constructor(text: string) {
    this.text = text
  }

  /** Code of the next character that is no white space; NaN at the end. */
  peek(): number {
    let code = this.text.charCodeAt(this.at)
    while (code === 0x20 || (code <= 0x0d && code >= 0x09)) code = this.text.charCodeAt(++this.at)
    return code
  }

  private takes(code: number): boolean {
    if (this.peek() !== code) return false
    this.at++
    return true
  }

  private pastString(): void {
    let end = this.at
    for (;;) {
      end = this.text.indexOf('"', end + 1)
      if (end < 0) {
        this.at = this.text.length
        return
      }
      let before = end - 1
      while (this.text.charCodeAt(before) === backslash) before--
      // Behind an even number of backslashes a quotation mark ends the string.
      if ((end - before) % 2 === 1) break
    }
    this.at = end + 1
  }

  private pastWord(): void {
    let code: number
    do code = this.text.charCodeAt(++this.at)
    while (code > 0x20 && code !== comma && code !== closeList && code !== closeMap)
  }

  /** The text of the value here. */
  value(): string {
    this.peek()
    const start = this.at
    this.skip()
    return this.text.slice(start, this.at)
  }

  /** Goes behind the value here. */
  skip(): void {
    let depth = 0
    do {
      const code = this.peek()
      if (code === quote) this.pastString()
      else if (code === openMap || code === openList) {
        depth++
        this.at++
      } else if (code === closeMap || code === closeList) {
        depth--
        this.at++
      } else if (code === comma || code === colon) this.at++
      else if (Number.isNaN(code)) return
      else this.pastWord()
    } while (depth > 0)
  }

  /** The string here; undefined for anything else. */
  string(): string | undefined {
    if (this.peek() !== quote) return undefined
    const start = this.at
    this.pastString()
    const inside = this.text.slice(start + 1, this.at - 1)
    return inside.includes("\\") ? unescaped(inside) : inside
  }

  /**
   * Goes through the map here. `each` is called with every key and has to go behind its value; with false it ends the
   * walk. True if there was a map and all of it was seen.
   */
  entries(each: (key: string) => boolean): boolean {
    if (!this.takes(openMap)) return false
    if (this.takes(closeMap)) return true
    do {
      const key = this.string()
      if (key === undefined || !this.takes(colon) || !each(key)) return false
    } while (this.takes(comma))
    return this.takes(closeMap)
  }

  /** Goes through the list here, as {@link entries} does. */
  items(each: (index: number) => boolean): boolean {
    if (!this.takes(openList)) return false
    if (this.takes(closeList)) return true
    let index = 0
    do {
      if (!each(index++)) return false
    } while (this.takes(comma))
    return this.takes(closeList)
  }
}

const unescaped = (inside: string): string | undefined => {
  try {
    return String(JSON.parse(`"${inside}"`))
  } catch {
    return undefined
  }
}
