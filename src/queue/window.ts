/**
 * How many deliveries may be open on a channel: few after a loss, more as they are acknowledged, and never more bytes
 * than fit. A link that is lost again and again gives back all that is open, and RabbitMQ 4.0 drops a message of a quorum queue
 * at its 21st return (rabbitmq.com/docs/quorum-queues, delivery limit): what is not yet called should not be open then.
 * Pure, but for being kept in place: it is asked with every delivery.
 */
export class Window {
  private readonly sizes = new Map<number, number>()
  private readonly most: number
  private bytes = 0
  private average = 1024
  private acknowledged = 0
  private ripe = false
  /** Deliveries that the consumer may hold: its prefetch. */
  size: number

  /** `first`: the size on a new channel; `most`: the largest. */
  constructor(first: number, most: number) {
    this.most = most
    this.size = Math.min(first, most)
  }

  /** A delivery is open. `tag` tells it from the others of its channel. */
  open(tag: number, bytes: number): void {
    this.sizes.set(tag, bytes)
    this.bytes += bytes
    this.average = this.average * 0.95 + bytes * 0.05
  }

  /** A delivery is acknowledged. */
  close(tag: number): void {
    this.bytes -= this.sizes.get(tag) ?? 0
    this.sizes.delete(tag)
    this.acknowledged++
  }

  /** The size that it should have now. */
  private get wanted(): number {
    const fitting = Math.max(1, Math.floor(budget / this.average))
    if (this.size > fitting) return fitting
    return this.ripe || this.acknowledged >= this.size ? Math.min(this.most, fitting, this.size * growth) : this.size
  }

  /** It has lasted: it may grow though little was acknowledged, for all that is open may wait for what is not. */
  ripen(): void {
    this.ripe = true
  }

  /** Whether it should be set anew: when it is full and can grow, or holds too much. */
  get isDue(): boolean {
    return this.isOverfull || (this.sizes.size >= this.size && this.wanted > this.size)
  }

  /** More is open than should be: nothing is taken until half of it is done. */
  get isOverfull(): boolean {
    return this.bytes > budget
  }

  get isRelieved(): boolean {
    return this.bytes <= budget / 2
  }

  get isHalfFull(): boolean {
    return 2 * this.sizes.size >= this.size || 2 * this.bytes >= budget
  }

  /** So much is open that memory is in danger: all of it has to go back. */
  get isBursting(): boolean {
    return this.bytes > budget * 4
  }

  /** Takes the size that it should have. */
  adjust(): void {
    this.size = this.wanted
    this.acknowledged = 0
    this.ripe = false
  }
}

/** Bytes of requests that may be open. */
const budget = 64 * 1024 * 1024
const growth = 4
