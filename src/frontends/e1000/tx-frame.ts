/**
 * From a gathered frame and its options to what the backend takes: checksums, segmentation (manual §3.5), VLAN tag.
 *
 * Where the backend takes a virtio-net header and honours what is asked for, that is said in the header, the payload
 * stays where it is in the guest's memory, and only headers that change are copied. Otherwise the frame is copied and
 * completed by wire/. Copies live in scratch memory until the burst's flush().
 */

import { copyPieces } from '../../memory/copy.js';
import { Iovec } from '../../memory/iovec.js';
import type { Mapping, WindowPool } from '../../memory/window.js';
import { MAX_FRAME_LEN, type NetBackend } from '../../net-backends/net-backend.js';
import { be16, le16, setBe16, setLe16 } from '../../wire/bytes.js';
import { fold, storeL4Checksum, sum16 } from '../../wire/checksum.js';
import { ETH_ADDRS_LEN, ETH_HDR_LEN, VLAN_TAG_LEN } from '../../wire/ethernet.js';
import { IPV6_HDR_LEN } from '../../wire/ipv6.js';
import { Segmenter } from '../../wire/segmentation.js';
import { TCP_CWR, TCP_FLAGS } from '../../wire/tcp.js';
import {
  OFFLOAD_CSUM,
  OFFLOAD_ECN,
  OFFLOAD_TSO4,
  OFFLOAD_TSO6,
  OFFLOAD_USO,
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
  VIRTIO_NET_HDR_GSO_ECN,
  VIRTIO_NET_HDR_GSO_TCPV4,
  VIRTIO_NET_HDR_GSO_TCPV6,
  VIRTIO_NET_HDR_GSO_UDP_L4,
} from '../../wire/vnet-header.js';
import { C } from './counters.js';
import { TSCTC, TSCTFC } from './registers.js';
import type { Statistics } from './statistics.js';
import type { TxContext } from './tx-descriptor.js';

/** pieces of guest memory that one frame may lie in, with a header and a copied front */
export const MAX_PIECES = 1024;
const SCRATCH_BYTES = 2 ** 20;
/** the longest virtio-net header, in zeros, at the beginning of the scratch memory */
const ZERO_HDR_BYTES = 64;
const UDP_LEN_OFF = 4;

/** sendFrame() when the backend is full: nothing was sent, offer it again. */
export const FULL = 0;
export const TAKEN = 1;

/** What the descriptors of a frame ask for. */
export class TxOptions {
  /** insert the checksum of TCP or UDP */
  l4 = false;
  // from, at, and up to which byte; 0: to the end
  l4Start = 0;
  l4Off = 0;
  l4End = 0;
  /** insert the checksum of IPv4 */
  ip = false;
  ipStart = 0;
  ipOff = 0;
  ipEnd = 0;
  segment = false;
  /** the tag to insert, TPID and TCI; -1: none */
  tpid = -1;
  tci = 0;

  clear(): void {
    this.l4 = false;
    this.ip = false;
    this.segment = false;
    this.tpid = -1;
  }
}

export class TxFrames {
  backend: NetBackend;
  /** OFFLOAD_* that the backend honours */
  offloads = 0;
  readonly #pool: WindowPool;
  readonly #values: Float64Array;
  readonly #statistics: Statistics;
  readonly #scratch: Mapping;
  readonly #u8: Uint8Array;
  readonly #segmenter: Segmenter;
  readonly #out = new Iovec(MAX_PIECES + 2);
  readonly #copy = new Iovec(1);
  #hdrLen = 0;
  /** bytes of scratch in use by this burst */
  #used = ZERO_HDR_BYTES;

  constructor(pool: WindowPool, backend: NetBackend, values: Float64Array, statistics: Statistics) {
    this.#pool = pool;
    this.backend = backend;
    this.#values = values;
    this.#statistics = statistics;
    this.#scratch = pool.mapAnonymous(SCRATCH_BYTES);
    this.#u8 = this.#scratch.window.u8;
    this.#segmenter = new Segmenter(this.#u8, this.#scratch.window.kernel);
  }

  set hdrLen(length: number) {
    this.#hdrLen = length;
  }

  close(): void {
    this.#scratch.close();
  }

