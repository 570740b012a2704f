/**
 * Segmentation in software: what a network card does with VIRTIO_NET_HDR_GSO_* (VirtIO 1.2 §5.1.6),
 * for a destination that has not negotiated it.
 *
 *   TCPV4, TCPV6  TCP segments: sequence numbers advance; FIN and PSH stay on the last segment, CWR
 *                 (RFC 3168 §6.1.2) on the first; the IPv4 identification grows by one
 *   UDP           one datagram as IP fragments (UFO): gso_size bytes of IP payload each, rounded down
 *                 to the multiple of 8 that fragment offsets need
 *   UDP_L4        several datagrams of gso_size bytes of payload each (USO)
 *
 * VLAN tags, IPv4 options and IPv6 extension headers are carried into every segment, each header's
 * length and checksum is made anew. The lengths written in the big frame's own headers are not
 * believed: the frame's length decides, as it does in Linux.
 *
 * `begin` checks the whole frame and returns SEG_OK or the rule that it breaks; then `next` writes one
 * segment a call. One array holds the input and the output, which must not overlap. Nothing is
 * allocated, and nothing outside [frameOff, frameOff + frameLen) is read.
 */
import { be16, be32, setBe16, setBe32 } from './bytes.js';
import { type FrameKernel, pseudoSumV4, pseudoSumV6, storeIpv4Checksum, storeL4Checksum } from './checksum.js';
import { ETHERTYPE_IPV4, ETHERTYPE_IPV6, etherPayloadOffset } from './ethernet.js';
import {
  IPPROTO_TCP,
  IPPROTO_UDP,
  IPV4_FLAG_MF,
  IPV4_FRAG,
  IPV4_ID,
  IPV4_MIN_HDR_LEN,
  IPV4_PROTOCOL,
  IPV4_TOTAL_LEN,
  ipv4HeaderLen,
  isIpv4Fragment,
} from './ipv4.js';
import { IPPROTO_FRAGMENT, IPV6_FRAGMENT_HDR_LEN, IPV6_HDR_LEN, IPV6_PAYLOAD_LEN, Ipv6Headers } from './ipv6.js';
import { TCP_CHECKSUM, TCP_CWR, TCP_FIN, TCP_FLAGS, TCP_PSH, TCP_SEQ, tcpHeaderLen } from './tcp.js';
import { UDP_CHECKSUM, UDP_HDR_LEN, UDP_LEN } from './udp.js';
import {
  VIRTIO_NET_HDR_GSO_ECN,
  VIRTIO_NET_HDR_GSO_TCPV4,
  VIRTIO_NET_HDR_GSO_TCPV6,
  VIRTIO_NET_HDR_GSO_UDP,
  VIRTIO_NET_HDR_GSO_UDP_L4,
} from './vnet-header.js';

// Verdicts of begin: 0, or the rule that the frame breaks; indexes of segmentFaultNames.
export const SEG_OK = 0;
export const SEG_BAD_GSO_TYPE = 1;
export const SEG_BAD_ETHERTYPE = 2;
export const SEG_BAD_IP = 3;
export const SEG_IS_FRAGMENT = 4;
export const SEG_IS_ROUTED = 5;
export const SEG_BAD_PROTOCOL = 6;
export const SEG_BAD_L4 = 7;
export const SEG_BAD_CSUM_PLACE = 8;
export const SEG_BAD_GSO_SIZE = 9;
export const SEG_TOO_LONG = 10;
export const SEG_TOO_MANY = 11;

/** Ends of counter names ("tx_drop_" + name), by verdict. */
export const segmentFaultNames = [
  'ok',
  'gso_type',
  'gso_ether_type',
  'gso_ip_header',
  'gso_ip_fragment',
  'gso_ipv6_routed',
  'gso_protocol',
  'gso_l4_header',
  'gso_csum_place',
  'gso_segment_size',
  'gso_too_long',
  'gso_too_many',
] as const;

/** Segments of one frame at most: 64 KiB in segments of 32 bytes. More is a guest making work for others. */
export const MAX_SEGMENTS = 2048;

/** `next` when the room given is too small for the segment. */
export const SEG_NO_SPACE = -28;

const MAX_IP_LEN = 65535;

export class Segmenter {
  /** segments of the frame begun */
  count = 0;
  /** bytes of the longest of them */
  maxLen = 0;

