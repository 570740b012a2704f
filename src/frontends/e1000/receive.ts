/**
 * The receive side (manual §3.2): frames from the backend into the driver's buffers.
 *
 * The front of each frame is received into memory of our own, where filters and headers are looked at and cannot
 * change, the rest straight into the buffers: one copy. What is rejected has used no descriptor. When the driver has
 * left none, receive is disabled until it writes RDT; frames wait in the backend. While it has no ring at all frames
 * are dropped and counted, so that it never meets stale ones.
 *
 * remote-receive.ts brings descriptors that lie in memory that is not shared, and stores what is received.
 */
import type { GuestMemory } from '../../memory/guest-memory.js';
import type { WindowPool } from '../../memory/window.js';
import type { NetBackend } from '../../net-backends/net-backend.js';
import { be16, le16 } from '../../wire/bytes.js';
import { fold, storeL4Checksum, sum16 } from '../../wire/checksum.js';
import { CRC32_INIT, crc32 } from '../../wire/crc32.js';
import { ETH_ADDRS_LEN, VLAN_TAG_LEN } from '../../wire/ethernet.js';
import { VIRTIO_NET_HDR_F_DATA_VALID, VIRTIO_NET_HDR_F_NEEDS_CSUM } from '../../wire/vnet-header.js';
import { C } from './counters.js';
import { ACCEPTED_INEXACT, type Filters, REJECTED } from './filters.js';
import type { Interrupts } from './interrupts.js';
import * as R from './registers.js';
import { RemoteReceive } from './remote-receive.js';
import { DescriptorRing } from './ring.js';
import { RxBuffers } from './rx-buffers.js';
import { ReceiveChecksum, RXD_STAT_IXSM, shifted, swap16 } from './rx-checksum.js';
import { FCS_LEN, type Statistics } from './statistics.js';

/** bytes of each frame that come to our own memory: headers up to TCP's, with tags and options */
const FRONT = 192;
/** least bytes of a frame without its check sequence (IEEE 802.3 §3.2.8) */
const MIN_FRAME_LEN = 60;
/** longest frames, check sequence included: without RCTL.LPE, and with (manual §13.4.22) */
const MAX_SHORT = 1522;
const MAX_LONG = 16384;
const ETHERTYPE_MAC_CONTROL = 0x8808;
const PAUSE_OPCODE = 1;

// status of a receive descriptor (§3.2.3.1), and an error (§3.2.3.2)
const RXD_STAT_DD = 0x01;
const RXD_STAT_EOP = 0x02;
const RXD_STAT_VP = 0x08;
const RXD_STAT_PIF = 0x80;
const RXD_ERR_RXE = 0x80;

// gather(): descriptors to use, or one of these
const STARVED = -1;
const NEVER_FITS = -2;

export class Receiver {
  readonly ring: DescriptorRing;
  backend: NetBackend;
  memory: GuestMemory | undefined;
  /** bytes of virtio-net header that the backend puts before each frame */
  hdrLen = 0;
  /** counter of frames that are dropped because the driver cannot take them; 0: it can */
  mute = C.rx_drop_disabled;
  /** frames wait, and the driver has left too few descriptors */
  starved = false;
  readonly #words: Uint32Array;
  readonly #values: Float64Array;
  readonly #filters: Filters;
  readonly #statistics: Statistics;
  readonly #interrupts: Interrupts;
  readonly #checksum = new ReceiveChecksum();
  readonly #buffers: RxBuffers;
  readonly #remote: RemoteReceive;
  /** receive is disabled: frames wait */
  #held = false;
  /** descriptors that the next frame takes, if it is starved */
  #wanted = 0;
  /** bytes that the tag of the frame before took: what comes is likely alike */
  #expectedTag = 0;
  // of the burst in hand: descriptors or frames that were returned, frames and bytes among them, and causes
  #returned = 0;
  #frames = 0;
  #bytes = 0;
  #causes = 0;
  #small = false;

