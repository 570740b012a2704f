/**
 * One AF_XDP socket: its frame memory, and its rings driven from here (af_xdp.rst).
 *
 * Ownership: each ring has one producer and one consumer, and free-running 32-bit counts of both in
 * shared memory; we are the producer of fill and tx, the consumer of rx and completion. A side's count
 * is stored after the entries it covers have been written or read.
 */
import type { Mapping, WindowPool } from '../../memory/window.js';
import { Fd } from '../../sys/fd.js';
import { ftruncate, memfdCreate } from '../../sys/memfd.js';
import { pageSize } from '../../sys/process.js';
import { raiseSendBuffer } from '../../sys/sockopt.js';
import * as xsk from '../../sys/xsk.js';

/** Linux counts some 800 bytes for each short frame in copy mode: more than a full ring */
const SEND_BUFFER_BYTES = 16 * 2 ** 20;

/** A ring as this side sees it. Data path: the fields are read and written directly. */
export class XskRing {
  readonly words: Int32Array;
  readonly mask: number;
  /** where the counts, the flags and the first entry are, in 32-bit words of the window */
  readonly producer: number;
  readonly consumer: number;
  readonly flags: number;
  readonly entries: number;
  /** our own count, perhaps not published yet, and the other side's as last read */
  own = 0;
  other = 0;
  readonly #mapping: Mapping;

  constructor(pool: WindowPool, fd: number, name: xsk.XskRingName, size: number) {
    xsk.makeXskRing(fd, name, size);
    const { pgoff, entryBytes } = xsk.xskRings[name];
    const at = xsk.xskRingOffsets(fd, name);
    const length = at.desc + size * entryBytes;
    this.#mapping = pool.mapFile({ fd, fileOffset: pgoff, length, pageSize, subject: `AF_XDP ${name} ring` });
    const base = this.#mapping.off;
    this.words = this.#mapping.window.i32;
    this.mask = size - 1;
    this.producer = (base + at.producer) >>> 2;
    this.consumer = (base + at.consumer) >>> 2;
    this.flags = (base + at.flags) >>> 2;
    this.entries = (base + at.desc) >>> 2;
  }

  get size(): number {
    return this.mask + 1;
  }

  get needsWakeup(): boolean {
    return (Atomics.load(this.words, this.flags) & xsk.XDP_RING_NEED_WAKEUP) !== 0;
  }

  close(): void {
    this.#mapping.close();
  }
}

export interface XskQueueOptions {
  ifindex: number;
  queue: number;
  /** entries of the receive ring, a power of two */
  slots: number;
  chunkSize: number;
  /** sxdp_flags */
  flags: number;
  /** false: this queue only receives */
  transmits: boolean;
}

export class XskQueue {
  readonly fd: Fd;
  readonly queue: number;
  readonly umem: Mapping;
  readonly chunkMask: number;
  readonly rx: XskRing;
  readonly fill: XskRing;
  readonly tx: XskRing | undefined;
  readonly completion: XskRing;
  /** chunks that may be filled for sending; the first freeCount are meant */
  readonly free: Uint32Array;
  freeCount = 0;
  readonly zeroCopy: boolean;
  readonly #toClose: { close(): void }[] = [];

  constructor(pool: WindowPool, options: XskQueueOptions) {
    const { ifindex, queue, slots, chunkSize, flags, transmits } = options;
    this.queue = queue;
    this.chunkMask = chunkSize - 1;
    // all receive chunks fit the fill ring, so that it takes back what was received at any time
    const rxChunks = slots * 2;
    const txChunks = transmits ? slots : 0;
    const keep = <T extends { close(): void }>(thing: T): T => {
      this.#toClose.push(thing);
      return thing;
    };
    try {
      this.umem = keep(mapUmem(pool, (rxChunks + txChunks) * chunkSize));
      this.fd = keep(xsk.openXsk());
      const fd = this.fd.number;
      xsk.registerUmem(fd, this.umem.addr, this.umem.length, chunkSize);
      this.fill = keep(new XskRing(pool, fd, 'fill', rxChunks));
      this.completion = keep(new XskRing(pool, fd, 'completion', slots));
      this.rx = keep(new XskRing(pool, fd, 'rx', slots));
      this.tx = transmits ? keep(new XskRing(pool, fd, 'tx', slots)) : undefined;
      xsk.raiseTxBudget(fd, slots);
      raiseSendBuffer(fd, SEND_BUFFER_BYTES);
      xsk.bindXsk(fd, ifindex, queue, flags);
      this.zeroCopy = xsk.isZeroCopy(fd);
    } catch (error) {
      this.close();
      throw error;
    }
    for (let i = 0; i < rxChunks; i++) this.giveBack(i * chunkSize);
    this.free = new Uint32Array(txChunks);
    for (let i = 0; i < txChunks; i++) this.free[i] = (rxChunks + i) * chunkSize;
    this.freeCount = txChunks;
    this.publishFill();
  }

  /** Puts a chunk in the fill ring: the kernel may use it after publishFill(). */
  giveBack(addr: number): void {
    const { fill } = this;
    const w = fill.entries + (fill.own & fill.mask) * 2;
    fill.words[w] = addr & ~this.chunkMask;
    fill.words[w + 1] = 0;
    fill.own = (fill.own + 1) | 0;
  }

  publishFill(): void {
    const { fill, rx } = this;
    Atomics.store(rx.words, rx.consumer, rx.own);
    Atomics.store(fill.words, fill.producer, fill.own);
    if (fill.needsWakeup) xsk.kickRx(this.fd.number);
  }

  /** Takes back what the kernel has sent. */
  reclaim(): void {
    const ring = this.completion;
    const end = Atomics.load(ring.words, ring.producer);
    if (end === ring.own) return;
    const { words, entries, mask } = ring;
    for (let i = ring.own; i !== end; i = (i + 1) | 0)
      this.free[this.freeCount++] = words[entries + (i & mask) * 2]! & ~this.chunkMask;
    ring.own = end;
    Atomics.store(words, ring.consumer, end);
  }

  /** The socket first: the kernel lets go of the memory with it. Idempotent. */
  close(): void {
    for (let i = this.#toClose.length - 1; i >= 0; i--) {
      const thing = this.#toClose[i];
      if (thing instanceof Fd) thing.close();
    }
    for (let thing = this.#toClose.pop(); thing !== undefined; thing = this.#toClose.pop()) thing.close();
  }
}

/** Shared memory: private pages could be copied behind the kernel's back when this process forks. */
function mapUmem(pool: WindowPool, length: number): Mapping {
  const file = memfdCreate('netbe-umem');
  try {
    ftruncate(file.number, length);
    return pool.mapFile({ fd: file.number, fileOffset: 0, length, pageSize, subject: 'AF_XDP frame memory' });
  } finally {
    file.close();
  }
}
