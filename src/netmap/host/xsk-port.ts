/** AF_XDP on the receive queues of an interface; frames are sent through the first of them. */
import { copyPieces } from '../../memory/copy.js';
import { Iovec, iovecSkip } from '../../memory/iovec.js';
import type { WindowPool } from '../../memory/window.js';
import { updateMap } from '../../sys/bpf.js';
import { E } from '../../sys/libc.js';
import * as xsk from '../../sys/xsk.js';
import { attachXdp, Closer, createSocketMap } from './attach.js';
import type { HostMode, HostPort, RxFrame } from './host-port.js';
import { XskQueue } from './xsk-queue.js';

/** frames after which what was received is given back, without waiting for the last */
const GIVE_BACK_EVERY = 32;
/** pieces that Linux takes for one frame sent in copy mode (MAX_SKB_FRAGS) */
const MAX_TX_PIECES = 17;

export interface XskPortOptions {
  ifindex: number;
  native: boolean;
  /** receive queues to take, from the first on */
  queues: number;
  /** queues that the interface has */
  allQueues: number;
  slots: number;
  chunkSize: number;
  /** frames of several chunks */
  scatter: boolean;
  zeroCopy: boolean;
}

export class XskPort implements HostPort {
  readonly mode: HostMode;
  readonly txOffloads = 0;
  readonly hasHeader = false;
  readonly fds: readonly number[];
  readonly txSlots: number;
  txStuck = false;
  readonly #pool: WindowPool;
  readonly #queues: readonly XskQueue[];
  readonly #chunkSize: number;
  readonly #scatter: boolean;
  readonly #closer = new Closer();
  #closed = false;
  // receive: the queue in hand, and the frame's descriptors in it
  #at = 0;
  #descs = 0;
  #sinceGivenBack = 0;
  // transmit; of the ring `own` is the next entry, and `other` what was last published
  readonly #body = new Iovec(1024);
  readonly #dst = new Iovec(1);
  readonly #chunks = new Iovec(MAX_TX_PIECES);
  // kernel statistics at the last look, by queue
  readonly #seen: Float64Array;

