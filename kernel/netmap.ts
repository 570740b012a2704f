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
const MAX_FRAGS: u32 = 64;
/** the longest frame, and its header */
const MAX_CHAIN_BYTES: u64 = 65536 + 64;
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
/** the ports that are attached: their number, then a byte each */
const P_PRESENT_COUNT = 5896;
const P_PRESENT = 5900;
/** frames that were flooded since their counts were taken */
const P_FLOODED_UNKNOWN = 6160;
const P_FLOODED_MULTICAST = 6164;

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

/** The receive ring of an adapter for frames of ring `ringId`. */
// @ts-ignore: decorator
@inline
function rxRing(adapter: u32, ringId: u32): u32 {
  const rings = load<u32>(adapter + A_RX_RINGS);
  return adapter + A_KRINGS + ((ringId < rings ? ringId : ringId % rings) << K_SHIFT);
}

/** Whether a frame can go straight into the rings of an adapter: into one slot, or from several into several. */
// @ts-ignore: decorator
@inline
function fits(adapter: u32, rx: u32, len: u32, hdrLen: u32, chained: bool): bool {
  if (adapter == 0 || load<u32>(adapter + A_OPEN) == 0) return false;
  const rxHdrLen = load<u32>(adapter + A_HDR_LEN);
  return chained ? rxHdrLen == hdrLen : len - hdrLen + rxHdrLen <= load<u32>(rx + K_BUF_SIZE);
}

/** Copies a frame into the next slot of a receive ring, behind a header of zeros; drops it where there is no room. */
// @ts-ignore: decorator
@inline
function put(rx: u32, rxHdrLen: u32, frame: u32, len: u32): void {
  const tail = load<u32>(rx + K_HWTAIL);
  const next = tail + 1 == load<u32>(rx + K_NUM_SLOTS) ? 0 : tail + 1;
  if (next == load<u32>(rx + K_HWCUR)) {
    store<u32>(rx + K_DROP_FULL, load<u32>(rx + K_DROP_FULL) + 1);
    return;
  }
  const slot = load<u32>(rx + K_SLOTS) + (tail << SLOT_SHIFT);
  const idx = load<u32>(slot);
  if (!isBuf(idx, load<u32>(rx + K_BUF_TOTAL))) {
    store<u32>(rx + K_DROP_BAD, load<u32>(rx + K_DROP_BAD) + 1);
    return;
  }
  const buf = load<u32>(rx + K_BUFS) + idx * load<u32>(rx + K_BUF_SIZE);
  if (rxHdrLen != 0) {
    store<u64>(buf, 0);
    if (rxHdrLen == 12) store<u32>(buf + 8, 0);
    else store<u16>(buf + 8, 0);
  }
  copyFrame(buf + rxHdrLen, frame, len);
  // one fragment
  store<u32>(slot + SLOT_LEN, (len + rxHdrLen) | (1 << 24));
  store<u32>(rx + K_HWTAIL, next);
  store<u32>(rx + K_FRAMES, load<u32>(rx + K_FRAMES) + 1);
}

