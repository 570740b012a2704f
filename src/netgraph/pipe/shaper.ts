/**
 * One direction of a pipe (ng_pipe(4)): frames wait for bandwidth in queues, may be lost or doubled, and
 * are then under way for the delay. It knows no clock and no memory: the caller says what time it is
 * (microseconds, monotonic), and where frames lie.
 *
 * Times are exact: a frame is due when the one before it was through, plus its own bits, plus the delay,
 * however late the caller looks. So the rate holds whatever the timer does.
 */
import type { DirectionConfig } from './config.js';
import { FlowQueues } from './flow-queues.js';

/** frames that wait and are under way, in one direction */
export const MAX_RECORDS = 16384;

/** What the shaper does with frames. Offsets are the caller's. */
export interface ShaperOutput {
  /** The frame leaves now. */
  forward(off: number, len: number): void;
  /** The frame is lost. */
  drop(off: number, len: number): void;
  /** A second copy of a frame; -1 when there is no room for one. */
  copy(off: number, len: number): number;
}

/** struct ng_pipe_hookstat; what is forwarded is counted by whoever sends it. */
export interface ShaperStats {
  queueDropOctets: number;
  queueDropFrames: number;
  delayDropOctets: number;
  delayDropFrames: number;
}

export interface ShaperOptions {
  config: DirectionConfig;
  output: ShaperOutput;
  /** from 0 to 1; tests have their own */
  random?: () => number;
}

export class Shaper {
  readonly config: DirectionConfig;
  readonly stats: ShaperStats = { queueDropOctets: 0, queueDropFrames: 0, delayDropOctets: 0, delayDropFrames: 0 };
  /** time that a frame is under way, in microseconds */
  delayUs = 0;
  /** bytes that a frame takes up on the link besides its own */
  overhead = 0;
  queuedFrames = 0;
  queuedOctets = 0;
  delayedFrames = 0;
  delayedOctets = 0;

  readonly #output: ShaperOutput;
  readonly #random: () => number;
  readonly #queues = new FlowQueues(MAX_RECORDS);
  readonly #off = new Uint32Array(MAX_RECORDS);
  readonly #len = new Uint32Array(MAX_RECORDS);
  readonly #free = new Int32Array(MAX_RECORDS);
  #freeCount = MAX_RECORDS;
  /** when the link has sent the last frame that it was given */
  #linkFreeUs = 0;
  // what is under way, in order: a ring
  readonly #underWay = new Int32Array(MAX_RECORDS);
  readonly #dueUs = new Float64Array(MAX_RECORDS);
  #underWayHead = 0;

  constructor({ config, output, random = Math.random }: ShaperOptions) {
    this.config = config;
    this.#output = output;
    this.#random = random;
    for (let i = 0; i < MAX_RECORDS; i++) this.#free[i] = MAX_RECORDS - 1 - i;
  }

  /** Nothing is configured and nothing waits: frames need not come here. */
  get idle(): boolean {
    const { bandwidth, duplicate, ber } = this.config;
    return (
      bandwidth === 0 &&
      duplicate === 0 &&
      ber === 0 &&
      this.delayUs === 0 &&
      this.queuedFrames === 0 &&
      this.delayedFrames === 0
    );
  }

  /** queues with frames */
  get queues(): number {
    return this.#queues.count;
  }

  /** Takes a frame. `hash` is its flow; with fifo all are of one. */
  enqueue(nowUs: number, off: number, len: number, hash: number): void {
    this.#serveLink(nowUs);
    if (this.queuedFrames === 0 && this.#linkFreeUs < nowUs) this.#linkFreeUs = nowUs;
    if (this.#freeCount === 0) {
      this.countQueueDrop(len);
      this.#output.drop(off, len);
      return;
    }
    const record = this.#free[--this.#freeCount]!;
    this.#off[record] = off;
    this.#len[record] = len;
    this.#append(record, this.config.fifo ? 0 : hash, nowUs);
    if (this.queuedFrames > this.config.queueLimit) this.#dropOne();
    this.#serveLink(nowUs);
  }

  /** Forwards what is due. */
  advance(nowUs: number): void {
    this.#serveLink(nowUs);
    while (this.delayedFrames > 0 && this.#dueUs[this.#underWayHead]! <= nowUs) {
      const record = this.#underWay[this.#underWayHead]!;
      const len = this.#len[record]!;
      this.#underWayHead = (this.#underWayHead + 1) % MAX_RECORDS;
      this.delayedFrames--;
      this.delayedOctets -= len;
      this.#free[this.#freeCount++] = record;
      this.#output.forward(this.#off[record]!, len);
    }
  }

  /** When advance() is next of use, in microseconds; Infinity when nothing waits. */
  get nextUs(): number {
    if (this.delayedFrames > 0) return this.#dueUs[this.#underWayHead]!;
    return this.queuedFrames > 0 ? this.#linkFreeUs : Number.POSITIVE_INFINITY;
  }

  /** Drops all frames, without counting them: the hook is gone. */
  clear(): void {
    while (this.#queues.first >= 0) {
      const q = this.#queues.first;
      this.#dropRecord(this.#take(q));
    }
    for (; this.delayedFrames > 0; this.delayedFrames--) {
      this.#dropRecord(this.#underWay[this.#underWayHead]!);
      this.#underWayHead = (this.#underWayHead + 1) % MAX_RECORDS;
    }
    this.delayedOctets = 0;
    this.#linkFreeUs = 0;
  }

  clearStats(): void {
    this.stats.queueDropOctets = 0;
    this.stats.queueDropFrames = 0;
    this.stats.delayDropOctets = 0;
    this.stats.delayDropFrames = 0;
  }

  /** A frame was lost before it could wait. */
  countQueueDrop(len: number): void {
    this.stats.queueDropFrames++;
    this.stats.queueDropOctets += len;
  }

  #append(record: number, hash: number, nowUs: number): void {
    const queues = this.#queues;
    let q = queues.find(hash);
    const len = this.#len[record]!;
    if (q < 0) {
      q = queues.open(hash);
      queues.deficit[q] = this.config.drr;
      queues.push(q, record);
      this.#schedule(q, nowUs);
    } else queues.push(q, record);
    this.queuedFrames++;
    this.queuedOctets += len;
  }

