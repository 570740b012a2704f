/**
 * The frame check sequence of Ethernet (IEEE 802.3 §3.2.9): CRC-32, reflected, four bytes at a time by table
 * ("slicing-by-4").
 */

const POLYNOMIAL = 0xedb88320;
const SLICES = 4;

const table = new Uint32Array(256 * SLICES);
for (let i = 0; i < 256; i++) {
  let value = i;
  for (let bit = 0; bit < 8; bit++) value = (value & 1) !== 0 ? (value >>> 1) ^ POLYNOMIAL : value >>> 1;
  table[i] = value;
}
for (let i = 256; i < table.length; i++) {
  const before = table[i - 256] as number;
  table[i] = (before >>> 8) ^ (table[before & 0xff] as number);
}

/** Begins with this value, and ends with its complement. */
export const CRC32_INIT = 0xffffffff;

/** Goes on from `crc` with the bytes [off, off + len). */
export function crc32(u8: Uint8Array, off: number, len: number, crc: number): number {
  let c = crc | 0;
  let at = off;
  const end = off + len;
  for (const sliced = end - 3; at < sliced; at += 4) {
    c ^=
      (u8[at] as number) |
      ((u8[at + 1] as number) << 8) |
      ((u8[at + 2] as number) << 16) |
      ((u8[at + 3] as number) << 24);
    c =
      (table[768 + (c & 0xff)] as number) ^
      (table[512 + ((c >>> 8) & 0xff)] as number) ^
      (table[256 + ((c >>> 16) & 0xff)] as number) ^
      (table[c >>> 24] as number);
  }
  for (; at < end; at++) c = (c >>> 8) ^ (table[(c ^ (u8[at] as number)) & 0xff] as number);
  return c >>> 0;
}
