/**
 * The Internet checksum (RFC 1071) and the pseudo headers of TCP and UDP (RFC 9293 §3.1, RFC 8200 §8.1).
 *
 * Sums are of 16-bit words in memory order, that is little-endian: a ones' complement sum does not
 * care, and stored little-endian its complement is the checksum field. So the sums of the functions
 * here, and those of a window's WebAssembly kernel, may be added to each other.
 */
import { le16, setLe16 } from './bytes.js';
import { IPV4_CHECKSUM, IPV4_SRC } from './ipv4.js';
import { IPV6_DST, IPV6_SRC } from './ipv6.js';

/** Copies and sums within one byte array: what a memory window's kernel does. */
export interface FrameKernel {
  copy(dst: number, src: number, len: number): void;
  /** folded to 16 bits, not complemented; an odd last byte is padded with zero */
  sum16(off: number, len: number): number;
}

/** Adds the carries back until 16 bits are left. For sums below 2^53. */
export function fold(sum: number): number {
  let folded = sum;
  while (folded > 0xffff) folded = (folded & 0xffff) + Math.floor(folded / 0x10000);
  return folded;
}

/** Sum of the words of [off, off + len), folded, not complemented; an odd last byte is padded with zero. */
export function sum16(u8: Uint8Array, off: number, len: number): number {
  const end = off + len;
  const lastWord = end - 1;
  let sum = 0;
  let at = off;
  for (; at < lastWord; at += 2) sum += (u8[at] as number) | ((u8[at + 1] as number) << 8);
  if (at < end) sum += u8[at] as number;
  return fold(sum);
}

/** Sum of the IPv4 pseudo header: addresses of the header at `ipOff`, protocol, length of what follows it. */
export function pseudoSumV4(u8: Uint8Array, ipOff: number, protocol: number, l4Len: number): number {
  const at = ipOff + IPV4_SRC;
  const addresses = le16(u8, at) + le16(u8, at + 2) + le16(u8, at + 4) + le16(u8, at + 6);
  return addresses + (protocol << 8) + swap16(l4Len);
}

/**
 * Sum of the IPv6 pseudo header: source address of the header at `ipOff`, the final destination's, which is
 * `destination` bytes behind, upper-layer length and protocol.
 */
export function pseudoSumV6(
  u8: Uint8Array,
  ipOff: number,
  protocol: number,
  l4Len: number,
  destination = IPV6_DST,
): number {
  let sum = (protocol << 8) + swap16(l4Len & 0xffff) + swap16(l4Len >>> 16);
  for (let at = 0; at < 16; at += 2) sum += le16(u8, ipOff + IPV6_SRC + at) + le16(u8, ipOff + destination + at);
  return sum;
}

/**
 * Stores the complement of a sum as the checksum of TCP or UDP. Zero is sent as its other form, all
 * ones: in UDP zero means that there is none (RFC 768), and to TCP the two are the same.
 */
export function storeL4Checksum(u8: Uint8Array, off: number, sum: number): void {
  const checksum = ~fold(sum) & 0xffff;
  setLe16(u8, off, checksum === 0 ? 0xffff : checksum);
}

/** Computes the checksum of the IPv4 header at `ipOff` anew. */
export function storeIpv4Checksum(u8: Uint8Array, ipOff: number, hdrLen: number): void {
  setLe16(u8, ipOff + IPV4_CHECKSUM, 0);
  setLe16(u8, ipOff + IPV4_CHECKSUM, ~sum16(u8, ipOff, hdrLen) & 0xffff);
}

/**
 * Does what VIRTIO_NET_HDR_F_NEEDS_CSUM asks for (VirtIO 1.2 §5.1.6.2), in place: sums the frame from
 * `csumStart` to its end, over the pseudo header's sum that the driver has put into the field. The
 * header has passed checkVnetHeader.
 */
export function completeChecksum(
  u8: Uint8Array,
  kernel: FrameKernel,
  frameOff: number,
  frameLen: number,
  csumStart: number,
  csumOffset: number,
): void {
  const start = frameOff + csumStart;
  storeL4Checksum(u8, start + csumOffset, kernel.sum16(start, frameLen - csumStart));
}

function swap16(value: number): number {
  return ((value & 0xff) << 8) | ((value >>> 8) & 0xff);
}
