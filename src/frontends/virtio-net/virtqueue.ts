/**
 * The device's side of a split virtqueue (VirtIO 1.2 §2.7), in the memory of a guest that is not trusted.
 *
 * The ring is served strictly in order: a chain is taken (`popReadable`, `popWritable`), its buffers
 * are used, and it is returned (`pushUsed`) before the burst ends with `publish`. So between two
 * bursts nothing is in flight: the next available index equals the used index.
 *
 * Everything read from the ring is read once and checked before use. A chain that is malformed is
 * reported by a negative code and may be returned to the driver; a ring that is broken (an available
 * index that jumps, a head beyond the table) is not served any further until the driver resets it.
 *
 * A ring in memory that is not shared is served through one of our own that stands for it: remote-virtqueue.ts.
 */

import type { AddressMap, Place } from '../../memory/address-map.js';
import type { Burst } from '../../memory/burst.js';
import type { Iovec } from '../../memory/iovec.js';
import type { Window, WindowPool } from '../../memory/window.js';

/** §2.7.5: this descriptor continues in `next` */
export const VIRTQ_DESC_F_NEXT = 1;
/** §2.7.5: written by the device */
export const VIRTQ_DESC_F_WRITE = 2;
/** §2.7.5: the buffer holds a table of descriptors */
export const VIRTQ_DESC_F_INDIRECT = 4;
/** §2.7.6: the driver wants no interrupt (hint, without VIRTIO_F_EVENT_IDX) */
export const VIRTQ_AVAIL_F_NO_INTERRUPT = 1;
/** §2.7.8: the device wants no notification (hint, without VIRTIO_F_EVENT_IDX) */
export const VIRTQ_USED_F_NO_NOTIFY = 1;

/** §2.7.5: bytes of a descriptor */
export const DESC_BYTES = 16;
/** Longest sum of buffers of a chain that is looked at: no frame comes near */
export const MAX_CHAIN_BYTES = 2 ** 20;

/** What pop says instead of a chain's head. */
export const POP_EMPTY = -1;
export const POP_MALFORMED = -2;
export const POP_BROKEN = -3;

/** Why a chain was refused or a ring broken; the order is that of `virtqueueFaults`. */
export const FAULT_AVAIL_IDX = 0;
export const FAULT_HEAD = 1;
export const FAULT_NEXT = 2;
export const FAULT_CHAIN_LENGTH = 3;
export const FAULT_ADDRESS = 4;
export const FAULT_DIRECTION = 5;
export const FAULT_INDIRECT = 6;
export const FAULT_SEGMENTS = 7;
export const FAULT_BYTES = 8;
/** not the driver's: the hypervisor refused to read or write memory that it does not share */
export const FAULT_DMA = 9;

/** Counter names of the faults. */
export const virtqueueFaults = [
  'fault_avail_idx',
  'fault_head',
  'fault_next',
  'fault_chain_length',
  'fault_address',
  'fault_direction',
  'fault_indirect',
  'fault_segments',
  'fault_bytes',
  'fault_dma',
] as const;

/** Where the three parts of a ring are, as guest-physical addresses. */
export interface RingAddresses {
  readonly desc: number;
  readonly avail: number;
  readonly used: number;
}

/** §2.7.6: bytes of an available ring */
export function availBytes(size: number): number {
  return 6 + 2 * size;
}

/** §2.7.8: bytes of a used ring */
export function usedBytes(size: number): number {
  return 6 + 8 * size;
}

const NO_U16: Uint16Array = new Uint16Array(0);
const NO_U32: Uint32Array = new Uint32Array(0);

export class Virtqueue {
  size = 0;
  /** set by the driver's features: VIRTIO_F_EVENT_IDX */
  eventIdx = false;
  /** set by the driver's features: VIRTIO_F_INDIRECT_DESC */
  indirect = false;
  /** next entry of the available ring to take, modulo 2^16 */
  availIdx = 0;
  started = false;
  broken = false;
  /** head of the chain that pop last called malformed */
  malformedHead = 0;
  /** FAULT_* of the last chain or ring refused */
  fault = 0;

