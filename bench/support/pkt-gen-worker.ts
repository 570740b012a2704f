/**
 * The measured side of netmap-pkt-gen: threads of pkt-gen as netbe pkt-gen starts them, in this process.
 *
 *   pkt-gen-worker SOCKET ROLE…     ROLE: rx=PORT or tx=PORT,BYTES,FRAGS, opened in this order; each a thread; the
 *                                   one that receives is on the last core, the one that sends on the core before
 *   prints {"ready":true}; each line "MS" on standard input is answered by {"mpps":N,"gbps":N} of what rx took,
 *   or, where there is no rx, by {"mpps":N} of what tx sent
 */
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { C_BYTES, C_PKTS, makeCounterBuffer, threadCounters } from '../../src/cli/netmap/pkt-gen-counters.js';
import { parsePktGen } from '../../src/cli/netmap/pkt-gen-options.js';
import type { PktGenStart } from '../../src/cli/netmap/pkt-gen-run.js';
import { ToolHost } from '../../src/cli/netmap/tool-host.js';
import { measuringCpus } from './worker.js';

const [socket = '', ...roles] = process.argv.slice(2);

interface Role {
  receives: boolean;
  host: ToolHost;
  counters: Float64Array;
}

/** Bursts of a whole ring: the fewer syncs the better where the other side has a core of its own. */
const BURST = '1024';

async function start(text: string): Promise<Role> {
  const [fn = 'rx', rest = ''] = text.split('=');
  const { measured, load } = measuringCpus();
  const [port = '', bytes = '60', frags = '1'] = rest.split(',');
  const options = parsePktGen({
    interface: port,
    function: fn,
    length: [bytes],
    burst: BURST,
    frags,
    affinity: String(fn === 'rx' ? measured : load),
  });
  const counters = makeCounterBuffer(1);
  const thread: PktGenStart = { options, port, srcMac: [2, 0, 0, 0, 0, 1] };
  const host = new ToolHost({ tool: 'pkt-gen', socket, options: [thread], counters });
  await host.open();
  return { receives: fn === 'rx', host, counters: threadCounters(counters, 0) };
}

const started: Role[] = [];
for (const role of roles) started.push(await start(role));
for (const { host } of started) host.go();
const asked = (started.find(({ receives }) => receives) ?? started[0]) as Role;
process.stdout.write(`${JSON.stringify({ ready: true })}\n`);

for await (const line of createInterface({ input: process.stdin })) {
  const { counters } = asked;
  const [pkts, bytes, at] = [counters[C_PKTS]!, counters[C_BYTES]!, performance.now()];
  await sleep(Number(line));
  const us = (performance.now() - at) * 1000;
  const mpps = (counters[C_PKTS]! - pkts) / us;
  const gbps = ((counters[C_BYTES]! - bytes) * 8) / us / 1000;
  process.stdout.write(`${JSON.stringify({ mpps, gbps })}\n`);
}
for (const { host } of started) host.cancel();
await Promise.all(started.map(({ host }) => host.end()));
process.exit(0);
