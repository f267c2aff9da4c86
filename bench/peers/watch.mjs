// Prints a line for each change below a directory, as fswatch does: node watch.mjs parcel|chokidar DIR
import process from 'node:process'

const [kind, dir] = process.argv.slice(2)
let lines = ''
const flush = () => { process.stdout.write(lines); lines = '' }
const tell = (path, what) => {
  if (!lines) setImmediate(flush)
  lines += path + ' ' + what + '\n'
}
const ready = () => process.stderr.write('Watches established\n')

if (kind === 'parcel') {
  const { default: watcher } = await import('@parcel/watcher')
  const words = { create: 'Created', update: 'Updated', delete: 'Removed' }
  await watcher.subscribe(dir, (err, events) => {
    if (err) process.stderr.write(err + '\n')
    else for (const e of events) tell(e.path, words[e.type])
  })
  ready()
} else {
  const { watch } = await import('chokidar')
  const words = { add: 'Created', addDir: 'Created', change: 'Updated', unlink: 'Removed', unlinkDir: 'Removed' }
  watch(dir, { ignoreInitial: true }).on('all', (event, path) => tell(path, words[event])).on('ready', ready)
    .on('error', err => process.stderr.write(err + '\n'))
}
