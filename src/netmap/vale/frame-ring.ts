/**
 * Frames that a port could not take at once: copied, in order, until it can.
 *
 * A circular buffer of bytes in a memory window, and a record of each frame. A frame lies contiguous,
 * first 12 bytes of virtio-net header and a word of the caller's; one that does not fit before the end
 * begins at the start.
 * Full (frames or bytes) means that the caller drops: the sender is never held up.
 */
import { Iovec } from '../../memory/iovec.js';
import type { Mapping, WindowPool } from '../../memory/window.js';

export const RING_HDR_LEN = 16;

export class FrameRing {
  readonly #mapping: Mapping;
  /** offset in the buffer, and length without header, of frame i modulo slots */
  readonly #at: Uint32Array;
  readonly #len: Uint32Array;
  #head = 0;
  #count = 0;
  /** where the next frame goes */
  #write = 0;
  readonly #dst = new Iovec(1);

  constructor(
    pool: WindowPool,
    readonly slots: number,
    readonly bytes: number,
  ) {
    // address space only: the kernel gives memory when it is written
    this.#mapping = pool.mapAnonymous(bytes);
    this.#at = new Uint32Array(slots);
    this.#len = new Uint32Array(slots);
  }

  get count(): number {
    return this.#count;
  }

  /**
   * Makes room for a frame and stores its header words (see batch.ts). Returns the list to copy its
   * bytes to, behind RING_HDR_LEN, or undefined when the ring is full.
   */
  reserve(hdr0: number, hdr1: number, hdr2: number, frameLen: number, note = 0): Iovec | undefined {
    const at = this.#findRoom(RING_HDR_LEN + frameLen);
    if (at < 0) return undefined;
    const { window, off: base } = this.#mapping;
    const w = (base + at) >>> 2;
    window.i32[w] = hdr0;
    window.i32[w + 1] = hdr1;
    window.i32[w + 2] = hdr2;
    window.i32[w + 3] = note;
    const dst = this.#dst;
    dst.clear();
    dst.push(window.index, base + at, RING_HDR_LEN + frameLen);
    const i = (this.#head + this.#count) % this.slots;
    this.#at[i] = at;
    this.#len[i] = frameLen;
    this.#count++;
    // keep header words aligned
    this.#write = (at + RING_HDR_LEN + frameLen + 3) & ~3;
    return dst;
  }

  /** Length of the oldest frame, without header. */
  get frameLen(): number {
    return this.#len[this.#head]!;
  }

  /** Offset of the oldest frame's header in `window`. */
  get frameOff(): number {
    return this.#mapping.off + this.#at[this.#head]!;
  }

  get window(): Mapping['window'] {
    return this.#mapping.window;
  }

  shift(): void {
    this.#head = (this.#head + 1) % this.slots;
    this.#count--;
    if (this.#count === 0) this.#write = 0;
  }

  close(): void {
    this.#mapping.close();
    this.#count = 0;
  }

  /** Where `need` contiguous bytes are free, or -1. */
  #findRoom(need: number): number {
    if (this.#count === this.slots) return -1;
    if (this.#count === 0) return need <= this.bytes ? 0 : -1;
    const oldest = this.#at[this.#head]!;
    if (this.#write > oldest) {
      if (this.#write + need <= this.bytes) return this.#write;
      return need < oldest ? 0 : -1;
    }
    return this.#write + need < oldest ? this.#write : -1;
  }
}
