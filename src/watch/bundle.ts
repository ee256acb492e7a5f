/**
 * A macro: it runs when its caller is bundled, and what it gives is what the binary holds; from the sources it runs when
 * its caller is loaded. Bun allows no bundling inside of a bundling but in a process of its own.
 */
export const bundle = (entry: string): string => {
  const { exitCode, stdout, stderr } = Bun.spawnSync([
    process.execPath,
    "build",
    `${import.meta.dir}/${entry}`,
    "--target=browser",
    "--minify"
  ])
  if (exitCode !== 0) throw new Error(`${entry} cannot be bundled: ${stderr.toString()}`)
  return stdout.toString()
}