  /** Puts a queue in the order of service: by virtual time (wfq), or at the end. */
  #schedule(q: number, nowUs: number): void {
    const queues = this.#queues;
    const { wfq, bandwidth } = this.config;
    if (!wfq || bandwidth === 0) {
      queues.append(q);
      return;
    }
    queues.vtime[q] = nowUs + this.#sendUs(this.#len[queues.peek(q)]!) * queues.count;
    queues.insertByTime(q);
  }

  #sendUs(len: number): number {
    return ((len + this.overhead) * 8e6) / this.config.bandwidth;
  }

  #dropOne(): void {
    const queues = this.#queues;
    const q = queues.longest();
    let record: number;
    if (this.config.dropHead) record = this.#take(q);
    else {
      record = queues.pop(q);
      this.#uncount(q, record);
    }
    this.countQueueDrop(this.#len[record]!);
    this.#dropRecord(record);
  }

  /** The first frame of a queue; an empty queue is forgotten. */
  #take(q: number): number {
    const record = this.#queues.shift(q);
    this.#uncount(q, record);
    return record;
  }

  #uncount(q: number, record: number): void {
    this.queuedFrames--;
    this.queuedOctets -= this.#len[record]!;
    if (this.#queues.packets[q] === 0) {
      this.#queues.unlink(q);
      this.#queues.shut(q);
    }
  }

  #dropRecord(record: number): void {
    this.#free[this.#freeCount++] = record;
    this.#output.drop(this.#off[record]!, this.#len[record]!);
  }

  /** Gives the link what it had time for. */
  #serveLink(nowUs: number): void {
    const queues = this.#queues;
    const { config } = this;
    while (queues.first >= 0 && this.#linkFreeUs <= nowUs) {
      const q = queues.first;
      const len = this.#len[queues.peek(q)]!;
      if (config.drr > 0 && !this.#hasDeficit(q, len)) continue;
      const record = this.#takeOrDouble(q);
      if (config.bandwidth > 0) this.#linkFreeUs += this.#sendUs(len);
      else if (this.#linkFreeUs < nowUs) this.#linkFreeUs = nowUs;
      if (config.wfq && queues.first === q && queues.count > 0 && queues.packets[q]! > 0) {
        queues.unlink(q);
        this.#schedule(q, this.#linkFreeUs);
      }
      this.#send(record);
    }
  }

  #hasDeficit(q: number, len: number): boolean {
    const queues = this.#queues;
    if (queues.deficit[q]! >= len) {
      queues.deficit[q]! -= len;
      return true;
    }
    queues.deficit[q]! += this.config.drr;
    queues.unlink(q);
    queues.append(q);
    return false;
  }

  /** The first frame of a queue, or a copy of it; then the frame itself stays. */
  #takeOrDouble(q: number): number {
    const { duplicate } = this.config;
    if (duplicate > 0 && this.#freeCount > 0 && this.#random() * 100 < duplicate) {
      const original = this.#queues.peek(q);
      const len = this.#len[original]!;
      const off = this.#output.copy(this.#off[original]!, len);
      if (off >= 0) {
        const record = this.#free[--this.#freeCount]!;
        this.#off[record] = off;
        this.#len[record] = len;
        return record;
      }
    }
    return this.#take(q);
  }

  /** A frame has left the link's sender: it may be lost, else it is under way. */
  #send(record: number): void {
    const { ber, delayLimit } = this.config;
    const len = this.#len[record]!;
    if ((ber > 0 && this.#isHit(len, ber)) || (delayLimit > 0 && this.delayedFrames >= delayLimit)) {
      this.stats.delayDropFrames++;
      this.stats.delayDropOctets += len;
      this.#dropRecord(record);
      return;
    }
    const at = (this.#underWayHead + this.delayedFrames) % MAX_RECORDS;
    this.#underWay[at] = record;
    this.#dueUs[at] = this.#dueAfter(at, this.#linkFreeUs + this.delayUs);
    this.delayedFrames++;
    this.delayedOctets += len;
  }

  /** A delay that was made shorter does not let frames overtake. */
  #dueAfter(at: number, dueUs: number): number {
    if (this.delayedFrames === 0) return dueUs;
    return Math.max(dueUs, this.#dueUs[(at + MAX_RECORDS - 1) % MAX_RECORDS]!);
  }

  /** Whether one of the frame's bits is wrong: 1 - (1 - 1/BER)^bits. */
  #isHit(len: number, ber: number): boolean {
    if (ber === 1) return true;
    return this.#random() >= Math.exp((len + this.overhead) * 8 * Math.log1p(-1 / ber));
  }
}
