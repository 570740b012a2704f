/**
 * Netgraph's own memory: bursts, the arena of a turn, and buffers for frames that are kept.
 *
 * - The arena is for frames that a node makes of others, a tag inserted for instance. It is empty
 *   again when the turn ends, as all references are void then.
 * - A kept frame is a copy that lives until free(): a frame in a queue. Buffers come in three sizes, each
 *   of a bounded number.
 * All is address space until it is written.
 */
import { copyPiece } from '../memory/copy.js';
import type { Mapping, Window, WindowPool } from '../memory/window.js';
import { MAX_FRAME_LEN } from '../wire/ethernet.js';
import { NG_BURST_BYTES, NgBurst } from './burst.js';

const BURST_CHUNK_BYTES = 65536;
const ARENA_BYTES = 8 * 2 ** 20;
/** sizes and numbers of the buffers for kept frames */
const CLASSES = [
  { bytes: 2048, count: 16384 },
  { bytes: 16384, count: 1024 },
  { bytes: MAX_FRAME_LEN, count: 256 },
];

export class NgBufferPool {
  readonly #pool: WindowPool;
  readonly #burstChunks: Mapping[] = [];
  #burstUsed = BURST_CHUNK_BYTES;
  #freeBursts: NgBurst[] = [];
  #arena: Mapping | undefined;
  #arenaUsed = 0;
  #kept: KeptClass[] | undefined;
  /** kept frames that are free when the turn ends */
  readonly #later = new Uint32Array(CLASSES.reduce((sum, c) => sum + c.count, 0));
  #laterCount = 0;

  constructor(pool: WindowPool) {
    this.#pool = pool;
  }

  /** An empty burst. Set-up path: throws ENOMEM. */
  takeBurst(): NgBurst {
    const free = this.#freeBursts.pop();
    if (free !== undefined) return free;
    if (this.#burstUsed + NG_BURST_BYTES > BURST_CHUNK_BYTES) {
      this.#burstChunks.push(this.#pool.mapAnonymous(BURST_CHUNK_BYTES, 'netgraph'));
      this.#burstUsed = 0;
    }
    const chunk = this.#burstChunks.at(-1) as Mapping;
    const burst = new NgBurst(chunk.window, chunk.off + this.#burstUsed);
    this.#burstUsed += NG_BURST_BYTES;
    return burst;
  }

  giveBurst(burst: NgBurst): void {
    burst.count = 0;
    this.#freeBursts.push(burst);
  }

  /** Index of the window in which arena and kept frames lie. */
  get window(): Window {
    return this.#memory().window;
  }

  /** Offset of `len` bytes that are ours until the turn ends, or 0 when there is no more room. */
  arena(len: number): number {
    const arena = this.#memory();
    const at = this.#arenaUsed;
    if (at + len > ARENA_BYTES) return 0;
    this.#arenaUsed = (at + len + 63) & ~63;
    return arena.off + at;
  }

  /** Copies `len` bytes from `from` on of frame `i` to an offset in `window`. The frame must have them. */
  copyIn(at: number, burst: NgBurst, i: number, from: number, len: number): void {
    copyPiece(this.window, at, this.#pool.windows[burst.win[i]!]!, burst.off[i]! + from, len);
  }

  /** All references are void: the arena begins anew, and what was given back is free. */
  endTurn(): void {
    this.#arenaUsed = 0;
    while (this.#laterCount > 0) this.free(this.#later[--this.#laterCount]!);
  }

  /** Copies frame `i` of a burst into a buffer of its own. Returns its offset in `window`, or 0 when there is none. */
  keep(burst: NgBurst, i: number): number {
    const len = burst.len[i]!;
    const { window } = this.#memory();
    const classes = this.#kept as KeptClass[];
    for (let c = 0; c < classes.length; c++) {
      const kept = classes[c]!;
      if (len > kept.bytes || kept.freeCount === 0) continue;
      const off = kept.free[--kept.freeCount]!;
      copyPiece(window, off, this.#pool.windows[burst.win[i]!]!, burst.off[i]!, len);
      return off;
    }
    return 0;
  }

  /** Gives back what keep() returned. */
  free(off: number): void {
    const classes = this.#kept as KeptClass[];
    let c = 0;
    while (off >= classes[c]!.end) c++;
    const kept = classes[c]!;
    kept.free[kept.freeCount++] = off;
  }

  /** Gives back a kept frame that was sent in this turn: it is free when the turn ends. */
  freeAfterTurn(off: number): void {
    this.#later[this.#laterCount++] = off;
  }

  /** Kept frames: what a leak test compares. */
  get keptCount(): number {
    return (this.#kept ?? []).reduce((sum, kept) => sum + kept.free.length - kept.freeCount, 0);
  }

  close(): void {
    for (const chunk of this.#burstChunks) chunk.close();
    this.#burstChunks.length = 0;
    this.#freeBursts = [];
    this.#burstUsed = BURST_CHUNK_BYTES;
    this.#arena?.close();
    this.#arena = undefined;
    this.#kept = undefined;
  }

  #memory(): Mapping {
    if (this.#arena !== undefined) return this.#arena;
    const bytes = CLASSES.reduce((sum, c) => sum + c.bytes * c.count, ARENA_BYTES);
    const mapping = this.#pool.mapAnonymous(bytes, 'netgraph');
    let off = mapping.off + ARENA_BYTES;
    this.#kept = CLASSES.map((c) => {
      const kept = new KeptClass(c.bytes, c.count, off);
      off = kept.end;
      return kept;
    });
    this.#arena = mapping;
    return mapping;
  }
}

class KeptClass {
  readonly free: Uint32Array;
  freeCount: number;
  readonly end: number;

  constructor(
    readonly bytes: number,
    count: number,
    off: number,
  ) {
    // the lowest buffer is taken first, and the last one freed again: few pages are touched
    this.free = Uint32Array.from({ length: count }, (_, i) => off + (count - 1 - i) * bytes);
    this.freeCount = count;
    this.end = off + count * bytes;
  }
}
