/**
 * Copies between pieces of memory windows. Data path: bounds are the caller's.
 *
 * Within a window `memory.copy` does it. Between two windows there is no such instruction:
 * short pieces go byte by byte, longer ones by TypedArray.set.
 */
import type { Iovec } from './iovec.js';
import type { Window, WindowPool } from './window.js';

/** Below this many bytes a loop is faster than the view that set() needs (measured: 60 to 110 ns). */
const LOOP_BYTES = 96;

export function copyPiece(dst: Window, dstOff: number, src: Window, srcOff: number, len: number): void {
  if (dst === src) {
    dst.kernel.copy(dstOff, srcOff, len);
    return;
  }
  const from = src.u8;
  const to = dst.u8;
  if (len <= LOOP_BYTES) for (let i = 0; i < len; i++) to[dstOff + i] = from[srcOff + i]!;
  else to.set(from.subarray(srcOff, srcOff + len), dstOff);
}

/**
 * Copies `len` bytes from a list of pieces (arrays of the shape of an Iovec, beginning at piece
 * `first`) into `dst`, beginning `skip` bytes into it. Both must hold that much.
 */
export function copyPieces(
  pool: WindowPool,
  win: Uint8Array,
  off: Uint32Array,
  pieceLen: Uint32Array,
  first: number,
  len: number,
  dst: Iovec,
  skip: number,
): void {
  const { windows } = pool;
  let s = first;
  let sAt = 0;
  let d = 0;
  let dAt = skip;
  while (dAt >= dst.len[d]!) dAt -= dst.len[d++]!;
  let left = len;
  while (left > 0) {
    const n = Math.min(left, pieceLen[s]! - sAt, dst.len[d]! - dAt);
    copyPiece(windows[dst.win[d]!]!, dst.off[d]! + dAt, windows[win[s]!]!, off[s]! + sAt, n);
    left -= n;
    sAt += n;
    dAt += n;
    if (sAt === pieceLen[s]!) {
      s++;
      sAt = 0;
    }
    if (dAt === dst.len[d]! && left > 0) {
      d++;
      dAt = 0;
    }
  }
}
