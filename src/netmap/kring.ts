/**
 * The fabric's side of a ring (struct netmap_kring): what it knows for itself, and the checks of a sync.
 *
 * Slots [hwcur, hwtail) are the user's, as of the last sync; the user's head and cur are read once a sync
 * and believed only within that range. Fixed fields of the ring are kept here and never read again.
 *
 * The words that the kernel of the window needs lie in the fabric's own memory (KringTable), where no
 * user writes; K_* and their order are known to kernel/kernel.ts.
 */
import type { Mapping, Window, WindowPool } from '../memory/window.js';
import {
  FIRST_BUF_IDX,
  KTOA_HWCUR,
  KTOA_HWTAIL,
  MAX_RINGS,
  NR_BUF_OFS,
  NR_BUF_SIZE,
  NR_DIR,
  NR_NUM_SLOTS,
  NR_RINGID,
  NR_RX,
  NR_TIMESTAMP,
  NR_TX,
} from './abi.js';
import type { NetmapMemory } from './memory.js';
import { NetmapRing } from './ring.js';

// words of a kring
const K_SLOTS = 0;
const K_NUM_SLOTS = 1;
const K_BUFS = 2;
const K_BUF_SIZE = 3;
const K_BUF_TOTAL = 4;
const K_HWCUR = 5;
const K_HWTAIL = 6;
/** frames and slots that the kernel moved or dropped since they were last counted */
export const K_FRAMES = 7;
export const K_DROP_FULL = 8;
export const K_DROP_BAD = 9;
const KRING_WORDS = 16;

// words of an adapter, before its krings: receive rings first
export const A_RX_RINGS = 0;
export const A_HDR_LEN = 1;
/** 1: the kernel may put frames into the receive rings */
export const A_OPEN = 2;
/** 1: it has, and its user has not been told */
export const A_TOUCHED = 3;
const ADAPTER_WORDS = 16;

/** an interface's rings and its host's, each way */
const KRINGS = 2 * (MAX_RINGS * 2);

/** The words of an adapter and its krings. */
export class KringTable {
  readonly window: Window;
  /** offset in the window */
  readonly off: number;
  readonly #mapping: Mapping;
  readonly words: Uint32Array;

  constructor(pool: WindowPool) {
    this.#mapping = pool.mapAnonymous((ADAPTER_WORDS + KRINGS * KRING_WORDS) * 4);
    this.window = this.#mapping.window;
    this.off = this.#mapping.off;
    this.words = new Uint32Array(this.window.u8.buffer, this.off, ADAPTER_WORDS + KRINGS * KRING_WORDS);
  }

  /** First word of kring `i`: receive rings are 0 to 31, transmit rings from 32 on. */
  kringWord(i: number): number {
    return ADAPTER_WORDS + i * KRING_WORDS;
  }

  close(): void {
    this.#mapping.close();
  }
}

/** Where a user in another process writes head and cur, and reads hwcur and hwtail: words of `u32`. */
export interface CsbPlace {
  readonly u32: Uint32Array;
  readonly atok: number;
  readonly ktoa: number;
}

export class KRing {
  readonly ring: NetmapRing;
  /** number of the ring among those of its kind */
  readonly ringId: number;
  readonly dir: number;
  readonly numSlots: number;
  readonly bufSize: number;
  readonly bufTotal: number;
  /** of the ring, in the region */
  readonly regionOff: number;
  /** offset of the words in their window */
  readonly off: number;
  /** users that have this ring; the fabric syncs only rings in use */
  users = 0;
  /** one of them has it for itself */
  exclusive = false;
  /** of a pipe: the ring at its other end */
  peer: KRing | undefined;
  /** set while the user's head and cur come from another process */
  csb: CsbPlace | undefined;
  /** head, cur and tail at the last sync */
  rhead = 0;
  rcur = 0;
  rtail = 0;
  /** of a receive ring: hwtail when monitors last looked */
  watchedTail = 0;
  readonly #memory: NetmapMemory;
  readonly #words: Uint32Array;
  readonly #word: number;
  readonly #straight: boolean;

