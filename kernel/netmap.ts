/**
 * The inner loops over netmap rings: frames from slots to slots, by copy through a VALE switch or by
 * handing the slot over in a pipe. A kring's and an adapter's words are those of src/netmap/kring.ts; they
 * lie where no user writes. What users can write (slots) is read once, and checked before it is used.
 */
import {
  copyFrame,
  MAC_BITS,
  matches,
  NO_PORT,
  P_ATTACHED,
  P_BYTES,
  P_DESTINATION_HINT,
  P_SOURCE_HINT,
  search,
  T_BYTES,
  T_PORT,
  T_SEEN,
} from './switch';

// a kring
const K_SLOTS = 0;
const K_NUM_SLOTS = 4;
const K_BUFS = 8;
const K_BUF_SIZE = 12;
const K_BUF_TOTAL = 16;
const K_HWCUR = 20;
const K_HWTAIL = 24;
const K_FRAMES = 28;
const K_DROP_FULL = 32;
const K_DROP_BAD = 36;
const K_SHIFT = 6;

// an adapter, and its receive krings behind it
const A_RX_RINGS = 0;
const A_HDR_LEN = 4;
const A_OPEN = 8;
const A_TOUCHED = 12;
const A_KRINGS = 64;

const NS_BUF_CHANGED = 0x01;
const NS_REPORT = 0x02;
const NS_MOREFRAG = 0x20;
const MAX_FRAGS = 64;
const SLOT_SHIFT = 4;
const SLOT_LEN = 4;
const SLOT_FLAGS = 6;

/** Whether a buffer's index is one of the region; 0 and 1 are nobody's. */
// @ts-ignore: decorator
@inline
function isBuf(idx: u32, total: u32): bool {
  return idx - 2 < total - 2;
}

/**
 * Hands slots [hwcur, head) of a transmit ring over to receive ring `rx`, which has as many slots. One
 * that names no buffer, or too many bytes, arrives with no bytes. Only whole frames are shown. Returns
 * how many those are.
 */
export function pipeSend(tx: u32, rx: u32, head: u32): u32 {
  const end = load<u32>(tx + K_NUM_SLOTS);
  const from = load<u32>(tx + K_SLOTS);
  const to = load<u32>(rx + K_SLOTS);
  const total = load<u32>(tx + K_BUF_TOTAL);
  const size = load<u32>(tx + K_BUF_SIZE);
  let frames: u32 = 0;
  let shown = load<u32>(rx + K_HWTAIL);
  let at = load<u32>(tx + K_HWCUR);
  while (at != head) {
    const ts = from + (at << SLOT_SHIFT);
    const rs = to + (at << SLOT_SHIFT);
    const slot = v128.load(ts);
    const word = <u64>i64x2.extract_lane(slot, 0);
    const flags = <u32>(word >> 48);
    if (isBuf(<u32>word, total) && (<u32>(word >> 32) & 0xffff) <= size) v128.store(rs, slot);
    else {
      store<u32>(rs + SLOT_LEN, flags << 16);
      store<u32>(tx + K_DROP_BAD, load<u32>(tx + K_DROP_BAD) + 1);
    }
    if (flags & NS_BUF_CHANGED) store<u16>(ts + SLOT_FLAGS, <u16>(flags & ~NS_BUF_CHANGED));
    at = at + 1 == end ? 0 : at + 1;
    if ((flags & NS_MOREFRAG) == 0) {
      shown = at;
      frames++;
    }
  }
  store<u32>(tx + K_HWCUR, head);
  store<u32>(rx + K_HWTAIL, shown);
  return frames;
}

/**
 * Gives slots [hwcur, head) of a receive ring back to the transmit ring that they came from, with the
 * buffers that the receiver has put in their place (NS_BUF_CHANGED), unless they are none.
 */
export function pipeRelease(rx: u32, tx: u32, head: u32): void {
  const end = load<u32>(rx + K_NUM_SLOTS);
  const from = load<u32>(rx + K_SLOTS);
  const to = load<u32>(tx + K_SLOTS);
  const total = load<u32>(rx + K_BUF_TOTAL);
  let at = load<u32>(rx + K_HWCUR);
  while (at != head) {
    const rs = from + (at << SLOT_SHIFT);
    const word = load<u64>(rs);
    if (<u32>(word >> 48) & NS_BUF_CHANGED) {
      if (isBuf(<u32>word, total)) store<u64>(to + (at << SLOT_SHIFT), word);
      else store<u32>(rx + K_DROP_BAD, load<u32>(rx + K_DROP_BAD) + 1);
      store<u16>(rs + SLOT_FLAGS, <u16>((<u32>(word >> 48)) & ~NS_BUF_CHANGED));
    }
    at = at + 1 == end ? 0 : at + 1;
  }
  store<u32>(rx + K_HWCUR, head);
  store<u32>(tx + K_HWTAIL, (head == 0 ? end : head) - 1);
}

// of a switch's ports (src/netmap/vale/ports.ts): each port's adapter, 0 where its user has no rings, and
// the ports into whose rings frames were put
const P_ADAPTERS = 4608;
const P_FILLED_COUNT = 5632;
const P_FILLED = 5636;

