import { expect, test } from "bun:test"
import type { Channel, ConsumeMessage } from "amqplib"
import { Clock, Effect } from "effect"
import fc from "fast-check"
import { Held } from "../../src/queue/held.ts"
import { Window } from "../../src/queue/window.ts"

const clock = Effect.runSync(Clock.Clock)

const message = (deliveryTag: number) =>
  ({
    fields: { deliveryTag, consumerTag: "c", redelivered: false },
    properties: { headers: {} },
    content: Buffer.alloc(1)
  }) as unknown as ConsumeMessage

/** A channel that writes down what it is told; `fails`: it is being closed. */
const channelOf = ({ fails = false } = {}) => {
  const acks: Array<readonly [tag: number, multiple: boolean]> = []
  const ack = ({ fields }: ConsumeMessage, multiple = false) => {
    if (fails) throw new Error("Connection closing")
    acks.push([fields.deliveryTag, multiple])
  }
  return { acks, held: new Held({ ack } as unknown as Channel, new Window(10, 10), clock, () => false) }
}

test("what is done in one turn is acknowledged together, as far as nothing before it is open", async () => {
  const { acks, held } = channelOf()
  const deliveries = [1, 2, 3, 4, 5].map((tag) => held.take(message(tag), "in"))
  for (const index of [2, 0, 1, 4]) deliveries[index]?.ack()
  expect(acks).toEqual([])
  await Promise.resolve()
  expect(acks).toEqual([
    [5, false],
    [3, true]
  ])
  deliveries[3]?.ack()
  await Promise.resolve()
  expect(acks.at(-1)).toEqual([4, true])
  expect(held.lentTo("c")).toBe(0)
})

test("a channel that is being closed takes no acknowledgement, and nothing breaks", async () => {
  const { held } = channelOf({ fails: true })
  held.take(message(1), "in").ack()
  await Promise.resolve()
  expect(held.lentTo("c")).toBe(0)
})

test("no acknowledgement is of anything that is not done, whatever came, was taken, and in whatever order it is done", async () => {
  const one = fc.record({ taken: fc.boolean(), done: fc.boolean(), turn: fc.nat(3), weight: fc.nat(99) })
  await fc.assert(
    fc.asyncProperty(fc.array(one, { maxLength: 30 }), fc.boolean(), async (all, allTaken) => {
      const { acks, held } = channelOf()
      const deliveries = all.flatMap(({ taken, ...rest }, index) =>
        taken || allTaken ? [{ ...rest, tag: index + 1, delivery: held.take(message(index + 1), "in") }] : []
      )
      const done = deliveries.filter(({ done }) => done)
      for (const turn of [0, 1, 2, 3]) {
        const now = done.filter((one) => one.turn === turn).toSorted((a, b) => a.weight - b.weight)
        for (const { delivery } of now) delivery.ack()
        await Promise.resolve()
      }
      // As the broker reads it.
      const open = new Set(all.map((_, index) => index + 1))
      for (const [tag, multiple] of acks) {
        expect(open.has(tag)).toBe(true)
        for (const other of open) if (other === tag || (multiple && other < tag)) open.delete(other)
      }
      const left = new Set(done.map(({ tag }) => tag))
      expect([...open]).toEqual(all.flatMap((_, index) => (left.has(index + 1) ? [] : [index + 1])))
    }),
    { numRuns: 1_000 }
  )
})