  constructor(table: KringTable, memory: NetmapMemory, dir: number, ringId: number, numSlots: number, host = false) {
    this.#memory = memory;
    this.ringId = ringId;
    this.dir = dir;
    this.numSlots = numSlots;
    this.bufSize = memory.bufSize;
    this.bufTotal = memory.bufTotal;
    this.regionOff = memory.allocRing();
    const off = memory.off + this.regionOff;
    const { u32, u16 } = memory.window;
    u32[(off + NR_BUF_OFS) >>> 2] = memory.bufsOff - this.regionOff;
    u32[(off + NR_NUM_SLOTS) >>> 2] = numSlots;
    u32[(off + NR_BUF_SIZE) >>> 2] = memory.bufSize;
    u16[(off + NR_RINGID) >>> 1] = ringId;
    u16[(off + NR_DIR) >>> 1] = dir;
    this.ring = new NetmapRing(memory.window, off);
    const i = (dir === NR_TX ? 2 * MAX_RINGS : 0) + (host ? MAX_RINGS : 0) + ringId;
    this.#straight = table.window === memory.window;
    this.#words = table.words;
    this.#word = table.kringWord(i);
    this.off = table.off + this.#word * 4;
    const words = this.#words;
    words.fill(0, this.#word, this.#word + KRING_WORDS);
    words[this.#word + K_SLOTS] = this.ring.slotsOff;
    words[this.#word + K_NUM_SLOTS] = numSlots;
    words[this.#word + K_BUFS] = this.ring.bufsOff;
    words[this.#word + K_BUF_SIZE] = memory.bufSize;
    words[this.#word + K_BUF_TOTAL] = memory.bufTotal;
    // a transmit ring begins empty of frames, all but one slot the user's; a receive ring has no frames
    this.hwtail = dir === NR_TX ? numSlots - 1 : 0;
    this.rtail = this.hwtail;
    this.ring.tail = this.hwtail;
  }

  /** Gives each slot a buffer. False when there are not enough; those taken stay until freeBufs(). */
  allocBufs(): boolean {
    for (let i = 0; i < this.numSlots; i++) {
      const idx = this.#memory.allocBuf();
      if (idx === 0) return false;
      this.ring.setBufIdx(i, idx);
    }
    return true;
  }

  /** first slot that the user had not moved head behind, at the last sync */
  get hwcur(): number {
    return this.#words[this.#word + K_HWCUR]!;
  }

  set hwcur(slot: number) {
    this.#words[this.#word + K_HWCUR] = slot;
  }

  /** first slot that is the fabric's */
  get hwtail(): number {
    return this.#words[this.#word + K_HWTAIL]!;
  }

  set hwtail(slot: number) {
    this.#words[this.#word + K_HWTAIL] = slot;
  }

  /** The kernel reaches words and slots alike. */
  get straight(): boolean {
    return this.#straight;
  }

  /** Adds to what the kernel counts at word K_*. */
  addCount(word: number, n: number): void {
    this.#words[this.#word + word]! += n;
  }

  /** What the kernel counted at word K_* since the last call. */
  takeCount(word: number): number {
    const at = this.#word + word;
    const n = this.#words[at]!;
    if (n !== 0) this.#words[at] = 0;
    return n;
  }

  next(i: number): number {
    return i + 1 === this.numSlots ? 0 : i + 1;
  }

  prev(i: number): number {
    return i === 0 ? this.numSlots - 1 : i - 1;
  }

  /** Slots from `a` up to but without `b`. */
  distance(a: number, b: number): number {
    return b >= a ? b - a : b - a + this.numSlots;
  }

  /** Slots that the fabric can fill in a receive ring: all that are its own but one. */
  get rxSpace(): number {
    return this.numSlots - 1 - this.distance(this.hwcur, this.hwtail);
  }

  /** Slots with frames in a receive ring, as of the last release. */
  get rxWaiting(): number {
    return this.distance(this.hwcur, this.hwtail);
  }

  // ---- syncs ----

  /**
   * Reads head and cur, once. Returns head; -1 when they make no sense: then the ring has to be set right
   * (reinit). nm_txsync_prologue, nm_rxsync_prologue.
   */
  readUser(): number {
    let head: number;
    let cur: number;
    if (this.csb === undefined) {
      head = this.ring.head;
      cur = this.ring.cur;
    } else {
      const { u32, atok } = this.csb;
      // never a head newer than cur: the other side stores cur first
      head = Atomics.load(u32, atok);
      cur = Atomics.load(u32, atok + 1);
    }
    const from = this.dir === NR_TX ? this.rhead : this.hwcur;
    const to = this.dir === NR_TX ? this.rtail : this.hwtail;
    const n = this.numSlots;
    if (head >= n || cur >= n) return -1;
    const owned = this.distance(from, to);
    if (this.distance(from, head) > owned) return -1;
    if (this.distance(head, cur) > this.distance(head, to)) return -1;
    this.rhead = head;
    this.rcur = cur;
    return head;
  }

  /** Tells the user what is its own now. */
  publish(): void {
    const { hwtail } = this;
    this.rtail = hwtail;
    if (this.csb === undefined) this.ring.tail = hwtail;
    else {
      const { u32, ktoa } = this.csb;
      // hwcur first: the other side reads hwtail, then hwcur
      Atomics.store(u32, ktoa + KTOA_HWCUR / 4, this.hwcur);
      Atomics.store(u32, ktoa + KTOA_HWTAIL / 4, hwtail);
    }
    if ((this.ring.flags & NR_TIMESTAMP) !== 0) this.ring.tsUs = Date.now() * 1000;
  }

  /** Makes a ring whose user wrote nonsense whole again (netmap_ring_reinit): no frames, valid slots. */
  reinit(): void {
    const { ring, hwcur } = this;
    for (let i = 0; i < this.numSlots; i++) {
      if (!this.#memory.isBuf(ring.bufIdx(i))) {
        // whose buffer it was nobody can say: the slot is without one until its user puts one there
        ring.setBufIdx(i, 0);
        ring.setLen(i, 0);
      } else if (ring.len(i) > this.bufSize) ring.setLen(i, 0);
    }
    this.rhead = hwcur;
    this.rcur = hwcur;
    ring.head = hwcur;
    ring.cur = hwcur;
    if (this.csb !== undefined) {
      const { u32, atok } = this.csb;
      Atomics.store(u32, atok + 1, hwcur);
      Atomics.store(u32, atok, hwcur);
    }
    this.publish();
  }

  /** Whether slot contents can be used: a buffer of the region, and no more bytes than it has. */
  isValid(idx: number, len: number): boolean {
    return idx >= FIRST_BUF_IDX && idx < this.bufTotal && len <= this.bufSize;
  }

  /** Forgets all frames, as when the ring was made; slots that lost their buffer are given one. */
  reset(): void {
    for (let i = 0; i < this.numSlots; i++)
      if (!this.#memory.isBuf(this.ring.bufIdx(i))) this.ring.setBufIdx(i, this.#memory.allocBuf());
    this.hwcur = 0;
    this.hwtail = this.dir === NR_RX ? 0 : this.numSlots - 1;
    this.watchedTail = 0;
    this.rhead = 0;
    this.rcur = 0;
    this.ring.head = 0;
    this.ring.cur = 0;
    this.publish();
  }
}
