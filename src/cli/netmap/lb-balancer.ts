/**
 * What lb does with frames, apart from where they come from: each goes to one pipe of the first group, chosen by the
 * hash of its flow, then, when that pipe's reader has given it back, to one of the next group, and so on. Buffers
 * are swapped, nothing is copied.
 *
 * A pipe without room has an overflow queue, if there are extra buffers; when those are used up the oldest
 * frames of the longest queue are dropped. All slots of a frame go the same way, and are dropped together.
 */
import { NETMAP_MAX_FRAGS, NS_BUF_CHANGED, NS_MOREFRAG } from '../../netmap/abi.js';
import type { NetmapRing } from '../../netmap/ring.js';
import { FlowHasher } from '../../wire/flow-hash.js';
import { OverflowQueue } from './lb-queue.js';

/** slots taken from the longest queue when buffers are out */
const BUF_REVOKE = 150;
const MORE = NS_MOREFRAG << 16;
const CHANGED = NS_BUF_CHANGED << 16;

export class LbPipe {
  readonly queue: OverflowQueue | undefined;
  pkts = 0;
  bytes = 0;
  drops = 0;
  dropBytes = 0;
  /** where the next slot goes: behind head while a frame is not whole */
  shadowHead: number;
  /** slots of the frame in hand have been dropped: those that follow are, too */
  dropping = false;
  /** the pipe's slots before it have been looked at since they came back */
  lastTail: number;

  /** `queueSize`: slots that its overflow queue may have; 0: it has none */
  constructor(
    readonly name: string,
    readonly ring: NetmapRing,
    queueSize: number,
  ) {
    this.queue = queueSize > 0 ? new OverflowQueue(queueSize) : undefined;
    this.shadowHead = ring.head;
    this.lastTail = ring.next(ring.tail);
  }
}

/** An input ring, and what is known of the frame whose slots are coming. */
export class LbInput {
  hash = 0;
  inFrame = false;

  constructor(readonly ring: NetmapRing) {}
}

export class Balancer {
  readonly pipes: readonly LbPipe[];
  received = 0;
  receivedBytes = 0;
  nonIp = 0;
  forwarded = 0;
  dropped = 0;
  readonly #groups: readonly (readonly LbPipe[])[];
  readonly #free: OverflowQueue | undefined;
  readonly #hasher = new FlowHasher();

  /** `freeBufs`: indexes of extra buffers */
  constructor(groups: readonly (readonly LbPipe[])[], freeBufs: readonly number[]) {
    this.#groups = groups;
    this.pipes = groups.flat();
    this.#free = freeBufs.length > 0 ? new OverflowQueue(freeBufs.length) : undefined;
    for (const idx of freeBufs) this.#free?.push(idx, 0, 0);
  }

  get freeCount(): number {
    return this.#free?.count ?? 0;
  }

