/** The inner loops of netgraph nodes. */

// modes of a netgraph patch node (ng_patch.h)
const PATCH_SET = 1;
const PATCH_ADD = 2;
const PATCH_SUB = 3;
const PATCH_MUL = 4;
const PATCH_DIV = 5;
const PATCH_NEG = 6;
const PATCH_AND = 7;
const PATCH_OR = 8;
const PATCH_XOR = 9;
const PATCH_SHL = 10;

/**
 * Changes the big-endian integer of `len` bytes (1, 2, 4 or 8) at `at`. The operand is hi * 2^32 + lo, fits
 * `len` bytes, and is not 0 for a division; a shift by the integer's width or more leaves 0.
 */
export function patch(at: u32, len: u32, mode: u32, hi: u32, lo: u32): void {
  const bits: u64 = <u64>len << 3;
  let value: u64 = 0;
  for (let i: u32 = 0; i < len; i++) value = (value << 8) | <u64>load<u8>(at + i);
  const operand = (<u64>hi << 32) | <u64>lo;
  if (mode == PATCH_SET) value = operand;
  else if (mode == PATCH_ADD) value += operand;
  else if (mode == PATCH_SUB) value -= operand;
  else if (mode == PATCH_MUL) value *= operand;
  else if (mode == PATCH_DIV) value /= operand;
  else if (mode == PATCH_NEG) value = 0 - value;
  else if (mode == PATCH_AND) value &= operand;
  else if (mode == PATCH_OR) value |= operand;
  else if (mode == PATCH_XOR) value ^= operand;
  else if (operand >= bits) value = 0;
  else if (mode == PATCH_SHL) value <<= operand;
  else value >>= operand;
  for (let i: u32 = len; i > 0; i--) {
    store<u8>(at + i - 1, <u8>value);
    value >>= 8;
  }
}

// an entry of a bridge's table (src/netgraph/nodes/bridge-table.ts), and its buckets
const B_ADDR = 0;
const B_LINK = 8;
const B_SEEN = 16;
const B_BYTES = 32;
const B_WAYS = 4;
const B_BUCKET_MASK: u32 = 4095;

const ETHER_HDR_LEN: u32 = 14;

/** The entry of an address that was heard of less than `maxStaleness` seconds ago, or 0. */
// @ts-ignore: decorator
@inline
function host(table: u32, addr: u64, now: u32, maxStaleness: u32): u32 {
  const hi = <u32>(addr >> 32);
  let h: u32 = (<u32>addr ^ (hi << 16) ^ hi) * 0x9e3779b1;
  h = (h ^ (h >> 15)) & B_BUCKET_MASK;
  const first = table + h * B_WAYS * B_BYTES;
  for (let entry = first; entry < first + B_WAYS * B_BYTES; entry += B_BYTES) {
    if (load<u64>(entry + B_ADDR) != addr || load<u32>(entry + B_LINK) == 0) continue;
    return now - load<u32>(entry + B_SEEN) < maxStaleness ? entry : 0;
  }
  return 0;
}

/**
 * Looks up frames [from, count) of a burst, whose arrays lie at `offs`, `lens` and `wins`, that came in on link
 * `incoming` and are plain: in window `win`, from a host known on that link, to one known on another. The number of
 * the destination's link is stored at to + 4 * i. Stops at the first that is not plain; returns its number, or `count`.
 */
export function bridge(
  offs: u32,
  lens: u32,
  wins: u32,
  from: u32,
  count: u32,
  win: u32,
  table: u32,
  now: u32,
  maxStaleness: u32,
  incoming: u32,
  to: u32,
): u32 {
  let lastDst: u64 = ~0;
  let lastSrc: u64 = ~0;
  let link: u32 = 0;
  for (let i = from; i < count; i++) {
    if (<u32>load<u8>(wins + i) != win || load<u32>(lens + (i << 2)) < ETHER_HDR_LEN) return i;
    const at = load<u32>(offs + (i << 2));
    const dst = load<u64>(at) & 0xffffffffffff;
    const src = load<u64>(at + 4) >> 16;
    // most bursts are of few flows
    if (dst != lastDst || src != lastSrc) {
      if (((dst | src) & 1) != 0) return i;
      const sender = host(table, src, now, maxStaleness);
      if (sender == 0 || load<u32>(sender + B_LINK) != incoming) return i;
      const receiver = host(table, dst, now, maxStaleness);
      if (receiver == 0) return i;
      link = load<u32>(receiver + B_LINK);
      if (link == incoming) return i;
      store<u32>(sender + B_SEEN, now);
      lastDst = dst;
      lastSrc = src;
    }
    store<u32>(to + (i << 2), link);
  }
  return count;
}
