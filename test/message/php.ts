import { spawn } from "node:child_process"
import { createInterface } from "node:readline"

/** What the portal's `json_decode($text, true)` makes of a body. A refused one becomes "no parameters" there. */
export type Verdict = "array" | "null" | "scalar" | "refused"

const program = `
while (($line = fgets(STDIN)) !== false) {
  $value = json_decode(base64_decode(trim($line)), true, 512);
  if (json_last_error() !== JSON_ERROR_NONE) { echo "refused\\n"; }
  elseif (is_array($value)) { echo "array\\n"; }
  else { echo $value === null ? "null\\n" : "scalar\\n"; }
}`

/** One PHP for many questions: a process for each would take longer than all answers. */
export const startPhp = () => {
  const path = Bun.which("php")
  if (path === null)
    throw new Error("PHP is missing: install the Debian package php-cli, which npm test does by itself")
  const php = spawn(path, ["-n", "-d", "display_errors=0", "-r", program], { stdio: ["pipe", "pipe", "ignore"] })
  const waiting: Array<(verdict: Verdict) => void> = []
  createInterface(php.stdout).on("line", (line) => waiting.shift()?.(line as Verdict))
  return {
    judge: (body: Uint8Array) =>
      new Promise<Verdict>((resolve) => {
        waiting.push(resolve)
        php.stdin.write(`${Buffer.from(body).toString("base64")}\n`)
      }),
    stop: () => php.stdin.end()
  }
}
