// Follows a server with box-node-sdk 3: as sdk10.js.
const http = require('http'), BoxSDK = require('box-node-sdk');
const [base, mode, a, b, c] = process.argv.slice(2);
const sdk = new BoxSDK({clientID: 'x', clientSecret: 'y', apiRootURL: base, numMaxRetries: 1, retryIntervalMS: 100, request: {agentClass: http.Agent}});
const client = sdk.getBasicClient('token');
const say = o => process.stdout.write(JSON.stringify(o) + '\n');
const short = e => ({id: e.event_id, type: e.event_type, kind: e.source.type || e.source.item_type, item: e.source.id || e.source.item_id,
  name: e.source.name || e.source.item_name, parent: e.source.parent && e.source.parent.id, status: e.source.item_status, seq: e.source.sequence_id});
const follow = s => {
  s.on('data', e => say(short(e)));
  s.on('error', e => say({error: String(e && e.message || e)}));
};
if (mode === 'stream') {
  client.events.getEventStream(a, {fetchInterval: 10}).then(follow);
  process.stdin.on('end', () => process.exit(0)).resume();
} else {
  client.events.getEnterpriseEventStream({startDate: a, endDate: b, eventTypeFilter: c ? c.split(',') : undefined, pollingInterval: 0, chunkSize: 7, streamPosition: '0'}).then(follow);
}
