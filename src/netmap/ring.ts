/**
 * A netmap ring as its user sees it (struct netmap_ring): head, cur, tail, and slots.
 *
 * Works on any window that maps the region, in the process of the fabric or in another one. The user
 * fills or empties slots from head on, up to but without tail, moves head (and cur, the slot from which on
 * it wants to be woken) behind them, and syncs. Nothing here checks: the fabric does, at each sync.
 */
import type { Window } from '../memory/window.js';
import {
  NR_BUF_OFS,
  NR_BUF_SIZE,
  NR_CUR,
  NR_DIR,
  NR_FLAGS,
  NR_HEAD,
  NR_NUM_SLOTS,
  NR_RINGID,
  NR_SLOTS,
  NR_TAIL,
  NR_TS,
} from './abi.js';

export class NetmapRing {
  readonly numSlots: number;
  readonly bufSize: number;
  readonly ringId: number;
  /** 0: tx, 1: rx */
  readonly dir: number;
  /** offset of slot 0 in the window */
  readonly slotsOff: number;
  /** offset of buffer 0 in the window */
  readonly bufsOff: number;
  /** of the window: for loops that read and write slots by number, four 32-bit words a slot from `slotWord` on */
  readonly u32: Uint32Array;
  readonly u16: Uint16Array;
  /** index of slot 0's first word in u32 */
  readonly slotWord: number;
  readonly #word: number;

  /** `off`: of the ring in the window. Its fixed fields are read here, and never again. */
  constructor(
    readonly window: Window,
    readonly off: number,
  ) {
    this.u32 = window.u32;
    this.u16 = window.u16;
    const w = off >>> 2;
    this.#word = w;
    this.numSlots = this.u32[w + NR_NUM_SLOTS / 4]!;
    this.bufSize = this.u32[w + NR_BUF_SIZE / 4]!;
    this.ringId = this.u16[(off + NR_RINGID) >>> 1]!;
    this.dir = this.u16[(off + NR_DIR) >>> 1]!;
    this.slotsOff = off + NR_SLOTS;
    this.slotWord = this.slotsOff >>> 2;
    // buffers lie behind rings: the upper half of buf_ofs is 0
    this.bufsOff = off + this.u32[w + NR_BUF_OFS / 4]!;
  }

  get head(): number {
    return this.u32[this.#word + NR_HEAD / 4]!;
  }

  set head(slot: number) {
    this.u32[this.#word + NR_HEAD / 4] = slot;
  }

  get cur(): number {
    return this.u32[this.#word + NR_CUR / 4]!;
  }

  set cur(slot: number) {
    this.u32[this.#word + NR_CUR / 4] = slot;
  }

  get tail(): number {
    return this.u32[this.#word + NR_TAIL / 4]!;
  }

  /** The fabric's, or the library's where head, cur and tail go through a CSB. */
  set tail(slot: number) {
    this.u32[this.#word + NR_TAIL / 4] = slot;
  }

  /** NR_TIMESTAMP, NR_FORWARD */
  get flags(): number {
    return this.u32[this.#word + NR_FLAGS / 4]!;
  }

  set flags(flags: number) {
    this.u32[this.#word + NR_FLAGS / 4] = flags;
  }

  /** When the ring was last synced, in microseconds since 1970, if NR_TIMESTAMP is set. */
  get tsUs(): number {
    const w = this.#word + NR_TS / 4;
    return (this.u32[w]! + this.u32[w + 1]! * 2 ** 32) * 1e6 + this.u32[w + 2]!;
  }

  set tsUs(us: number) {
    const w = this.#word + NR_TS / 4;
    const sec = Math.floor(us / 1e6);
    this.u32[w] = sec;
    this.u32[w + 1] = sec / 2 ** 32;
    this.u32[w + 2] = us - sec * 1e6;
    this.u32[w + 3] = 0;
  }

  /** Slots that are the user's: [head, tail) (nm_ring_space). */
  space(): number {
    const n = this.tail - this.head;
    return n < 0 ? n + this.numSlots : n;
  }

  /** The slot behind slot `i` (nm_ring_next). */
  next(i: number): number {
    return i + 1 === this.numSlots ? 0 : i + 1;
  }

  /** Moves head and cur behind `n` slots. */
  advance(n: number): void {
    let at = this.head + n;
    if (at >= this.numSlots) at -= this.numSlots;
    this.cur = at;
    this.head = at;
  }

  bufIdx(i: number): number {
    return this.u32[this.slotWord + i * 4]!;
  }

  setBufIdx(i: number, idx: number): void {
    this.u32[this.slotWord + i * 4] = idx;
  }

  len(i: number): number {
    return this.u16[(this.slotWord + i * 4 + 1) * 2]!;
  }

  setLen(i: number, len: number): void {
    this.u16[(this.slotWord + i * 4 + 1) * 2] = len;
  }

  /** NS_* */
  slotFlags(i: number): number {
    return this.u16[(this.slotWord + i * 4 + 1) * 2 + 1]!;
  }

  setSlotFlags(i: number, flags: number): void {
    this.u16[(this.slotWord + i * 4 + 1) * 2 + 1] = flags;
  }

  /** Length and flags at once: the cheapest way to fill or read a slot. */
  lenAndFlags(i: number): number {
    return this.u32[this.slotWord + i * 4 + 1]!;
  }

  setLenAndFlags(i: number, len: number, flags: number): void {
    this.u32[this.slotWord + i * 4 + 1] = len | (flags << 16);
  }

  /** Native address of a frame outside the region, for NS_INDIRECT. */
  ptr(i: number): number {
    const w = this.slotWord + i * 4;
    return this.u32[w + 2]! + this.u32[w + 3]! * 2 ** 32;
  }

  setPtr(i: number, address: number): void {
    const w = this.slotWord + i * 4;
    this.u32[w + 2] = address;
    this.u32[w + 3] = address / 2 ** 32;
  }

  /** Offset of a buffer in the window (NETMAP_BUF). */
  bufOff(idx: number): number {
    return this.bufsOff + idx * this.bufSize;
  }

  /** Offset of the buffer of slot `i`. */
  slotOff(i: number): number {
    return this.bufsOff + this.u32[this.slotWord + i * 4]! * this.bufSize;
  }
}
