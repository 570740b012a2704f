/**
 * The receive queue of a virtio NIC (VirtIO 1.2 §5.1.6.3, §5.1.6.4): frames from the backend to the guest.
 *
 * Frames are pulled straight into the guest's buffers. When the driver has left none, kicks are
 * asked for, the ring is looked at once more, and then receive is disabled until the driver kicks
 * (bhyve's rule). While the driver has no receive ring at all frames are dropped and counted, so
 * that it never meets stale ones.
 */
import { BURST_ENTRIES, Burst } from '../../memory/burst.js';
import { Iovec, iovecSkip, iovecWriteU16 } from '../../memory/iovec.js';
import type { WindowPool } from '../../memory/window.js';
import type { NetBackend } from '../../net-backends/net-backend.js';
import { C, FIRST_FAULT } from './counters.js';
import { POP_MALFORMED, type Virtqueue } from './virtqueue.js';

/** most pieces of guest memory, or chains, that one frame may lie in */
export const MAX_SEGMENTS = 1024;
/** offset of num_buffers in the 12-byte header (§5.1.6) */
const NUM_BUFFERS_OFF = 10;

/** gather() found too few buffers; receive is disabled until more come */
const STARVED = 0;
/** gather() dropped the frame in hand */
const DROPPED = -1;

export class Receiver {
  backend: NetBackend;
  /** bytes before each frame in the guest's buffers */
  hdrLen = 10;
  /** of those, what the backend does not supply: written as zeros */
  convert = 0;
  /** VIRTIO_NET_F_MRG_RXBUF: a frame may be spread over several chains */
  mergeable = false;
  /** counter of frames that are dropped because the guest cannot take them (not ready, link down); 0: it can */
  mute = C.rx_drop_not_ready;
  /** frames wait, and the driver has left too few buffers */
  starved = false;
  readonly #windows: WindowPool;
  #availWhenStarved = 0;
  readonly #iov = new Iovec(MAX_SEGMENTS);
  readonly #bodyIov = new Iovec(MAX_SEGMENTS);
  readonly #burst: Burst;
  // the chains that the frame in hand is spread over
  readonly #heads = new Uint16Array(MAX_SEGMENTS);
  readonly #chainBytes = new Uint32Array(MAX_SEGMENTS);

  constructor(
    readonly vq: Virtqueue,
    readonly values: Float64Array,
    windows: WindowPool,
    backend: NetBackend,
  ) {
    this.#windows = windows;
    this.#burst = new Burst(windows);
    this.backend = backend;
  }

  close(): void {
    this.#burst.close();
  }

  /** Drains the backend as far as the guest's buffers go. The caller publishes. */
  receive(): void {
    if (this.mute !== 0) {
      while (this.backend.rxDiscard() > 0) this.values[this.mute]!++;
      return;
    }
    const { backend, convert, hdrLen } = this;
    if (backend.recvBurst !== undefined) this.#receiveBursts(backend);
    let frames = 0;
    let bytes = 0;
    for (;;) {
      const len = backend.peekRecvLen();
      if (len <= 0) break;
      const chains = this.#gather(len + convert);
      if (chains === STARVED) break;
      if (chains === DROPPED) continue;
      const got = (convert === 0 ? backend.recv(this.#iov) : this.#recvBehindHeader(convert)) + convert;
      if (got <= convert) {
        this.vq.unpop(chains);
        continue;
      }
      if (hdrLen === 12) iovecWriteU16(this.#windows, this.#iov, NUM_BUFFERS_OFF, chains);
      this.#returnChains(chains, got);
      frames++;
      bytes += got - hdrLen;
    }
    if (frames === 0) return;
    this.values[C.rx_frames]! += frames;
    this.values[C.rx_bytes]! += bytes;
  }

  /** Takes frames that fit one buffer each, many at a call; leaves the first that does not. */
  #receiveBursts(backend: NetBackend): void {
    const { vq, hdrLen, convert, values } = this;
    const burst = this.#burst;
    for (;;) {
      const ready = backend.recvReady!();
      if (ready === 0) return;
      const popped = vq.popBurst(burst, Math.min(ready, BURST_ENTRIES), true);
      const buffers = convert === 0 ? popped : burst.skip(popped, convert);
      vq.unpop(popped - buffers);
      if (buffers === 0) return;
      const n = backend.recvBurst!(burst, buffers);
      vq.unpop(buffers - n);
      if (n === 0) return;
      if (convert > 0) burst.zeroSkipped(n, convert);
      vq.pushBurst(burst, n, hdrLen === 12);
      values[C.rx_frames]! += n;
      values[C.rx_bytes]! += burst.totalDone(n) - n * hdrLen;
      if (n < buffers) return;
    }
  }

  /** True if the driver has added buffers since the ring ran dry. */
  get refilled(): boolean {
    return this.starved && this.vq.availCount() > this.#availWhenStarved;
  }

  /** Buffers came, or will never come: lets the backend call again. */
  resume(): void {
    if (!this.starved) return;
    this.starved = false;
    this.vq.suppressKicks();
    this.backend.recvEnable();
  }

  /** Takes chains for `need` bytes into #iov. Returns how many, STARVED, or DROPPED. */
  #gather(need: number): number {
    const { vq } = this;
    const iov = this.#iov;
    for (;;) {
      iov.clear();
      let chains = 0;
      let before = 0;
      let head = 0;
      while (iov.total < need && chains < MAX_SEGMENTS) {
        head = vq.popWritable(iov);
        if (head < 0) break;
        this.#heads[chains] = head;
        this.#chainBytes[chains++] = iov.total - before;
        before = iov.total;
        if (!this.mergeable) break;
      }
      if (iov.total >= need && head >= 0) return chains;
      if (head >= 0) return this.#tooLong(chains);
      if (head === POP_MALFORMED) return this.#malformed(chains);
      vq.unpop(chains);
      // ask for kicks, then look again: the driver may have refilled in between
      if (!vq.broken && vq.enableKicks()) continue;
      this.starved = true;
      this.#availWhenStarved = chains;
      this.values[C.rx_starved]!++;
      this.backend.recvDisable();
      return STARVED;
    }
  }

  /** The frame is longer than the buffers can be: without MRG_RXBUF each chain must hold any (§5.1.6.3.1). */
  #tooLong(chains: number): number {
    this.vq.unpop(chains);
    this.backend.rxDiscard();
    this.values[C.rx_drop_too_long]!++;
    return DROPPED;
  }

  /** The chain after `good` others is malformed: returns all of them empty, in order, and drops the frame. */
  #malformed(good: number): number {
    const { vq, values } = this;
    values[C.rx_drop_malformed]!++;
    values[FIRST_FAULT + vq.fault]!++;
    for (let i = 0; i < good; i++) vq.pushUsed(this.#heads[i]!, 0);
    vq.pushUsed(vq.malformedHead, 0);
    this.backend.rxDiscard();
    return DROPPED;
  }

  /** The frame goes behind a header of ours: all zero, for nothing was offloaded. */
  #recvBehindHeader(convert: number): number {
    iovecSkip(this.#iov, convert, this.#bodyIov);
    const got = this.backend.recv(this.#bodyIov);
    if (got > 0) for (let at = 0; at < convert; at += 2) iovecWriteU16(this.#windows, this.#iov, at, 0);
    return got;
  }

  #returnChains(chains: number, len: number): void {
    const { vq } = this;
    let left = len;
    for (let i = 0; i < chains; i++) {
      const n = chains === 1 ? left : Math.min(left, this.#chainBytes[i]!);
      vq.pushUsed(this.#heads[i]!, n);
      left -= n;
    }
  }
}
