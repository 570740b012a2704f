/**
 * Finding what a host's own stack left undone in a frame that comes without a vnet header.
 *
 * Linux hands frames to a veth before their checksums are computed: the field of TCP or UDP holds the
 * pseudo header's sum (CHECKSUM_PARTIAL), and a TCP frame may be many segments in one. AF_XDP says
 * nothing about either. The first can be seen: a field that equals the pseudo header's sum is to be
 * completed. If it was a right checksum that equals it by chance, completing it gives the same value:
 * ~(rest + field) is the checksum whatever sum the field stands for.
 */
import { be16, le16 } from './bytes.js';
import { fold, pseudoSumV4, pseudoSumV6 } from './checksum.js';
import { ETHERTYPE_IPV4, ETHERTYPE_IPV6, etherPayloadOffset } from './ethernet.js';
import { IPPROTO_TCP, IPPROTO_UDP, IPV4_PROTOCOL, IPV4_TOTAL_LEN, ipv4HeaderLen, isIpv4Fragment } from './ipv4.js';
import { IPV6_PAYLOAD_LEN, Ipv6Headers } from './ipv6.js';
import { TCP_CHECKSUM, tcpHeaderLen } from './tcp.js';
import { UDP_CHECKSUM, UDP_HDR_LEN } from './udp.js';
import { VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_HDR_GSO_TCPV6 } from './vnet-header.js';

export class PartialChecksum {
  /** bytes from the frame's start to its TCP or UDP header */
  csumStart = 0;
  /** bytes from there to the checksum */
  csumOffset = 0;
  /** bytes of the frame up to the end of the IP packet: behind it is padding */
  end = 0;
  /** VIRTIO_NET_HDR_GSO_* of a TCP frame, 0 for UDP */
  gsoType = 0;
  /** bytes from the frame's start to the payload of TCP */
  payloadOff = 0;
  /** bytes from the frame's start to its IP header */
  l3Off = 0;
  readonly #ipv6 = new Ipv6Headers();

  /**
   * Looks at the frame of `frameLen` bytes of which the first `here` lie at `off`. True if its
   * checksum is to be completed, and what has been found is in the fields.
   */
  find(u8: Uint8Array, off: number, here: number, frameLen: number): boolean {
    const l3 = etherPayloadOffset(u8, off, here);
    if (l3 === 0) return false;
    const etherType = be16(u8, off + l3 - 2);
    this.l3Off = l3;
    const protocol =
      etherType === ETHERTYPE_IPV4
        ? this.#ipv4(u8, off, here, frameLen)
        : etherType === ETHERTYPE_IPV6
          ? this.#ipv6Packet(u8, off, here, frameLen)
          : -1;
    if (protocol !== IPPROTO_TCP && protocol !== IPPROTO_UDP) return false;
    const l4Off = this.csumStart;
    const l4Len = this.end - l4Off;
    const isTcp = protocol === IPPROTO_TCP;
    const hdrLen = isTcp ? tcpHeaderLen(u8, off + l4Off, Math.min(here, this.end) - l4Off) : UDP_HDR_LEN;
    if (hdrLen === 0 || l4Off + hdrLen > here || hdrLen > l4Len) return false;
    this.csumOffset = isTcp ? TCP_CHECKSUM : UDP_CHECKSUM;
    this.payloadOff = l4Off + hdrLen;
    if (!isTcp) this.gsoType = 0;
    else this.gsoType = etherType === ETHERTYPE_IPV4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6;
    const ip = off + l3;
    const pseudo =
      etherType === ETHERTYPE_IPV4
        ? pseudoSumV4(u8, ip, protocol, l4Len)
        : pseudoSumV6(u8, ip, protocol, l4Len, this.#ipv6.destination);
    return le16(u8, off + l4Off + this.csumOffset) === fold(pseudo);
  }

  /** Protocol, or -1 for what has no checksum of its own to look at. */
  #ipv4(u8: Uint8Array, off: number, here: number, frameLen: number): number {
    const ip = off + this.l3Off;
    const hdrLen = ipv4HeaderLen(u8, ip, here - this.l3Off);
    if (hdrLen === 0 || isIpv4Fragment(u8, ip)) return -1;
    if (!this.#setEnd(be16(u8, ip + IPV4_TOTAL_LEN), frameLen)) return -1;
    this.csumStart = this.l3Off + hdrLen;
    return u8[ip + IPV4_PROTOCOL]!;
  }

  #ipv6Packet(u8: Uint8Array, off: number, here: number, frameLen: number): number {
    const ip = off + this.l3Off;
    const headers = this.#ipv6;
    if (!headers.parse(u8, ip, here - this.l3Off) || headers.isFragment || headers.isRouted) return -1;
    const payloadLen = be16(u8, ip + IPV6_PAYLOAD_LEN);
    if (!this.#setEnd(payloadLen === 0 ? 0 : payloadLen + 40, frameLen)) return -1;
    this.csumStart = this.l3Off + headers.length;
    return headers.protocol;
  }

  /** A length of 0 is that of a frame too long for the field: it goes to the end (RFC 2675; Linux's BIG TCP). */
  #setEnd(ipLen: number, frameLen: number): boolean {
    this.end = ipLen === 0 ? frameLen : this.l3Off + ipLen;
    return this.end <= frameLen;
  }
}
