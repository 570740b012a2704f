/**
 * The frames of one burst, between send() and flush(): where their pieces are, not the bytes.
 *
 * A record is 32 bytes in a window, written once a frame and read by number, here and by the kernel:
 *   off, len    the frame, if it is in one piece, and its bytes in any case (32 bits each)
 *   hdr0        flags | gso_type << 8 | hdr_len << 16
 *   hdr1        gso_size | csum_start << 16
 *   hdr2        csum_offset
 *   first, pieces   of a frame in several pieces: where in the lists of pieces, and how many (16 bits each)
 *   needs       OFFLOAD_* that the frame asks of its receiver (8 bits)
 *   source      index of the port that sent it (8 bits)
 *   win         index of the window, if it is in one piece (8 bits)
 *   route       transmit ring that it came from (8 bits), ROUTE_NO_LEARN (8 bits), and the port that it is
 *               for whatever the table says, 0 for none (8 bits)
 * The virtio-net header is taken out of the guest's memory when the frame is sent and kept here,
 * checked: what is checked is what is delivered, whatever the guest does to its buffer meanwhile.
 */
import type { Burst } from '../../memory/burst.js';
import { copyPieces } from '../../memory/copy.js';
import type { Iovec } from '../../memory/iovec.js';
import type { Mapping, Window, WindowPool } from '../../memory/window.js';

/** frames that ports send in one burst, at most */
export const BATCH_FRAMES = 256;
/** frames of a batch with those that segmentation makes of them */
export const BATCH_RECORDS = 8192;
/** pieces of all frames that are in several */
const BATCH_PIECES = 16384;

// places in a record, by words, half words and bytes
const RECORD_BYTES = 32;
const OFF = 0;
const LEN = 1;
const HDR0 = 2;
const HDR1 = 3;
const HDR2 = 4;
const FIRST = 10;
const PIECES = 11;
const NEEDS = 24;
const SOURCE = 25;
const WIN = 26;
const RING = 27;
const ROUTE = 14;

/** What send() is told of a frame besides its bytes: ring | ROUTE_NO_LEARN | port << ROUTE_PORT_SHIFT. */
export const ROUTE_RING_MASK = 0xff;
export const ROUTE_NO_LEARN = 0x100;
export const ROUTE_PORT_SHIFT = 16;

export class FrameBatch {
  count = 0;
  readonly window: Window;
  /** offset of record 0 in the window */
  readonly base: number;
  /** conversions already made of frame i: first record, and how many; -1: none yet */
  readonly convertedFirst = new Int32Array(BATCH_FRAMES);
  readonly convertedCount = new Int32Array(BATCH_FRAMES);
  readonly #pool: WindowPool;
  readonly #mapping: Mapping;
  readonly #words: Int32Array;
  readonly #halves: Uint16Array;
  readonly #bytes: Uint8Array;
  readonly #pieceWin = new Uint8Array(BATCH_PIECES);
  readonly #pieceOff = new Uint32Array(BATCH_PIECES);
  readonly #pieceLen = new Uint32Array(BATCH_PIECES);
  #pieceCount = 0;
  // the list of a frame that is in one piece
  readonly #oneWin = new Uint8Array(1);
  readonly #oneOff = new Uint32Array(1);
  readonly #oneLen = new Uint32Array(1);

  constructor(pool: WindowPool) {
    this.#pool = pool;
    this.#mapping = pool.mapAnonymous(BATCH_RECORDS * RECORD_BYTES);
    this.window = this.#mapping.window;
    this.base = this.#mapping.off;
    const { buffer } = this.window.u8;
    this.#words = new Int32Array(buffer, this.base, (BATCH_RECORDS * RECORD_BYTES) / 4);
    this.#halves = new Uint16Array(buffer, this.base, (BATCH_RECORDS * RECORD_BYTES) / 2);
    this.#bytes = new Uint8Array(buffer, this.base, BATCH_RECORDS * RECORD_BYTES);
  }

  close(): void {
    this.#mapping.close();
  }

  /** Bytes of the Ethernet frame. */
  len(i: number): number {
    return this.#words[i * 8 + LEN]!;
  }

  hdr0(i: number): number {
    return this.#words[i * 8 + HDR0]!;
  }

  hdr1(i: number): number {
    return this.#words[i * 8 + HDR1]!;
  }

  hdr2(i: number): number {
    return this.#words[i * 8 + HDR2]!;
  }

  needs(i: number): number {
    return this.#bytes[i * RECORD_BYTES + NEEDS]!;
  }