  #mask = 0;
  /** available index as last read: entries before it need no further look */
  #availSeen = 0;
  #usedIdx = 0;
  /** used index at the last look at what the driver wants */
  #signalledIdx = 0;
  /** enableKicks() found nothing: avail_event stands where the driver will kick, until suppressKicks() */
  #awaitsKick = false;
  #desc32 = NO_U32;
  #descBase32 = 0;
  #avail16 = NO_U16;
  #availBase16 = 0;
  #used16 = NO_U16;
  #used32 = NO_U32;
  #usedBase16 = 0;
  #usedBase32 = 0;
  /** the window that all three parts are in, if they are in one: popBurst is for those */
  #window: Window | undefined;
  /** where buffers and indirect tables lie */
  #memory: AddressMap | undefined;
  /** the ring is one of our own: what its driver wants is not known here */
  #standIn = false;
  #windows: WindowPool;
  readonly #place: Place = { win: 0, off: 0 };

  constructor(windows: WindowPool) {
    this.#windows = windows;
  }

  /** What is wrong with a ring at these addresses of `map`, for people, or undefined. §2.7: sizes and alignments. */
  check(map: AddressMap, size: number, { desc, avail, used }: RingAddresses): string | undefined {
    if (size < 1 || size > 32768 || (size & (size - 1)) !== 0) return `queue size ${size} is no power of two to 32768`;
    const place = this.#place;
    const part = (name: string, gpa: number, bytes: number, align: number): string | undefined => {
      const at = `${name} at 0x${gpa.toString(16)}`;
      if (gpa % align !== 0) return `${at} is not aligned to ${align} bytes`;
      if (!map.locate(gpa, bytes, place)) return `${at} (${bytes} bytes) is outside guest memory`;
      return place.off % align === 0 ? undefined : `${at} is mapped at an odd offset`;
    };
    return (
      part('descriptor table', desc, DESC_BYTES * size, 16) ??
      part('available ring', avail, availBytes(size), 2) ??
      part('used ring', used, usedBytes(size), 4)
    );
  }

  /**
   * Maps the three parts and begins at `availIdx`. Returns what is wrong, for people, or undefined. `buffers`: where what
   * descriptors say is looked up, if that is not where the ring is.
   */
  start(map: AddressMap, size: number, ring: RingAddresses, buffers: AddressMap = map): string | undefined {
    const wrong = this.check(map, size, ring);
    if (wrong !== undefined) return wrong;
    const descWindow = this.#locate(map, ring.desc);
    this.#desc32 = descWindow.u32;
    this.#descBase32 = this.#place.off / 4;
    const availWindow = this.#locate(map, ring.avail);
    this.#avail16 = availWindow.u16;
    this.#availBase16 = this.#place.off / 2;
    const usedWindow = this.#locate(map, ring.used);
    this.#used16 = usedWindow.u16;
    this.#used32 = usedWindow.u32;
    this.#usedBase16 = this.#place.off / 2;
    this.#usedBase32 = this.#place.off / 4;
    this.#window = descWindow === availWindow && availWindow === usedWindow ? descWindow : undefined;
    this.#memory = buffers;
    this.#standIn = buffers !== map;
    this.size = size;
    this.#mask = size - 1;
    this.#availSeen = this.availIdx;
    this.#usedIdx = this.#used16[this.#usedBase16 + 1]!;
    this.#signalledIdx = this.#usedIdx;
    this.#awaitsKick = false;
    this.broken = false;
    this.started = true;
    return undefined;
  }

  /** The window that `gpa` lies in; #place says where. */
  #locate(map: AddressMap, gpa: number): Window {
    map.locate(gpa, 1, this.#place);
    return this.#windows.windows[this.#place.win]!;
  }

  /** Forgets the mappings and what was seen of the ring; nothing of it is touched afterwards. */
  stop(): void {
    this.started = false;
    this.#availSeen = this.availIdx;
    this.#memory = undefined;
    this.#window = undefined;
    this.#desc32 = NO_U32;
    this.#avail16 = NO_U16;
    this.#used16 = NO_U16;
    this.#used32 = NO_U32;
  }

  /** Next entry to take from now on; what was seen of the available ring is looked at anew. Nothing may be in flight. */
  setBase(availIdx: number): void {
    this.availIdx = availIdx & 0xffff;
    this.#availSeen = this.availIdx;
  }

  /** Index in the used ring that the next chain will be returned at. */
  get usedIdx(): number {
    return this.#usedIdx;
  }

  /** True if the driver has made chains available that were not taken yet. One atomic load when it seems not. */
  hasAvail(): boolean {
    return this.availIdx !== this.#availSeen || this.#look();
  }

