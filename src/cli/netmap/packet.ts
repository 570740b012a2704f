/**
 * The frame that pkt-gen sends: Ethernet, IPv4 or IPv6, UDP and a payload, with checksums that are right however
 * its addresses, its size or its sequence number change. It lies in memory that the sender copies from.
 *
 * Addresses go like the digits of a number: source port, source address, destination port, destination address,
 * the first one fastest. Each change corrects the checksums by the difference (RFC 1624 §3).
 */
import { be16, setBe16 } from '../../wire/bytes.js';
import { fold, pseudoSumV4, pseudoSumV6, storeIpv4Checksum, storeL4Checksum, sum16 } from '../../wire/checksum.js';
import { ETH_HDR_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6 } from '../../wire/ethernet.js';
import { IPPROTO_UDP, IPV4_CHECKSUM, IPV4_MIN_HDR_LEN, IPV4_SRC, IPV4_TOTAL_LEN } from '../../wire/ipv4.js';
import { IPV6_HDR_LEN, IPV6_PAYLOAD_LEN, IPV6_SRC } from '../../wire/ipv6.js';
import { UDP_CHECKSUM, UDP_HDR_LEN, UDP_LEN } from '../../wire/udp.js';
import type { AddressFamily, IpRange } from './address-range.js';

/** before the Ethernet header: room for the longest virtio-net header */
export const VNET_HDR_MAX = 12;
const TTL = 64;
const IPTOS_LOWDELAY = 0x10;
const IPV4_FLAG_DF = 0x4000;

const payload = new TextEncoder().encode('netbe pkt-gen, a frame made to be counted and thrown away. ');

export interface PacketSpec {
  family: AddressFamily;
  srcMac: readonly number[];
  dstMac: readonly number[];
  src: IpRange;
  dst: IpRange;
  /** bytes without frame check sequence */
  size: number;
  randomSrc: boolean;
  randomDst: boolean;
}

/** A number in the frame that runs from `low` to `high`. */
interface Digit {
  off: number;
  /** bytes: 2 or 4 */
  len: number;
  low: number;
  high: number;
  value: number;
  random: boolean;
  /** summed by the IPv4 header's checksum, too */
  inIp: boolean;
}

export class Packet {
  /** offset of the Ethernet header in the memory given */
  readonly etherOff: number;
  readonly #u8: Uint8Array;
  readonly #ipOff: number;
  readonly #udpOff: number;
  readonly #bodyOff: number;
  readonly #v4: boolean;
  readonly #digits: Digit[];
  #size: number;
  #seed: number;