/**
 * Forwards frames of a transmit ring, from slot `at` up to `head`, as far as they are plain: no offload in a
 * header of `hdrLen` bytes, from an address known at port `source`, to ports that have rings. One to a known
 * address goes to that port, to its ring `ringId` (modulo their number); others to the first ring of every
 * other port. A ring without room drops, and counts. Returns the slot of the first frame that is not plain,
 * or `head`.
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
  // the addresses of the frame before, and the ring that it went to (0: none): most frames follow one like them
  let lastSrc: u64 = 0;
  let lastDst: u64 = 0;
  let lastRx: u32 = 0;
  let lastHdrLen: u32 = 0;
  let lastSize: u32 = 0;
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
    if (src == lastSrc && dst == lastDst && lastRx != 0) {
      if ((flags & NS_MOREFRAG) == 0 && len - hdrLen + lastHdrLen <= lastSize) {
        put(lastRx, lastHdrLen, data + hdrLen, len - hdrLen);
        if (flags != 0) store<u16>(slot + SLOT_FLAGS, 0);
        at = at + 1 == end ? 0 : at + 1;
        frames++;
        continue;
      }
    }
    if ((src & 1) != 0) break;

    let entry = table + load<u32>(port + P_SOURCE_HINT) * T_BYTES;
    if (!matches(entry, src)) {
      entry = search(table, bucketMask, src);
      if (entry == 0) break;
      store<u32>(port + P_SOURCE_HINT, (entry - table) / T_BYTES);
    }
    if (load<u32>(entry + T_PORT) != source) break;
    store<u32>(entry + T_SEEN, now);

    let to: u32 = NO_PORT;
    if ((dst & 1) == 0) {
      entry = table + load<u32>(port + P_DESTINATION_HINT) * T_BYTES;
      if (!matches(entry, dst)) {
        entry = search(table, bucketMask, dst);
        if (entry != 0) store<u32>(port + P_DESTINATION_HINT, (entry - table) / T_BYTES);
      }
      if (entry != 0 && now - load<u32>(entry + T_SEEN) <= maxAge) to = load<u32>(entry + T_PORT);
      if (to == source) break;
    }
    let n: u32 = 1;
    let bytes = len;
    if ((flags & NS_MOREFRAG) != 0) {
      const chain = measureChain(tx, at, head);
      n = <u32>(chain >> 32);
      bytes = <u32>chain;
      if (n == 0) break;
    }
    if (to == NO_PORT) {
      if (!canFlood(source, len, hdrLen, n > 1, ports)) break;
      flood(tx, at, n, source, data, bytes, hdrLen, ports);
      const counter = ports + ((dst & 1) != 0 ? P_FLOODED_MULTICAST : P_FLOODED_UNKNOWN);
      store<u32>(counter, load<u32>(counter) + 1);
    } else {
      const adapter = load<u32>(ports + P_ADAPTERS + (to << 2));
      if (adapter == 0) break;
      const rx = rxRing(adapter, ringId);
      if (!fits(adapter, rx, len, hdrLen, n > 1)) break;
      if (n > 1) putChain(rx, tx, at, bytes, hdrLen);
      else put(rx, load<u32>(adapter + A_HDR_LEN), data + hdrLen, len - hdrLen);
      noteFilled(adapter, ports, to);
      lastSrc = src;
      lastDst = dst;
      lastRx = rx;
      lastHdrLen = load<u32>(adapter + A_HDR_LEN);
      lastSize = load<u32>(rx + K_BUF_SIZE);
    }
    if (n > 1) clearFlags(tx, at, n);
    else if (flags != 0) store<u16>(slot + SLOT_FLAGS, 0);
    at += n;
    if (at >= end) at -= end;
    frames++;
  }
  store<u32>(tx + K_FRAMES, load<u32>(tx + K_FRAMES) + frames);
  return at;
}

/** Whether all other ports have rings into which a frame can go straight: see fits(). */
function canFlood(source: u32, len: u32, hdrLen: u32, chained: bool, ports: u32): bool {
  const count = load<u32>(ports + P_PRESENT_COUNT);
  for (let k: u32 = 0; k < count; k++) {
    const to = <u32>load<u8>(ports + P_PRESENT + k);
    const adapter = load<u32>(ports + P_ADAPTERS + (to << 2));
    if (to != source && !fits(adapter, adapter + A_KRINGS, len, hdrLen, chained)) return false;
  }
  return true;
}

/** Puts a frame, whose `n` slots begin at `at`, into the first ring of every other port. */
function flood(tx: u32, at: u32, n: u32, source: u32, data: u32, bytes: u32, hdrLen: u32, ports: u32): void {
  const count = load<u32>(ports + P_PRESENT_COUNT);
  for (let k: u32 = 0; k < count; k++) {
    const to = <u32>load<u8>(ports + P_PRESENT + k);
    if (to == source) continue;
    const adapter = load<u32>(ports + P_ADAPTERS + (to << 2));
    const rx = adapter + A_KRINGS;
    if (n > 1) putChain(rx, tx, at, bytes, hdrLen);
    else put(rx, load<u32>(adapter + A_HDR_LEN), data + hdrLen, bytes - hdrLen);
    noteFilled(adapter, ports, to);
  }
}

/**
 * Slots (upper half) and bytes (lower half) of the frame of several slots that begins at `at`; 0 if it is not
 * finished before `head`, or has something that is for the slow way.
 */
