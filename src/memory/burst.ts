/**
 * A run of buffers that each lie in one piece in one window, for handing over many frames at a call.
 *
 * Entry i is four 32-bit words in the window itself, where the kernel reads and writes them:
 *   off   offset of the buffer in the window
 *   len   its bytes
 *   head  whose it is: the descriptor chain's head
 *   done  bytes that were written to it
 */
import type { Mapping, Window, WindowPool } from './window.js';

/** Entries of a burst. */
export const BURST_ENTRIES = 64;
const WORDS = 4;

export class Burst {
  readonly window: Window;
  /** offset of entry 0 in the window */
  readonly off: number;
  readonly #mapping: Mapping;
  readonly #words: Uint32Array;

  constructor(pool: WindowPool) {
    this.#mapping = pool.mapAnonymous(BURST_ENTRIES * WORDS * 4);
    this.window = this.#mapping.window;
    this.off = this.#mapping.off;
    this.#words = new Uint32Array(this.window.u8.buffer, this.off, BURST_ENTRIES * WORDS);
  }

  bufferOff(i: number): number {
    return this.#words[i * WORDS]!;
  }

  bufferLen(i: number): number {
    return this.#words[i * WORDS + 1]!;
  }

  setDone(i: number, bytes: number): void {
    this.#words[i * WORDS + 3] = bytes;
  }

  /** Hides `bytes` at the front of each of the first `count` buffers. Stops at one that is shorter; returns how many. */
  skip(count: number, bytes: number): number {
    const words = this.#words;
    let i = 0;
    for (; i < count; i++) {
      const len = words[i * WORDS + 1]!;
      if (len < bytes) break;
      words[i * WORDS]! += bytes;
      words[i * WORDS + 1] = len - bytes;
    }
    return i;
  }

  /** Shows again what skip() hid, as zeros that were written. `bytes` is even. */
  zeroSkipped(count: number, bytes: number): void {
    const words = this.#words;
    const { u8 } = this.window;
    for (let i = 0; i < count; i++) {
      const off = words[i * WORDS]! - bytes;
      words[i * WORDS] = off;
      words[i * WORDS + 1]! += bytes;
      words[i * WORDS + 3]! += bytes;
      for (let k = 0; k < bytes; k++) u8[off + k] = 0;
    }
  }

  /** Sum of the lengths of the first `n` buffers. */
  totalLen(n: number): number {
    return this.#total(n, 1);
  }

  /** Sum of what was written to the first `n` buffers. */
  totalDone(n: number): number {
    return this.#total(n, 3);
  }

  #total(n: number, word: number): number {
    const words = this.#words;
    let sum = 0;
    for (let at = word; at < n * WORDS; at += WORDS) sum += words[at]!;
    return sum;
  }

  close(): void {
    this.#mapping.close();
  }
}