  /** Written at `off`: VNET_HDR_MAX zeros, then the frame. */
  constructor(u8: Uint8Array, off: number, spec: PacketSpec, seed = 0x2545f491) {
    this.#u8 = u8;
    this.#seed = seed | 1;
    this.#v4 = spec.family === 4;
    this.etherOff = off + VNET_HDR_MAX;
    this.#ipOff = this.etherOff + ETH_HDR_LEN;
    this.#udpOff = this.#ipOff + (this.#v4 ? IPV4_MIN_HDR_LEN : IPV6_HDR_LEN);
    this.#bodyOff = this.#udpOff + UDP_HDR_LEN;
    this.#size = spec.size;
    this.#digits = this.#makeDigits(spec);
    const end = this.etherOff + spec.size;
    u8.fill(0, off, this.#bodyOff);
    for (let at = this.#bodyOff, i = 0; at < end; at++, i++) u8[at] = payload[i % payload.length]!;
    u8.set(spec.dstMac, this.etherOff);
    u8.set(spec.srcMac, this.etherOff + 6);
    setBe16(u8, this.etherOff + 12, this.#v4 ? ETHERTYPE_IPV4 : ETHERTYPE_IPV6);
    this.#writeHeaders(spec);
    this.setSize(spec.size);
  }

  get size(): number {
    return this.#size;
  }

  #makeDigits(spec: PacketSpec): Digit[] {
    const srcOff = this.#ipOff + (this.#v4 ? IPV4_SRC : IPV6_SRC);
    const dstOff = srcOff + (this.#v4 ? 4 : 16);
    const port = (off: number, { portLow: low, portHigh: high }: IpRange, random: boolean): Digit => ({
      ...{ off, len: 2, low, high, value: low, random, inIp: false },
    });
    const address = (off: number, { runOff, runLen: len, low, high }: IpRange, random: boolean): Digit => ({
      ...{ off: off + runOff, len, low, high, value: low, random, inIp: this.#v4 },
    });
    return [
      port(this.#udpOff, spec.src, spec.randomSrc),
      address(srcOff, spec.src, spec.randomSrc),
      port(this.#udpOff + 2, spec.dst, spec.randomDst),
      address(dstOff, spec.dst, spec.randomDst),
    ];
  }

  #writeHeaders({ src, dst }: PacketSpec): void {
    const u8 = this.#u8;
    const ip = this.#ipOff;
    if (this.#v4) {
      u8[ip] = 0x45;
      u8[ip + 1] = IPTOS_LOWDELAY;
      setBe16(u8, ip + 6, IPV4_FLAG_DF);
      u8[ip + 8] = TTL;
      u8[ip + 9] = IPPROTO_UDP;
    } else {
      u8[ip] = 0x60;
      u8[ip + 6] = IPPROTO_UDP;
      u8[ip + 7] = TTL;
    }
    const srcOff = ip + (this.#v4 ? IPV4_SRC : IPV6_SRC);
    u8.set(src.address, srcOff);
    u8.set(dst.address, srcOff + src.address.length);
    setBe16(u8, this.#udpOff, src.portLow);
    setBe16(u8, this.#udpOff + 2, dst.portLow);
  }

  /** Another length, at most the first one; lengths and checksums follow. Frames too short for a header have none. */
  setSize(size: number): void {
    const u8 = this.#u8;
    this.#size = size;
    const end = this.etherOff + size;
    const udpLen = end - this.#udpOff;
    if (udpLen < UDP_HDR_LEN) return;
    if (this.#v4) {
      setBe16(u8, this.#ipOff + IPV4_TOTAL_LEN, end - this.#ipOff);
      storeIpv4Checksum(u8, this.#ipOff, IPV4_MIN_HDR_LEN);
    } else setBe16(u8, this.#ipOff + IPV6_PAYLOAD_LEN, udpLen);
    setBe16(u8, this.#udpOff + UDP_LEN, udpLen);
    setBe16(u8, this.#udpOff + UDP_CHECKSUM, 0);
    const pseudo = this.#v4
      ? pseudoSumV4(u8, this.#ipOff, IPPROTO_UDP, udpLen)
      : pseudoSumV6(u8, this.#ipOff, IPPROTO_UDP, udpLen);
    storeL4Checksum(u8, this.#udpOff + UDP_CHECKSUM, pseudo + sum16(u8, this.#udpOff, udpLen));
  }

  /** The addresses and ports of the next frame. */
  nextAddresses(): void {
    for (let i = 0; i < 4; i++) {
      const digit = this.#digits[i]!;
      if (digit.random) {
        this.#setDigit(digit, digit.len === 2 ? this.#random() & 0xffff : this.#random());
        continue;
      }
      if (digit.value < digit.high) {
        this.#setDigit(digit, digit.value + 1);
        return;
      }
      this.#setDigit(digit, digit.low);
    }
  }

  /** The first four bytes of the payload, which must be there. */
  setSequence(sequence: number): void {
    this.#replace16(this.#bodyOff, sequence >>> 16, false);
    this.#replace16(this.#bodyOff + 2, sequence & 0xffff, false);
  }

  #setDigit(digit: Digit, value: number): void {
    if (value === digit.value) return;
    digit.value = value;
    if (digit.len === 2) this.#replace16(digit.off, value, digit.inIp);
    else {
      this.#replace16(digit.off, value >>> 16, digit.inIp);
      this.#replace16(digit.off + 2, value & 0xffff, digit.inIp);
    }
  }

  #replace16(off: number, value: number, inIp: boolean): void {
    const u8 = this.#u8;
    const before = be16(u8, off);
    if (before === value) return;
    setBe16(u8, off, value);
    if (inIp) correct(u8, this.#ipOff + IPV4_CHECKSUM, before, value);
    const at = this.#udpOff + UDP_CHECKSUM;
    correct(u8, at, before, value);
    // zero would say that there is no checksum (RFC 768)
    if (be16(u8, at) === 0) setBe16(u8, at, 0xffff);
  }

  /** xorshift32 */
  #random(): number {
    let x = this.#seed;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#seed = x;
    return x >>> 0;
  }
}

/** RFC 1624 §3: HC' = ~(~HC + ~m + m') */
function correct(u8: Uint8Array, off: number, before: number, after: number): void {
  setBe16(u8, off, ~fold((~be16(u8, off) & 0xffff) + (~before & 0xffff) + after) & 0xffff);
}
