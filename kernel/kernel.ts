/**
 * The inner loops over window memory: copies, checksums, and bursts of frames.
 *
 * This folder is AssemblyScript, compiled by `npm run build:kernel` into src/memory/kernel-wasm.ts.
 * kernel.ts is its front: it exports all there is. It has no state: every address is an offset in the window, given by the caller, who has checked
 * it. What a guest can write is read once, and checked here before it is used.
 *
 * A *burst* is a run of entries of 16 bytes: { off, len, head, done }, each a buffer that lies in
 * this window: see src/memory/burst.ts. A *batch* is that of src/netmap/vale/batch.ts.
 */
import { BURST_DONE, BURST_HEAD, BURST_OFF } from './burst';

export { pipeRelease, pipeSend, valeSend } from './netmap';
export { admit, deliver, forward } from './switch';
export { bridge, patch } from './netgraph';

export function copy(dst: u32, src: u32, len: u32): void {
  memory.copy(dst, src, len);
}

export function fill(dst: u32, byte: u32, len: u32): void {
  memory.fill(dst, <u8>byte, len);
}

/**
 * Sum of the little-endian 16-bit words of [off, off + len), an odd last byte padded with zero
 * (RFC 1071), folded to 16 bits, not complemented.
 */
export function sum16(off: u32, len: u32): u32 {
  let at = off;
  const blocksEnd = off + (len & ~15);
  let lanes = i64x2.splat(0);
  while (at != blocksEnd) {
    const pairs = i32x4.extadd_pairwise_i16x8_u(v128.load(at));
    lanes = i64x2.add(lanes, i64x2.add(i64x2.extend_low_i32x4_u(pairs), i64x2.extend_high_i32x4_u(pairs)));
    at += 16;
  }
  let sum = <u64>i64x2.extract_lane(lanes, 0) + <u64>i64x2.extract_lane(lanes, 1);
  const wordsEnd = off + (len & ~1);
  while (at != wordsEnd) {
    sum += load<u16>(at);
    at += 2;
  }
  if (len & 1) sum += load<u8>(at);
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return <u32>sum;
}

/**
 * Takes chains of one buffer each from an available ring (VirtIO 1.2 §2.7.6) into `burst`: entries
 * idx to idx + max, which are available. Stops at the first that is anything but a single buffer with
 * exactly `flags`, inside [start, end) of guest-physical memory, which begins at `base` in the
 * window. Returns how many were taken; their `done` is 0.
 */
export function popChains(
  desc: u32,
  avail: u32,
  mask: u32,
  idx: u32,
  max: u32,
  flags: u32,
  start: f64,
  end: f64,
  base: u32,
  maxLen: u32,
  burst: u32,
): u32 {
  const first = <u64>start;
  const limit = <u64>end;
  let n: u32 = 0;
  for (; n < max; n++) {
    const head = <u32>load<u16>(avail + 4 + (((idx + n) & mask) << 1));
    if (head > mask) break;
    const d = desc + (head << 4);
    if (<u32>load<u16>(d + 12) != flags) break;
    const gpa = load<u64>(d);
    const len = load<u32>(d + 8);
    if (gpa < first || gpa >= limit || len > maxLen || <u64>len > limit - gpa) break;
    const entry = burst + (n << 4);
    const place = <u64>(base + <u32>(gpa - first)) | (<u64>len << 32);
    v128.store(entry, i64x2.replace_lane(i64x2.splat(head), 0, place));
  }
  return n;
}

/**
 * Returns `n` chains of a burst to a used ring (§2.7.8) from `idx` on: `done` bytes were written to
 * each; to each with `numBuffers`, 1 is stored as its header's num_buffers (§5.1.6.4).
 */
export function pushChains(used: u32, mask: u32, idx: u32, burst: u32, n: u32, numBuffers: bool): void {
  for (let i: u32 = 0; i < n; i++) {
    const entry = burst + (i << 4);
    const at = used + 4 + (((idx + i) & mask) << 3);
    if (numBuffers) store<u16>(load<u32>(entry + BURST_OFF) + 10, 1);
    store<u32>(at, load<u32>(entry + BURST_HEAD));
    store<u32>(at + 4, load<u32>(entry + BURST_DONE));
  }
}
