import { spawn } from "node:child_process"
import { createInterface } from "node:readline"

const program = `
while (($line = fgets(STDIN)) !== false) {
  $ask = json_decode($line, true);
  $bytes = base64_decode($ask["of"]);
  if ($ask["what"] === "parse_str") { parse_str($bytes, $found); }
  elseif ($ask["what"] === "parse_url") {
    $url = parse_url($bytes);
    $found = $url === false ? false : [$url["path"] ?? "", $url["query"] ?? ""];
  } else {
    $found = json_decode($bytes, true);
    $found = json_last_error() === JSON_ERROR_NONE ? [$found] : false;
  }
  $flags = JSON_HEX_TAG | JSON_HEX_AMP | JSON_HEX_APOS | JSON_HEX_QUOT;
  $text = json_encode($found, $flags, 2000);
  echo $text === false ? "unencodable" : $text, "\n";
}`

export interface Php {
  /** What PHP makes of some bytes, as JSON; `false` where it refuses them. */
  readonly ask: (what: "parse_str" | "parse_url" | "json_decode", of: string | Uint8Array) => Promise<string>
  readonly stop: () => void
}

/** One PHP for a whole test: a process a case would take longer than all cases. Nothing where PHP is not installed. */
export const startPhp = (): Php | undefined => {
  const path = Bun.which("php")
  if (path === null) return undefined
  const php = spawn(path, ["-n", "-d", "display_errors=0", "-r", program], { stdio: ["pipe", "pipe", "ignore"] })
  const waiting: Array<(line: string) => void> = []
  createInterface(php.stdout).on("line", (line) => waiting.shift()?.(line))
  return {
    ask: (what, of) =>
      new Promise((resolve) => {
        waiting.push(resolve)
        php.stdin.write(`${JSON.stringify({ what, of: Buffer.from(of).toString("base64") })}\n`)
      }),
    stop: () => php.stdin.end()
  }
}