  /** Makes `iov` begin with the header that asks for nothing. */
  begin(iov: Iovec): void {
    iov.clear();
    if (this.#hdrLen > 0) iov.push(this.#scratch.window.index, this.#scratch.off, this.#hdrLen);
  }

  /** Everything sent so far is read, and scratch memory free again. */
  flush(): void {
    this.backend.flush();
    this.#used = ZERO_HDR_BYTES;
  }

  /** Sends what `iov` holds behind the header of begin(). A frame that cannot be sent is counted, and TAKEN. */
  sendFrame(iov: Iovec, options: TxOptions, context: TxContext): number {
    const len = iov.total - this.#hdrLen;
    if (len < ETH_HDR_LEN) this.#values[C.tx_drop_runt]!++;
    else if (options.segment) return this.#sendSegmented(iov, len, options, context);
    else if (options.l4 || options.ip || options.tpid >= 0) return this.#sendCompleted(iov, len, options);
    else return this.#send(iov, len, 1, len);
    return TAKEN;
  }

  /** `segments` of which the last is `lastLen` bytes, for the statistics; the others as long as they may be. */
  #send(iov: Iovec, len: number, segments: number, lastLen: number, fullLen = len): number {
    const k = this.#hdrLen > 0 ? 1 : 0;
    const u8 = this.#pool.windows[iov.win[k]!]!.u8;
    const at = iov.off[k]!;
    const first = u8[at]!;
    const broadcast = first === 0xff && iov.len[k]! >= 6 && isBroadcast(u8, at);
    const sent = this.backend.send(iov);
    if (sent === 0) return FULL;
    if (sent < 0) {
      this.#values[C.tx_drop_backend]!++;
      return TAKEN;
    }
    this.#values[C.tx_frames]!++;
    this.#values[C.tx_bytes]! += len;
    if (segments > 1) this.#statistics.transmitted(segments - 1, fullLen, first, broadcast);
    this.#statistics.transmitted(1, lastLen, first, broadcast);
    return TAKEN;
  }

  // ---- one frame, with checksums and a tag ----

