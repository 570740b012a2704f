/**
 * Reads frames out of the slots of a transmit ring: one or more slots, all but the last NS_MOREFRAG.
 *
 * Each slot is read once; what it says is checked before it is used. The pieces are in `iov` as the
 * switch and HostPort take them.
 */
import { Iovec } from '../memory/iovec.js';
import type { WindowPool } from '../memory/window.js';
import {
  NETMAP_MAX_FRAGS,
  NS_BUF_CHANGED,
  NS_INDIRECT,
  NS_MOREFRAG,
  NS_NO_LEARN,
  NS_PORT_SHIFT,
  NS_REPORT,
} from './abi.js';
import { R } from './counters.js';
import type { KRing } from './kring.js';
import { ROUTE_NO_LEARN, ROUTE_PORT_SHIFT } from './vale/batch.js';

export class ChainReader {
  readonly iov = new Iovec(NETMAP_MAX_FRAGS);
  /** flags of the frame's first slot */
  flags = 0;
  /** slot behind the frame that was read */
  next = 0;
  readonly #pool: WindowPool;
  readonly #values: Float64Array;

  constructor(pool: WindowPool, values: Float64Array) {
    this.#pool = pool;
    this.#values = values;
  }

  /**
   * Reads the frame that begins at slot `at`; it ends before `head`. True: `iov` has it. False: it is to be
   * dropped, and is counted. In both cases `next` is the slot behind it, and `at` itself if the frame is
   * not finished yet.
   */
  read(kring: KRing, at: number, head: number): boolean {
    const { iov } = this;
    const { ring } = kring;
    const { u32, slotWord } = ring;
    iov.clear();
    let bad = -1;
    let frags = 0;
    for (let i = at; i !== head; i = kring.next(i)) {
      const w = slotWord + i * 4;
      const idx = u32[w]!;
      const word = u32[w + 1]!;
      const len = word & 0xffff;
      const flags = word >>> 16;
      if (frags++ === 0) this.flags = flags;
      // what the slot asked for is done: the frame is taken at once
      if ((flags & (NS_BUF_CHANGED | NS_REPORT)) !== 0) ring.setSlotFlags(i, flags & ~(NS_BUF_CHANGED | NS_REPORT));
      if ((flags & NS_INDIRECT) !== 0) {
        // an address of another process says nothing here
        if (kring.csb !== undefined || !this.#pushIndirect(ring.ptr(i), len)) bad = R.tx_drop_indirect;
      } else if (!kring.isValid(idx, len)) bad = R.tx_drop_bad_slot;
      else if (!iov.push(ring.window.index, ring.bufsOff + idx * kring.bufSize, len) && bad < 0)
        bad = R.tx_drop_too_many_frags;
      if ((flags & NS_MOREFRAG) === 0) {
        this.next = kring.next(i);
        if (bad >= 0) this.#values[bad]!++;
        return bad < 0;
      }
    }
    this.next = at;
    // the ring is full and the frame has no end: there will be none
    if (frags === kring.numSlots - 1 || frags > NETMAP_MAX_FRAGS) {
      this.next = head;
      this.#values[R.tx_drop_unfinished]!++;
    }
    return false;
  }

  /** What the switch is to know of the frame (netmap/vale/batch.ts). */
  route(ringId: number): number {
    const { flags } = this;
    const noLearn = (flags & NS_NO_LEARN) !== 0 ? ROUTE_NO_LEARN : 0;
    return ringId | noLearn | ((flags >>> NS_PORT_SHIFT) << ROUTE_PORT_SHIFT);
  }

  /** A frame in the memory of this process: it must lie in a window. */
  #pushIndirect(address: number, len: number): boolean {
    for (const window of this.#pool.windows) {
      const off = address - window.addr;
      if (off >= 0 && off + len <= window.byteLength) return this.iov.push(window.index, off, len);
    }
    return false;
  }
}