/** Notes that frames were put into the rings of port `to`. */
// @ts-ignore: decorator
@inline
function noteFilled(adapter: u32, ports: u32, to: u32): void {
  if (load<u32>(adapter + A_TOUCHED) == 0) {
    store<u32>(adapter + A_TOUCHED, 1);
    const filled = load<u32>(ports + P_FILLED_COUNT);
    store<u8>(ports + P_FILLED + filled, <u8>to);
    store<u32>(ports + P_FILLED_COUNT, filled + 1);
  }
}

/**
 * Forwards frames of a transmit ring, from slot `at` up to `head`, as far as they are plain: no offload in a
 * header of `hdrLen` bytes, from an address known at port `source`, to one known at another port that has
 * rings, of whose ring `ringId` (modulo their number) each gets the next slots. A ring without room drops,
 * and counts. Returns the slot of the first frame that is not plain, or `head`.
 */
export function valeSend(
  tx: u32,
  at: u32,
  head: u32,
  ringId: u32,
  hdrLen: u32,
  source: u32,
  table: u32,
  bucketMask: u32,
  now: u32,
  maxAge: u32,
  ports: u32,
): u32 {
  const port = ports + source * P_BYTES;
  if (load<u32>(port + P_ATTACHED) == 0) return at;
  const end = load<u32>(tx + K_NUM_SLOTS);
  const slots = load<u32>(tx + K_SLOTS);
  const bufs = load<u32>(tx + K_BUFS);
  const size = load<u32>(tx + K_BUF_SIZE);
  const total = load<u32>(tx + K_BUF_TOTAL);
  let frames: u32 = 0;
  while (at != head) {
    const slot = slots + (at << SLOT_SHIFT);
    const word = load<u64>(slot);
    const len = <u32>(word >> 32) & 0xffff;
    const flags = <u32>(word >> 48);
    if ((flags & ~(NS_BUF_CHANGED | NS_REPORT | NS_MOREFRAG)) != 0) break;
    if (!isBuf(<u32>word, total) || len > size || len < hdrLen + 14) break;
    const data = bufs + <u32>word * size;
    if (hdrLen != 0 && (load<u16>(data) & 0xff01) != 0) break;
    const dst = load<u64>(data + hdrLen) & MAC_BITS;
    const src = load<u64>(data + hdrLen + 4) >> 16;
    if (((dst | src) & 1) != 0) break;

    let entry = table + load<u32>(port + P_SOURCE_HINT) * T_BYTES;
    if (!matches(entry, src)) {
      entry = search(table, bucketMask, src);
      if (entry == 0) break;
      store<u32>(port + P_SOURCE_HINT, (entry - table) / T_BYTES);
    }
    if (load<u32>(entry + T_PORT) != source) break;
    store<u32>(entry + T_SEEN, now);

    entry = table + load<u32>(port + P_DESTINATION_HINT) * T_BYTES;
    if (!matches(entry, dst)) {
      entry = search(table, bucketMask, dst);
      if (entry == 0) break;
      store<u32>(port + P_DESTINATION_HINT, (entry - table) / T_BYTES);
    }
    const to = load<u32>(entry + T_PORT);
    if (to == NO_PORT || to == source || now - load<u32>(entry + T_SEEN) > maxAge) break;
    const adapter = load<u32>(ports + P_ADAPTERS + (to << 2));
    if (adapter == 0 || load<u32>(adapter + A_OPEN) == 0) break;
    const rings = load<u32>(adapter + A_RX_RINGS);
    const rx = adapter + A_KRINGS + ((ringId < rings ? ringId : ringId % rings) << K_SHIFT);
    const rxHdrLen = load<u32>(adapter + A_HDR_LEN);

    if ((flags & NS_MOREFRAG) != 0) {
      // slot by slot; where the receiver's would be others, the frame is for the slow way
      if (rxHdrLen != hdrLen || load<u32>(rx + K_BUF_SIZE) < size) break;
      const next = sendChain(tx, at, head, rx, hdrLen);
      if (next == at) break;
      at = next;
      frames++;
      noteFilled(adapter, ports, to);
      continue;
    }

    const rxLen = len - hdrLen + rxHdrLen;
    const rxSize = load<u32>(rx + K_BUF_SIZE);
    if (rxLen > rxSize) break;
    if (flags != 0) store<u16>(slot + SLOT_FLAGS, 0);
    at = at + 1 == end ? 0 : at + 1;
    frames++;

    const tail = load<u32>(rx + K_HWTAIL);
    const next = tail + 1 == load<u32>(rx + K_NUM_SLOTS) ? 0 : tail + 1;
    if (next == load<u32>(rx + K_HWCUR)) {
      store<u32>(rx + K_DROP_FULL, load<u32>(rx + K_DROP_FULL) + 1);
      noteFilled(adapter, ports, to);
      continue;
    }
    const rxSlot = load<u32>(rx + K_SLOTS) + (tail << SLOT_SHIFT);
    const idx = load<u32>(rxSlot);
    if (!isBuf(idx, load<u32>(rx + K_BUF_TOTAL))) {
      store<u32>(rx + K_DROP_BAD, load<u32>(rx + K_DROP_BAD) + 1);
      noteFilled(adapter, ports, to);
      continue;
    }
    const buf = load<u32>(rx + K_BUFS) + idx * rxSize;
    if (rxHdrLen != 0) {
      store<u64>(buf, 0);
      if (rxHdrLen == 12) store<u32>(buf + 8, 0);
      else store<u16>(buf + 8, 0);
    }
    copyFrame(buf + rxHdrLen, data + hdrLen, len - hdrLen);
    // one fragment
    store<u32>(rxSlot + SLOT_LEN, rxLen | (1 << 24));
    store<u32>(rx + K_HWTAIL, next);
    store<u32>(rx + K_FRAMES, load<u32>(rx + K_FRAMES) + 1);
    noteFilled(adapter, ports, to);
  }
  store<u32>(tx + K_FRAMES, load<u32>(tx + K_FRAMES) + frames);
  return at;
}

