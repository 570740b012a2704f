/**
 * Transmit descriptors (manual §3.3): 16 bytes, four words. Word 2 holds length and command in all of them, word 3
 * what the controller writes back and the options.
 *
 *   legacy   §3.3.3: a buffer, and perhaps one checksum from CSS to the end at CSO
 *   context  §3.3.6: no buffer; where the checksums of the data descriptors after it are, and how to segment
 *   data     §3.3.7: a buffer, with options that refer to the context
 */

// word 2 of legacy and data descriptors
export const TXD_CMD_EOP = 0x01000000;
export const TXD_CMD_IC = 0x04000000;
/** of data descriptors, in the place of IC */
export const TXD_CMD_TSE = 0x04000000;
export const TXD_CMD_RS = 0x08000000;
/** 82544 only; taken for RS */
export const TXD_CMD_RPS = 0x10000000;
export const TXD_CMD_DEXT = 0x20000000;
export const TXD_CMD_VLE = 0x40000000;
export const TXD_CMD_IDE = 0x80000000;
export const TXD_DTYP_SHIFT = 20;
export const TXD_LEN_LEGACY = 0x0000ffff;
export const TXD_LEN_DATA = 0x000fffff;
// word 2 of context descriptors: TUCMD
const TUCMD_TCP = 0x01000000;
const TUCMD_IP = 0x02000000;

// word 3
export const TXD_STAT_DD = 0x01;
export const TXD_POPTS_IXSM = 0x0100;
export const TXD_POPTS_TXSM = 0x0200;

export const LEGACY = -1;
export const CONTEXT = 0;
export const DATA = 1;

/** Which kind of descriptor has this word 2; others than the three above do not exist. */
export function descriptorKind(cmd: number): number {
  return (cmd & TXD_CMD_DEXT) === 0 ? LEGACY : (cmd >>> TXD_DTYP_SHIFT) & 0xf;
}

/** What the last context descriptor said. Offsets are in the frame; an end is the last byte, 0 that of the frame. */
export class TxContext {
  ipcss = 0;
  ipcso = 0;
  ipcse = 0;
  tucss = 0;
  tucso = 0;
  tucse = 0;
  /** bytes of headers that each segment repeats */
  hdrLen = 0;
  /** bytes of payload in each segment */
  mss = 0;
  /** bytes of payload in all */
  payLen = 0;
  isIpv4 = false;
  isTcp = false;

  load(w0: number, w1: number, w2: number, w3: number): void {
    this.ipcss = w0 & 0xff;
    this.ipcso = (w0 >>> 8) & 0xff;
    this.ipcse = w0 >>> 16;
    this.tucss = w1 & 0xff;
    this.tucso = (w1 >>> 8) & 0xff;
    this.tucse = w1 >>> 16;
    this.payLen = w2 & 0xfffff;
    this.isTcp = (w2 & TUCMD_TCP) !== 0;
    this.isIpv4 = (w2 & TUCMD_IP) !== 0;
    this.hdrLen = (w3 >>> 8) & 0xff;
    this.mss = w3 >>> 16;
  }
}
