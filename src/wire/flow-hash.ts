/**
 * The hash that netmap's lb chooses a pipe by: the same for both directions of a flow.
 *
 * A Toeplitz hash (Microsoft RSS) whose key repeats every 16 bits, so that swapping the two addresses and the
 * two ports does not change it. Hashed are the addresses (IPv4; the first 32 bits of IPv6) and the ports of TCP
 * and UDP, looked for behind VLAN tags, IP in IP and GRE; of any other frame the last four bytes of both
 * MAC addresses. Unlike lb a fragment is hashed by its addresses alone, for only the first has ports, and GRE's
 * flags are read where RFC 2784 and RFC 2890 put them.
 */
import { be16, be32 } from './bytes.js';
import { ETH_HDR_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, etherPayloadOffset } from './ethernet.js';
import { IPPROTO_TCP, IPPROTO_UDP, IPV4_PROTOCOL, IPV4_SRC, ipv4HeaderLen, isIpv4Fragment } from './ipv4.js';
import { IPV6_HDR_LEN, IPV6_SRC, Ipv6Headers } from './ipv6.js';

const IPPROTO_IPIP = 4;
const IPPROTO_IPV6 = 41;
const IPPROTO_GRE = 47;
/** GRE's protocol of bridged Ethernet */
const ETHERTYPE_TEB = 0x6558;

/** What stands for ports where there are none. */
const NO_SRC_PORT = 0xfdff;
const NO_DST_PORT = 0xfeff;
/** as lb: 'B' */
const DEFAULT_SEED = 66;
/** headers within headers */
const MAX_DEPTH = 4;

const KEY = 0x506d506d;

/** By position (even or odd byte) and value: the exclusive or of the key's windows at the bits that are set. */
const table = makeTable();

function makeTable(): Uint32Array {
  const out = new Uint32Array(512);
  for (let odd = 0; odd < 2; odd++)
    for (let value = 0; value < 256; value++)
      for (let bit = 0; bit < 8; bit++)
        if ((value & (0x80 >> bit)) !== 0) out[odd * 256 + value]! ^= rotateLeft(KEY, 8 * odd + bit);
  return out;
}

function rotateLeft(value: number, bits: number): number {
  return ((value << bits) | (value >>> ((32 - bits) & 31))) >>> 0;
}

function hashWord(word: number): number {
  return (
    table[word >>> 24]! ^
    table[256 + ((word >>> 16) & 0xff)]! ^
    table[(word >>> 8) & 0xff]! ^
    table[256 + (word & 0xff)]!
  );
}

function hashPort(port: number): number {
  return table[(port >>> 8) & 0xff]! ^ table[256 + (port & 0xff)]!;
}

export class FlowHasher {
  /** Whether the frame hashed last was IPv4 or IPv6. */
  isIp = false;
  readonly #seed: number;
  readonly #ipv6 = new Ipv6Headers();

  constructor(seed = DEFAULT_SEED) {
    this.#seed = seed;
  }

  /** Unsigned hash of the frame at `off`, of which `len` bytes are there; 0 for less than an Ethernet header. */
  hash(u8: Uint8Array, off: number, len: number): number {
    this.isIp = false;
    return this.#frame(u8, off, len, 0) >>> 0;
  }

  #frame(u8: Uint8Array, off: number, len: number, depth: number): number {
    const at = etherPayloadOffset(u8, off, len);
    if (at !== 0) {
      const found = this.#payload(u8, off + at, len - at, be16(u8, off + at - 2), depth);
      if (this.isIp) return found;
    }
    if (len < ETH_HDR_LEN) return 0;
    return this.#noPorts(backwards(u8, off + 8), backwards(u8, off + 2));
  }

  #payload(u8: Uint8Array, off: number, len: number, etherType: number, depth: number): number {
    if (etherType === ETHERTYPE_IPV4) return this.#ipv4(u8, off, len, depth);
    return etherType === ETHERTYPE_IPV6 ? this.#ipv6Packet(u8, off, len, depth) : 0;
  }

  #ipv4(u8: Uint8Array, off: number, len: number, depth: number): number {
    const hdrLen = ipv4HeaderLen(u8, off, len);
    if (hdrLen === 0) return 0;
    this.isIp = true;
    const src = be32(u8, off + IPV4_SRC);
    const dst = be32(u8, off + IPV4_SRC + 4);
    if (isIpv4Fragment(u8, off)) return this.#noPorts(src, dst);
    return this.#upper(u8, off + hdrLen, len - hdrLen, u8[off + IPV4_PROTOCOL]!, src, dst, depth);
  }

  #ipv6Packet(u8: Uint8Array, off: number, len: number, depth: number): number {
    if (len < IPV6_HDR_LEN || u8[off]! >> 4 !== 6) return 0;
    this.isIp = true;
    const src = be32(u8, off + IPV6_SRC);
    const dst = be32(u8, off + IPV6_SRC + 16);
    const headers = this.#ipv6;
    if (!headers.parse(u8, off, len) || headers.isFragment) return this.#noPorts(src, dst);
    return this.#upper(u8, off + headers.length, len - headers.length, headers.protocol, src, dst, depth);
  }

  #upper(u8: Uint8Array, off: number, len: number, protocol: number, src: number, dst: number, depth: number): number {
    if ((protocol === IPPROTO_TCP || protocol === IPPROTO_UDP) && len >= 4)
      return this.#flow(src, dst, be16(u8, off), be16(u8, off + 2));
    if (depth < MAX_DEPTH) {
      if (protocol === IPPROTO_IPIP) return this.#ipv4(u8, off, len, depth + 1);
      if (protocol === IPPROTO_IPV6) return this.#ipv6Packet(u8, off, len, depth + 1);
      if (protocol === IPPROTO_GRE && len >= 4) return this.#gre(u8, off, len, depth + 1);
    }
    return this.#noPorts(src, dst);
  }

  #gre(u8: Uint8Array, off: number, len: number, depth: number): number {
    const flags = u8[off]!;
    // checksum with reserved word, key, sequence number
    const hdrLen = 4 * (1 + ((flags >> 7) & 1) + ((flags >> 5) & 1) + ((flags >> 4) & 1));
    if (hdrLen > len) return 0;
    const etherType = be16(u8, off + 2);
    if (etherType === ETHERTYPE_TEB) return this.#frame(u8, off + hdrLen, len - hdrLen, depth);
    return this.#payload(u8, off + hdrLen, len - hdrLen, etherType, depth);
  }

  #noPorts(src: number, dst: number): number {
    return this.#flow(src, dst, NO_SRC_PORT, NO_DST_PORT);
  }

  #flow(src: number, dst: number, srcPort: number, dstPort: number): number {
    const seed = this.#seed;
    return hashWord(src) ^ hashWord(dst) ^ hashPort(srcPort + seed) ^ hashPort(dstPort + seed);
  }
}

/** Four bytes, the last one first: as lb takes MAC addresses. */
function backwards(u8: Uint8Array, off: number): number {
  return ((u8[off + 3]! << 24) | (u8[off + 2]! << 16) | (u8[off + 1]! << 8) | u8[off]!) >>> 0;
}