/**
 * Copies a frame of several slots, which begins at `at` and is known to be plain, into as many slots of a
 * receive ring whose buffers are no smaller. Returns the slot behind it; `at` if it is not finished before
 * `head`, or has a slot that is for the slow way.
 */
function sendChain(tx: u32, at: u32, head: u32, rx: u32, hdrLen: u32): u32 {
  const end = load<u32>(tx + K_NUM_SLOTS);
  const slots = load<u32>(tx + K_SLOTS);
  const bufs = load<u32>(tx + K_BUFS);
  const size = load<u32>(tx + K_BUF_SIZE);
  const total = load<u32>(tx + K_BUF_TOTAL);
  const rxEnd = load<u32>(rx + K_NUM_SLOTS);
  const rxSlots = load<u32>(rx + K_SLOTS);
  const rxBufs = load<u32>(rx + K_BUFS);
  const rxSize = load<u32>(rx + K_BUF_SIZE);
  const rxTotal = load<u32>(rx + K_BUF_TOTAL);
  const hwcur = load<u32>(rx + K_HWCUR);
  const first = load<u32>(rx + K_HWTAIL);
  let tail = first;
  let n: u32 = 0;
  let bytes: u32 = 0;
  // 0: all is well; else the word of the drop to count
  let drop: u32 = 0;
  let next = at;
  let firstBuf: u32 = 0;
  for (;;) {
    if (next == head || n == MAX_FRAGS) return at;
    const word = load<u64>(slots + (next << SLOT_SHIFT));
    const len = <u32>(word >> 32) & 0xffff;
    const flags = <u32>(word >> 48);
    // as its first slot was read before, and may have changed since, it is checked again
    if ((flags & ~(NS_BUF_CHANGED | NS_REPORT | NS_MOREFRAG)) != 0) return at;
    if (!isBuf(<u32>word, total) || len > size) return at;
    bytes += len;
    if (bytes > 65536 + 64) return at;
    n++;
    next = next + 1 == end ? 0 : next + 1;
    if (drop == 0) {
      const rxNext = tail + 1 == rxEnd ? 0 : tail + 1;
      const rxSlot = rxSlots + (tail << SLOT_SHIFT);
      const idx = load<u32>(rxSlot);
      if (rxNext == hwcur) drop = K_DROP_FULL;
      else if (!isBuf(idx, rxTotal)) drop = K_DROP_BAD;
      else {
        if (n == 1) firstBuf = rxBufs + idx * rxSize;
        copyFrame(rxBufs + idx * rxSize, bufs + <u32>word * size, len);
        store<u32>(rxSlot + SLOT_LEN, len | ((flags & NS_MOREFRAG) << 16));
        tail = rxNext;
      }
    }
    if ((flags & NS_MOREFRAG) == 0) break;
  }
  for (let i = at; i != next; i = i + 1 == end ? 0 : i + 1) {
    const flagsAt = slots + (i << SLOT_SHIFT) + SLOT_FLAGS;
    const flags = load<u16>(flagsAt);
    if (flags & (NS_BUF_CHANGED | NS_REPORT)) store<u16>(flagsAt, flags & ~(NS_BUF_CHANGED | NS_REPORT));
  }
  if (drop != 0) {
    store<u32>(rx + drop, load<u32>(rx + drop) + 1);
    return next;
  }
  // the header was looked at before it was copied: what is delivered is what was seen
  if (hdrLen != 0) memory.fill(firstBuf, 0, hdrLen);
  // each slot of a received frame says how many they are
  for (let i = first; i != tail; i = i + 1 == rxEnd ? 0 : i + 1) {
    store<u8>(rxSlots + (i << SLOT_SHIFT) + SLOT_FLAGS + 1, <u8>n);
  }
  store<u32>(rx + K_HWTAIL, tail);
  store<u32>(rx + K_FRAMES, load<u32>(rx + K_FRAMES) + 1);
  return next;
}
