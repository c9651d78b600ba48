/**
 * Hooks as acmetool's users write them: shell scripts in a directory.
 */
import { chmod, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

/** Writes one script; anything but a mode of 0755 must be asked for. */
export async function writeHook(directory: string, name: string, script: string, mode = 0o755): Promise<string> {
  await mkdir(directory, { recursive: true })
  const path = join(directory, name)
  await writeFile(path, `#!/bin/sh\n${script}\n`)
  await chmod(path, mode)
  return path
}

/** Puts http-01 challenges into `$ACME_STATE_DIR/webroot`, and removes what it has put there. */
export const webrootHook = `
set -e
root="$ACME_STATE_DIR/webroot"
case "$1" in
challenge-http-start)
  mkdir -p "$root"; cat > "$root/.$4.$$"
  ln "$root/.$4.$$" "$root/$4" 2>/dev/null || cmp -s "$root/.$4.$$" "$root/$4" || { rm "$root/.$4.$$"; echo "taken" >&2; exit 1; }
  rm "$root/.$4.$$" ;;
challenge-http-stop)
  cat > "$ACME_STATE_DIR/.stop.$$"
  if cmp -s "$ACME_STATE_DIR/.stop.$$" "$root/$4"; then rm "$root/$4"; fi
  rm "$ACME_STATE_DIR/.stop.$$" ;;
*) exit 42 ;;
esac`

/** Keeps TXT values, one a line, in \`$ACME_STATE_DIR/txt/<host>\`. */
export const dnsHook = `
set -e
zone="$ACME_STATE_DIR/txt/$2"
mkdir -p "$ACME_STATE_DIR/txt"
case "$1" in
challenge-dns-start)
  grep -qxF -e "$4" "$zone" 2>/dev/null || echo "$4" >> "$zone" ;;
challenge-dns-stop)
  [ -e "$zone" ] || exit 0
  grep -vxF -e "$4" "$zone" > "$zone.$$" || true
  mv "$zone.$$" "$zone" ;;
*) exit 42 ;;
esac`
