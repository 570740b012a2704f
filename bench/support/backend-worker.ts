/**
 * The measured side of netgraph-forward: two users of backends in memory, that send each other bursts of
 * frames which lie ready, and take all they are given.
 *
 *   backend-worker vale LENGTH             two ports of a VALE switch
 *   backend-worker TYPE LENGTH NODES       two netgraph backends with a chain of nodes between
 *   each line "MS" on standard input is answered by {"mpps":N}
 */
import { BURST_ENTRIES, type Burst } from '../../src/memory/burst.js';
import type { NetBackend } from '../../src/net-backends/net-backend.js';
import { openBackend } from '../../src/net-backends/registry.js';
import { netgraphOf } from '../../src/netgraph/netgraph.js';
import { NgctlSession, runNgctl } from '../../src/netgraph/ngctl/session.js';
import { testRuntime } from '../../test/support/runtime.js';
import { answerMpps, burstsOver } from './measured.js';

const SLOT_BYTES = 2048;
const SLOTS = 1024;
const ring = { slots: SLOTS, slotBytes: SLOT_BYTES };
/** hooks of each type that a chain goes through, and one by which a node hangs on until its users have come */
const CHAINS: Record<string, [into: string, out: string, spare: string]> = {
  bridge: ['link0', 'link1', 'link2'],
  hub: ['a', 'b', 'c'],
  tee: ['left', 'right', 'left2right'],
};

const [kind = 'vale', lengthText = '64', nodesText = '1'] = process.argv.slice(2);
const length = Number(lengthText);
const runtime = testRuntime();

const session = NgctlSession.open(netgraphOf(runtime), 'bench');

function ngctl(command: string): void {
  if (typeof session === 'string') throw new Error(session);
  const { status, error } = runNgctl(session, command);
  if (status !== 0) throw new Error(error);
}

/** The devices at the two ends of a chain, which is made. */
function chain(): [string, string] {
  const [into, out, spare] = CHAINS[kind] as [string, string, string];
  const nodes = Number(nodesText);
  ngctl(`mkpeer ${kind} spare ${spare}`);
  ngctl('name spare n0');
  for (let i = 1; i < nodes; i++) {
    ngctl(`mkpeer n${i - 1}: ${kind} ${out} ${into}`);
    ngctl(`name n${i - 1}:${out} n${i}`);
  }
  return [`netgraph,path=n0:,peerhook=${into}`, `netgraph,path=n${nodes - 1}:,peerhook=${out}`];
}

class User {
  readonly backend: NetBackend;
  received = 0;
  readonly #sending: Burst[];
  readonly #receiving: Burst[];
  #sent = 0;
  #taken = 0;

  constructor(index: number, device: string) {
    const { off, window } = runtime.windows.mapAnonymous(2 * SLOTS * SLOT_BYTES);
    for (let i = 0; i < SLOTS; i++)
      window.u8.set([2, 0, 0, 0, 0, 1 - index, 2, 0, 0, 0, 0, index, 8, 0], off + i * SLOT_BYTES);
    this.#sending = burstsOver(runtime, off, { ...ring, len: length });
    this.#receiving = burstsOver(runtime, off + SLOTS * SLOT_BYTES, { ...ring, len: SLOT_BYTES });
    this.backend = openBackend(runtime, device, () => this.#drain(), `user${index}`);
    this.backend.recvEnable();
  }

  sendBurst(): void {
    const burst = this.#sending[this.#sent++ % this.#sending.length]!;
    if (this.backend.sendBurst?.(burst, 0, BURST_ENTRIES) !== BURST_ENTRIES) throw new Error('a burst was not taken');
    this.backend.flush();
  }

  #drain(): void {
    for (;;) {
      const ready = this.backend.recvReady?.() ?? 0;
      if (ready === 0) return;
      const burst = this.#receiving[this.#taken++ % this.#receiving.length]!;
      const n = this.backend.recvBurst?.(burst, Math.min(ready, BURST_ENTRIES)) ?? 0;
      if (n === 0) throw new Error('a burst was not filled');
      this.received += n;
    }
  }
}

const devices = kind === 'vale' ? ['vale0:a', 'vale0:b'] : chain();
const users = devices.map((device, i) => new User(i, device));
if (kind !== 'vale') ngctl('rmhook spare');

function measure(ms: number): number {
  for (const user of users) user.received = 0;
  const start = performance.now();
  let end = start;
  while (end - start < ms) {
    for (let round = 0; round < 64; round++) for (const user of users) user.sendBurst();
    end = performance.now();
  }
  return users.reduce((sum, user) => sum + user.received, 0) / (end - start) / 1000;
}

await answerMpps(measure);
