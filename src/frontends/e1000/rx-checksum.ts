/**
 * Receive checksums (manual §3.2.9, §13.5.15): what the controller verified of IP, TCP and UDP, and the checksum of
 * the whole packet.
 *
 * Headers are read from a copy of the frame's front; the sum of the rest is given. Sums are of little-endian words,
 * as in wire/checksum.ts.
 */
import { be16 } from '../../wire/bytes.js';
import { fold, pseudoSumV4, pseudoSumV6, sum16 } from '../../wire/checksum.js';
import { ETHERTYPE_IPV4, ETHERTYPE_IPV6, etherPayloadOffset } from '../../wire/ethernet.js';
import {
  IPPROTO_TCP,
  IPPROTO_UDP,
  IPV4_PROTOCOL,
  IPV4_TOTAL_LEN,
  ipv4HeaderLen,
  isIpv4Fragment,
} from '../../wire/ipv4.js';
import { IPV6_HDR_LEN, IPV6_PAYLOAD_LEN, Ipv6Headers } from '../../wire/ipv6.js';
import { UDP_CHECKSUM } from '../../wire/udp.js';
import { RXCSUM_IPOFLD, RXCSUM_TUOFLD } from './registers.js';

// status and errors of a receive descriptor (§3.2.3.1, §3.2.3.2)
export const RXD_STAT_IXSM = 0x04;
const RXD_STAT_TCPCS = 0x20;
const RXD_STAT_IPCS = 0x40;
const RXD_ERR_TCPE = 0x20;
const RXD_ERR_IPE = 0x40;

export class ReceiveChecksum {
  /** status bits, with IXSM where nothing was verified */
  status = 0;
  errors = 0;
  readonly #ipv6 = new Ipv6Headers();
  // the frame in hand: its front lies in #u8 from #off on, as far as #here
  #u8: Uint8Array = new Uint8Array(0);
  #off = 0;
  #here = 0;
  #len = 0;
  #rxcsum = 0;

  /**
   * Looks at a frame of `len` bytes whose first `here` are at `off`. `frameSum` is the sum of all of it;
   * `rxcsum` says what is to be verified, and `verified` that TCP or UDP is known to be right.
   */
  look(
    u8: Uint8Array,
    off: number,
    here: number,
    len: number,
    frameSum: number,
    rxcsum: number,
    verified: boolean,
  ): void {
    this.status = RXD_STAT_IXSM;
    this.errors = 0;
    this.#u8 = u8;
    this.#off = off;
    this.#here = here;
    this.#len = len;
    this.#rxcsum = rxcsum;
    if ((rxcsum & (RXCSUM_IPOFLD | RXCSUM_TUOFLD)) === 0) return;
    const l3 = etherPayloadOffset(u8, off, here);
    if (l3 === 0) return;
    const etherType = be16(u8, off + l3 - 2);
    if (etherType === ETHERTYPE_IPV4) this.#ipv4(l3, frameSum, verified);
    else if (etherType === ETHERTYPE_IPV6) this.#ipv6Packet(l3, frameSum, verified);
  }

  #ipv4(l3: number, frameSum: number, verified: boolean): void {
    const u8 = this.#u8;
    const ip = this.#off + l3;
    const hdrLen = ipv4HeaderLen(u8, ip, this.#here - l3);
    const totalLen = hdrLen === 0 ? 0 : be16(u8, ip + IPV4_TOTAL_LEN);
    if (totalLen < hdrLen || hdrLen === 0 || l3 + totalLen > this.#len) return;
    if ((this.#rxcsum & RXCSUM_IPOFLD) !== 0) {
      this.status = RXD_STAT_IPCS;
      if (sum16(u8, ip, hdrLen) !== 0xffff) this.errors = RXD_ERR_IPE;
    }
    if (isIpv4Fragment(u8, ip)) return;
    const protocol = u8[ip + IPV4_PROTOCOL]!;
    const l4Len = totalLen - hdrLen;
    this.#l4(l3 + hdrLen, l4Len, protocol, pseudoSumV4(u8, ip, protocol, l4Len) + frameSum, verified);
  }

  #ipv6Packet(l3: number, frameSum: number, verified: boolean): void {
    const u8 = this.#u8;
    const ip = this.#off + l3;
    const headers = this.#ipv6;
    if (!headers.parse(u8, ip, this.#here - l3) || headers.isFragment || headers.isRouted) return;
    const l4Len = be16(u8, ip + IPV6_PAYLOAD_LEN) + IPV6_HDR_LEN - headers.length;
    const { protocol } = headers;
    if (l4Len < 0 || l3 + headers.length + l4Len > this.#len) return;
    const pseudo = pseudoSumV6(u8, ip, protocol, l4Len);
    this.#l4(l3 + headers.length, l4Len, protocol, pseudo + frameSum, verified);
  }

  /** `sum`: of the frame and the pseudo header. All that lies before `l4` and behind its `l4Len` bytes is taken out. */
  #l4(l4: number, l4Len: number, protocol: number, sum: number, verified: boolean): void {
    if ((this.#rxcsum & RXCSUM_TUOFLD) === 0) return;
    if (protocol !== IPPROTO_TCP && protocol !== IPPROTO_UDP) return;
    const u8 = this.#u8;
    const off = this.#off;
    // too short for its header: nothing to verify
    if (l4Len < (protocol === IPPROTO_TCP ? 20 : 8) || l4 + 8 > this.#here) return;
    // a datagram without one (RFC 768)
    if (protocol === IPPROTO_UDP && be16(u8, off + l4 + UDP_CHECKSUM) === 0) return;
    const padding = this.#len - l4 - l4Len;
    // what pads the frame is in its sum: only where it is here too can it be taken out
    if (padding > 0 && this.#len > this.#here) return;
    this.status = (this.status & ~RXD_STAT_IXSM) | RXD_STAT_TCPCS;
    if (verified) return;
    // headers and tags are of even length, so that the part begins at an even byte as the whole does
    let rest = sum + (0xffff - sum16(u8, off, l4));
    if (padding > 0) rest += 0xffff - shifted(sum16(u8, off + l4 + l4Len, padding), l4 + l4Len);
    if (fold(rest) !== 0xffff) this.errors |= RXD_ERR_TCPE;
  }
}

/** A sum as it counts in that of a frame in which its first byte is at `at`. */
export function shifted(sum: number, at: number): number {
  return (at & 1) === 0 ? sum : swap16(sum);
}

export function swap16(value: number): number {
  return ((value & 0xff) << 8) | ((value >>> 8) & 0xff);
}
