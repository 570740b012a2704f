/**
 * A process that serves one vhost-user socket with hardly a descriptor left, for a test that starts
 * it under a low limit: takes all descriptors, says "starved", prints its warnings, gives the
 * descriptors back at a line on standard input, and ends with its input.
 */
import { createEventfd } from '../../src/sys/eventfd.js';
import type { Fd } from '../../src/sys/fd.js';
import { VhostUserTransport } from '../../src/transports/vhost-user/server.js';
import { testRuntime } from './runtime.js';
import { StubDevice } from './stub-device.js';

const runtime = testRuntime();
const transport = new VhostUserTransport({
  runtime,
  device: new StubDevice(),
  name: 'nic',
  path: process.argv[2]!,
  mode: 'server',
  reconnectMs: 5,
});
transport.start();

let ended = false;
let taken: Fd[] = [];
process.stdin.on('data', () => {
  for (const fd of taken) fd.close();
  taken = [];
});
process.stdin.on('end', () => {
  ended = true;
});
try {
  for (;;) taken.push(createEventfd());
} catch {
  process.stdout.write('starved\n');
}

let printed = 0;
function serve(): void {
  runtime.loop.step(1);
  for (; printed < runtime.records.length; printed++)
    if (runtime.records[printed]!.level === 'warn') process.stdout.write(`${runtime.records[printed]!.message}\n`);
  if (!ended) setImmediate(serve);
  else {
    transport.close();
    runtime.close();
  }
}
serve();
