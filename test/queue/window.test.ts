import { expect, test } from "bun:test"
import fc from "fast-check"
import { Window } from "../../src/queue/window.ts"

const MiB = 1024 * 1024

/** Takes as many deliveries as the window lets in and acknowledges them all; `more` are waiting behind them. */
const fill = (window: Window, bytes: number, tag = { next: 1 }, more = false) => {
  const tags = Array.from({ length: window.size }, () => tag.next++)
  for (const one of tags) window.open(one, bytes)
  for (const one of tags) {
    window.close(one)
    if (more) window.open(tag.next++, bytes)
  }
}

test("a window starts small and grows fourfold with each fill that was acknowledged, up to the most", () => {
  const window = new Window(16, 1_000)
  const sizes = [window.size]
  const tag = { next: 1 }
  for (let round = 0; round < 5; round++) {
    fill(window, 500, tag, true)
    if (!window.isDue) continue
    window.adjust()
    sizes.push(window.size)
  }
  expect(sizes).toEqual([16, 64, 256, 1_000])
})

test("it does not grow by what is only delivered, nor before it is full", () => {
  const window = new Window(16, 1_000)
  for (let tag = 1; tag <= 16; tag++) window.open(tag, 500)
  expect(window.isDue).toBe(false)
  for (let tag = 1; tag <= 16; tag++) window.close(tag)
  expect(window.isDue).toBe(false)
  for (let tag = 17; tag < 32; tag++) window.open(tag, 500)
  expect(window.isDue).toBe(false)
  window.open(32, 500)
  expect(window.isDue).toBe(true)
})

test("it grows without acknowledgements once it has lasted, and once only for that", () => {
  const window = new Window(16, 1_000)
  for (let tag = 1; tag <= 16; tag++) window.open(tag, 100)
  expect(window.isDue).toBe(false)
  window.ripen()
  expect(window.isDue).toBe(true)
  window.adjust()
  expect([window.size, window.isDue]).toEqual([64, false])
})

test("large messages make it small, small ones let it grow again", () => {
  const window = new Window(16, 1_000)
  const tag = { next: 1 }
  for (let round = 0; round < 20; round++) {
    fill(window, 10 * MiB, tag)
    window.adjust()
  }
  expect(window.size).toBe(6)
  for (let round = 0; round < 200; round++) {
    fill(window, 1_000, tag)
    window.adjust()
  }
  expect(window.size).toBe(1_000)
})

test("what is open is bounded in bytes: overfull it waits for half of it, bursting it gives all back", () => {
  const window = new Window(1_000, 1_000)
  for (let tag = 1; tag <= 7; tag++) window.open(tag, 10 * MiB)
  expect([window.isOverfull, window.isDue, window.isRelieved, window.isBursting]).toEqual([true, true, false, false])
  for (let tag = 1; tag <= 4; tag++) window.close(tag)
  expect([window.isOverfull, window.isRelieved]).toEqual([false, true])
  for (let tag = 8; tag <= 40; tag++) window.open(tag, 10 * MiB)
  expect(window.isBursting).toBe(true)
})

test("whatever comes, the size stays between one and the most", () =>
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 1_000 }),
      fc.array(fc.record({ bytes: fc.nat({ max: 20 * MiB }), ack: fc.boolean(), adjust: fc.boolean() }), {
        maxLength: 300,
        size: "max"
      }),
      (most, happenings) => {
        const window = new Window(16, most)
        happenings.forEach(({ bytes, ack, adjust }, tag) => {
          window.open(tag, bytes)
          if (ack) window.close(tag)
          if (adjust) window.adjust()
          expect(window.size).toBeGreaterThanOrEqual(1)
          expect(window.size).toBeLessThanOrEqual(most)
        })
      }
    ),
    { numRuns: 300 }
  ))
