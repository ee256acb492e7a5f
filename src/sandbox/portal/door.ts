import type { Answerer } from "./http.ts"
import { listen, type ListenOptions, type Listener } from "./wire.ts"

/** The listener of a portal, which can be closed and opened again on the port it took first. */
export class Door {
  private listener: Listener | undefined
  private shut = false
  private returning: ReturnType<typeof setTimeout> | undefined
  private readonly options: ListenOptions
  private readonly answer: Answerer
  port: number

  constructor(options: ListenOptions, answer: Answerer) {
    this.options = options
    this.answer = answer
    this.port = options.port
  }

  /** Throws where the port cannot be had. */
  open(): void {
    if (this.listener !== undefined || this.shut) return
    this.listener = listen({ ...this.options, port: this.port }, this.answer)
    this.port = this.listener.port
  }

  close(): void {
    clearTimeout(this.returning)
    this.listener?.close()
    this.listener = undefined
  }

  closeFor(ms: number): void {
    this.close()
    this.returning = setTimeout(() => this.comeBack(), ms)
  }

  private comeBack(): void {
    try {
      this.open()
    } catch {
      // Somebody took the port meanwhile; nobody is there to be told, so it is tried again.
      this.returning = setTimeout(() => this.comeBack(), 100)
    }
  }

  /** Closes it for good. */
  lock(): void {
    this.shut = true
    this.close()
  }
}