  /** Chains available now. */
  availCount(): number {
    this.#look();
    return (this.#availSeen - this.availIdx) & 0xffff;
  }

  /** Re-reads the available index; false if nothing is new or the ring is broken. */
  #look(): boolean {
    if (!this.started || this.broken) return false;
    // acquire: what the driver wrote before it published the index is read after it
    const seen = Atomics.load(this.#avail16, this.#availBase16 + 1);
    if (seen === this.#availSeen) return false;
    if (((seen - this.availIdx) & 0xffff) > this.size) {
      this.fault = FAULT_AVAIL_IDX;
      this.broken = true;
      return false;
    }
    this.#availSeen = seen;
    return true;
  }

  /**
   * Takes the next chain, all of whose buffers the device reads, and appends them to `iov`.
   * Returns its head, or POP_EMPTY, POP_MALFORMED (see malformedHead, fault), POP_BROKEN.
   */
  popReadable(iov: Iovec): number {
    return this.#pop(iov, 0);
  }

  /** Likewise for a chain all of whose buffers the device writes. */
  popWritable(iov: Iovec): number {
    return this.#pop(iov, VIRTQ_DESC_F_WRITE);
  }

  /**
   * Takes up to `max` chains of one buffer each (all readable, or all writable) into a burst. Returns
   * how many; 0 also when the next one is of another shape: then popReadable or popWritable is for it.
   */
  popBurst(burst: Burst, max: number, writable: boolean): number {
    const window = this.#window;
    const memory = this.#memory;
    if (window === undefined || window !== burst.window || memory!.mainWin !== window.index) return 0;
    let count = (this.#availSeen - this.availIdx) & 0xffff;
    if (count < max && this.#look()) count = (this.#availSeen - this.availIdx) & 0xffff;
    if (count === 0) return 0;
    const n = window.kernel.popChains(
      this.#descBase32 << 2,
      this.#availBase16 << 1,
      this.#mask,
      this.availIdx,
      Math.min(count, max),
      writable ? VIRTQ_DESC_F_WRITE : 0,
      memory!.mainStart,
      memory!.mainEnd,
      memory!.mainOff,
      MAX_CHAIN_BYTES,
      burst.off,
    );
    this.availIdx = (this.availIdx + n) & 0xffff;
    return n;
  }

  /** Returns the first `n` chains of a burst, with what is `done`; with `numBuffers`, sets that field to 1 in each. */
  pushBurst(burst: Burst, n: number, numBuffers: boolean): void {
    const { kernel } = burst.window;
    kernel.pushChains(this.#usedBase32 << 2, this.#mask, this.#usedIdx, burst.off, n, numBuffers ? 1 : 0);
    this.#usedIdx = (this.#usedIdx + n) & 0xffff;
  }

  /** Gives the last `count` chains back, as if they had not been taken. */
  unpop(count: number): void {
    this.availIdx = (this.availIdx - count) & 0xffff;
  }

  #pop(iov: Iovec, direction: number): number {
    if (this.availIdx === this.#availSeen && !this.#look()) return this.broken ? POP_BROKEN : POP_EMPTY;
    const head = this.#avail16[this.#availBase16 + 2 + (this.availIdx & this.#mask)]!;
    if (head >= this.size) {
      this.fault = FAULT_HEAD;
      this.broken = true;
      return POP_BROKEN;
    }
    this.availIdx = (this.availIdx + 1) & 0xffff;
    const desc32 = this.#desc32;
    const at = this.#descBase32 + head * 4;
    const flags = desc32[at + 3]!;
    if ((flags & 0xffff) === direction) {
      // by far the most chains: a single buffer
      const len = desc32[at + 2]!;
      const code =
        len > MAX_CHAIN_BYTES ? -1 : this.#memory!.translate(desc32[at]! + desc32[at + 1]! * 4294967296, len, iov);
      if (code === 0) return head;
      this.malformedHead = head;
      this.fault = len > MAX_CHAIN_BYTES ? FAULT_BYTES : code === -14 ? FAULT_ADDRESS : FAULT_SEGMENTS;
      return POP_MALFORMED;
    }
    const fault = this.#walk(desc32, this.#descBase32, this.size, head, iov, direction, this.indirect);
    if (fault < 0) return head;
    this.malformedHead = head;
    this.fault = fault;
    return POP_MALFORMED;
  }

  /**
   * Walks a chain in a table of `size` descriptors. Returns -1, or the FAULT_* that it has.
   * A chain longer than the table must visit a descriptor twice: it loops.
   */
  #walk(
    table: Uint32Array,
    base32: number,
    size: number,
    head: number,
    iov: Iovec,
    direction: number,
    mayIndirect: boolean,
  ): number {
    let i = head;
    for (let steps = 0; ; steps++) {
      if (steps === size) return FAULT_CHAIN_LENGTH;
      const at = base32 + i * 4;
      const gpa = table[at]! + table[at + 1]! * 4294967296;
      const len = table[at + 2]!;
      const flagsNext = table[at + 3]!;
      if ((flagsNext & VIRTQ_DESC_F_INDIRECT) !== 0) {
        // §2.7.5.3.1: only if negotiated, never nested, never with NEXT in this descriptor
        if (!mayIndirect || (flagsNext & VIRTQ_DESC_F_NEXT) !== 0) return FAULT_INDIRECT;
        return this.#walkIndirect(gpa, len, iov, direction);
      }
      if ((flagsNext & VIRTQ_DESC_F_WRITE) !== direction) return FAULT_DIRECTION;
      if (len > MAX_CHAIN_BYTES || iov.total + len > MAX_CHAIN_BYTES) return FAULT_BYTES;
      if (len > 0) {
        const code = this.#memory!.translate(gpa, len, iov);
        if (code !== 0) return code === -14 ? FAULT_ADDRESS : FAULT_SEGMENTS;
      }
      if ((flagsNext & VIRTQ_DESC_F_NEXT) === 0) return -1;
      i = flagsNext >>> 16;
      if (i >= size) return FAULT_NEXT;
    }
  }

  #walkIndirect(gpa: number, len: number, iov: Iovec, direction: number): number {
    const place = this.#place;
    const size = len / DESC_BYTES;
    // the table's own alignment is not demanded by the specification; ours is by words
    if (len === 0 || len % DESC_BYTES !== 0 || size > 32768) return FAULT_INDIRECT;
    if (!this.#memory!.locate(gpa, len, place)) return FAULT_ADDRESS;
    if (place.off % 4 !== 0) return FAULT_INDIRECT;
    const window = this.#windows.windows[place.win]!;
    return this.#walk(window.u32, place.off / 4, size, 0, iov, direction, false);
  }

  /** Returns a chain of which `len` bytes were written. Visible to the driver after publish(). */
  pushUsed(head: number, len: number): void {
    const at = this.#usedBase32 + 1 + (this.#usedIdx & this.#mask) * 2;
    this.#used32[at] = head;
    this.#used32[at + 1] = len;
    this.#usedIdx = (this.#usedIdx + 1) & 0xffff;
  }

  /** Makes the returned chains visible. True if the driver wants an interrupt for them (§2.7.7), or if that is not known here. */
  publish(): boolean {
    const idx = this.#usedIdx;
    const base = this.#usedBase16;
    if (!this.started || this.#used16[base + 1] === idx) return false;
    if (this.eventIdx && !this.#awaitsKick) {
      // while we poll, no kick is wanted: keep avail_event where the driver does not get to
      this.#used16[base + 2 + this.size * 4] = (this.availIdx + 0x8000) & 0xffff;
    }
    // a full barrier: the elements before the index, the index before we read what the driver wants
    Atomics.store(this.#used16, base + 1, idx);
    if (this.#standIn) return true;
    const avail = this.#avail16;
    if (!this.eventIdx) return (avail[this.#availBase16]! & VIRTQ_AVAIL_F_NO_INTERRUPT) === 0;
    const event = avail[this.#availBase16 + 2 + this.size]!;
    const old = this.#signalledIdx;
    this.#signalledIdx = idx;
    // §2.7.10: an interrupt is wanted if the event lies in what was added since the last look
    return ((idx - event - 1) & 0xffff) < ((idx - old) & 0xffff);
  }

  /** Tells the driver not to notify: this side polls. */
  suppressKicks(): void {
    if (!this.started) return;
    this.#awaitsKick = false;
    if (this.eventIdx) this.#used16[this.#usedBase16 + 2 + this.size * 4] = (this.availIdx + 0x8000) & 0xffff;
    else this.#used16[this.#usedBase16] = VIRTQ_USED_F_NO_NOTIFY;
  }

  /** Asks for notifications of further chains, then looks once more: true if some came (§2.7.10). */
  enableKicks(): boolean {
    if (!this.started) return false;
    if (this.eventIdx) Atomics.store(this.#used16, this.#usedBase16 + 2 + this.size * 4, this.#availSeen);
    else Atomics.store(this.#used16, this.#usedBase16, 0);
    const found = this.#look();
    this.#awaitsKick = !found;
    return found;
  }
}