  constructor(pool: WindowPool, options: XskPortOptions) {
    const { ifindex, native, queues, allQueues, slots, chunkSize, scatter, zeroCopy } = options;
    this.mode = native ? 'xdp-native' : 'xdp-generic';
    this.#pool = pool;
    this.#chunkSize = chunkSize;
    this.#scatter = scatter;
    this.txSlots = slots;
    const flags =
      xsk.XDP_USE_NEED_WAKEUP | (zeroCopy ? xsk.XDP_ZEROCOPY : xsk.XDP_COPY) | (scatter ? xsk.XDP_USE_SG : 0);
    const opened: XskQueue[] = [];
    try {
      const map = this.#closer.add(createSocketMap(allQueues));
      for (let queue = 0; queue < queues; queue++) {
        const one = new XskQueue(pool, { ifindex, queue, slots, chunkSize, flags, transmits: queue === 0 });
        opened.push(this.#closer.add(one));
        updateMap(map.number, queue, one.fd.number);
      }
      // last: from here on frames come
      attachXdp(ifindex, map, native, scatter, this.#closer);
    } catch (error) {
      this.close();
      throw error;
    }
    this.#queues = opened;
    this.fds = opened.map((q) => q.fd.number);
    this.#seen = new Float64Array(queues * xsk.xskStatisticNames.length);
  }

  fetch(rx: RxFrame): boolean {
    const queues = this.#queues;
    for (let tried = 0; tried < queues.length; tried++) {
      if (this.#fetchFrom(queues[this.#at]!, rx)) return true;
      this.#at = this.#at + 1 === queues.length ? 0 : this.#at + 1;
    }
    return false;
  }

  #fetchFrom(queue: XskQueue, rx: RxFrame): boolean {
    const ring = queue.rx;
    if (ring.own === ring.other) {
      ring.other = Atomics.load(ring.words, ring.producer);
      if (ring.own === ring.other) return false;
    }
    const { words, entries, mask } = ring;
    const { pieces } = rx;
    pieces.clear();
    const { off, window } = queue.umem;
    for (let i = ring.own; i !== ring.other; ) {
      const w = entries + (i & mask) * 4;
      pieces.push(window.index, off + words[w]!, words[w + 2]!);
      i = (i + 1) | 0;
      if ((words[w + 3]! & xsk.XDP_PKT_CONTD) !== 0) continue;
      this.#descs = (i - ring.own) | 0;
      rx.hdr0 = 0;
      rx.hdr1 = 0;
      rx.hdr2 = 0;
      return true;
    }
    // the rest of the frame is not there yet
    ring.other = ring.own;
    return false;
  }

  release(): void {
    const queue = this.#queues[this.#at]!;
    const ring = queue.rx;
    for (let i = 0; i < this.#descs; i++) {
      queue.giveBack(ring.words[ring.entries + (ring.own & ring.mask) * 4]!);
      ring.own = (ring.own + 1) | 0;
    }
    this.#descs = 0;
    if (++this.#sinceGivenBack >= GIVE_BACK_EVERY) this.releaseAll();
  }

  releaseAll(): void {
    if (this.#sinceGivenBack === 0) return;
    this.#sinceGivenBack = 0;
    const queues = this.#queues;
    for (let i = 0; i < queues.length; i++) queues[i]!.publishFill();
  }

  #piecesFor(len: number): number {
    return Math.ceil(len / this.#chunkSize);
  }

  txRoom(len: number, wanted: number): number {
    const queue = this.#queues[0]!;
    const each = this.#piecesFor(len);
    if (queue.freeCount < wanted * each) queue.reclaim();
    if (queue.freeCount < wanted * each) {
      this.flush();
      queue.reclaim();
    }
    return Math.min(wanted, Math.floor(queue.freeCount / each));
  }

  send(iov: Iovec, skip: number): number {
    const len = iov.total - skip;
    const count = this.#piecesFor(len);
    if (count > 1 && (!this.#scatter || count > MAX_TX_PIECES)) return -E.EMSGSIZE;
    if (this.txRoom(len, 1) === 0) return 0;
    const queue = this.#queues[0]!;
    const { window, off } = queue.umem;
    const dst = count === 1 ? this.#dst : this.#chunks;
    const ring = queue.tx!;
    const { words, entries, mask } = ring;
    dst.clear();
    for (let left = len, i = 0; i < count; i++) {
      const n = Math.min(left, this.#chunkSize);
      const chunk = queue.free[--queue.freeCount]!;
      dst.push(window.index, off + chunk, n);
      left -= n;
      const w = entries + (ring.own & mask) * 4;
      words[w] = chunk;
      words[w + 1] = 0;
      words[w + 2] = n;
      words[w + 3] = left > 0 ? xsk.XDP_PKT_CONTD : 0;
      ring.own = (ring.own + 1) | 0;
    }
    if (skip === 0) copyPieces(this.#pool, iov.win, iov.off, iov.len, 0, len, dst, 0);
    else {
      iovecSkip(iov, skip, this.#body);
      copyPieces(this.#pool, this.#body.win, this.#body.off, this.#body.len, 0, len, dst, 0);
    }
    return 1;
  }

  flush(): number {
    const queue = this.#queues[0]!;
    const ring = queue.tx!;
    if (ring.own === ring.other && !this.txStuck) return 0;
    Atomics.store(ring.words, ring.producer, ring.own);
    ring.other = ring.own;
    this.txStuck = false;
    if (!ring.needsWakeup) return 0;
    // one call may send only some, and says EAGAIN; it is also what it says when it can send none
    for (let before = 1; ; ) {
      const result = xsk.kickTx(queue.fd.number);
      const left = (ring.own - Atomics.load(ring.words, ring.consumer)) | 0;
      if (left === 0) return 0;
      if (result === -E.ENETDOWN || result === -E.ENXIO) return result;
      if (left === before) {
        this.txStuck = true;
        return 0;
      }
      before = left;
    }
  }

  addKernelDrops(values: Float64Array, ringFull: number, noBuffer: number, txInvalid: number): void {
    const places = [noBuffer, -1, txInvalid, ringFull, -1, -1];
    const each = xsk.xskStatisticNames.length;
    this.#queues.forEach((queue, q) => {
      if (!xsk.readXskStatistics(queue.fd.number)) return;
      for (let i = 0; i < each; i++) {
        const now = xsk.xskStatistic(i);
        const place = places[i]!;
        if (place >= 0) values[place]! += now - this.#seen[q * each + i]!;
        this.#seen[q * each + i] = now;
      }
    });
  }

  status(): Record<string, string | number | boolean> {
    return {
      queues: this.#queues.length,
      slots: this.#queues[0]!.rx.size,
      chunkSize: this.#chunkSize,
      scatter: this.#scatter,
      zeroCopy: this.#queues.every((q) => q.zeroCopy),
    };
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#closer.close();
  }
}