  constructor(
    words: Uint32Array,
    windows: WindowPool,
    backend: NetBackend,
    values: Float64Array,
    filters: Filters,
    statistics: Statistics,
    interrupts: Interrupts,
  ) {
    this.#words = words;
    this.backend = backend;
    this.#values = values;
    this.#filters = filters;
    this.#statistics = statistics;
    this.#interrupts = interrupts;
    this.ring = new DescriptorRing(words, R.RDBAL, windows);
    this.#buffers = new RxBuffers(windows, MAX_LONG);
    this.#remote = new RemoteReceive(
      this.ring,
      values,
      () => this.#goOn(),
      (frames, bytes, causes) => this.#delivered(frames, bytes, causes),
    );
  }

  close(): void {
    this.#buffers.close();
  }

  /** Drains the backend as far as the descriptors go, and interrupts once for all. */
  receive(): void {
    if (this.mute !== 0) {
      while (this.backend.rxDiscard() > 0) this.#values[this.mute]!++;
      return;
    }
    const memory = this.memory!;
    this.#returned = 0;
    this.#frames = 0;
    this.#bytes = 0;
    this.#causes = 0;
    this.#small = false;
    for (;;) {
      const len = this.backend.peekRecvLen() - this.hdrLen;
      if (len <= 0) break;
      if (!this.ring.usable(memory)) {
        this.#discard(C.fault_rx_ring);
        continue;
      }
      if (this.#tooLong(len)) continue;
      if (!this.#receiveOne(len)) break;
    }
    if (this.#returned === 0) {
      if (this.#causes !== 0) this.#interrupts.raise(this.#causes);
      return;
    }
    const causes = this.#causes | (this.#small ? R.ICR_SRPD : 0);
    if (this.ring.copy === undefined) this.#delivered(this.#frames, this.#bytes, causes);
    else this.#remote.store(this.#frames, this.#bytes, causes);
  }

  /** RDT was written. */
  posted(): void {
    if (this.ring.copy !== undefined) this.#remote.tailMoved();
    this.resume();
  }

  /** Descriptors came, or will never come: lets the backend call again, and fetches those that are not here. */
  resume(): void {
    const { ring } = this;
    const fetches = this.mute !== C.rx_drop_disabled && ring.usable(this.memory!) && ring.copy !== undefined;
    if (fetches) this.#remote.fetch();
    if (!this.#held) return;
    this.#held = false;
    this.starved = false;
    this.backend.recvEnable();
  }

  /** The driver does not receive any more. */
  disable(): void {
    this.#remote.disable();
  }

  /** The driver has set the ring up anew, or reset the controller. */
  renew(): void {
    this.#remote.cancel();
    this.ring.renew();
  }

  memoryChanged(): void {
    this.ring.forget();
  }

  /** The hypervisor has gone, after a reset. */
  detach(): void {
    this.#remote.abandon();
  }

  /** Transfers are over. What was too little for the next frame still is. */
  #goOn(): void {
    const { ring, memory } = this;
    if (this.starved && memory !== undefined && ring.usable(memory) && ring.count < this.#wanted) return;
    this.resume();
  }

  /** The driver has a burst: tells it. */
  #delivered(frames: number, bytes: number, causes: number): void {
    this.#values[C.rx_frames]! += frames;
    this.#values[C.rx_bytes]! += bytes;
    this.#interrupts.received(causes);
  }

  #discard(counter: number): void {
    this.backend.rxDiscard();
    this.#values[counter]!++;
  }

  #tooLong(len: number): boolean {
    const rctl = this.#words[R.RCTL >> 2]!;
    const max = (rctl & (R.RCTL_LPE | R.RCTL_SBP)) !== 0 ? MAX_LONG : MAX_SHORT;
    if (len + FCS_LEN <= max) return false;
    this.#statistics.count(R.ROC);
    this.#statistics.count(R.RLEC);
    this.#discard(C.rx_drop_too_long);
    return true;
  }

  /** False: there are no descriptors for the frame, or no frame. */
  #receiveOne(len: number): boolean {
    const rctl = this.#words[R.RCTL >> 2]!;
    const bufLen = bufferLength(rctl);
    const fcs = (rctl & R.RCTL_SECRC) !== 0 ? 0 : FCS_LEN;
    const count = this.#gather(bufLen, Math.max(len, MIN_FRAME_LEN) + fcs);
    if (count === NEVER_FITS) {
      this.#statistics.count(R.MPC);
      this.#discard(C.rx_drop_too_long);
      return true;
    }
    if (count === STARVED) return false;
    const expectedTag = this.#expectedTag;
    const buffers = this.#buffers;
    const target = buffers.target(this.hdrLen, Math.min(len, FRONT), FRONT - expectedTag, len > FRONT);
    const got = this.backend.recv(target);
    if (got !== len + this.hdrLen) {
      if (got !== 0) this.#values[C.rx_drop_backend]!++;
      return got !== 0;
    }
    const { u8, front } = buffers;
    const verdict = this.#admit(u8, front, len);
    if (verdict === REJECTED) return true;
    const tagged = len >= 18 && this.#filters.isTagged(u8, front);
    const strip = tagged && (this.#words[R.CTRL >> 2]! & R.CTRL_VME) !== 0 ? VLAN_TAG_LEN : 0;
    if (strip !== expectedTag) {
      if (len > FRONT) buffers.move(len - FRONT, FRONT - expectedTag, FRONT - strip);
      this.#expectedTag = strip;
    }
    this.#finish(len, strip, fcs, bufLen, verdict === ACCEPTED_INEXACT ? RXD_STAT_PIF : 0);
    return true;
  }

  /**
   * Translates the buffers for `need` bytes, and no more of them: Linux's driver maps for its device the 1522 bytes that it expects,
   * not RCTL.BSIZE, which an IOMMU takes at its word. Returns how many descriptors they are. A descriptor whose buffer cannot be
   * written is returned to the driver with an error.
   */
  #gather(bufLen: number, need: number): number {
    const { ring } = this;
    const { map } = ring;
    const { pieces } = this.#buffers;
    const want = Math.ceil(need / bufLen);
    if (want > ring.size - 1) return NEVER_FITS;
    for (;;) {
      const ready = ring.copy === undefined ? ring.count : this.#remote.ready(bufLen);
      if (ready < want) return ring.count < want ? this.#starve(want) : this.#wait();
      pieces.clear();
      let at = ring.next;
      let got = 0;
      while (got < want) {
        const w = ring.off32 + 4 * at;
        const gpa = ring.u32[w]! + ring.u32[w + 1]! * 4294967296;
        const len = Math.min(bufLen, need - got * bufLen);
        if (gpa === 0 || map.translate(gpa, len, pieces) !== 0) break;
        got++;
        if (++at === ring.size) at = 0;
      }
      if (got === want) return want;
      // those before it are used for nothing: a frame lies in descriptors that follow each other
      for (let i = 0; i <= got; i++) this.#writeBack(0, RXD_STAT_EOP | RXD_STAT_IXSM, RXD_ERR_RXE, 0);
      this.#returned++;
      this.#values[C.fault_rx_address]!++;
    }
  }

  /** No descriptors: the backend keeps the frames until the driver writes RDT. */
  #starve(want: number): number {
    this.starved = true;
    this.#wanted = want;
    this.#values[C.rx_starved]!++;
    this.#statistics.count(R.RNBC);
    this.#causes |= R.ICR_RXO | R.ICR_RXDMT0;
    return this.#hold();
  }

  /** There are descriptors, and they are not here yet, or the burst is full: the backend keeps the frames until then. */
  #wait(): number {
    this.#remote.fetch();
    return this.#hold();
  }

  #hold(): number {
    this.#held = true;
    this.backend.recvDisable();
    return STARVED;
  }

  /** Applies the filters; what is rejected is counted. */
  #admit(u8: Uint8Array, front: number, len: number): number {
    const type = be16(u8, front + ETH_ADDRS_LEN);
    if (type === ETHERTYPE_MAC_CONTROL && this.#isPause(u8, front, len)) return REJECTED;
    const verdict = this.#filters.destination(u8, front);
    if (verdict === REJECTED) {
      const passes = type === ETHERTYPE_MAC_CONTROL && (this.#words[R.RCTL >> 2]! & R.RCTL_PMCF) !== 0;
      if (!passes) {
        this.#values[C.rx_drop_address]!++;
        return REJECTED;
      }
    }
    if (len >= 18 && type === this.#words[R.VET >> 2] && !this.#filters.vlan(be16(u8, front + 14))) {
      this.#values[C.rx_drop_vlan]!++;
      return REJECTED;
    }
    return verdict === REJECTED ? ACCEPTED_INEXACT : verdict;
  }

  /** Counts flow control frames (§13.7.16 ff.); true if this one goes no further. */
  #isPause(u8: Uint8Array, front: number, len: number): boolean {
    const words = this.#words;
    const low = (le16(u8, front) | (le16(u8, front + 2) << 16)) >>> 0;
    if (low !== words[R.FCAL >> 2] || le16(u8, front + 4) !== words[R.FCAH >> 2] || len < 18) return false;
    if ((words[R.CTRL >> 2]! & R.CTRL_RFCE) === 0) return false;
    if (be16(u8, front + 14) !== PAUSE_OPCODE) this.#statistics.count(R.FCRUC);
    else this.#statistics.count(be16(u8, front + 16) === 0 ? R.XONRXC : R.XOFFRXC);
    if ((words[R.RCTL >> 2]! & R.RCTL_DPF) === 0) return false;
    this.#values[C.rx_drop_pause]!++;
    return true;
  }

  /** Completes a frame that is received and accepted, and returns its descriptors. */
  #finish(len: number, strip: number, fcs: number, bufLen: number, statusBits: number): void {
    const buffers = this.#buffers;
    const { u8, front } = buffers;
    const rxcsum = this.#words[R.RXCSUM >> 2]!;
    let total = len;
    if (len < MIN_FRAME_LEN) {
      u8.fill(0, front + len, front + MIN_FRAME_LEN);
      total = MIN_FRAME_LEN;
    }
    const here = Math.min(total, FRONT);
    const restAt = FRONT - strip;
    const wantsSum = (rxcsum & (R.RXCSUM_IPOFLD | R.RXCSUM_TUOFLD)) !== 0;
    const flags = this.hdrLen > 0 ? u8[front - this.hdrLen]! : 0;
    const needsCsum = (flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) !== 0;
    const restSum = total > FRONT && (wantsSum || needsCsum) ? buffers.sum16(restAt, total - FRONT) : 0;
    let verified = (flags & VIRTIO_NET_HDR_F_DATA_VALID) !== 0;
    if (needsCsum) verified = this.#complete(u8, front, here, total, restSum);
    let csum = 0;
    let status = statusBits | RXD_STAT_IXSM;
    let errors = 0;
    if (wantsSum) {
      const frameSum = fold(sum16(u8, front, here) + restSum);
      const check = this.#checksum;
      check.look(u8, front, here, total, frameSum, rxcsum, verified);
      status = statusBits | check.status;
      errors = check.errors;
      csum = this.#packetChecksum(rxcsum & R.RXCSUM_PCSS, strip, here, total, frameSum);
    }
    if (fcs > 0) {
      const crc = crc32(u8, front, here, CRC32_INIT);
      buffers.putU32(~(total > here ? buffers.crc32(restAt, total - here, crc) : crc), total - strip);
    }
    let special = 0;
    if (strip > 0) {
      special = be16(u8, front + 14);
      status |= RXD_STAT_VP;
      // addresses move over the tag: what lies before type and payload is the frame
      u8.copyWithin(front + VLAN_TAG_LEN, front, front + ETH_ADDRS_LEN);
    }
    buffers.put(front + strip, here - strip, 0);
    const broadcast = u8[front + strip] === 0xff && isBroadcast(u8, front + strip);
    this.#statistics.received(total, u8[front + strip]!, broadcast);
    this.#returned++;
    this.#frames++;
    this.#bytes += len;
    if (total + FCS_LEN <= this.#words[R.RSRPD >> 2]!) this.#small = true;
    this.#return(total - strip + fcs, bufLen, status, errors, csum, special);
  }

  /**
   * Does what VIRTIO_NET_HDR_F_NEEDS_CSUM asks for, where the field is in the front. The frame is then right. False:
   * the header makes no sense, and the frame is left as it is.
   */
  #complete(u8: Uint8Array, front: number, here: number, total: number, restSum: number): boolean {
    const start = le16(u8, front - this.hdrLen + 6);
    const field = start + le16(u8, front - this.hdrLen + 8);
    if (start < 14 || start >= here || field + 2 > here) return false;
    const rest = total > here ? shifted(restSum, here - start) : 0;
    storeL4Checksum(u8, front + field, sum16(u8, front + start, here - start) + rest);
    return true;
  }

  /** §3.2.9: the sum from byte PCSS on, after stripping; as a big-endian number. */
  #packetChecksum(pcss: number, strip: number, here: number, total: number, frameSum: number): number {
    const { u8, front } = this.#buffers;
    if (pcss < ETH_ADDRS_LEN) {
      let sum = frameSum + (0xffff - sum16(u8, front, pcss));
      if (strip > 0) sum += 0xffff - sum16(u8, front + ETH_ADDRS_LEN, VLAN_TAG_LEN);
      return swap16(shifted(fold(sum), pcss));
    }
    // what is left may be nothing but zeros, which a difference of sums does not tell from 0xffff
    const start = pcss + strip;
    const first = Math.min(start, here);
    const more = Math.max(start, here);
    let sum = sum16(u8, front + first, here - first);
    if (more < total) sum += shifted(this.#buffers.sum16(more - strip, total - more), more - start);
    return swap16(fold(sum));
  }

  /** Writes back the descriptors of a frame of `len` bytes (§3.2.3). */
  #return(len: number, bufLen: number, status: number, errors: number, csum: number, special: number): void {
    const before = this.ring.count;
    let left = len;
    for (; left > bufLen; left -= bufLen) this.#writeBack(bufLen, 0, 0, 0);
    this.#writeBack(left | (csum << 16), status | RXD_STAT_EOP, errors, special);
    // §3.2.7.2: told when the number of free descriptors falls to the threshold
    const rctl = this.#words[R.RCTL >> 2]!;
    const threshold = this.ring.size >> (((rctl >> R.RCTL_RDMTS_SHIFT) & 3) + 1);
    if (before > threshold && this.ring.count <= threshold) this.#causes |= R.ICR_RXDMT0;
  }

  /** Returns the descriptor at the head. */
  #writeBack(lengthAndCsum: number, status: number, errors: number, special: number): void {
    const { ring } = this;
    const { next, i32 } = ring;
    const w = ring.off32 + 4 * next;
    i32[w + 2] = lengthAndCsum;
    // the driver looks at DD: everything else is written before it
    Atomics.store(i32, w + 3, status | RXD_STAT_DD | (errors << 8) | (special << 16));
    ring.next = next + 1 === ring.size ? 0 : next + 1;
  }
}

/** RCTL.BSIZE: 2048, 1024, 512 or 256; with BSEX 16 times that, but that the first is reserved (§13.4.22). */
function bufferLength(rctl: number): number {
  const step = (rctl >> R.RCTL_BSIZE_SHIFT) & 3;
  if ((rctl & R.RCTL_BSEX) === 0) return 2048 >> step;
  return step === 0 ? 2048 : 32768 >> step;
}

function isBroadcast(u8: Uint8Array, at: number): boolean {
  return be16(u8, at) === 0xffff && be16(u8, at + 2) === 0xffff && be16(u8, at + 4) === 0xffff;
}
