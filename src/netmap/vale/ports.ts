/**
 * What the kernel's `forward` knows of a switch's ports, in a window: for each port four words, then
 * which ports were given frames, then each port's list of records of the batch.
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
const LISTS_OFF = 8192;
/** entries from one list to the next; the lists are not to begin in the same cache set */
const LIST_STRIDE = BATCH_RECORDS + 96;

export class PortTable {
  readonly window: Window;
  readonly off: number;
  readonly #mapping: Mapping;
  readonly #words: Uint32Array;
  readonly #touched: Uint8Array;
  readonly #lists: Uint16Array;

  constructor(pool: WindowPool) {
    // address space: of the lists only those of ports in use are ever written
    this.#mapping = pool.mapAnonymous(LISTS_OFF + PORTS * LIST_STRIDE * 2);
    this.window = this.#mapping.window;
    this.off = this.#mapping.off;
    const { buffer } = this.window.u8;
    this.#words = new Uint32Array(buffer, this.off, TOUCHED_COUNT + 1);
    this.#touched = new Uint8Array(buffer, this.off + TOUCHED_OFF, PORTS);
    this.#lists = new Uint16Array(buffer, this.off + LISTS_OFF, PORTS * LIST_STRIDE);
  }

  close(): void {
    this.#mapping.close();
  }

  setAttached(port: number, attached: boolean): void {
    this.#words.fill(0, port * WORDS, (port + 1) * WORDS);
    this.#words[port * WORDS + ATTACHED] = attached ? 1 : 0;
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
