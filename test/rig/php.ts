import { spawn } from "node:child_process"
import { createInterface } from "node:readline"

/** One PHP for a whole test: a process a case would take longer than all cases. */
export interface Php {
  /** What the handler makes of a question. Both travel as JSON; a PHP that has ended fails the question. */
  readonly ask: (question: unknown) => Promise<unknown>
  readonly stop: () => void
}

/**
 * Starts a PHP with its built-in settings. `handler`: PHP code that finds the question in `$ask`, decoded to arrays, and
 * returns the answer. Nothing where PHP is not installed.
 */
export const startPhp = (handler: string): Php | undefined => {
  const path = Bun.which("php")
  if (path === null) return undefined
  const program = `
    $handler = function ($ask) { ${handler} };
    while (($line = fgets(STDIN)) !== false) {
      $answer = json_encode($handler(json_decode($line, true, 2000)), JSON_PRESERVE_ZERO_FRACTION | JSON_PARTIAL_OUTPUT_ON_ERROR, 2000);
      echo $answer, "\\n";
    }`
  const php = spawn(path, ["-n", "-d", "display_errors=stderr", "-r", program], { stdio: ["pipe", "pipe", "inherit"] })
  const waiting: Array<PromiseWithResolvers<unknown>> = []
  const lines = createInterface(php.stdout)
  lines.on("line", (line) => waiting.shift()?.resolve(JSON.parse(line)))
  lines.on("close", () => {
    for (const one of waiting.splice(0)) one.reject(new Error("PHP has ended"))
  })
  return {
    ask: (question) => {
      const one = Promise.withResolvers<unknown>()
      waiting.push(one)
      php.stdin.write(`${JSON.stringify(question)}\n`)
      return one.promise
    },
    stop: () => php.stdin.end()
  }
}
