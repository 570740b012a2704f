import type { WindowPool } from './window.js';

/**
 * A reusable scatter-gather list (struct iovec): pieces of memory windows, in order.
 *
 * Hot code reads and writes the arrays directly: `win[i]` is the index of the window, `off[i]` the
 * offset in it, `len[i]` the bytes. [0, count) is in use.
 */
export class Iovec {
  readonly win: Uint8Array;
  readonly off: Uint32Array;
  readonly len: Uint32Array;
  count = 0;
  /** bytes in all */
  total = 0;

  constructor(readonly capacity: number) {
    this.win = new Uint8Array(capacity);
    this.off = new Uint32Array(capacity);
    this.len = new Uint32Array(capacity);
  }

  clear(): void {
    this.count = 0;
    this.total = 0;
  }

  /** false, and nothing added, when the list is full */
  push(win: number, off: number, len: number): boolean {
    const i = this.count;
    if (i >= this.capacity) return false;
    this.win[i] = win;
    this.off[i] = off;
    this.len[i] = len;
    this.count = i + 1;
    this.total += len;
    return true;
  }
}

/** Makes `out` the pieces of `iov` after its first `skip` bytes. `out` must have as much room. */
export function iovecSkip(iov: Iovec, skip: number, out: Iovec): void {
  out.clear();
  let left = skip;
  for (let i = 0; i < iov.count; i++) {
    const len = iov.len[i]!;
    if (left >= len) left -= len;
    else {
      out.push(iov.win[i]!, iov.off[i]! + left, len - left);
      left = 0;
    }
  }
}

/** Stores a little-endian 16-bit value `at` bytes into the list; its two bytes may lie in different pieces. */
export function iovecWriteU16(pool: WindowPool, iov: Iovec, at: number, value: number): void {
  const first = iov.off[0]! + at;
  if (iov.len[0]! >= at + 2 && (first & 1) === 0) {
    pool.windows[iov.win[0]!]!.u16[first >>> 1] = value;
    return;
  }
  let start = 0;
  for (let i = 0; i < iov.count; i++) {
    const len = iov.len[i]!;
    const u8 = pool.windows[iov.win[i]!]!.u8;
    const off = iov.off[i]! + at - start;
    if (at >= start && at < start + len) u8[off] = value & 0xff;
    if (at + 1 >= start && at + 1 < start + len) u8[off + 1] = value >>> 8;
    start += len;
  }
}

/** Copies the first `length` bytes of the list into `out`; the list must hold that much. For short headers. */
export function iovecRead(pool: WindowPool, iov: Iovec, length: number, out: Uint8Array): void {
  let k = 0;
  let at = 0;
  for (let i = 0; i < length; i++) {
    while (at === iov.len[k]!) {
      k++;
      at = 0;
    }
    out[i] = pool.windows[iov.win[k]!]!.u8[iov.off[k]! + at++]!;
  }
}

/** Copies the first `length` bytes of `bytes` to the front of the list; it must have that much room. For short headers. */
export function iovecWrite(pool: WindowPool, iov: Iovec, bytes: Uint8Array, length: number): void {
  let k = 0;
  let at = 0;
  for (let i = 0; i < length; i++) {
    while (at === iov.len[k]!) {
      k++;
      at = 0;
    }
    pool.windows[iov.win[k]!]!.u8[iov.off[k]! + at++] = bytes[i]!;
  }
}
