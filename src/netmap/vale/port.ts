/**
 * A port of a VALE switch, seen from its user: send, and take what the switch has for it.
 *
 * While the switch delivers a burst, the frames for this port are a list of records of the batch
 * (see ports.ts); the user's receive callback pulls them straight from the sender's memory. What it
 * does not take then is copied into the port's ring, which goes first the next time.
 */
import type { CounterSet } from '../../engine/counters.js';
import type { Burst } from '../../memory/burst.js';
import { copyPieces } from '../../memory/copy.js';
import type { Iovec } from '../../memory/iovec.js';
import type { Window, WindowPool } from '../../memory/window.js';
import { E } from '../../sys/libc.js';
import type { FrameBatch } from './batch.js';
import { P } from './counters.js';
import { FrameRing, RING_HDR_LEN } from './frame-ring.js';
import type { PortTable } from './ports.js';
import type { ValeSwitch } from './switch.js';

export interface ValePortOptions {
  name: string;
  /** frames that the ring holds */
  slots: number;
  /** bytes that the ring holds */
  ringBytes: number;
  onReceive: (() => void) | undefined;
  /** the kernel has put frames into the user's rings, or dropped some: see setAdapter() */
  onFilled?: () => void;
  counters: CounterSet;
}

export class ValePort {
  readonly name: string;
  readonly counters: CounterSet;
  /** header length of this port's frames, both ways */
  vnetHdrLen = 0;
  /** OFFLOAD_* that this port's user may ask for */
  txOffloads = 0;
  /** OFFLOAD_* that this port's user takes unfinished */
  rxOffloads = 0;

  readonly #switch: ValeSwitch;
  readonly #pool: WindowPool;
  readonly #ports: PortTable;
  readonly #values: Float64Array;
  readonly #onReceive: (() => void) | undefined;
  readonly onFilled: (() => void) | undefined;
  readonly #ring: FrameRing;
  #enabled = false;
  #closed = false;
  /** the batch being delivered to us, and how far we are in our list of its records */
  #batch: FrameBatch | undefined;
  #pendingCount = 0;
  #pendingAt = 0;

  constructor(
    valeSwitch: ValeSwitch,
    pool: WindowPool,
    ports: PortTable,
    readonly index: number,
    options: ValePortOptions,
  ) {
    this.#switch = valeSwitch;
    this.#ports = ports;
    this.#pool = pool;
    this.name = options.name;
    this.counters = options.counters;
    this.#values = options.counters.values;
    this.#onReceive = options.onReceive;
    this.onFilled = options.onFilled;
    this.#ring = new FrameRing(pool, options.slots, options.ringBytes);
  }

  // ---- called by the port's user ----

  /** `route`: see batch.ts */
  send(iov: Iovec, route = 0): number {
    return this.#switch.send(this, iov, route);
  }