  readonly #u8: Uint8Array;
  readonly #kernel: FrameKernel;
  readonly #ipv6Headers = new Ipv6Headers();
  #frameOff = 0;
  #isIpv6 = false;
  #isUdp = false;
  #isFragmenting = false;
  // offsets in the frame
  #l3Off = 0;
  #l4Off = 0;
  /** of what is divided: TCP or UDP payload, or the fragmentable part of an IP packet */
  #bodyOff = 0;
  #bodyLen = 0;
  /** bytes of the body in each segment but the last */
  #step = 0;
  /** bytes of the body handed out */
  #done = 0;
  /** segments handed out */
  #index = 0;
  // grows by one a datagram from a start that cannot be guessed (RFC 7739 §5.3)
  #fragmentId = Math.floor(Math.random() * 2 ** 32);

  /** `u8` holds frames and segments; `kernel` copies and sums in it. */
  constructor(u8: Uint8Array, kernel: FrameKernel) {
    this.#u8 = u8;
    this.#kernel = kernel;
  }

  /** Takes up a frame with a header that passed checkVnetHeader. Forgets the one before. */
  begin(
    frameOff: number,
    frameLen: number,
    gsoType: number,
    gsoSize: number,
    csumStart: number,
    csumOffset: number,
  ): number {
    this.count = 0;
    this.#index = 0;
    this.#done = 0;
    this.#frameOff = frameOff;
    const verdict = this.#parse(frameLen, gsoType & ~VIRTIO_NET_HDR_GSO_ECN);
    if (verdict !== SEG_OK) return verdict;
    if (csumStart !== this.#l4Off || csumOffset !== (this.#isUdp ? UDP_CHECKSUM : TCP_CHECKSUM))
      return SEG_BAD_CSUM_PLACE;
    return this.#isFragmenting ? this.#planFragments(frameLen, gsoSize) : this.#planSegments(frameLen, gsoSize);
  }

  /**
   * Writes the next segment at `outOff`. Returns its length, 0 after the last one, or SEG_NO_SPACE
   * when `capacity` is too small: then nothing was written and the call may be made again.
   */
  next(outOff: number, capacity: number): number {
    if (this.#index >= this.count) return 0;
    return this.#isFragmenting ? this.#nextFragment(outOff, capacity) : this.#nextSegment(outOff, capacity);
  }

  #parse(frameLen: number, gsoType: number): number {
    const isTcp4 = gsoType === VIRTIO_NET_HDR_GSO_TCPV4;
    const isTcp6 = gsoType === VIRTIO_NET_HDR_GSO_TCPV6;
    this.#isFragmenting = gsoType === VIRTIO_NET_HDR_GSO_UDP;
    this.#isUdp = this.#isFragmenting || gsoType === VIRTIO_NET_HDR_GSO_UDP_L4;
    if (!isTcp4 && !isTcp6 && !this.#isUdp) return SEG_BAD_GSO_TYPE;

    const l3Off = etherPayloadOffset(this.#u8, this.#frameOff, frameLen);
    const etherType = l3Off === 0 ? 0 : be16(this.#u8, this.#frameOff + l3Off - 2);
    this.#l3Off = l3Off;
    if (etherType === ETHERTYPE_IPV4 && !isTcp6) return this.#parseIpv4(frameLen);
    if (etherType === ETHERTYPE_IPV6 && !isTcp4) return this.#parseIpv6(frameLen);
    return SEG_BAD_ETHERTYPE;
  }

  #parseIpv4(frameLen: number): number {
    const ipOff = this.#frameOff + this.#l3Off;
    const hdrLen = ipv4HeaderLen(this.#u8, ipOff, frameLen - this.#l3Off);
    if (hdrLen === 0) return SEG_BAD_IP;
    if (isIpv4Fragment(this.#u8, ipOff)) return SEG_IS_FRAGMENT;
    this.#isIpv6 = false;
    this.#bodyOff = this.#l3Off + hdrLen;
    return this.#parseL4(this.#l3Off + hdrLen, frameLen, this.#u8[ipOff + IPV4_PROTOCOL] as number);
  }

  #parseIpv6(frameLen: number): number {
    const headers = this.#ipv6Headers;
    if (!headers.parse(this.#u8, this.#frameOff + this.#l3Off, frameLen - this.#l3Off)) return SEG_BAD_IP;
    if (headers.isFragment) return SEG_IS_FRAGMENT;
    if (headers.isRouted) return SEG_IS_ROUTED;
    this.#isIpv6 = true;
    this.#bodyOff = this.#l3Off + headers.unfragmentableLen;
    return this.#parseL4(this.#l3Off + headers.length, frameLen, headers.protocol);
  }

  /** Leaves #bodyOff where fragments divide the packet, or else moves it behind the L4 header. */
  #parseL4(l4Off: number, frameLen: number, protocol: number): number {
    this.#l4Off = l4Off;
    if (protocol !== (this.#isUdp ? IPPROTO_UDP : IPPROTO_TCP)) return SEG_BAD_PROTOCOL;
    const room = frameLen - l4Off;
    const udpHdrLen = room < UDP_HDR_LEN ? 0 : UDP_HDR_LEN;
    const hdrLen = this.#isUdp ? udpHdrLen : tcpHeaderLen(this.#u8, this.#frameOff + l4Off, room);
    if (hdrLen === 0) return SEG_BAD_L4;
    if (!this.#isFragmenting) this.#bodyOff = l4Off + hdrLen;
    return SEG_OK;
  }

  #planSegments(frameLen: number, gsoSize: number): number {
    if (gsoSize === 0) return SEG_BAD_GSO_SIZE;
    const bodyLen = frameLen - this.#bodyOff;
    const longest = Math.min(bodyLen, gsoSize);
    if (this.#bodyOff - this.#ipLenBase() + longest > MAX_IP_LEN) return SEG_TOO_LONG;
    return this.#divide(bodyLen, gsoSize, this.#bodyOff + longest);
  }

  #planFragments(frameLen: number, gsoSize: number): number {
    const step = gsoSize & ~7;
    // the UDP header, with its checksum, must be whole in the first fragment
    if (step < this.#l4Off - this.#bodyOff + UDP_HDR_LEN) return SEG_BAD_GSO_SIZE;
    if (frameLen - this.#ipLenBase() > MAX_IP_LEN) return SEG_TOO_LONG;
    const bodyLen = frameLen - this.#bodyOff;
    const extraLen = this.#isIpv6 && bodyLen > step ? IPV6_FRAGMENT_HDR_LEN : 0;
    if (bodyLen > step) this.#fragmentId = (this.#fragmentId + 1) >>> 0;
    return this.#divide(bodyLen, step, this.#bodyOff + extraLen + Math.min(bodyLen, step));
  }

  /** Where in the frame the bytes begin that the IP header's length field counts. */
  #ipLenBase(): number {
    return this.#isIpv6 ? this.#l3Off + IPV6_HDR_LEN : this.#l3Off;
  }

  #divide(bodyLen: number, step: number, maxLen: number): number {
    const count = Math.max(1, Math.ceil(bodyLen / step));
    if (count > MAX_SEGMENTS) return SEG_TOO_MANY;
    this.#bodyLen = bodyLen;
    this.#step = step;
    this.maxLen = maxLen;
    this.count = count;
    return SEG_OK;
  }

  #nextSegment(outOff: number, capacity: number): number {
    const hdrLen = this.#bodyOff;
    const chunk = Math.min(this.#step, this.#bodyLen - this.#done);
    const len = hdrLen + chunk;
    if (len > capacity) return SEG_NO_SPACE;

    this.#kernel.copy(outOff, this.#frameOff, hdrLen);
    this.#kernel.copy(outOff + hdrLen, this.#frameOff + hdrLen + this.#done, chunk);
    this.#writeIpLen(outOff, len);
    if (!this.#isIpv6) this.#finishIpv4(outOff, this.#index);
    const l4Len = len - this.#l4Off;
    if (this.#isUdp) this.#finishUdp(outOff + this.#l4Off, l4Len, l4Len, 0);
    else this.#finishTcp(outOff + this.#l4Off, l4Len);

    this.#done += chunk;
    this.#index++;
    return len;
  }

  #nextFragment(outOff: number, capacity: number): number {
    const chunk = Math.min(this.#step, this.#bodyLen - this.#done);
    const fragmentHdrLen = this.#isIpv6 && this.count > 1 ? IPV6_FRAGMENT_HDR_LEN : 0;
    const hdrLen = this.#bodyOff + fragmentHdrLen;
    const len = hdrLen + chunk;
    if (len > capacity) return SEG_NO_SPACE;

    const bodyAt = this.#frameOff + this.#bodyOff + this.#done;
    this.#kernel.copy(outOff, this.#frameOff, this.#bodyOff);
    this.#kernel.copy(outOff + hdrLen, bodyAt, chunk);
    this.#writeIpLen(outOff, len);
    if (fragmentHdrLen > 0) this.#writeFragmentHeader(outOff);
    else if (!this.#isIpv6) this.#finishIpv4Fragment(outOff);
    if (this.#index === 0) {
      const l4Off = this.#l4Off + fragmentHdrLen;
      // the rest of the datagram lies at an even distance: fragments are multiples of 8
      const restSum = this.#kernel.sum16(bodyAt + chunk, this.#bodyLen - chunk);
      this.#finishUdp(outOff + l4Off, len - l4Off, this.#bodyOff + this.#bodyLen - this.#l4Off, restSum);
    }

    this.#done += chunk;
    this.#index++;
    return len;
  }

  #isLast(): boolean {
    return this.#index === this.count - 1;
  }

  #writeIpLen(outOff: number, len: number): void {
    const field = this.#isIpv6 ? IPV6_PAYLOAD_LEN : IPV4_TOTAL_LEN;
    setBe16(this.#u8, outOff + this.#l3Off + field, len - this.#ipLenBase());
  }

  #finishIpv4(outOff: number, idIncrement: number): void {
    const ipOff = outOff + this.#l3Off;
    setBe16(this.#u8, ipOff + IPV4_ID, be16(this.#u8, ipOff + IPV4_ID) + idIncrement);
    storeIpv4Checksum(this.#u8, ipOff, this.#l4Off - this.#l3Off);
  }

  #finishIpv4Fragment(outOff: number): void {
    const ipOff = outOff + this.#l3Off;
    // a datagram that fits one packet keeps its flags
    if (this.count > 1) setBe16(this.#u8, ipOff + IPV4_FRAG, (this.#done >> 3) | (this.#isLast() ? 0 : IPV4_FLAG_MF));
    if (this.#index > 0) eraseUncopiedOptions(this.#u8, ipOff, this.#l4Off - this.#l3Off);
    this.#finishIpv4(outOff, 0);
  }

  /** RFC 8200 §4.5; the header before it names it as the next. */
  #writeFragmentHeader(outOff: number): void {
    const u8 = this.#u8;
    const at = outOff + this.#bodyOff;
    const nextHeaderAt = outOff + this.#l3Off + this.#ipv6Headers.lastNextHeader;
    u8[at] = u8[nextHeaderAt] as number;
    u8[nextHeaderAt] = IPPROTO_FRAGMENT;
    u8[at + 1] = 0;
    setBe16(u8, at + 2, this.#done | (this.#isLast() ? 0 : 1));
    setBe32(u8, at + 4, this.#fragmentId);
  }

  #finishTcp(l4Off: number, l4Len: number): void {
    const u8 = this.#u8;
    setBe32(u8, l4Off + TCP_SEQ, be32(u8, l4Off + TCP_SEQ) + this.#done);
    let flags = u8[l4Off + TCP_FLAGS] as number;
    if (!this.#isLast()) flags &= ~(TCP_FIN | TCP_PSH);
    if (this.#index > 0) flags &= ~TCP_CWR;
    u8[l4Off + TCP_FLAGS] = flags;
    setBe16(u8, l4Off + TCP_CHECKSUM, 0);
    storeL4Checksum(u8, l4Off + TCP_CHECKSUM, this.#kernel.sum16(l4Off, l4Len) + this.#pseudoSum(IPPROTO_TCP, l4Len));
  }

  /** `hereLen` bytes of a datagram of `udpLen` are at `l4Off`; `restSum` is the sum of the others. */
  #finishUdp(l4Off: number, hereLen: number, udpLen: number, restSum: number): void {
    const u8 = this.#u8;
    setBe16(u8, l4Off + UDP_LEN, udpLen);
    setBe16(u8, l4Off + UDP_CHECKSUM, 0);
    const sum = this.#kernel.sum16(l4Off, hereLen) + restSum;
    storeL4Checksum(u8, l4Off + UDP_CHECKSUM, sum + this.#pseudoSum(IPPROTO_UDP, udpLen));
  }

  #pseudoSum(protocol: number, l4Len: number): number {
    const ipOff = this.#frameOff + this.#l3Off;
    return this.#isIpv6
      ? pseudoSumV6(this.#u8, ipOff, protocol, l4Len, this.#ipv6Headers.destination)
      : pseudoSumV4(this.#u8, ipOff, protocol, l4Len);
  }
}

const IPOPT_EOL = 0;
const IPOPT_NOP = 1;
/** option goes into every fragment (RFC 791 §3.1) */
const IPOPT_COPIED = 0x80;

/** Turns the options that belong to the first fragment only into no-operations (RFC 791 §3.1). */
function eraseUncopiedOptions(u8: Uint8Array, ipOff: number, hdrLen: number): void {
  const end = ipOff + hdrLen;
  let at = ipOff + IPV4_MIN_HDR_LEN;
  while (at < end) {
    const type = u8[at] as number;
    if (type === IPOPT_EOL) return;
    const len = type === IPOPT_NOP ? 1 : at + 1 < end ? (u8[at + 1] as number) : 0;
    if (len === 0 || at + len > end || (type !== IPOPT_NOP && len < 2)) return;
    if ((type & IPOPT_COPIED) === 0) u8.fill(IPOPT_NOP, at, at + len);
    at += len;
  }
}
