/**
 * Which frames the controller takes: by destination (manual §3.2.1, §13.5.1 to §13.5.3), and by VLAN
 * (§9.3, §13.5.4).
 *
 * A unicast address must be one of the 16 in RAL/RAH, a multicast address one of those or have its bit in the
 * table of 4096 (MTA); promiscuous modes and broadcasts are switched on in RCTL. VLAN tags are looked up when
 * RCTL.VFE is set.
 */
import { be16 } from '../../wire/bytes.js';
import * as R from './registers.js';

/** number of receive addresses */
const ADDRESSES = 16;

export const REJECTED = 0;
/** for this station: an address of ours, or a broadcast */
export const ACCEPTED = 1;
/** perhaps for this station: by the multicast table, or a promiscuous mode (RDESC.STATUS.PIF) */
export const ACCEPTED_INEXACT = 2;

/** lowest bit of the address that the table is indexed by, for each RCTL.MO (§13.4.22) */
const MTA_SHIFT = [4, 3, 2, 0] as const;

export class Filters {
  readonly #words: Uint32Array;
  // valid addresses, as two numbers each
  readonly #low = new Uint32Array(ADDRESSES);
  readonly #high = new Uint32Array(ADDRESSES);
  #count = 0;

  constructor(words: Uint32Array) {
    this.#words = words;
  }

  /** RAL or RAH were written. */
  update(): void {
    this.#count = 0;
    for (let i = 0; i < ADDRESSES; i++) {
      const high = this.#words[(R.RA >> 2) + 2 * i + 1]!;
      // AS 0: compared with the destination; others are reserved, or compared with the source, which nobody uses
      if ((high & R.RAH_AV) === 0 || (high & R.RAH_AS) !== 0) continue;
      this.#low[this.#count] = this.#words[(R.RA >> 2) + 2 * i]!;
      this.#high[this.#count++] = high & 0xffff;
    }
  }

  /** What becomes of a frame with the destination at `off`. */
  destination(u8: Uint8Array, off: number): number {
    const rctl = this.#words[R.RCTL >> 2]!;
    const low = (u8[off]! | (u8[off + 1]! << 8) | (u8[off + 2]! << 16) | (u8[off + 3]! << 24)) >>> 0;
    const high = u8[off + 4]! | (u8[off + 5]! << 8);
    for (let i = 0; i < this.#count; i++) if (this.#low[i] === low && this.#high[i] === high) return ACCEPTED;
    if ((low & 1) === 0) return (rctl & R.RCTL_UPE) !== 0 ? ACCEPTED_INEXACT : REJECTED;
    if (low === 0xffffffff && high === 0xffff && (rctl & R.RCTL_BAM) !== 0) return ACCEPTED;
    if ((rctl & R.RCTL_MPE) !== 0) return ACCEPTED_INEXACT;
    const hash = (high >> MTA_SHIFT[(rctl >> R.RCTL_MO_SHIFT) & 3]!) & 0xfff;
    const bit = this.#words[(R.MTA >> 2) + (hash >> 5)]! & (1 << (hash & 31));
    return bit !== 0 ? ACCEPTED_INEXACT : REJECTED;
  }

  /** Whether a frame with this tag control information is taken. */
  vlan(tci: number): boolean {
    const rctl = this.#words[R.RCTL >> 2]!;
    if ((rctl & R.RCTL_VFE) === 0) return true;
    if ((rctl & R.RCTL_CFIEN) !== 0 && ((tci & 0x1000) !== 0) !== ((rctl & R.RCTL_CFI) !== 0)) return false;
    const id = tci & 0xfff;
    return (this.#words[(R.VFTA >> 2) + (id >> 5)]! & (1 << (id & 31))) !== 0;
  }

  /** Whether the frame at `off` carries the tag of VET (§13.4.12). */
  isTagged(u8: Uint8Array, off: number): boolean {
    return be16(u8, off + 12) === this.#words[R.VET >> 2];
  }
}
