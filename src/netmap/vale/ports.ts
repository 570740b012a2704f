/**
 * What the kernel's `forward` knows of a switch's ports, in a window: for each port four words, then
 * which ports were given frames, its rings' adapter, then each port's list of records of the batch.
 */
import type { Mapping, Window, WindowPool } from '../../memory/window.js';
import { BATCH_RECORDS } from './batch.js';

// words of a port; their order is known to kernel/kernel.ts, as are the numbers below
const WORDS = 4;
const PENDING = 0;
const ATTACHED = 3;
const PORTS = 256;
const TOUCHED_COUNT = PORTS * WORDS;
const TOUCHED_OFF = (TOUCHED_COUNT + 1) * 4;
/** each port's adapter: offset of its words (netmap/kring.ts), 0 where its user has no rings */
const ADAPTERS = 4608 / 4;
/** ports into whose rings the kernel put frames, or dropped some */
const FILLED_COUNT = 5632 / 4;
const FILLED_OFF = 5636;
/** numbers of the ports that are attached */
const PRESENT_COUNT = 5896 / 4;
const PRESENT_OFF = 5900;
/** frames that the kernel flooded from ring to rings, and nobody has counted yet */
const FLOODED_UNKNOWN = 6160 / 4;
const FLOODED_MULTICAST = 6164 / 4;
const LISTS_OFF = 8192;
/** entries from one list to the next; the lists are not to begin in the same cache set */
const LIST_STRIDE = BATCH_RECORDS + 96;

export class PortTable {
  readonly window: Window;
  readonly off: number;
  readonly #mapping: Mapping;
  readonly #words: Uint32Array;
  readonly #touched: Uint8Array;
  readonly #filled: Uint8Array;
  readonly #present: Uint8Array;
  readonly #lists: Uint16Array;

  constructor(pool: WindowPool) {
    // address space: of the lists only those of ports in use are ever written
    this.#mapping = pool.mapAnonymous(LISTS_OFF + PORTS * LIST_STRIDE * 2);
    this.window = this.#mapping.window;
    this.off = this.#mapping.off;
    const { buffer } = this.window.u8;
    this.#words = new Uint32Array(buffer, this.off, LISTS_OFF / 4);
    this.#touched = new Uint8Array(buffer, this.off + TOUCHED_OFF, PORTS);
    this.#filled = new Uint8Array(buffer, this.off + FILLED_OFF, PORTS);
    this.#present = new Uint8Array(buffer, this.off + PRESENT_OFF, PORTS);
    this.#lists = new Uint16Array(buffer, this.off + LISTS_OFF, PORTS * LIST_STRIDE);
  }

  close(): void {
    this.#mapping.close();
  }

  setAttached(port: number, attached: boolean): void {
    this.#words.fill(0, port * WORDS, (port + 1) * WORDS);
    this.#words[port * WORDS + ATTACHED] = attached ? 1 : 0;
    this.#words[ADAPTERS + port] = 0;
    let count = 0;
    for (let i = 0; i < PORTS; i++) if (this.#words[i * WORDS + ATTACHED] === 1) this.#present[count++] = i;
    this.#words[PRESENT_COUNT] = count;
  }

  takeFloodedUnknown(): number {
    return this.#take(FLOODED_UNKNOWN);
  }

  takeFloodedMulticast(): number {
    return this.#take(FLOODED_MULTICAST);
  }

  #take(word: number): number {
    const n = this.#words[word]!;
    this.#words[word] = 0;
    return n;
  }

  /** The kernel may put frames straight into the receive rings of the adapter at `off`. */
  setAdapter(port: number, off: number): void {
    this.#words[ADAPTERS + port] = off;
  }

  /** The next port into whose rings the kernel put frames since they were asked for, or -1. */
  nextFilled(): number {
    const count = this.#words[FILLED_COUNT]!;
    if (count === 0) return -1;
    this.#words[FILLED_COUNT] = count - 1;
    return this.#filled[count - 1]!;
  }

  /** Adds record `i` of the batch to a port's list. */
  enqueue(port: number, i: number): void {
    const pending = this.#words[port * WORDS + PENDING]!;
    this.#lists[port * LIST_STRIDE + pending] = i;
    this.#words[port * WORDS + PENDING] = pending + 1;
    if (pending === 0) this.#touched[this.#words[TOUCHED_COUNT]!++] = port;
  }

  /** Records in a port's list. */
  pending(port: number): number {
    return this.#words[port * WORDS + PENDING]!;
  }

  record(port: number, at: number): number {
    return this.#lists[port * LIST_STRIDE + at]!;
  }

  /** Offset of the list's entry `at` in the window. */
  listOff(port: number, at: number): number {
    return this.off + LISTS_OFF + (port * LIST_STRIDE + at) * 2;
  }

  clear(port: number): void {
    this.#words[port * WORDS + PENDING] = 0;
  }

  get touchedCount(): number {
    return this.#words[TOUCHED_COUNT]!;
  }

  /** The k-th port that was given frames since forgetTouched(). */
  touched(k: number): number {
    return this.#touched[k]!;
  }

  forgetTouched(): void {
    this.#words[TOUCHED_COUNT] = 0;
  }
}