function measureChain(tx: u32, at: u32, head: u32): u64 {
  const slots = load<u32>(tx + K_SLOTS);
  const end = load<u32>(tx + K_NUM_SLOTS);
  const size = load<u32>(tx + K_BUF_SIZE);
  const total = load<u32>(tx + K_BUF_TOTAL);
  let bytes: u64 = 0;
  for (let n: u64 = 1; n <= <u64>MAX_FRAGS && at != head; n++) {
    const word = load<u64>(slots + (at << SLOT_SHIFT));
    const len = <u32>(word >> 32) & 0xffff;
    const flags = <u32>(word >> 48);
    if ((flags & ~(NS_BUF_CHANGED | NS_REPORT | NS_MOREFRAG)) != 0) return 0;
    if (!isBuf(<u32>word, total) || len > size || len == 0) return 0;
    bytes += len;
    if (bytes > MAX_CHAIN_BYTES) return 0;
    if ((flags & NS_MOREFRAG) == 0) return (n << 32) | bytes;
    at = at + 1 == end ? 0 : at + 1;
  }
  return 0;
}

/** The flags that ask for something, of `n` slots from `at` on, are cleared: it is done. */
function clearFlags(tx: u32, at: u32, n: u32): void {
  const slots = load<u32>(tx + K_SLOTS);
  const end = load<u32>(tx + K_NUM_SLOTS);
  for (; n > 0; n--) {
    const flagsAt = slots + (at << SLOT_SHIFT) + SLOT_FLAGS;
    const flags = load<u16>(flagsAt);
    if (flags & (NS_BUF_CHANGED | NS_REPORT)) store<u16>(flagsAt, flags & ~(NS_BUF_CHANGED | NS_REPORT));
    at = at + 1 == end ? 0 : at + 1;
  }
}

/**
 * Copies the frame of `bytes` bytes, header included, that begins at slot `from` of a transmit ring into as
 * few slots of a receive ring as it takes, behind a header of zeros. What the slots of both rings say is
 * read again here: they may have changed since the frame was measured, and whatever they say now, no more
 * than that many bytes are read and written, all of them in buffers.
 */
function putChain(rx: u32, tx: u32, from: u32, bytes: u32, hdrLen: u32): void {
  const rxEnd = load<u32>(rx + K_NUM_SLOTS);
  const rxSize = load<u32>(rx + K_BUF_SIZE);
  const rxSlots = load<u32>(rx + K_SLOTS);
  const first = load<u32>(rx + K_HWTAIL);
  const hwcur = load<u32>(rx + K_HWCUR);
  const used = first >= hwcur ? first - hwcur : first + rxEnd - hwcur;
  const n = (bytes + rxSize - 1) / rxSize;
  if (n > MAX_FRAGS || used + n >= rxEnd) {
    store<u32>(rx + K_DROP_FULL, load<u32>(rx + K_DROP_FULL) + 1);
    return;
  }
  const end = load<u32>(tx + K_NUM_SLOTS);
  const size = load<u32>(tx + K_BUF_SIZE);
  let src: u32 = 0;
  let srcLeft: u32 = 0;
  let left = bytes;
  let tail = first;
  let header: u32 = 0;
  for (let k = n; k > 0; k--) {
    const slot = rxSlots + (tail << SLOT_SHIFT);
    const idx = load<u32>(slot);
    if (!isBuf(idx, load<u32>(rx + K_BUF_TOTAL))) {
      store<u32>(rx + K_DROP_BAD, load<u32>(rx + K_DROP_BAD) + 1);
      return;
    }
    let dst = load<u32>(rx + K_BUFS) + idx * rxSize;
    if (k == n) header = dst;
    const room = min(rxSize, left);
    const stop = dst + room;
    while (dst != stop) {
      if (srcLeft == 0) {
        const word = load<u64>(load<u32>(tx + K_SLOTS) + (from << SLOT_SHIFT));
        srcLeft = <u32>(word >> 32) & 0xffff;
        if (!isBuf(<u32>word, load<u32>(tx + K_BUF_TOTAL)) || srcLeft > size || srcLeft == 0) {
          store<u32>(tx + K_DROP_BAD, load<u32>(tx + K_DROP_BAD) + 1);
          return;
        }
        src = load<u32>(tx + K_BUFS) + <u32>word * size;
        from = from + 1 == end ? 0 : from + 1;
      }
      const piece = min(stop - dst, srcLeft);
      copyFrame(dst, src, piece);
      dst += piece;
      src += piece;
      srcLeft -= piece;
    }
    left -= room;
    // each slot says how many they are
    store<u32>(slot + SLOT_LEN, room | (n << 24) | (k > 1 ? NS_MOREFRAG << 16 : 0));
    tail = tail + 1 == rxEnd ? 0 : tail + 1;
  }
  if (hdrLen != 0) memory.fill(header, 0, hdrLen);
  store<u32>(rx + K_HWTAIL, tail);
  store<u32>(rx + K_FRAMES, load<u32>(rx + K_FRAMES) + 1);
}
