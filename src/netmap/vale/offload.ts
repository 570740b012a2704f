/**
 * Completing in software what a frame left to its receiver, for a port whose user did not negotiate it.
 *
 * The frame is first copied to memory of our own: its sender may change it at any time, and what was
 * checked must be what is divided. The results are further records of the batch; they live in the
 * same scratch memory until the batch is delivered.
 */
import { Iovec } from '../../memory/iovec.js';
import type { Mapping, WindowPool } from '../../memory/window.js';
import { completeChecksum } from '../../wire/checksum.js';
import { Segmenter } from '../../wire/segmentation.js';
import type { FrameBatch } from './batch.js';
import { P, SEGMENT_DROPS } from './counters.js';
import type { ValePort } from './port.js';

const SCRATCH_BYTES = 16 * 2 ** 20;

export class Offloader {
  readonly #scratch: Mapping;
  readonly #segmenter: Segmenter;
  readonly #dst = new Iovec(1);
  #used = 0;

  constructor(pool: WindowPool) {
    this.#scratch = pool.mapAnonymous(SCRATCH_BYTES);
    this.#segmenter = new Segmenter(this.#scratch.window.u8, this.#scratch.window.kernel);
  }

  /** Nothing refers to the results any more. */
  reset(): void {
    this.#used = 0;
  }

  close(): void {
    this.#scratch.close();
  }

  /**
   * Makes frame `i` complete: one or more records at the end of `batch`. Returns how many; 0 when it
   * is malformed (dropped and counted at its sender); -1 when scratch or batch have no room left.
   */
  complete(batch: FrameBatch, i: number, sender: ValePort): number {
    const len = batch.len(i);
    const at = this.#used;
    if (at + len > SCRATCH_BYTES || !batch.hasRoomFor(1, 1)) return -1;
    const { window, off: base } = this.#scratch;
    const dst = this.#dst;
    dst.clear();
    dst.push(window.index, base + at, len);
    batch.copyTo(i, len, dst, 0);

    const gsoType = (batch.hdr0(i) >>> 8) & 0xff;
    const csumStart = batch.hdr1(i) >>> 16;
    const csumOffset = batch.hdr2(i) & 0xffff;
    if (gsoType !== 0) return this.#segment(batch, i, sender, gsoType, csumStart, csumOffset);
    completeChecksum(window.u8, window.kernel, base + at, len, csumStart, csumOffset);
    batch.addPiece(batch.source(i), window.index, base + at, len);
    this.#used = align(at + len);
    sender.counters.values[P.tx_checksums_completed]!++;
    return 1;
  }

  #segment(
    batch: FrameBatch,
    i: number,
    sender: ValePort,
    gsoType: number,
    csumStart: number,
    csumOffset: number,
  ): number {
    const segmenter = this.#segmenter;
    const { values } = sender.counters;
    const { window, off: base } = this.#scratch;
    const len = batch.len(i);
    const gsoSize = batch.hdr1(i) & 0xffff;
    const at = this.#used;
    const verdict = segmenter.begin(base + at, len, gsoType, gsoSize, csumStart, csumOffset);
    if (verdict !== 0) {
      values[SEGMENT_DROPS + verdict]!++;
      return 0;
    }
    const { count, maxLen } = segmenter;
    let out = align(at + len);
    const step = align(maxLen);
    if (out + count * step > SCRATCH_BYTES || !batch.hasRoomFor(count, count)) return -1;
    for (;;) {
      const n = segmenter.next(base + out, step);
      if (n <= 0) break;
      batch.addPiece(batch.source(i), window.index, base + out, n);
      out += step;
    }
    this.#used = out;
    values[P.tx_frames_segmented]!++;
    values[P.tx_segments]! += count;
    return count;
  }
}

function align(n: number): number {
  return (n + 15) & ~15;
}
