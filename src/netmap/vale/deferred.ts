/**
 * Frames that are sent from within a receive callback, while a burst is delivered: copied, and forwarded after
 * it. Two rings take turns: one fills while the frames of the other are forwarded.
 */
import { copyPieces } from '../../memory/copy.js';
import { Iovec, iovecSkip } from '../../memory/iovec.js';
import type { WindowPool } from '../../memory/window.js';
import { neededOffloads } from '../../wire/vnet-header.js';
import type { FrameBatch } from './batch.js';
import { FrameRing, RING_HDR_LEN } from './frame-ring.js';

const FRAMES = 256;
const BYTES = 4 * 2 ** 20;

export class DeferredFrames {
  readonly #pool: WindowPool;
  #filling: FrameRing;
  #forwarding: FrameRing;
  readonly #body = new Iovec(1024);

  constructor(pool: WindowPool) {
    this.#pool = pool;
    this.#filling = new FrameRing(pool, FRAMES, BYTES);
    this.#forwarding = new FrameRing(pool, FRAMES, BYTES);
  }

  get count(): number {
    return this.#filling.count;
  }

  /** Copies the frame behind the first `hdrLen` bytes of a list. `route`: see batch.ts. False when there is no room. */
  add(source: number, iov: Iovec, hdrLen: number, hdr0: number, hdr1: number, hdr2: number, route: number): boolean {
    const len = iov.total - hdrLen;
    const dst = this.#filling.reserve(hdr0, hdr1, hdr2, len, source | (route << 8));
    if (dst === undefined) return false;
    iovecSkip(iov, hdrLen, this.#body);
    const { win, off, len: lengths } = this.#body;
    copyPieces(this.#pool, win, off, lengths, 0, len, dst, RING_HDR_LEN);
    return true;
  }

  /** Makes them records of an empty batch; their bytes stay until the next call. */
  moveTo(batch: FrameBatch): void {
    const ring = this.#filling;
    this.#filling = this.#forwarding;
    this.#forwarding = ring;
    const { i32, index } = ring.window;
    for (; ring.count > 0; ring.shift()) {
      const w = ring.frameOff >>> 2;
      const hdr0 = i32[w]!;
      const note = i32[w + 3]!;
      const needs = neededOffloads(hdr0 & 0xff, (hdr0 >>> 8) & 0xff);
      const off = ring.frameOff + RING_HDR_LEN;
      const i = batch.addPiece(note & 0xff, index, off, ring.frameLen, hdr0, i32[w + 1]!, i32[w + 2]!, needs);
      batch.setRoute(i, note >>> 8);
    }
  }

  /** Forgets them; tells whose each was. */
  drop(onDrop: (source: number) => void): void {
    const ring = this.#filling;
    for (; ring.count > 0; ring.shift()) onDrop(ring.window.i32[(ring.frameOff >>> 2) + 3]! & 0xff);
  }

  close(): void {
    this.#filling.close();
    this.#forwarding.close();
  }
}
