'use strict'
// Loads every sub-path given on the command line (`import` or `require` first) and reports what that changed.
const [how, ...specifiers] = process.argv.slice(2)

const ours = `${__dirname}/node_modules/evercert/`
const environmentReads = new Set()
process.env = new Proxy(process.env, {
  get(target, name, receiver) {
    const caller = new Error().stack.split('\n')[2] ?? ''
    if (caller.includes(ours)) environmentReads.add(String(name))
    return Reflect.get(target, name, receiver)
  },
})

function snapshot() {
  return {
    // tslib, which @peculiar/x509 brings, puts its helpers (`__extends`, `__awaiter`, ...) there.
    globals: Object.getOwnPropertyNames(globalThis)
      .filter((name) => !name.startsWith('__'))
      .sort(),
    listeners: process.eventNames().map((event) => `${String(event)}: ${process.listenerCount(event)}`),
    resources: process.getActiveResourcesInfo().filter((name) => name !== 'PipeWrap' && name !== 'CloseReq'),
    umask: process.umask(),
    cwd: process.cwd(),
    title: process.title,
  }
}

async function main() {
  const before = snapshot()
  for (const specifier of specifiers) {
    if (how === 'import') await import(specifier)
    else require(specifier)
  }
  // Files that were read are closed a turn later.
  await new Promise((resolve) => setImmediate(resolve))
  console.log(JSON.stringify({ before, after: snapshot(), environmentReads: [...environmentReads] }))
}

main()
