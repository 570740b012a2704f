/**
 * The frames that wait for bandwidth in one direction of a pipe: a queue a flow, and the queues in the
 * order in which they are served. With fifo all frames are of one flow.
 *
 * Frames are records by number; a record's fields are the caller's but for `next`. No allocation after
 * construction.
 */

/** flows that are told apart at a time; further ones share the queues that there are */
const MAX_FLOWS = 1024;
const BUCKETS = 1024;

export class FlowQueues {
  /** queues with frames in them */
  count = 0;
  /** record by record: the next in the same queue; -1: none */
  readonly #next: Int32Array;
  readonly #head = new Int32Array(MAX_FLOWS);
  readonly #tail = new Int32Array(MAX_FLOWS);
  readonly packets = new Int32Array(MAX_FLOWS);
  readonly deficit = new Float64Array(MAX_FLOWS);
  /** when its next frame would be through if all flows had their share, in microseconds (wfq) */
  readonly vtime = new Float64Array(MAX_FLOWS);
  readonly #hash = new Int32Array(MAX_FLOWS);
  // the order of service, and the queues of a hash
  readonly #after = new Int32Array(MAX_FLOWS);
  readonly #before = new Int32Array(MAX_FLOWS);
  readonly #bucket = new Int32Array(BUCKETS).fill(-1);
  readonly #bucketNext = new Int32Array(MAX_FLOWS);
  readonly #free = new Int32Array(MAX_FLOWS);
  #freeCount = MAX_FLOWS;
  /** the queue that is served next; -1: none */
  first = -1;
  #last = -1;

  constructor(records: number) {
    this.#next = new Int32Array(records);
    for (let i = 0; i < MAX_FLOWS; i++) this.#free[i] = MAX_FLOWS - 1 - i;
  }

  /** The queue of a flow that has frames waiting; -1: none has. */
  find(hash: number): number {
    let q = this.#bucket[hash & (BUCKETS - 1)]!;
    while (q >= 0 && this.#hash[q] !== hash) q = this.#bucketNext[q]!;
    return q >= 0 || this.#freeCount > 0 ? q : this.#last;
  }

  /** A queue for a flow that has none, not yet in the order of service. */
  open(hash: number): number {
    const q = this.#free[--this.#freeCount]!;
    const bucket = hash & (BUCKETS - 1);
    this.#hash[q] = hash;
    this.#head[q] = -1;
    this.packets[q] = 0;
    this.vtime[q] = 0;
    this.#bucketNext[q] = this.#bucket[bucket]!;
    this.#bucket[bucket] = q;
    this.count++;
    return q;
  }

  /** Forgets an empty queue that is not in the order of service. */
  shut(q: number): void {
    const bucket = this.#hash[q]! & (BUCKETS - 1);
    let at = this.#bucket[bucket]!;
    if (at === q) this.#bucket[bucket] = this.#bucketNext[q]!;
    else {
      while (this.#bucketNext[at] !== q) at = this.#bucketNext[at]!;
      this.#bucketNext[at] = this.#bucketNext[q]!;
    }
    this.#free[this.#freeCount++] = q;
    this.count--;
  }

  push(q: number, record: number): void {
    this.#next[record] = -1;
    if (this.packets[q]!++ === 0) this.#head[q] = record;
    else this.#next[this.#tail[q]!] = record;
    this.#tail[q] = record;
  }

  peek(q: number): number {
    return this.#head[q]!;
  }

  shift(q: number): number {
    const record = this.#head[q]!;
    this.#head[q] = this.#next[record]!;
    this.packets[q]!--;
    return record;
  }

  /** Takes the last frame of a queue; this walks it. */
  pop(q: number): number {
    const record = this.#tail[q]!;
    if (this.packets[q] === 1) return this.shift(q);
    let at = this.#head[q]!;
    while (this.#next[at] !== record) at = this.#next[at]!;
    this.#next[at] = -1;
    this.#tail[q] = at;
    this.packets[q]!--;
    return record;
  }

  /** The queue with the most frames, of several the one served first. */
  longest(): number {
    let found = this.first;
    for (let q = this.first; q >= 0; q = this.#after[q]!) if (this.packets[q]! > this.packets[found]!) found = q;
    return found;
  }

  append(q: number): void {
    this.#insertBefore(q, -1);
  }

  /** Puts a queue where its virtual time belongs. */
  insertByTime(q: number): void {
    const time = this.vtime[q]!;
    let at = this.first;
    while (at >= 0 && this.vtime[at]! <= time) at = this.#after[at]!;
    this.#insertBefore(q, at);
  }

  /** Takes a queue out of the order of service. */
  unlink(q: number): void {
    const before = this.#before[q]!;
    const after = this.#after[q]!;
    if (before < 0) this.first = after;
    else this.#after[before] = after;
    if (after < 0) this.#last = before;
    else this.#before[after] = before;
  }

  #insertBefore(q: number, after: number): void {
    const before = after < 0 ? this.#last : this.#before[after]!;
    this.#after[q] = after;
    this.#before[q] = before;
    if (before < 0) this.first = q;
    else this.#after[before] = q;
    if (after < 0) this.#last = q;
    else this.#before[after] = q;
  }
}
