import type { Method, Methods } from "./method.ts"
import { classicMethods } from "./methodsClassic.ts"
import { itemMethods } from "./methodsItem.ts"
import { officeMethods } from "./methodsOffice.ts"
import { customMethods, portalMethods } from "./methodsPortal.ts"
import { referenceMethods } from "./methodsReference.ts"
import { thirdMethods } from "./methodsThird.ts"

/** Milliseconds that a method takes: for all, or by name with `*` for the others. */
export type Latency = number | Readonly<Record<string, number>>

/** The methods of one version of REST. */
export class Registry {
  private readonly methods = new Map<string, Method>()
  private readonly sets: ReadonlyArray<Methods>

  private constructor(sets: (known: () => Iterable<string>) => ReadonlyArray<Methods>) {
    this.sets = sets(() => this.methods.keys())
    this.reset()
  }

  static second(): Registry {
    return new Registry((known) => [
      classicMethods,
      itemMethods,
      referenceMethods,
      officeMethods,
      portalMethods(known),
      customMethods
    ])
  }

  static third(): Registry {
    return new Registry((known) => [thirdMethods(known)])
  }

  /** Method names are folded to lower case first and tried as they were sent afterwards. */
  find(name: string): Method | undefined {
    return this.methods.get(name.toLowerCase()) ?? this.methods.get(name)
  }

  define(name: string, method: Method): void {
    this.methods.set(name, method)
  }

  /** Back to the methods that every simulated portal has. */
  reset(): void {
    this.methods.clear()
    for (const set of this.sets) for (const [name, method] of Object.entries(set)) this.methods.set(name, method)
  }
}
