/**
 * Where the CSB entries of a port are (struct nm_csb_atok and nm_csb_ktoa of net/netmap.h): one pair a ring,
 * transmit rings first, in the order in which the port has them.
 *
 * The application stores cur, then head; the fabric loads head, then cur: so it never sees a head beyond cur. The
 * fabric stores hwcur, then hwtail; the application loads hwtail, then hwcur. Either side asks to be kicked only
 * when it is about to sleep, and looks once more after it has asked.
 */
import {
  ATOK_APPL_NEED_KICK,
  ATOK_BYTES,
  ATOK_CUR,
  ATOK_HEAD,
  KTOA_BYTES,
  KTOA_HWCUR,
  KTOA_HWTAIL,
  KTOA_KERN_NEED_KICK,
} from '../abi.js';

const ENTRY_BYTES = ATOK_BYTES + KTOA_BYTES;

/** Bytes of the entries of so many rings. */
export function csbBytes(rings: number): number {
  return rings * ENTRY_BYTES;
}

/** Words of the atok and the ktoa of ring `i`, where the entries begin at byte `off` of a window. */
export function atokWord(off: number, i: number): number {
  return (off + i * ENTRY_BYTES) >>> 2;
}

export function ktoaWord(off: number, i: number): number {
  return (off + i * ENTRY_BYTES + ATOK_BYTES) >>> 2;
}

// words within them
export const W_HEAD = ATOK_HEAD / 4;
export const W_CUR = ATOK_CUR / 4;
export const W_APPL_NEED_KICK = ATOK_APPL_NEED_KICK / 4;
export const W_HWCUR = KTOA_HWCUR / 4;
export const W_HWTAIL = KTOA_HWTAIL / 4;
export const W_KERN_NEED_KICK = KTOA_KERN_NEED_KICK / 4;