  #sendCompleted(iov: Iovec, len: number, o: TxOptions): number {
    const l4 = o.l4 && this.#fits(o.l4Start, o.l4Off, o.l4End, len);
    const ip = o.ip && this.#fits(o.ipStart, o.ipOff, o.ipEnd, len);
    // a header can say: from here to the end of the frame
    const toEnd = o.l4End === 0 || o.l4End === len - 1;
    const byHeader =
      l4 && toEnd && (this.offloads & OFFLOAD_CSUM) !== 0 && o.l4Off >= o.l4Start && o.l4Start >= ETH_HDR_LEN;
    const tagLen = o.tpid >= 0 ? VLAN_TAG_LEN : 0;
    // how much of the frame must be ours, because it changes
    let copyLen = tagLen > 0 ? ETH_ADDRS_LEN : 0;
    if (ip) copyLen = Math.max(copyLen, o.ipOff + 2, o.ipEnd === 0 ? len : o.ipEnd + 1);
    if (l4 && !byHeader) copyLen = len;
    const { off } = this.#scratch;
    const hdr = this.#reserve(ZERO_HDR_BYTES + copyLen + VLAN_TAG_LEN);
    const front = hdr + ZERO_HDR_BYTES + tagLen;
    this.#copyFront(iov, copyLen, off + front);
    if (ip) this.#insert(off + front, o.ipStart, o.ipOff, o.ipEnd === 0 ? len : o.ipEnd + 1, false);
    if (l4 && !byHeader) this.#insert(off + front, o.l4Start, o.l4Off, o.l4End === 0 ? len : o.l4End + 1, true);
    if (tagLen > 0) this.#tag(off + front, o);
    this.#writeHeader(
      off + hdr,
      byHeader ? VIRTIO_NET_HDR_F_NEEDS_CSUM : 0,
      0,
      0,
      0,
      o.l4Start + tagLen,
      o.l4Off - o.l4Start,
    );
    this.#join(iov, off + hdr, off + front - tagLen, copyLen, tagLen);
    const sent = this.#send(this.#out, len + tagLen, 1, len + tagLen);
    if (sent === TAKEN && l4) this.#values[byHeader ? C.tx_offloaded : C.tx_checksums]!++;
    return sent;
  }

  /** Manual §3.5.10: what lies outside the frame is not inserted. */
  #fits(start: number, at: number, end: number, len: number): boolean {
    const ok = start < len && at + 2 <= len && end < len && (end === 0 || end >= start);
    if (!ok) this.#values[C.fault_tx_checksum]!++;
    return ok;
  }

  /**
   * Sums [start, end) of the frame at `frame`, with what the driver has put into the field: a pseudo header's sum,
   * or 0. Stores the complement `at` bytes into the frame.
   */
  #insert(frame: number, start: number, at: number, end: number, isL4: boolean): void {
    const sum = this.#scratch.window.kernel.sum16(frame + start, end - start);
    if (isL4) storeL4Checksum(this.#u8, frame + at, sum);
    else setLe16(this.#u8, frame + at, ~sum & 0xffff);
  }

  // ---- segmentation (§3.5.2 to §3.5.9) ----

  #sendSegmented(iov: Iovec, len: number, o: TxOptions, c: TxContext): number {
    const { hdrLen, mss, tucss, tucso, ipcss } = c;
    const l3HdrLen = c.isIpv4 ? 20 : IPV6_HDR_LEN;
    // everything that is written lies within the headers, and the headers within the frame
    const bad =
      hdrLen > len ||
      mss === 0 ||
      ipcss < ETH_HDR_LEN ||
      ipcss + l3HdrLen > tucss ||
      tucso < tucss ||
      tucso + 2 > hdrLen ||
      tucss + (c.isTcp ? 20 : 8) > hdrLen ||
      (o.ip && (c.ipcso < ipcss || c.ipcso + 2 > tucss || c.ipcse < ipcss || c.ipcse >= hdrLen));
    if (bad) {
      this.#values[C.fault_tx_segmentation]!++;
      this.#statistics.count(TSCTFC);
      return TAKEN;
    }
    const tagLen = o.tpid >= 0 ? VLAN_TAG_LEN : 0;
    const gsoType = !c.isTcp
      ? VIRTIO_NET_HDR_GSO_UDP_L4
      : c.isIpv4
        ? VIRTIO_NET_HDR_GSO_TCPV4
        : VIRTIO_NET_HDR_GSO_TCPV6;
    const needs = !c.isTcp ? OFFLOAD_USO : c.isIpv4 ? OFFLOAD_TSO4 : OFFLOAD_TSO6;
    const byHeader = (this.offloads & (needs | OFFLOAD_CSUM)) === (needs | OFFLOAD_CSUM);
    const copyLen = byHeader ? hdrLen : len;
    const hdr = this.#reserve(ZERO_HDR_BYTES + copyLen + VLAN_TAG_LEN);
    const front = this.#scratch.off + hdr + ZERO_HDR_BYTES + tagLen;
    this.#copyFront(iov, copyLen, front);
    this.#bigHeaders(front, len, o, c);
    const ecn =
      c.isTcp && (this.#u8[front + tucss + TCP_FLAGS]! & TCP_CWR) !== 0 && (this.offloads & OFFLOAD_ECN) !== 0;
    if (tagLen > 0) this.#tag(front, o);
    const segments = Math.max(1, Math.ceil((len - hdrLen) / mss));
    const fullLen = tagLen + hdrLen + mss;
    const lastLen = tagLen + len - (segments - 1) * mss;
    if (len !== hdrLen + c.payLen) this.#statistics.count(TSCTFC);
    if (!byHeader) return this.#segment(front - tagLen, len + tagLen, gsoType, mss, tucss + tagLen, tucso - tucss);
    const type = ecn ? gsoType | VIRTIO_NET_HDR_GSO_ECN : gsoType;
    const hdrOff = this.#scratch.off + hdr;
    this.#writeHeader(hdrOff, VIRTIO_NET_HDR_F_NEEDS_CSUM, type, hdrLen + tagLen, mss, tucss + tagLen, tucso - tucss);
    this.#join(iov, hdrOff, front - tagLen, copyLen, tagLen);
    const sent = this.#send(this.#out, len + tagLen, segments, lastLen, fullLen);
    if (sent === TAKEN) {
      this.#values[C.tx_offloaded]!++;
      this.#statistics.count(TSCTC);
    }
    return sent;
  }

  /**
   * The driver leaves the lengths to the controller, and has summed a pseudo header without one (§3.5.8). A frame
   * that is still one has them all, so that it may go to a receiver as it is.
   */
  #bigHeaders(front: number, len: number, o: TxOptions, c: TxContext): void {
    const u8 = this.#u8;
    const ip = front + c.ipcss;
    if (c.isIpv4) setBe16(u8, ip + 2, Math.min(len - c.ipcss, 0xffff));
    else setBe16(u8, ip + 4, Math.min(len - c.ipcss - IPV6_HDR_LEN, 0xffff));
    const l4Len = len - c.tucss;
    if (!c.isTcp) setBe16(u8, front + c.tucss + UDP_LEN_OFF, Math.min(l4Len, 0xffff));
    // sums are of little-endian words (wire/checksum.ts), the length is not
    const length = ((l4Len & 0xff) << 8) | ((l4Len >>> 8) & 0xff);
    const carry = (l4Len >>> 16) << 8;
    setLe16(u8, front + c.tucso, fold(le16(u8, front + c.tucso) + length + carry));
    if (!o.ip) return;
    setBe16(u8, front + c.ipcso, 0);
    setLe16(u8, front + c.ipcso, ~sum16(u8, ip, c.ipcse + 1 - c.ipcss) & 0xffff);
  }

  /** Sends segments made of the frame of `len` bytes at `frame`, which is in scratch memory. */
  #segment(frame: number, len: number, gsoType: number, mss: number, csumStart: number, csumOffset: number): number {
    const segmenter = this.#segmenter;
    const { off, window } = this.#scratch;
    if (segmenter.begin(frame, len, gsoType, mss, csumStart, csumOffset) !== 0) {
      this.#values[C.tx_drop_segmentation]!++;
      this.#statistics.count(TSCTFC);
      return TAKEN;
    }
    this.#values[C.tx_frames_segmented]!++;
    this.#values[C.tx_segments]! += segmenter.count;
    this.#statistics.count(TSCTC);
    const frameEnd = this.#used;
    const out = this.#out;
    for (;;) {
      if (this.#used + segmenter.maxLen + 64 > SCRATCH_BYTES) {
        this.backend.flush();
        this.#used = frameEnd;
      }
      const at = off + this.#used;
      const n = segmenter.next(at, segmenter.maxLen);
      if (n <= 0) return TAKEN;
      this.#used += align(n);
      out.clear();
      if (this.#hdrLen > 0) out.push(window.index, off, this.#hdrLen);
      out.push(window.index, at, n);
      if (this.#send(out, n, 1, n) === FULL) {
        // the rest of a frame whose beginning is gone: once more, then it is lost
        this.backend.flush();
        if (this.#send(out, n, 1, n) === FULL) this.#values[C.tx_drop_backend]!++;
      }
    }
  }

  // ---- copies and headers in scratch memory ----

  /** Place of `bytes` of scratch memory, which holds at least the longest frame. */
  #reserve(bytes: number): number {
    if (this.#used + bytes > SCRATCH_BYTES) this.flush();
    const at = this.#used;
    this.#used = at + align(bytes);
    return at;
  }

  /** Copies the first `len` bytes of the frame in `iov` to `dst`. */
  #copyFront(iov: Iovec, len: number, dst: number): void {
    if (len === 0) return;
    this.#copy.clear();
    this.#copy.push(this.#scratch.window.index, dst, len);
    copyPieces(this.#pool, iov.win, iov.off, iov.len, this.#hdrLen > 0 ? 1 : 0, len, this.#copy, 0);
  }

  /** Moves both addresses of the frame at `front` 4 bytes back, and puts the tag behind them. */
  #tag(front: number, o: TxOptions): void {
    this.#u8.copyWithin(front - VLAN_TAG_LEN, front, front + ETH_ADDRS_LEN);
    setBe16(this.#u8, front + ETH_ADDRS_LEN - VLAN_TAG_LEN, o.tpid);
    setBe16(this.#u8, front + ETH_ADDRS_LEN - VLAN_TAG_LEN + 2, o.tci);
  }

  /** Little-endian, as VirtIO 1.2 §5.1.6 has it; num_buffers is not the sender's. */
  #writeHeader(
    at: number,
    flags: number,
    gsoType: number,
    hdrLen: number,
    gsoSize: number,
    csumStart: number,
    csumOffset: number,
  ): void {
    const u8 = this.#u8;
    const asks = flags !== 0;
    u8[at] = flags;
    u8[at + 1] = gsoType;
    setLe16(u8, at + 2, hdrLen);
    setLe16(u8, at + 4, gsoSize);
    setLe16(u8, at + 6, asks ? csumStart : 0);
    setLe16(u8, at + 8, asks ? csumOffset : 0);
    setLe16(u8, at + 10, 0);
  }

  /** Makes #out the header, the copied front (and its tag), and what follows `copyLen` bytes of the frame. */
  #join(iov: Iovec, hdr: number, front: number, copyLen: number, tagLen: number): void {
    const out = this.#out;
    const { index } = this.#scratch.window;
    out.clear();
    let k = 0;
    if (this.#hdrLen > 0) {
      out.push(index, hdr, this.#hdrLen);
      k = 1;
    }
    if (copyLen > 0) out.push(index, front, copyLen + tagLen);
    let skip = copyLen;
    for (; k < iov.count; k++) {
      const len = iov.len[k]!;
      if (skip >= len) skip -= len;
      else {
        out.push(iov.win[k]!, iov.off[k]! + skip, len - skip);
        skip = 0;
      }
    }
  }
}

function align(n: number): number {
  return (n + 63) & ~63;
}

function isBroadcast(u8: Uint8Array, at: number): boolean {
  return be16(u8, at) === 0xffff && be16(u8, at + 2) === 0xffff && be16(u8, at + 4) === 0xffff;
}

// the longest frame with everything around it fits, with room for segments behind it
if (ZERO_HDR_BYTES + 2 * (MAX_FRAME_LEN + 256) > SCRATCH_BYTES) throw new RangeError('scratch memory is too small');
