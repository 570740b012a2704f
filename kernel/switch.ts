/**
 * The inner loops of a VALE switch over batches (src/netmap/vale/batch.ts): what is admitted, where it goes,
 * and its copy into the buffers of a burst.
 */
import { BURST_DONE, BURST_LEN, BURST_OFF } from './burst';

// a record of a batch (src/netmap/vale/batch.ts), 32 bytes: half a cache line
const R_OFF = 0;
const R_LEN = 4;
const R_HDR0 = 8;
const R_HDR2 = 16;
const R_PIECES = 22;
const R_NEEDS = 24;
const R_SOURCE = 25;
const R_WIN = 26;
const R_ROUTE = 28;
const R_SHIFT = 5;

/**
 * Adds frames of a burst to a batch, from entry `from` on, as records from `record` on. Stops at the
 * first frame that asks for an offload in its header of `hdrLen` bytes, is shorter than `minLen`, or
 * longer than `maxLen`. Returns how many were added.
 */
export function admit(
  burst: u32,
  from: u32,
  count: u32,
  hdrLen: u32,
  minLen: u32,
  maxLen: u32,
  batch: u32,
  record: u32,
  source: u32,
  win: u32,
): u32 {
  // one piece, no needs
  const second = i32x4.replace_lane(i32x4.replace_lane(i32x4.splat(0), 1, 1 << 16), 2, (source << 8) | (win << 16));
  let n: u32 = 0;
  let at = batch + (record << R_SHIFT);
  for (let k = from; k < count; k++, n++) {
    const entry = burst + (k << 4);
    const off = load<u32>(entry + BURST_OFF);
    const len = load<u32>(entry + BURST_LEN) - hdrLen;
    // a length below the header's wraps round, and is too long
    if (len < minLen || len > maxLen) break;
    // NEEDS_CSUM, or a GSO type (§5.1.6)
    if (hdrLen != 0 && (load<u16>(off) & 0xff01) != 0) break;
    // offset, length, and a header of zeros
    v128.store(at, i64x2.replace_lane(i64x2.splat(0), 0, <u64>(off + hdrLen) | (<u64>len << 32)));
    v128.store(at + 16, second);
    at += 1 << R_SHIFT;
  }
  return n;
}

// an entry of a forwarding table (src/netmap/vale/table.ts): { lo, hi, port, seen }, 32 bits each
const T_LO = 0;
export const T_PORT = 8;
export const T_SEEN = 12;
export const T_BYTES = 16;
const WAYS = 4;

// a port's words, and its list of records (src/netmap/vale/ports.ts)
const P_PENDING = 0;
export const P_SOURCE_HINT = 4;
export const P_DESTINATION_HINT = 8;
export const P_ATTACHED = 12;
export const P_BYTES = 16;
const PORTS = 256;
/** port of a free entry */
export const NO_PORT: u32 = 255;
const P_TOUCHED_COUNT = P_BYTES * PORTS;
const P_TOUCHED = P_TOUCHED_COUNT + 4;
const P_LISTS = 8192;
// BATCH_RECORDS entries, and a bit: the lists are not to begin in the same cache set
const P_LIST_BYTES = 2 * 8192 + 192;

export const MAC_BITS: u64 = 0xffffffffffff;

/** Whether `entry` is that of an address; lo and hi are next to each other. */
// @ts-ignore: decorator
@inline
export function matches(entry: u32, mac: u64): bool {
  return load<u64>(entry + T_LO) == mac;
}

/** The entry of an address in its bucket, or 0. A free entry matches none: its port is beyond any. */
export function search(table: u32, bucketMask: u32, mac: u64): u32 {
  const hi = <u32>(mac >> 32);
  let h: u32 = (<u32>mac ^ (hi << 16) ^ hi) * 0x9e3779b1;
  h = (h ^ (h >> 15)) & bucketMask;
  const first = table + h * WAYS * T_BYTES;
  for (let entry = first; entry < first + WAYS * T_BYTES; entry += T_BYTES) {
    if (matches(entry, mac) && load<u32>(entry + T_PORT) != NO_PORT) return entry;
  }
  return 0;
}

/**
 * Forwards records [from, count) of a batch that are plain: complete, in one piece of window `win`, from an address known at its port, to one known at another port. Each is added to the
 * pending list of its destination. Stops at the first that is not plain; returns its number, or `count`.
 */
