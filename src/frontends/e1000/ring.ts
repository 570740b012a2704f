/**
 * A ring of descriptors of 16 bytes in guest memory, as five registers describe it: base address, length, head and
 * tail (manual §3.2.6, §3.4). The controller owns [head, tail); head === tail: it owns none.
 *
 * The driver may write these registers at any time and with any value. So they are looked at anew for each burst,
 * and the ring is served only if it lies in guest memory, has a length, and head and tail are within it.
 */
import type { Place } from '../../memory/address-map.js';
import type { GuestMemory } from '../../memory/guest-memory.js';
import type { WindowPool } from '../../memory/window.js';

export const DESCRIPTOR_BYTES = 16;

/** Registers of a ring, counted in words from the first: those of receive and transmit are laid out alike. */
const BAL = 0;
const BAH = 1;
const LEN = 2;
const HEAD = 4;
const TAIL = 6;

const NO_U32: Uint32Array = new Uint32Array(0);
const NO_I32: Int32Array = new Int32Array(0);
const NO_U8: Uint8Array = new Uint8Array(0);

export class DescriptorRing {
  /** descriptors */
  size = 0;
  /** views of the window that the ring lies in, and where it begins, in words */
  u32: Uint32Array = NO_U32;
  i32: Int32Array = NO_I32;
  u8: Uint8Array = NO_U8;
  off32 = 0;
  /** the registers changed, or the memory did: look again */
  stale = true;
  readonly #words: Uint32Array;
  readonly #first: number;
  readonly #windows: WindowPool;
  readonly #place: Place = { win: 0, off: 0 };
  #located = false;

  /** `first`: place of the base address register. */
  constructor(words: Uint32Array, first: number, windows: WindowPool) {
    this.#words = words;
    this.#first = first >> 2;
    this.#windows = windows;
  }

  get head(): number {
    return this.#words[this.#first + HEAD]!;
  }

  set head(index: number) {
    this.#words[this.#first + HEAD] = index;
  }

  get tail(): number {
    return this.#words[this.#first + TAIL]!;
  }

  /** Descriptors that the registers say there are. */
  get length(): number {
    return this.#words[this.#first + LEN]! / DESCRIPTOR_BYTES;
  }

  /** Whether the ring can be served. */
  usable(memory: GuestMemory): boolean {
    if (this.stale) this.#locate(memory);
    return this.#located && this.head < this.size && this.tail < this.size;
  }

  /** Descriptors that the controller owns. The ring must be usable. */
  get count(): number {
    const n = this.tail - this.head;
    return n < 0 ? n + this.size : n;
  }

  /** Forgets where the ring is. */
  forget(): void {
    this.stale = true;
    this.#located = false;
    this.size = 0;
    this.u32 = NO_U32;
    this.i32 = NO_I32;
    this.u8 = NO_U8;
  }

  #locate(memory: GuestMemory): void {
    this.stale = false;
    const words = this.#words;
    const bytes = words[this.#first + LEN]!;
    const base = words[this.#first + BAL]! + words[this.#first + BAH]! * 4294967296;
    this.size = bytes / DESCRIPTOR_BYTES;
    this.#located = bytes > 0 && memory.locate(base, bytes, this.#place) && this.#place.off % 4 === 0;
    if (!this.#located) return;
    const window = this.#windows.windows[this.#place.win]!;
    this.u32 = window.u32;
    this.i32 = window.i32;
    this.u8 = window.u8;
    this.off32 = this.#place.off / 4;
  }
}
