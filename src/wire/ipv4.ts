/** IPv4 (RFC 791): where the fields are, and one check of a header against the bytes there are. */
import { be16 } from './bytes.js';

export const IPV4_MIN_HDR_LEN = 20;
/** total length: of the header and what follows, in bytes */
export const IPV4_TOTAL_LEN = 2;
export const IPV4_ID = 4;
/** flags (3 bits) and fragment offset in units of 8 bytes (13 bits) */
export const IPV4_FRAG = 6;
export const IPV4_PROTOCOL = 9;
export const IPV4_CHECKSUM = 10;
/** source, then destination address */
export const IPV4_SRC = 12;

export const IPV4_FLAG_MF = 0x2000;
const IPV4_FRAG_OFFSET_MASK = 0x1fff;

export const IPPROTO_TCP = 6;
export const IPPROTO_UDP = 17;

/**
 * Length of the header at `off`, options included, or 0 unless it is IPv4 and whole within the `len`
 * bytes there are.
 */
export function ipv4HeaderLen(u8: Uint8Array, off: number, len: number): number {
  if (len < IPV4_MIN_HDR_LEN) return 0;
  const first = u8[off] as number;
  const hdrLen = (first & 0xf) * 4;
  return first >> 4 === 4 && hdrLen >= IPV4_MIN_HDR_LEN && hdrLen <= len ? hdrLen : 0;
}

/** Whether the packet is a part of a fragmented one: more follow, or some came before. */
export function isIpv4Fragment(u8: Uint8Array, off: number): boolean {
  return (be16(u8, off + IPV4_FRAG) & (IPV4_FLAG_MF | IPV4_FRAG_OFFSET_MASK)) !== 0;
}
