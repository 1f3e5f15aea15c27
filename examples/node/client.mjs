// Applies a pipeline, starts a job of it and follows that to its end, with nothing but a NATS client.
//
//   node client.mjs NATS.JSON PIPELINE.YAML
//
// NATS.JSON is the file of that name in the server's data directory: url, user, password, the prefix of the subjects
// and that of the subjects to which replies may come.
// Prints one JSON object a line; exits with 0 when the job succeeded, 1 when it didn't, 2 when a command was rejected.
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { connect } from '@nats-io/transport-node';

const [, , access, pipeline] = process.argv;
const { url, user, password, prefix, inbox_prefix: inboxPrefix } = JSON.parse(readFileSync(access, 'utf8'));
const broker = await connect({ servers: url, user, pass: password, inboxPrefix, name: 'node client' });
const say = (what) => console.log(JSON.stringify(what));

// No answer, or none in time, says nothing about the outcome. Sent again under the same command_id, a command has
// one effect, and everyone who sends it gets the same reply.
async function command(name, payload) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      const answer = await broker.request(`${prefix}.cmd.${name}`, JSON.stringify(payload), { timeout: 10_000 });
      return answer.json();
    } catch (problem) {
      if (attempt === 5) throw problem;
    }
  }
}

async function accepted(name, payload) {
  const reply = await command(name, { command_id: randomUUID(), actor: 'node', ...payload });
  say({ command: name, reply });
  if (reply.status !== 'accepted') {
    await broker.drain();
    process.exit(2);
  }
  return reply;
}

// Commits are published live once, to those who listen: so listen first, then start.
const commits = broker.subscribe(`${prefix}.live.job.*`);
await broker.flush();

await accepted('pipeline.apply', { yaml: readFileSync(pipeline, 'utf8') });
const start = { command_id: randomUUID(), pipeline: /^name:\s*(.+?)\s*$/m.exec(readFileSync(pipeline, 'utf8'))[1] };
const { job } = await accepted('job.start', start);
await accepted('job.start', start);

let last;
for await (const message of commits) {
  const commit = message.json();
  if (commit.id !== job) continue;
  for (const event of commit.events ?? []) {
    say({ seq: Number(message.headers.get('Nats-Sequence')), version: commit.version, at: commit.at, ...event });
    last = event.type;
  }
  if (['JobSucceeded', 'JobFailed', 'JobCancelled'].includes(last)) break;
}
await broker.drain();
process.exit(last === 'JobSucceeded' ? 0 : 1);
