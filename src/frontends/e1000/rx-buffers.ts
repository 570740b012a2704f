/**
 * The driver's buffers for the frame in hand, as one run of bytes, whatever pieces of guest memory they are; with
 * scratch memory of our own: a place for the frame's front, and room to move a frame.
 */
import { copyPieces } from '../../memory/copy.js';
import { Iovec, iovecSkip } from '../../memory/iovec.js';
import type { Mapping, WindowPool } from '../../memory/window.js';
import { fold } from '../../wire/checksum.js';
import { crc32 } from '../../wire/crc32.js';
import { shifted } from './rx-checksum.js';

/** buffers of 256 bytes for the longest frame, and where they cross from one region into the next */
const MAX_PIECES = 256;
/** where the front lies in scratch memory: the virtio-net header before it ends on a multiple of 64 */
const FRONT_OFF = 64;
const BOUNCE_OFF = 4096;

export class RxBuffers {
  /** the buffers' pieces */
  readonly pieces = new Iovec(MAX_PIECES);
  /** scratch memory, and where the front lies in it */
  readonly u8: Uint8Array;
  readonly front: number;
  readonly #pool: WindowPool;
  readonly #scratch: Mapping;
  readonly #rest = new Iovec(MAX_PIECES);
  readonly #own = new Iovec(1);
  readonly #target = new Iovec(MAX_PIECES + 1);

  constructor(pool: WindowPool, maxFrameLen: number) {
    this.#pool = pool;
    this.#scratch = pool.mapAnonymous(BOUNCE_OFF + maxFrameLen);
    this.u8 = this.#scratch.window.u8;
    this.front = this.#scratch.off + FRONT_OFF;
  }

  close(): void {
    this.#scratch.close();
  }

  /**
   * What a frame is received into: `hdrLen` bytes before the front, `frontLen` of it, and the buffers from byte `at`
   * on, if more comes.
   */
  target(hdrLen: number, frontLen: number, at: number, more: boolean): Iovec {
    const target = this.#target;
    target.clear();
    target.push(this.#scratch.window.index, this.front - hdrLen, hdrLen + frontLen);
    if (!more) return target;
    const rest = this.#from(at);
    for (let k = 0; k < rest.count; k++) target.push(rest.win[k]!, rest.off[k]!, rest.len[k]!);
    return target;
  }

  /** Copies `len` bytes of scratch memory, from `from` in its window on, to byte `at` of the buffers. */
  put(from: number, len: number, at: number): void {
    const { pieces } = this;
    const { window } = this.#scratch;
    if (at + len <= pieces.len[0]! && pieces.win[0] === window.index) {
      window.kernel.copy(pieces.off[0]! + at, from, len);
      return;
    }
    const { win, off, len: ownLen } = this.#scratchPiece(from, len);
    copyPieces(this.#pool, win, off, ownLen, 0, len, pieces, at);
  }

  /** Puts four bytes, least significant first, at byte `at`. */
  putU32(value: number, at: number): void {
    const { off } = this.#scratch;
    for (let i = 0; i < 4; i++) this.u8[off + i] = value >>> (8 * i);
    this.put(off, 4, at);
  }

  /** Moves `len` bytes from byte `from` to byte `to`. */
  move(len: number, from: number, to: number): void {
    const rest = this.#from(from);
    const bounce = this.#scratchPiece(this.#scratch.off + BOUNCE_OFF, len);
    copyPieces(this.#pool, rest.win, rest.off, rest.len, 0, len, bounce, 0);
    copyPieces(this.#pool, bounce.win, bounce.off, bounce.len, 0, len, this.pieces, to);
  }

  /** Checksum sum (wire/checksum.ts) of `len` bytes from byte `at` on, the first of which counts as even. */
  sum16(at: number, len: number): number {
    const rest = this.#from(at);
    let sum = 0;
    let done = 0;
    for (let k = 0; done < len; k++) {
      const n = Math.min(rest.len[k]!, len - done);
      sum += shifted(this.#pool.windows[rest.win[k]!]!.kernel.sum16(rest.off[k]!, n), done);
      done += n;
    }
    return fold(sum);
  }

  /** Goes on from `crc` with `len` bytes from byte `at` on. */
  crc32(at: number, len: number, crc: number): number {
    const rest = this.#from(at);
    let value = crc;
    let left = len;
    for (let k = 0; left > 0; k++) {
      const n = Math.min(rest.len[k]!, left);
      value = crc32(this.#pool.windows[rest.win[k]!]!.u8, rest.off[k]!, n, value);
      left -= n;
    }
    return value;
  }

  #from(at: number): Iovec {
    iovecSkip(this.pieces, at, this.#rest);
    return this.#rest;
  }

  #scratchPiece(off: number, len: number): Iovec {
    this.#own.clear();
    this.#own.push(this.#scratch.window.index, off, len);
    return this.#own;
  }
}
