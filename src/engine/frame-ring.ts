/**
 * Frames on their way from the fabric thread to another thread: a ring of records in shared memory,
 * one producer, one consumer, no locks.
 *
 * Ownership: `head` and `tail` are free-running byte counts, modulo 2^32. Bytes [tail, head) are the
 * consumer's, the rest the producer's; each side stores only its own count, after it has written or
 * read the bytes. A record never wraps: one that does not fit before the end begins at the start.
 */
import { usageError } from '../errors.js';
import type { Iovec } from '../memory/iovec.js';
import type { Window } from '../memory/window.js';

// control words, as indices of 32-bit integers, each count on a cache line of its own
const HEAD = 0;
const TAIL = 16;
const DROPPED = 32;
const CLOSED = 33;
const CONTROL_BYTES = 192;

// a record: 32-bit words, then the time, then the bytes; the whole is a multiple of 8
const RECORD_LEN = 0;
const CAPTURED_LEN = 1;
const ORIGINAL_LEN = 2;
const DIRECTION = 3;
const TIME = 16;
const DATA = 24;
/** RECORD_LEN of the filler before the end of the ring */
const WRAP = 0;

export const MIN_FRAME_RING_BYTES = 4096;

/** Memory for a ring of `byteLength`, a power of two. A frame that needs more than half of it is never taken. */
export function createFrameRing(byteLength: number): SharedArrayBuffer {
  if (byteLength < MIN_FRAME_RING_BYTES || byteLength > 2 ** 30 || (byteLength & (byteLength - 1)) !== 0)
    throw usageError(`a ring of ${byteLength} bytes: it must be a power of two from 4096 to 2^30`, String(byteLength));
  return new SharedArrayBuffer(CONTROL_BYTES + byteLength);
}

/** The fabric's end. */
export class FrameRingProducer {
  readonly #control: Int32Array;
  readonly #u8: Uint8Array;
  readonly #u32: Uint32Array;
  readonly #f64: Float64Array;
  readonly #size: number;
  #head = 0;
  #tail = 0;

  constructor(buffer: SharedArrayBuffer) {
    this.#control = new Int32Array(buffer, 0, CONTROL_BYTES / 4);
    this.#u8 = new Uint8Array(buffer, CONTROL_BYTES);
    this.#u32 = new Uint32Array(buffer, CONTROL_BYTES);
    this.#f64 = new Float64Array(buffer, CONTROL_BYTES);
    this.#size = this.#u8.length;
  }

  /**
   * Appends the first `snapLen` bytes of what follows the first `skip` of `iov`, whose frame ends after
   * `length` bytes in all. False, and counted, when there is no room.
   */
  push(
    windows: readonly Window[],
    iov: Iovec,
    skip: number,
    length: number,
    snapLen: number,
    direction: number,
    timeMs: number,
  ): boolean {
    const originalLen = Math.max(0, length - skip);
    const capturedLen = Math.min(originalLen, snapLen);
    const recordLen = (DATA + capturedLen + 7) & ~7;
    const at = this.#reserve(recordLen);
    if (at < 0) {
      Atomics.add(this.#control, DROPPED, 1);
      return false;
    }
    const word = at / 4;
    this.#u32[word + RECORD_LEN] = recordLen;
    this.#u32[word + CAPTURED_LEN] = capturedLen;
    this.#u32[word + ORIGINAL_LEN] = originalLen;
    this.#u32[word + DIRECTION] = direction;
    this.#f64[(at + TIME) / 8] = timeMs;
    this.#gather(windows, iov, skip, capturedLen, at + DATA);
    this.#head = (this.#head + recordLen) | 0;
    Atomics.store(this.#control, HEAD, this.#head);
    return true;
  }

  /** Nothing will follow: the consumer ends when it has read what is there. */
  close(): void {
    Atomics.store(this.#control, CLOSED, 1);
  }

  /** Offset of free room for a record, or -1. Fills up to the end where it does not fit before it. */
  #reserve(recordLen: number): number {
    const at = this.#head & (this.#size - 1);
    const toEnd = this.#size - at;
    const needed = recordLen <= toEnd ? recordLen : toEnd + recordLen;
    if (this.#free() < needed) {
      this.#tail = Atomics.load(this.#control, TAIL);
      if (this.#free() < needed) return -1;
    }
    if (recordLen <= toEnd) return at;
    this.#u32[at / 4 + RECORD_LEN] = WRAP;
    this.#head = (this.#head + toEnd) | 0;
    return 0;
  }

  #free(): number {
    return this.#size - ((this.#head - this.#tail) >>> 0);
  }

  #gather(windows: readonly Window[], iov: Iovec, skip: number, length: number, to: number): void {
    let at = to;
    let left = length;
    let toSkip = skip;
    for (let i = 0; i < iov.count && left > 0; i++) {
      const len = iov.len[i] as number;
      if (toSkip >= len) {
        toSkip -= len;
        continue;
      }
      const off = (iov.off[i] as number) + toSkip;
      const n = Math.min(len - toSkip, left);
      this.#u8.set((windows[iov.win[i] as number] as Window).u8.subarray(off, off + n), at);
      toSkip = 0;
      at += n;
      left -= n;
    }
  }
}

/** The other end. `next` moves to a record, whose fields stay valid until the following `next`. */
export class FrameRingConsumer {
  readonly #control: Int32Array;
  readonly #u32: Uint32Array;
  readonly #f64: Float64Array;
  readonly #size: number;
  #tail = 0;
  #recordLen = 0;
  /** the ring's bytes; those of the record are [dataOff, dataOff + capturedLen) */
  readonly u8: Uint8Array;
  dataOff = 0;
  capturedLen = 0;
  originalLen = 0;
  direction = 0;
  /** milliseconds since 1970 */
  timeMs = 0;

  constructor(buffer: SharedArrayBuffer) {
    this.#control = new Int32Array(buffer, 0, CONTROL_BYTES / 4);
    this.u8 = new Uint8Array(buffer, CONTROL_BYTES);
    this.#u32 = new Uint32Array(buffer, CONTROL_BYTES);
    this.#f64 = new Float64Array(buffer, CONTROL_BYTES);
    this.#size = this.u8.length;
  }

  /** Gives the last record back and moves to the next one; false when there is none. */
  next(): boolean {
    if (this.#recordLen > 0) {
      this.#tail = (this.#tail + this.#recordLen) | 0;
      this.#recordLen = 0;
      Atomics.store(this.#control, TAIL, this.#tail);
    }
    if (Atomics.load(this.#control, HEAD) === this.#tail) return false;
    let at = this.#tail & (this.#size - 1);
    if (this.#u32[at / 4 + RECORD_LEN] === WRAP) {
      this.#tail = (this.#tail + this.#size - at) | 0;
      at = 0;
    }
    const word = at / 4;
    this.#recordLen = this.#u32[word + RECORD_LEN] as number;
    this.capturedLen = this.#u32[word + CAPTURED_LEN] as number;
    this.originalLen = this.#u32[word + ORIGINAL_LEN] as number;
    this.direction = this.#u32[word + DIRECTION] as number;
    this.timeMs = this.#f64[(at + TIME) / 8] as number;
    this.dataOff = at + DATA;
    return true;
  }

  /** The producer has gone; what is in the ring may still be read. */
  get closed(): boolean {
    return Atomics.load(this.#control, CLOSED) === 1;
  }

  /** frames that found no room so far */
  get dropped(): number {
    return Atomics.load(this.#control, DROPPED) >>> 0;
  }
}