export function forward(
  batch: u32,
  from: u32,
  count: u32,
  win: u32,
  table: u32,
  bucketMask: u32,
  now: u32,
  maxAge: u32,
  ports: u32,
): u32 {
  for (let i = from; i < count; i++) {
    const record = batch + (i << R_SHIFT);
    if (
      load<u8>(record + R_NEEDS) != 0 ||
      <u32>load<u8>(record + R_WIN) != win ||
      load<u16>(record + R_PIECES) != 1 ||
      load<u16>(record + R_ROUTE) != 0
    )
      return i;
    const source = <u32>load<u8>(record + R_SOURCE);
    const port = ports + source * P_BYTES;
    if (load<u32>(port + P_ATTACHED) == 0) return i;
    const at = load<u32>(record + R_OFF);
    const dst = load<u64>(at) & MAC_BITS;
    const src = load<u64>(at + 4) >> 16;
    if (((dst | src) & 1) != 0) return i;

    let entry = table + load<u32>(port + P_SOURCE_HINT) * T_BYTES;
    if (!matches(entry, src)) {
      entry = search(table, bucketMask, src);
      if (entry == 0) return i;
      store<u32>(port + P_SOURCE_HINT, (entry - table) / T_BYTES);
    }
    if (load<u32>(entry + T_PORT) != source) return i;
    store<u32>(entry + T_SEEN, now);

    entry = table + load<u32>(port + P_DESTINATION_HINT) * T_BYTES;
    if (!matches(entry, dst)) {
      entry = search(table, bucketMask, dst);
      if (entry == 0) return i;
      store<u32>(port + P_DESTINATION_HINT, (entry - table) / T_BYTES);
    }
    const to = load<u32>(entry + T_PORT);
    if (to == NO_PORT || to == source || now - load<u32>(entry + T_SEEN) > maxAge) return i;

    const destination = ports + to * P_BYTES;
    const pending = load<u32>(destination + P_PENDING);
    store<u16>(ports + P_LISTS + to * P_LIST_BYTES + (pending << 1), <u16>i);
    store<u32>(destination + P_PENDING, pending + 1);
    if (pending == 0) {
      const touched = load<u32>(ports + P_TOUCHED_COUNT);
      store<u8>(ports + P_TOUCHED + touched, <u8>to);
      store<u32>(ports + P_TOUCHED_COUNT, touched + 1);
    }
  }
  return count;
}

/**
 * Copies the frames that `pending` lists (record numbers, 16 bits each) into the buffers of `burst`,
 * one each, behind their headers of `hdrLen` bytes. Stops at the first that is not one piece of window
 * `win`, or does not fit. Returns how many were copied; their `done` is the bytes written.
 */
export function deliver(
  pending: u32,
  count: u32,
  batch: u32,
  win: u32,
  hdrLen: u32,
  burst: u32,
  buffers: u32,
): u32 {
  const max = min(count, buffers);
  let n: u32 = 0;
  for (; n < max; n++) {
    const record = batch + (<u32>load<u16>(pending + (n << 1)) << R_SHIFT);
    const len = load<u32>(record + R_LEN);
    if (load<u16>(record + R_PIECES) != 1 || <u32>load<u8>(record + R_WIN) != win) break;
    const entry = burst + (n << 4);
    if (load<u32>(entry + BURST_LEN) < len + hdrLen) break;
    const dst = load<u32>(entry + BURST_OFF);
    if (hdrLen != 0) {
      store<u64>(dst, load<u64>(record + R_HDR0));
      if (hdrLen == 12) store<u32>(dst + 8, load<u32>(record + R_HDR2));
      else store<u16>(dst + 8, load<u16>(record + R_HDR2));
    }
    copyFrame(dst + hdrLen, load<u32>(record + R_OFF), len);
    store<u32>(entry + BURST_DONE, len + hdrLen);
  }
  return n;
}

/** memory.copy is a call out of the module: not worth it for short frames. */
// @ts-ignore: decorator
@inline
export function copyFrame(dst: u32, src: u32, len: u32): void {
  if (len < 16 || len > 256) {
    memory.copy(dst, src, len);
    return;
  }
  // the last 16 bytes may overlap the block before
  const last = len - 16;
  const tail = v128.load(src + last);
  for (let at: u32 = 0; at < last; at += 16) v128.store(dst + at, v128.load(src + at));
  v128.store(dst + last, tail);
}
