/**
 * IPv6 (RFC 8200): where the fields are, and a bounded walk over the extension headers.
 *
 * The walk fills a reusable object, so that the data path allocates nothing.
 */

export const IPV6_HDR_LEN = 40;
/** payload length: of what follows the fixed header, in bytes */
export const IPV6_PAYLOAD_LEN = 4;
const IPV6_NEXT_HEADER = 6;
export const IPV6_SRC = 8;
export const IPV6_DST = 24;
const IPV6_ADDR_LEN = 16;

const IPPROTO_HOPOPTS = 0;
const IPPROTO_ROUTING = 43;
export const IPPROTO_FRAGMENT = 44;
const IPPROTO_AH = 51;
const IPPROTO_DSTOPTS = 60;

// kinds of Routing headers: source route (deprecated, RFC 5095), Mobile IPv6 (RFC 6275 §6.4), Segment Routing (RFC 8754 §2)
const ROUTING_SOURCE_ROUTE = 0;
const ROUTING_MOBILE = 2;
const ROUTING_SEGMENTS = 4;
/** bytes of a Routing header before its first address, in those kinds */
const ROUTING_FIXED_LEN = 8;

/** bytes of a Fragment header (§4.5) */
export const IPV6_FRAGMENT_HDR_LEN = 8;
/** Each header of §4 at most once, Destination Options twice (§4.1), and some to spare. */
const MAX_EXTENSION_HEADERS = 8;

export class Ipv6Headers {
  /** protocol of the first header that is not an extension */
  protocol = 0;
  /** bytes from the fixed header to that protocol's header */
  length = 0;
  /** bytes of the part that every fragment repeats: up to a Routing or Hop-by-Hop header (§4.5) */
  unfragmentableLen = 0;
  /** where the Next Header field of that part's last header is, from the fixed header on */
  lastNextHeader = 0;
  isFragment = false;
  /**
   * Where the address of the final destination is, which checksums cover (§8.1): in the fixed header, or in a
   * Routing header that has segments left, which makes the other one a way-point (§4.4).
   */
  destination = IPV6_DST;
  /** A Routing header with segments left is of a kind of which we do not know where it has that address. */
  isRouted = false;

  /** Walks the header at `off`, of which `len` bytes are there. False: not IPv6, cut short, or too many headers. */
  parse(u8: Uint8Array, off: number, len: number): boolean {
    if (len < IPV6_HDR_LEN || (u8[off] as number) >> 4 !== 6) return false;
    this.isFragment = false;
    this.isRouted = false;
    this.destination = IPV6_DST;
    this.length = IPV6_HDR_LEN;
    this.unfragmentableLen = IPV6_HDR_LEN;
    this.lastNextHeader = IPV6_NEXT_HEADER;
    this.protocol = u8[off + IPV6_NEXT_HEADER] as number;
    for (let i = 0; i <= MAX_EXTENSION_HEADERS; i++) {
      if (!isExtension(this.protocol)) return true;
      if (!this.#step(u8, off, len)) return false;
    }
    return false;
  }

  #step(u8: Uint8Array, off: number, len: number): boolean {
    const at = this.length;
    if (at + 8 > len) return false;
    const extension = this.protocol;
    const extensionLen = extensionHeaderLen(extension, u8[off + at + 1] as number);
    if (at + extensionLen > len) return false;
    if (extension === IPPROTO_FRAGMENT) this.isFragment = true;
    if (extension === IPPROTO_ROUTING && u8[off + at + 3] !== 0)
      this.#route(u8[off + at + 2] as number, at, extensionLen);
    this.length = at + extensionLen;
    if (extension === IPPROTO_ROUTING || (extension === IPPROTO_HOPOPTS && at === IPV6_HDR_LEN)) {
      this.unfragmentableLen = this.length;
      this.lastNextHeader = at;
    }
    this.protocol = u8[off + at] as number;
    return true;
  }

  /** Finds the final destination in the Routing header of `len` bytes at `at`, which has segments left. */
  #route(kind: number, at: number, len: number): void {
    if (len < ROUTING_FIXED_LEN + IPV6_ADDR_LEN) this.isRouted = true;
    // a source route has it last, segments are listed from the last one on
    else if (kind === ROUTING_SOURCE_ROUTE) this.destination = at + len - IPV6_ADDR_LEN;
    else if (kind === ROUTING_MOBILE || kind === ROUTING_SEGMENTS) this.destination = at + ROUTING_FIXED_LEN;
    else this.isRouted = true;
  }
}

function isExtension(protocol: number): boolean {
  return (
    protocol === IPPROTO_HOPOPTS ||
    protocol === IPPROTO_ROUTING ||
    protocol === IPPROTO_FRAGMENT ||
    protocol === IPPROTO_AH ||
    protocol === IPPROTO_DSTOPTS
  );
}

/** In bytes. The length field counts 8-byte units after the first; that of AH 4-byte units less 2 (RFC 4302 §2.2). */
function extensionHeaderLen(extension: number, field: number): number {
  if (extension === IPPROTO_FRAGMENT) return IPV6_FRAGMENT_HDR_LEN;
  return extension === IPPROTO_AH ? (field + 2) * 4 : (field + 1) * 8;
}