  source(i: number): number {
    return this.#bytes[i * RECORD_BYTES + SOURCE]!;
  }

  /** Receive ring that the frame is for, modulo the receiver's. */
  ring(i: number): number {
    return this.#bytes[i * RECORD_BYTES + RING]!;
  }

  setRing(i: number, ring: number): void {
    this.#bytes[i * RECORD_BYTES + RING] = ring;
  }

  /** ROUTE_NO_LEARN >> 8 | port << 8 */
  route(i: number): number {
    return this.#halves[i * 16 + ROUTE]!;
  }

  setRoute(i: number, route: number): void {
    this.#bytes[i * RECORD_BYTES + RING] = route & ROUTE_RING_MASK;
    this.#halves[i * 16 + ROUTE] = route >>> 8;
  }

  /**
   * Adds frames of a burst that ask for no offload and are of a legal length. Returns how many, from
   * entry `from` on: it stops at the first that is not. There must be room.
   */
  admit(source: number, burst: Burst, from: number, count: number, hdrLen: number, min: number, max: number): number {
    const { window, base } = this;
    if (burst.window !== window) return 0;
    const n = window.kernel.admit(burst.off, from, count, hdrLen, min, max, base, this.count, source, window.index);
    this.count += n;
    return n;
  }

  hasRoomFor(frames: number, pieces: number): boolean {
    return this.count + frames <= BATCH_RECORDS && this.#pieceCount + pieces <= BATCH_PIECES;
  }

  /** Adds a frame: the bytes of `iov` behind its first `skip`. Returns its number. There must be room. */
  add(source: number, iov: Iovec, skip: number, hdr0: number, hdr1: number, hdr2: number, needs: number): number {
    let k = 0;
    let left = skip;
    while (left >= iov.len[k]!) left -= iov.len[k++]!;
    const len = iov.total - skip;
    if (iov.len[k]! - left >= len)
      return this.addPiece(source, iov.win[k]!, iov.off[k]! + left, len, hdr0, hdr1, hdr2, needs);
    const first = this.#pieceCount;
    let p = first;
    for (; k < iov.count; k++) {
      this.#pieceWin[p] = iov.win[k]!;
      this.#pieceOff[p] = iov.off[k]! + left;
      this.#pieceLen[p++] = iov.len[k]! - left;
      left = 0;
    }
    this.#pieceCount = p;
    const i = this.addPiece(source, 0, 0, len, hdr0, hdr1, hdr2, needs);
    this.#halves[i * 16 + FIRST] = first;
    this.#halves[i * 16 + PIECES] = p - first;
    return i;
  }

  /** Adds a frame that lies in one piece. There must be room. */
  addPiece(source: number, win: number, off: number, len: number, hdr0 = 0, hdr1 = 0, hdr2 = 0, needs = 0): number {
    const i = this.count++;
    const words = this.#words;
    const w = i * 8;
    words[w + OFF] = off;
    words[w + LEN] = len;
    words[w + HDR0] = hdr0;
    words[w + HDR1] = hdr1;
    words[w + HDR2] = hdr2;
    this.#halves[i * 16 + FIRST] = 0;
    this.#halves[i * 16 + PIECES] = 1;
    words[w + 6] = needs | (source << 8) | (win << 16);
    words[w + 7] = 0;
    if (i < BATCH_FRAMES) this.convertedFirst[i] = -1;
    return i;
  }

  /** Copies the first `len` bytes of frame `i` into a list, behind its first `skip` bytes. Both must hold that much. */
  copyTo(i: number, len: number, dst: Iovec, skip: number): void {
    if (this.#halves[i * 16 + PIECES] === 1) {
      this.#oneWin[0] = this.#bytes[i * RECORD_BYTES + WIN]!;
      this.#oneOff[0] = this.#words[i * 8 + OFF]!;
      this.#oneLen[0] = this.#words[i * 8 + LEN]!;
      copyPieces(this.#pool, this.#oneWin, this.#oneOff, this.#oneLen, 0, len, dst, skip);
    } else {
      const first = this.#halves[i * 16 + FIRST]!;
      copyPieces(this.#pool, this.#pieceWin, this.#pieceOff, this.#pieceLen, first, len, dst, skip);
    }
  }

  /** Forgets the records from `count` on: what conversion added. */
  truncate(count: number): void {
    if (count === 0) this.#pieceCount = 0;
    this.count = count;
    for (let i = 0; i < count && i < BATCH_FRAMES; i++) this.convertedFirst[i] = -1;
  }
}
