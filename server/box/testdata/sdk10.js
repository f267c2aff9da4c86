// Follows a server with box-node-sdk 10: node sdk10.js URL stream POSITION TYPE, or URL logs AFTER BEFORE TYPES.
// Each event is printed as one line of JSON; what goes wrong as {"error":…}. Ends when stdin does.
const {BoxClient, BoxDeveloperTokenAuth} = require('box-node-sdk');
const [base, mode, a, b, c] = process.argv.slice(2);
const client = new BoxClient({auth: new BoxDeveloperTokenAuth({token: 'token'})}).withCustomBaseUrls({baseUrl: base});
const say = o => process.stdout.write(JSON.stringify(o) + '\n');
const short = e => ({id: e.eventId, type: e.eventType, kind: e.source.type || e.source.itemType, item: e.source.id || e.source.itemId,
  name: e.source.name || e.source.itemName, parent: e.source.parent && e.source.parent.id, status: e.source.itemStatus, seq: e.source.sequenceId});
if (mode === 'stream') {
  const s = client.events.getEventStream({streamPosition: a, streamType: b});
  s.on('data', e => say(short(e)));
  s.on('error', e => say({error: String(e && e.message || e)}));
  process.stdin.on('end', () => process.exit(0)).resume();
} else {
  (async () => {
    const {dateTimeFromString} = require('box-node-sdk/internal');
    for (let position = '0', last; position !== last;) {
      const page = await client.events.getEvents({streamType: 'admin_logs', streamPosition: position, createdAfter: a && dateTimeFromString(a),
        createdBefore: b && dateTimeFromString(b), eventType: c ? c.split(',') : undefined, limit: 7});
      page.entries.forEach(e => say(short(e)));
      last = position;
      position = String(page.nextStreamPosition);
    }
  })().catch(e => { say({error: String(e && e.message || e)}); });
}
