/**
 * A split virtqueue (VirtIO 1.2 §2.7) in memory of our own, which stands for one that is not shared: Virtqueue serves it, and
 * RemoteVirtqueue carries what is in it from and to the guest's.
 */
import { AddressMap } from '../../memory/address-map.js';
import type { Mapping, WindowPool } from '../../memory/window.js';
import { DESC_BYTES, type RingAddresses, VIRTQ_DESC_F_INDIRECT, VIRTQ_DESC_F_NEXT } from './virtqueue.js';

/** largest queue that it has room for */
export const STAND_IN_SIZE = 1024;

/** Addresses in `map`. */
export const STAND_IN: RingAddresses = { desc: 0, avail: 0x4000, used: 0x5000 };
const BYTES = 0x8000;

export class StandInRing {
  /** where the ring is, and nothing else */
  readonly map = new AddressMap();
  readonly #mapping: Mapping;
  readonly #desc: Uint32Array;
  readonly #avail: Uint16Array;
  readonly #used: Uint32Array;
  #size = 0;

  constructor(windows: WindowPool) {
    this.#mapping = windows.mapAnonymous(BYTES);
    const { window, off } = this.#mapping;
    this.map.setPieces([{ gpa: 0, size: BYTES, mapping: this.#mapping, off }]);
    const { buffer } = window.u8;
    this.#desc = new Uint32Array(buffer, off + STAND_IN.desc, (DESC_BYTES / 4) * STAND_IN_SIZE);
    this.#avail = new Uint16Array(buffer, off + STAND_IN.avail, 3 + STAND_IN_SIZE);
    this.#used = new Uint32Array(buffer, off + STAND_IN.used, 1 + 2 * STAND_IN_SIZE);
  }

  /** An empty ring whose indices are `idx`. */
  begin(size: number, idx: number): void {
    this.#size = size;
    this.#desc.fill(0);
    this.availIdx = idx;
    // flags, then the index
    this.#used[0] = idx << 16;
  }

  set availIdx(idx: number) {
    this.#avail[1] = idx;
  }

  /** Puts a chain into entry `idx` of the available ring, with those of its descriptors that `table` has. */
  offer(idx: number, head: number, table: Uint32Array): void {
    const size = this.#size;
    this.#avail[2 + (idx & (size - 1))] = head;
    for (let i = head, steps = 0; i < size && steps < size; steps++) {
      const at = 4 * i;
      const flagsNext = table[at + 3]!;
      this.#desc.set(table.subarray(at, at + 4), at);
      if ((flagsNext & (VIRTQ_DESC_F_NEXT | VIRTQ_DESC_F_INDIRECT)) !== VIRTQ_DESC_F_NEXT) return;
      i = flagsNext >>> 16;
    }
  }

  /** Bytes that were written to the chain of entry `idx` of the used ring. */
  usedLen(idx: number): number {
    return this.#used[2 + 2 * (idx & (this.#size - 1))]!;
  }

  /** `count` entries of the used ring from `slot` on, two words each. */
  usedEntries(slot: number, count: number): Uint32Array {
    return this.#used.subarray(1 + 2 * slot, 1 + 2 * (slot + count));
  }

  close(): void {
    this.#mapping.close();
  }
}
