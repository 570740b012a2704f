/**
 * Big-endian loads and stores on a byte array: network order. No bounds checks: the caller has made
 * sure that the bytes are there.
 */

export function be16(u8: Uint8Array, off: number): number {
  return ((u8[off] as number) << 8) | (u8[off + 1] as number);
}

/** unsigned */
export function be32(u8: Uint8Array, off: number): number {
  return ((be16(u8, off) << 16) | be16(u8, off + 2)) >>> 0;
}

export function setBe16(u8: Uint8Array, off: number, value: number): void {
  u8[off] = value >>> 8;
  u8[off + 1] = value;
}

export function setBe32(u8: Uint8Array, off: number, value: number): void {
  setBe16(u8, off, value >>> 16);
  setBe16(u8, off + 2, value);
}

export function le16(u8: Uint8Array, off: number): number {
  return (u8[off] as number) | ((u8[off + 1] as number) << 8);
}

export function setLe16(u8: Uint8Array, off: number, value: number): void {
  u8[off] = value;
  u8[off + 1] = value >>> 8;
}

export function setLe32(u8: Uint8Array, off: number, value: number): void {
  setLe16(u8, off, value);
  setLe16(u8, off + 2, value >>> 16);
}
