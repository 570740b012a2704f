/**
 * The measured side of switch-forward and port-scaling: a VALE switch in memory, with users that send
 * bursts of frames which lie ready and take all they are given.
 *
 *   switch-worker PORTS MACS LENGTH [ACTIVE [SLOTS]]
 *       MACS addresses a port; ACTIVE ports send, all by default; SLOTS a ring, 1024 by default
 *   each line "MS" on standard input is answered by {"mpps":N}
 */
import { createInterface } from 'node:readline';
import { Iovec } from '../../src/memory/iovec.js';
import type { ValePort } from '../../src/netmap/vale/port.js';
import { ValeSwitch } from '../../src/netmap/vale/switch.js';
import { testRuntime } from '../../test/support/runtime.js';

const SLOT_BYTES = 2048;
const BURST = 32;

const [portCount = 2, macs = 1, length = 64, activeCount = portCount, slots = 1024] = process.argv.slice(2).map(Number);
const runtime = testRuntime();
const vale = new ValeSwitch(runtime, 'vale0');

/** A port with a ring of frames to send, which goes round, and one of slots to receive into. */
class User {
  readonly port: ValePort;
  received = 0;
  readonly #iov = new Iovec(1);
  readonly #win: number;
  readonly #txOff: number;
  readonly #rxOff: number;
  #txSlot = 0;
  #rxSlot = 0;

  constructor(readonly index: number) {
    const mapping = runtime.windows.mapAnonymous(2 * slots * SLOT_BYTES);
    this.#win = mapping.window.index;
    this.#txOff = mapping.off;
    this.#rxOff = mapping.off + slots * SLOT_BYTES;
    this.#fill(mapping.window.u8);
    const onReceive = () => this.#drain();
    this.port = vale.attach({ name: `p${index}`, slots, ringBytes: slots * SLOT_BYTES, onReceive });
    this.port.recvEnable();
  }

  /** The same frames as the reference's. */
  #fill(u8: Uint8Array): void {
    for (let i = 0; i < slots; i++) {
      const to = (this.index + 1 + (i % (activeCount - 1))) % activeCount;
      const m = Math.floor(i / activeCount) % macs;
      u8.set([2, 0, 0, 0, to, m, 2, 0, 0, 0, this.index, m, 8, 0], this.#txOff + i * SLOT_BYTES);
    }
  }

  sendBurst(): void {
    const iov = this.#iov;
    for (let i = 0; i < BURST; i++) {
      iov.clear();
      iov.push(this.#win, this.#txOff + this.#txSlot * SLOT_BYTES, length);
      this.#txSlot = (this.#txSlot + 1) & (slots - 1);
      this.port.send(iov);
    }
    this.port.flush();
  }

  #drain(): void {
    const iov = this.#iov;
    for (;;) {
      iov.clear();
      iov.push(this.#win, this.#rxOff + this.#rxSlot * SLOT_BYTES, SLOT_BYTES);
      if (this.port.recv(iov) <= 0) return;
      this.#rxSlot = (this.#rxSlot + 1) & (slots - 1);
      this.received++;
    }
  }
}

const users = Array.from({ length: portCount }, (_, i) => new User(i));

function measure(ms: number): number {
  const before = users.reduce((sum, user) => sum + user.received, 0);
  const start = performance.now();
  let end = start;
  while (end - start < ms) {
    for (let round = 0; round < 64; round++) for (let i = 0; i < activeCount; i++) users[i]!.sendBurst();
    end = performance.now();
  }
  const received = users.reduce((sum, user) => sum + user.received, 0) - before;
  return received / (end - start) / 1000;
}

for await (const line of createInterface({ input: process.stdin }))
  process.stdout.write(`${JSON.stringify({ mpps: measure(Number(line)) })}\n`);
process.exit(0);
