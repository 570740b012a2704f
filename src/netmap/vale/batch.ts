/**
 * The frames of one burst, between send() and flush(): where their pieces are, not the bytes.
 *
 * Structure of arrays, written once a frame and read by index. The virtio-net header is taken out of
 * the guest's memory when the frame is sent and kept here, checked, as three little-endian words:
 * what is checked is what is delivered, whatever the guest does to its buffer meanwhile.
 *   hdr0  flags | gso_type << 8 | hdr_len << 16
 *   hdr1  gso_size | csum_start << 16
 *   hdr2  csum_offset
 */
import type { Burst } from '../../memory/burst.js';
import type { Iovec } from '../../memory/iovec.js';
import type { Mapping, Window, WindowPool } from '../../memory/window.js';

/** frames that ports send in one burst, at most */
export const BATCH_FRAMES = 256;
/** frames of a batch with those that segmentation makes of them */
export const BATCH_RECORDS = 8192;
const BATCH_PIECES = 16384;
/** bytes between two arrays, so that the elements of one record do not share a set of the cache */
const SKEW = 192;
const ARRAYS = 11;

export class FrameBatch {
  count = 0;
  /** conversions already made of frame i: first record, and how many; -1: none yet */
  readonly convertedFirst = new Int32Array(BATCH_FRAMES);
  readonly convertedCount = new Int32Array(BATCH_FRAMES);
  readonly firstPiece: Uint16Array;
  readonly pieces: Uint16Array;
  /** bytes of the Ethernet frame */
  readonly len: Uint32Array;
  readonly hdr0: Int32Array;
  readonly hdr1: Int32Array;
  readonly hdr2: Int32Array;
  /** OFFLOAD_* that the frame asks of its receiver */
  readonly needs: Uint8Array;
  /** index of the port that sent it */
  readonly source: Uint8Array;
  // pieces of all frames
  readonly off: Uint32Array;
  readonly pieceLen: Uint32Array;
  readonly win: Uint8Array;
  readonly window: Window;
  /** offset of the arrays in the window: their order and sizes are known to kernel/kernel.ts */
  readonly base: number;
  readonly #mapping: Mapping;
  #pieceCount = 0;

  constructor(pool: WindowPool) {
    this.#mapping = pool.mapAnonymous(BATCH_RECORDS * 22 + BATCH_PIECES * 9 + ARRAYS * SKEW);
    this.window = this.#mapping.window;
    this.base = this.#mapping.off;
    const { buffer } = this.window.u8;
    let at = this.base;
    const place = (bytes: number): number => {
      at += bytes + SKEW;
      return at - bytes - SKEW;
    };
    this.firstPiece = new Uint16Array(buffer, place(2 * BATCH_RECORDS), BATCH_RECORDS);
    this.pieces = new Uint16Array(buffer, place(2 * BATCH_RECORDS), BATCH_RECORDS);
    this.len = new Uint32Array(buffer, place(4 * BATCH_RECORDS), BATCH_RECORDS);
    this.hdr0 = new Int32Array(buffer, place(4 * BATCH_RECORDS), BATCH_RECORDS);
    this.hdr1 = new Int32Array(buffer, place(4 * BATCH_RECORDS), BATCH_RECORDS);
    this.hdr2 = new Int32Array(buffer, place(4 * BATCH_RECORDS), BATCH_RECORDS);
    this.needs = new Uint8Array(buffer, place(BATCH_RECORDS), BATCH_RECORDS);
    this.source = new Uint8Array(buffer, place(BATCH_RECORDS), BATCH_RECORDS);
    this.off = new Uint32Array(buffer, place(4 * BATCH_PIECES), BATCH_PIECES);
    this.pieceLen = new Uint32Array(buffer, place(4 * BATCH_PIECES), BATCH_PIECES);
    this.win = new Uint8Array(buffer, place(BATCH_PIECES), BATCH_PIECES);
  }

  close(): void {
    this.#mapping.close();
  }

  /**
   * Adds frames of a burst that ask for no offload and are of a legal length. Returns how many, from
   * entry `from` on: it stops at the first that is not. There must be room.
   */
  admit(source: number, burst: Burst, from: number, count: number, hdrLen: number, min: number, max: number): number {
    const { window, base } = this;
    if (burst.window !== window) return 0;
    const n = window.kernel.admit(
      burst.off,
      from,
      count,
      hdrLen,
      min,
      max,
      base,
      this.count,
      this.#pieceCount,
      source,
      window.index,
    );
    this.count += n;
    this.#pieceCount += n;
    return n;
  }

  hasRoomFor(frames: number, pieces: number): boolean {
    return this.count + frames <= BATCH_RECORDS && this.#pieceCount + pieces <= BATCH_PIECES;
  }

  /** Adds a frame: the bytes of `iov` behind its first `skip`. Returns its index. There must be room. */
  add(source: number, iov: Iovec, skip: number, hdr0: number, hdr1: number, hdr2: number, needs: number): number {
    const i = this.count;
    let p = this.#pieceCount;
    this.firstPiece[i] = p;
    let left = skip;
    for (let k = 0; k < iov.count; k++) {
      const len = iov.len[k]!;
      if (left >= len) {
        left -= len;
        continue;
      }
      this.win[p] = iov.win[k]!;
      this.off[p] = iov.off[k]! + left;
      this.pieceLen[p++] = len - left;
      left = 0;
    }
    this.#pieceCount = p;
    this.#record(i, source, p - this.firstPiece[i]!, iov.total - skip, hdr0, hdr1, hdr2, needs);
    if (i < BATCH_FRAMES) this.convertedFirst[i] = -1;
    return i;
  }

  /** Adds a complete frame that lies in one piece. There must be room. */
  addPiece(source: number, win: number, off: number, len: number, hdr0 = 0, hdr1 = 0, hdr2 = 0, needs = 0): number {
    const i = this.count;
    const p = this.#pieceCount++;
    this.firstPiece[i] = p;
    this.win[p] = win;
    this.off[p] = off;
    this.pieceLen[p] = len;
    this.#record(i, source, 1, len, hdr0, hdr1, hdr2, needs);
    if (i < BATCH_FRAMES) this.convertedFirst[i] = -1;
    return i;
  }

  #record(
    i: number,
    source: number,
    pieces: number,
    len: number,
    hdr0: number,
    hdr1: number,
    hdr2: number,
    needs: number,
  ): void {
    this.pieces[i] = pieces;
    this.len[i] = len;
    this.hdr0[i] = hdr0;
    this.hdr1[i] = hdr1;
    this.hdr2[i] = hdr2;
    this.needs[i] = needs;
    this.source[i] = source;
    this.count = i + 1;
  }

  /** Forgets the records from `count` on, and their pieces: what conversion added. */
  truncate(count: number): void {
    this.#pieceCount = count === 0 ? 0 : this.firstPiece[count - 1]! + this.pieces[count - 1]!;
    this.count = count;
    for (let i = 0; i < count && i < BATCH_FRAMES; i++) this.convertedFirst[i] = -1;
  }
}
