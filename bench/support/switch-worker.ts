/**
 * The measured side of switch-forward and port-scaling: a VALE switch in memory, with users that send
 * bursts of frames which lie ready and take all they are given.
 *
 *   switch-worker PORTS MACS LENGTH [ACTIVE [SLOTS]]
 *       MACS addresses a port; ACTIVE ports send, all by default; SLOTS a ring, 1024 by default
 *   each line "MS" on standard input is answered by {"mpps":N}
 */
import { BURST_ENTRIES, type Burst } from '../../src/memory/burst.js';
import type { ValePort } from '../../src/netmap/vale/port.js';
import { ValeSwitch } from '../../src/netmap/vale/switch.js';
import { testRuntime } from '../../test/support/runtime.js';
import { answerMpps, burstsOver } from './measured.js';

const SLOT_BYTES = 2048;

const [portCount = 2, macs = 1, length = 64, activeCount = portCount, slots = 1024] = process.argv.slice(2).map(Number);
const ring = { slots, slotBytes: SLOT_BYTES };
const runtime = testRuntime();
const vale = new ValeSwitch(runtime, 'vale0');

/** A port with a ring of frames to send, which goes round, and one of slots to receive into. */
class User {
  readonly port: ValePort;
  received = 0;
  readonly #sending: Burst[];
  readonly #receiving: Burst[];
  #sent = 0;
  #taken = 0;

  constructor(readonly index: number) {
    const { off, window } = runtime.windows.mapAnonymous(2 * slots * SLOT_BYTES);
    this.#fill(window.u8, off);
    this.#sending = burstsOver(runtime, off, { ...ring, len: length });
    this.#receiving = burstsOver(runtime, off + slots * SLOT_BYTES, { ...ring, len: SLOT_BYTES });
    const onReceive = () => this.#drain();
    this.port = vale.attach({ name: `p${index}`, slots, ringBytes: slots * SLOT_BYTES, onReceive });
    this.port.recvEnable();
  }

  /** The same frames as the reference's. */
  #fill(u8: Uint8Array, off: number): void {
    for (let i = 0; i < slots; i++) {
      const to = (this.index + 1 + (i % (activeCount - 1))) % activeCount;
      const m = Math.floor(i / activeCount) % macs;
      u8.set([2, 0, 0, 0, to, m, 2, 0, 0, 0, this.index, m, 8, 0], off + i * SLOT_BYTES);
    }
  }

  sendBurst(): void {
    const burst = this.#sending[this.#sent++ % this.#sending.length]!;
    if (this.port.sendBurst(burst, 0, BURST_ENTRIES) !== BURST_ENTRIES)
      throw new Error('the switch did not take a burst');
    this.port.flush();
  }

  #drain(): void {
    for (;;) {
      const ready = this.port.recvReady();
      if (ready === 0) return;
      const burst = this.#receiving[this.#taken++ % this.#receiving.length]!;
      const n = this.port.recvBurst(burst, Math.min(ready, BURST_ENTRIES));
      if (n === 0) throw new Error('the switch did not fill a burst');
      this.received += n;
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

await answerMpps(measure);
