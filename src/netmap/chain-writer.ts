/**
 * Puts frames into the next slots of a receive ring: one or more, all but the last NS_MOREFRAG, each with the
 * number of them (NS_RFRAGS). First list() says where the bytes are to go, then fill() shows the frame.
 */
import { Iovec } from '../memory/iovec.js';
import { NETMAP_MAX_FRAGS, NS_MOREFRAG } from './abi.js';
import type { KRing } from './kring.js';

export const NO_ROOM = 0;
export const BAD_SLOT = -1;

export class ChainWriter {
  /** buffers of the slots that list() found */
  readonly iov = new Iovec(NETMAP_MAX_FRAGS);

  /** Makes `iov` the buffers for a frame of `len` bytes. Returns how many slots; NO_ROOM, or BAD_SLOT where one has none. */
  list(kring: KRing, len: number): number {
    const { ring, bufSize } = kring;
    const slots = Math.ceil(len / bufSize);
    if (slots > kring.rxSpace || slots > NETMAP_MAX_FRAGS) return NO_ROOM;
    const { iov } = this;
    iov.clear();
    let at = kring.hwtail;
    let left = len;
    for (let k = 0; k < slots; k++, at = kring.next(at)) {
      const idx = ring.bufIdx(at);
      if (!kring.isValid(idx, 0)) return BAD_SLOT;
      iov.push(ring.window.index, ring.bufsOff + idx * bufSize, Math.min(left, bufSize));
      left -= bufSize;
    }
    return slots;
  }

  /** Describes a frame of `len` bytes in the next `slots` slots: they are the user's from now on. */
  fill(kring: KRing, slots: number, len: number): void {
    const { ring, bufSize } = kring;
    let at = kring.hwtail;
    let left = len;
    for (let k = slots; k > 0; k--, at = kring.next(at)) {
      ring.setLenAndFlags(at, Math.min(left, bufSize), (slots << 8) | (k > 1 ? NS_MOREFRAG : 0));
      left -= bufSize;
    }
    kring.hwtail = at;
  }
}