  /** The user's receive rings are those of this adapter (netmap/kring.ts): frames of others' rings may go there at once. */
  setAdapter(window: Window, off: number): void {
    if (window === this.#ports.window) this.#ports.setAdapter(this.index, off);
  }

  /**
   * Forwards frames from slots [at, head) of a transmit ring of the adapter, as far as the kernel can.
   * Returns the first slot that it left: that frame is for send().
   */
  sendSlots(window: Window, txOff: number, at: number, head: number, ringId: number): number {
    return this.#switch.sendSlots(this, window, txOff, at, head, ringId);
  }

  /** Counts frames that sendSlots() has forwarded. */
  countForwarded(frames: number): void {
    this.#switch.countForwarded(frames);
  }

  sendBurst(burst: Burst, from: number, count: number): number {
    return this.#switch.sendBurst(this, burst, from, count);
  }

  flush(): void {
    this.#switch.flush();
  }

  recvReady(): number {
    return this.#ring.count > 0 ? 0 : this.#pendingCount - this.#pendingAt;
  }

  recvBurst(burst: Burst, count: number): number {
    const batch = this.#batch;
    const { window } = burst;
    if (batch === undefined || this.#ring.count > 0 || window !== batch.window || window !== this.#ports.window)
      return 0;
    const n = window.kernel.deliver(
      this.#ports.listOff(this.index, this.#pendingAt),
      this.#pendingCount - this.#pendingAt,
      batch.base,
      window.index,
      this.vnetHdrLen,
      burst.off,
      count,
    );
    this.#pendingAt += n;
    return n;
  }

  peekRecvLen(): number {
    if (this.#ring.count > 0) return this.#ring.frameLen + this.vnetHdrLen;
    if (this.#pendingAt < this.#pendingCount) return this.#batch!.len(this.#record(this.#pendingAt)) + this.vnetHdrLen;
    return 0;
  }

  /** Ring of the sender that the next frame came from: the one that it is to go to here, modulo their number. */
  nextRing(): number {
    if (this.#ring.count > 0 || this.#pendingAt >= this.#pendingCount) return 0;
    return this.#batch!.ring(this.#record(this.#pendingAt));
  }

  recv(iov: Iovec): number {
    if (this.#ring.count > 0) return this.#recvFromRing(iov);
    if (this.#pendingAt >= this.#pendingCount) return 0;
    const batch = this.#batch!;
    const i = this.#record(this.#pendingAt++);
    const hdrLen = this.vnetHdrLen;
    const len = batch.len(i);
    if (iov.total < len + hdrLen) {
      this.#values[P.rx_no_space]!++;
      return -E.ENOSPC;
    }
    if (hdrLen > 0) this.#writeHeader(iov, batch.hdr0(i), batch.hdr1(i), batch.hdr2(i));
    batch.copyTo(i, len, iov, hdrLen);
    return len + hdrLen;
  }

  rxDiscard(): number {
    const len = this.peekRecvLen();
    if (len === 0) return 0;
    if (this.#ring.count > 0) this.#ring.shift();
    else this.#pendingAt++;
    this.#values[P.rx_discarded]!++;
    return len;
  }

  recvEnable(): void {
    this.#enabled = true;
    if (this.peekRecvLen() > 0) this.#onReceive?.();
  }

  recvDisable(): void {
    this.#enabled = false;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#enabled = false;
    this.#switch.detach(this);
    this.#ring.close();
  }

  // ---- called by the switch ----

  /** Lets the user take the records in our list; keeps or drops the rest. */
  deliver(batch: FrameBatch): void {
    this.#batch = batch;
    this.#pendingAt = 0;
    this.#pendingCount = this.#ports.pending(this.index);
    try {
      if (this.#enabled) this.#onReceive?.();
      while (this.#pendingAt < this.#pendingCount) this.#keep(this.#record(this.#pendingAt++));
    } finally {
      this.#pendingCount = 0;
      this.#pendingAt = 0;
    }
  }

  #record(at: number): number {
    return this.#ports.record(this.index, at);
  }

  /** Copies frame `i` of the batch to the ring, or drops it. */
  #keep(i: number): void {
    if (this.#closed) return;
    const batch = this.#batch!;
    const len = batch.len(i);
    const dst = this.#ring.reserve(batch.hdr0(i), batch.hdr1(i), batch.hdr2(i), len);
    if (dst !== undefined) batch.copyTo(i, len, dst, RING_HDR_LEN);
    this.#values[dst !== undefined ? P.rx_queued : P.rx_drop_full]!++;
  }

  #recvFromRing(iov: Iovec): number {
    const ring = this.#ring;
    const hdrLen = this.vnetHdrLen;
    const len = ring.frameLen;
    if (iov.total < len + hdrLen) {
      ring.shift();
      this.#values[P.rx_no_space]!++;
      return -E.ENOSPC;
    }
    const { window, frameOff } = ring;
    const w = frameOff >>> 2;
    this.#writeHeader(iov, window.i32[w]!, window.i32[w + 1]!, window.i32[w + 2]!);
    this.#ringWin[0] = window.index;
    this.#ringOff[0] = frameOff + RING_HDR_LEN;
    this.#ringLen[0] = len;
    copyPieces(this.#pool, this.#ringWin, this.#ringOff, this.#ringLen, 0, len, iov, hdrLen);
    ring.shift();
    return len + hdrLen;
  }

  readonly #ringWin = new Uint8Array(1);
  readonly #ringOff = new Uint32Array(1);
  readonly #ringLen = new Uint32Array(1);

  /** Writes the header to the front of a list. num_buffers is left 0: it is the frontend's (VirtIO 1.2 §5.1.6.4). */
  #writeHeader(iov: Iovec, hdr0: number, hdr1: number, hdr2: number): void {
    const { windows } = this.#pool;
    const first = iov.off[0]!;
    if (this.vnetHdrLen === 12 && iov.len[0]! >= 12 && (first & 3) === 0) {
      const { i32 } = windows[iov.win[0]!]!;
      const w = first >>> 2;
      i32[w] = hdr0;
      i32[w + 1] = hdr1;
      i32[w + 2] = hdr2;
      return;
    }
    let k = 0;
    let at = 0;
    for (let i = 0; i < this.vnetHdrLen; i++) {
      while (at === iov.len[k]!) {
        k++;
        at = 0;
      }
      windows[iov.win[k]!]!.u8[iov.off[k]! + at++] = headerByte(i, hdr0, hdr1, hdr2);
    }
  }
}

function headerByte(i: number, hdr0: number, hdr1: number, hdr2: number): number {
  const word = i < 4 ? hdr0 : i < 8 ? hdr1 : hdr2;
  return (word >>> ((i & 3) * 8)) & 0xff;
}
