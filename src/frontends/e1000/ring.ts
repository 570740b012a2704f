/**
 * A ring of descriptors of 16 bytes in guest memory, as five registers describe it: base address, length, head and
 * tail (manual §3.2.6, §3.4). The controller owns [head, tail); head === tail: it owns none.
 *
 * The driver may write these registers at any time and with any value. So they are looked at anew for each burst,
 * and the ring is served only if it lies in guest memory, has a length, and head and tail are within it.
 *
 * A ring in memory that is not shared has a copy of its own here, which nothing but its transfers writes (remote-ring.ts):
 * [next, fetched) are descriptors that are here and not served, [head, next) those that are served, of which the driver's
 * memory does not say so yet.
 */
import { AddressMap, type Place } from '../../memory/address-map.js';
import type { GuestMemory } from '../../memory/guest-memory.js';
import type { RemoteMemory } from '../../memory/remote-memory.js';
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
const NOWHERE = new AddressMap();

export class DescriptorRing {
  /** descriptors */
  size = 0;
  /** views of the window that the ring lies in, or of its copy, and where it begins, in words */
  u32: Uint32Array = NO_U32;
  i32: Int32Array = NO_I32;
  u8: Uint8Array = NO_U8;
  off32 = 0;
  /** translates the addresses of its buffers */
  map: AddressMap = NOWHERE;
  /** the registers changed, or the memory did: look again */
  stale = true;
  /** the copy of a ring in memory that is not shared; it stays the same until the ring is set up anew */
  copy: Uint8Array | undefined;
  /** of such a ring: what reaches it, if it can be served */
  remote: RemoteMemory | undefined;
  /** where descriptors end that are here, and where those of them end whose buffers are here as well */
  fetched = 0;
  staged = 0;
  readonly #words: Uint32Array;
  readonly #first: number;
  readonly #windows: WindowPool;
  readonly #place: Place = { win: 0, off: 0 };
  #located = false;
  /** it is not to be served until it is set up anew */
  #refused = false;
  #next = 0;

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

  /** The next descriptor to be served: the head, which in memory that is not shared comes after it. */
  get next(): number {
    return this.copy === undefined ? this.head : this.#next;
  }

  set next(index: number) {
    if (this.copy === undefined) this.head = index;
    else this.#next = index;
  }

  /** Guest-physical address. */
  get base(): number {
    return this.#words[this.#first + BAL]! + this.#words[this.#first + BAH]! * 4294967296;
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

  /** Descriptors that the controller has not served. The ring must be usable. */
  get count(): number {
    return this.distance(this.next, this.tail);
  }

  /** Descriptors from one index to another. */
  distance(from: number, to: number): number {
    const n = to - from;
    return n < 0 ? n + this.size : n;
  }

  /** The memory changed: forgets where the ring is. */
  forget(): void {
    this.stale = true;
    this.#located = false;
    this.u32 = NO_U32;
    this.i32 = NO_I32;
    this.u8 = NO_U8;
    this.map = NOWHERE;
    this.remote = undefined;
  }

  /** The driver has set the ring up anew, or reset all of the controller. */
  renew(): void {
    this.forget();
    this.#refused = false;
    this.copy = undefined;
  }

  /** The hypervisor has refused a transfer. */
  refuse(): void {
    this.forget();
    this.#refused = true;
  }

  /** What is here and not served is not here any more. */
  unfetch(): void {
    this.fetched = this.#next;
    this.staged = this.#next;
  }

  /** Nor is what was served beyond the head. */
  rewind(): void {
    this.#next = this.head;
    this.unfetch();
  }

  #locate(memory: GuestMemory): void {
    this.stale = false;
    const bytes = this.#words[this.#first + LEN]!;
    const place = this.#place;
    this.size = bytes / DESCRIPTOR_BYTES;
    this.#located = false;
    if (bytes === 0 || this.#refused) return;
    if (!memory.locate(this.base, bytes, place)) this.#locateRemote(memory.remote, bytes);
    else if (place.off % 4 === 0) {
      const { u32, i32, u8 } = this.#windows.windows[place.win]!;
      this.copy = undefined;
      this.#look(u32, i32, u8, place.off / 4, memory);
    }
  }

  #locateRemote(remote: RemoteMemory | undefined, bytes: number): void {
    if (remote?.map.locate(this.base, bytes, this.#place) !== true) return;
    if (this.copy === undefined) {
      this.copy = new Uint8Array(bytes);
      this.rewind();
    }
    this.remote = remote;
    const { buffer } = this.copy;
    this.#look(new Uint32Array(buffer), new Int32Array(buffer), this.copy, 0, remote.map);
  }

  #look(u32: Uint32Array, i32: Int32Array, u8: Uint8Array, off32: number, map: AddressMap): void {
    this.#located = true;
    this.u32 = u32;
    this.i32 = i32;
    this.u8 = u8;
    this.off32 = off32;
    this.map = map;
  }
}
