/** A split virtqueue (VirtIO 1.2 §2.7) in memory that is not shared: what of it was fetched last, and how it is written. */
import type { Place } from '../../memory/address-map.js';
import type { DmaBatch, RemoteMemory } from '../../memory/remote-memory.js';
import type { Window, WindowPool } from '../../memory/window.js';
import type { StandInRing } from './stand-in-ring.js';
import { availBytes, DESC_BYTES, type RingAddresses } from './virtqueue.js';

export class RemoteRing {
  /** descriptors */
  readonly table: Uint32Array;
  readonly #memory: RemoteMemory;
  readonly #windows: WindowPool;
  readonly #size: number;
  readonly #at: RingAddresses;
  // fetched each by itself: what an index announces is read after it
  readonly #flagsIdx = new Uint16Array(2);
  readonly #usedEvent = new Uint16Array(1);
  readonly #avail: Uint16Array;
  readonly #place: Place = { win: 0, off: 0 };

  constructor(memory: RemoteMemory, windows: WindowPool, size: number, at: RingAddresses) {
    this.#memory = memory;
    this.#windows = windows;
    this.#size = size;
    this.#at = at;
    this.table = new Uint32Array((DESC_BYTES / 4) * size);
    this.#avail = new Uint16Array(availBytes(size) / 2);
  }

  get addresses(): RingAddresses {
    return this.#at;
  }

  // ---- what the driver writes ----

  /** The available ring's flags and index; with `event`, used_event. */
  fetchIndex(batch: DmaBatch, event: boolean): void {
    const { avail } = this.#at;
    this.#memory.fetchInto(batch, avail, bytesOf(this.#flagsIdx));
    if (event) this.#memory.fetchInto(batch, avail + 4 + 2 * this.#size, bytesOf(this.#usedEvent));
  }

  get availFlags(): number {
    return this.#flagsIdx[0]!;
  }

  get availIdx(): number {
    return this.#flagsIdx[1]!;
  }

  get usedEvent(): number {
    return this.#usedEvent[0]!;
  }

  /** The available ring's entries and the descriptors. */
  fetchChains(batch: DmaBatch): void {
    this.#memory.fetchInto(batch, this.#at.avail, bytesOf(this.#avail));
    this.#memory.fetchInto(batch, this.#at.desc, bytesOf(this.table));
  }

  /** Head of entry `idx` of the available ring. */
  head(idx: number): number {
    return this.#avail[2 + (idx & (this.#size - 1))]!;
  }

  // ---- what the device writes ----

  /** Entries `from` up to `to` of the used ring, as they are in `standIn`. */
  storeEntries(batch: DmaBatch, standIn: StandInRing, from: number, to: number): void {
    const size = this.#size;
    for (let at = from; at !== to; ) {
      const slot = at & (size - 1);
      const count = Math.min((to - at) & 0xffff, size - slot);
      const off = 4 + 8 * slot;
      this.#used(off, 8 * count)?.u32.set(standIn.usedEntries(slot, count), this.#place.off / 4);
      this.#memory.store(batch, this.#at.used + off, 8 * count);
      at = (at + count) & 0xffff;
    }
  }

  /** The used ring's index, and flags that ask for notifications. */
  storeUsedIdx(batch: DmaBatch, idx: number): void {
    const window = this.#used(0, 4);
    if (window === undefined) return;
    window.u16[this.#place.off / 2] = 0;
    Atomics.store(window.u16, this.#place.off / 2 + 1, idx);
    this.#memory.store(batch, this.#at.used, 4);
  }

  storeAvailEvent(batch: DmaBatch, idx: number): void {
    const off = 4 + 8 * this.#size;
    const window = this.#used(off, 2);
    if (window === undefined) return;
    Atomics.store(window.u16, this.#place.off / 2, idx);
    this.#memory.store(batch, this.#at.used + off, 2);
  }

  /**
   * Where `bytes` of the used ring lie, or their copy: the window, and #place. Looked up each time: memory may have changed, and
   * be gone, before the queue is told of it.
   */
  #used(off: number, bytes: number): Window | undefined {
    return this.#memory.map.locate(this.#at.used + off, bytes, this.#place)
      ? this.#windows.windows[this.#place.win]
      : undefined;
  }
}

function bytesOf(words: Uint16Array | Uint32Array): Uint8Array {
  return new Uint8Array(words.buffer);
}
