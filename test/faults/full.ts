import { spawn } from "node:child_process"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"

// The experiments of this folder in their full length: `bun test/faults/full.ts [SCALE] [FILE...]`. SCALE says how many
// times as many rounds as in `npm test` there are, 10 without it. What was measured is told once more at the end.

const [scale = "10", ...files] = process.argv.slice(2)
const here = fileURLToPath(new URL(".", import.meta.url))

const tests = spawn(process.execPath, ["test", ...(files.length === 0 ? [here] : files)], {
  cwd: fileURLToPath(new URL("../..", import.meta.url)),
  env: { ...process.env, B24RMQ_FAULTS_SCALE: scale },
  stdio: ["ignore", "pipe", "inherit"]
})
const measured: Array<string> = []
createInterface({ input: tests.stdout }).on("line", (line) => {
  console.log(line)
  if (line.startsWith('{"fault"')) measured.push(line)
})
tests.on("close", (code) => {
  console.log(`\n${measured.join("\n")}`)
  process.exitCode = code ?? 1
})