  /** Takes up to `limit` slots of an input ring, whose frames begin `hdrLen` bytes into their buffers. */
  take(input: LbInput, limit: number, hdrLen: number): number {
    const { ring } = input;
    const { u32, slotWord, bufSize } = ring;
    const { u8 } = ring.window;
    const n = Math.min(limit, ring.space());
    let at = ring.head;
    for (let i = 0; i < n; i++) {
      const w = slotWord + at * 4;
      const idx = u32[w]!;
      const word = u32[w + 1]!;
      const len = Math.min(word & 0xffff, bufSize);
      this.received++;
      this.receivedBytes += len;
      if (!input.inFrame) {
        input.hash = this.#hasher.hash(u8, ring.bufOff(idx) + hdrLen, Math.max(0, len - hdrLen));
        if (!this.#hasher.isIp) this.nonIp++;
      }
      input.inFrame = (word & MORE) !== 0;
      u32[w] = this.#forward(0, idx, len | (word & MORE), input.hash);
      u32[w + 1] = CHANGED;
      at = ring.next(at);
    }
    ring.cur = at;
    ring.head = at;
    return n;
  }

  /** What readers of a group have given back goes on to the next one. From the last group to the first. */
  passOn(): void {
    for (let g = this.#groups.length - 2; g >= 0; g--)
      for (const pipe of this.#groups[g]!) {
        const { ring } = pipe;
        const stop = ring.next(ring.tail);
        for (; pipe.lastTail !== stop; pipe.lastTail = ring.next(pipe.lastTail)) {
          const w = ring.slotWord + pipe.lastTail * 4;
          const word = ring.u32[w + 1]!;
          ring.u32[w] = this.#forward(g + 1, ring.u32[w]!, (word & 0xffff) | (word & MORE), ring.u32[w + 2]!);
          ring.u32[w + 1] = CHANGED;
          ring.u32[w + 2] = 0;
        }
      }
  }

  /** What waits for pipes that have room now. */
  drainQueues(): void {
    for (const pipe of this.pipes) {
      const { queue, ring } = pipe;
      if (queue === undefined) continue;
      while (queue.count > 0 && pipe.shadowHead !== ring.tail) {
        const { bufIdx, lenAndFlags, hash } = queue;
        queue.drop();
        this.#free?.push(this.#put(pipe, bufIdx, lenAndFlags, hash), 0, 0);
      }
    }
  }

  /** A slot to a group; returns the index of a buffer that is free instead. */
  #forward(group: number, idx: number, lenAndFlags: number, hash: number): number {
    const pipes = this.#groups[group]!;
    const pipe = pipes[hash % pipes.length]!;
    const { queue, ring } = pipe;
    const direct = queue === undefined || queue.count === 0;
    if (!pipe.dropping && direct && pipe.shadowHead !== ring.tail) return this.#put(pipe, idx, lenAndFlags, hash);
    const free = this.#free;
    if (!pipe.dropping && queue !== undefined && free !== undefined) {
      if (free.count === 0) this.#revoke();
      if (free.count > 0) {
        queue.push(idx, lenAndFlags, hash);
        const { bufIdx } = free;
        free.drop();
        return bufIdx;
      }
    }
    this.#drop(pipe, lenAndFlags);
    return idx;
  }

  /** Into the pipe's ring, which has room. Returns the buffer that was there. */
  #put(pipe: LbPipe, idx: number, lenAndFlags: number, hash: number): number {
    const { ring } = pipe;
    const w = ring.slotWord + pipe.shadowHead * 4;
    const old = ring.u32[w]!;
    ring.u32[w] = idx;
    ring.u32[w + 1] = lenAndFlags | CHANGED;
    ring.u32[w + 2] = hash;
    ring.u32[w + 3] = 0;
    pipe.shadowHead = ring.next(pipe.shadowHead);
    if ((lenAndFlags & MORE) === 0) {
      ring.head = pipe.shadowHead;
      ring.cur = pipe.shadowHead;
    }
    pipe.bytes += lenAndFlags & 0xffff;
    pipe.pkts++;
    this.forwarded++;
    return old;
  }

  /** Drops a slot, and those of the same frame that are in the ring, or in the queue, already. */
  #drop(pipe: LbPipe, lenAndFlags: number): void {
    const { ring, queue } = pipe;
    if (!pipe.dropping) {
      for (let at = ring.head; at !== pipe.shadowHead; at = ring.next(at)) this.#count(pipe, ring.len(at));
      pipe.shadowHead = ring.head;
      while (queue !== undefined && (queue.newest & MORE) !== 0) {
        this.#count(pipe, queue.newest & 0xffff);
        this.#free?.push(queue.popNewest(), 0, 0);
      }
    }
    this.#count(pipe, lenAndFlags & 0xffff);
    pipe.dropping = (lenAndFlags & MORE) !== 0;
  }

  #count(pipe: LbPipe, len: number): void {
    this.dropped++;
    pipe.drops++;
    pipe.dropBytes += len;
  }

  /** Frees buffers of the longest queue: its oldest slots, but never the frame that is still coming. */
  #revoke(): void {
    let longest: LbPipe | undefined;
    for (const pipe of this.pipes)
      if ((pipe.queue?.count ?? 0) > (longest?.queue?.count ?? NETMAP_MAX_FRAGS)) longest = pipe;
    const queue = longest?.queue;
    if (longest === undefined || queue === undefined) return;
    let whole = true;
    for (let n = 0; (n < BUF_REVOKE || !whole) && queue.count > NETMAP_MAX_FRAGS; n++) {
      const { bufIdx, lenAndFlags } = queue;
      queue.drop();
      whole = (lenAndFlags & MORE) === 0;
      this.#count(longest, lenAndFlags & 0xffff);
      this.#free?.push(bufIdx, 0, 0);
    }
  }

  /** Indexes of all buffers that are in queues: the extra buffers, at the end. */
  takeBuffers(): number[] {
    const out: number[] = [];
    for (const queue of [this.#free, ...this.pipes.map((pipe) => pipe.queue)])
      while (queue !== undefined && queue.count > 0) {
        out.push(queue.bufIdx);
        queue.drop();
      }
    return out;
  }
}
