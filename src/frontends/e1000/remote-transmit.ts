/**
 * A transmit ring in memory that is not shared. A *stage* is a run of descriptors with their buffers: descriptors come
 * first, then the buffers that they name, and then the transmitter serves them as it serves a ring in shared memory, up
 * to where the stage ends in place of TDT. A frame that does not fit a stage goes on in the next one. While the status
 * of one stage is stored the next one is fetched.
 */
import { DmaBatch } from '../../memory/remote-memory.js';
import { MAX_FRAME_LEN } from '../../net-backends/net-backend.js';
import { C } from './counters.js';
import { Lane, RemoteRing } from './remote-ring.js';
import { DESCRIPTOR_BYTES, type DescriptorRing } from './ring.js';
import * as D from './tx-descriptor.js';

/**
 * What a stage holds at most, and so what is outstanding for a ring: frames of a burst, and three or four of the longest
 * ones. The second is a bound on the copies that both sides make of them on their way.
 */
export const STAGE_DESCRIPTORS = 64;
export const STAGE_BYTES = 256 * 1024;

/** place of the status byte in a descriptor (manual §3.3.3.2) */
const STATUS = 12;

export class RemoteTransmit extends RemoteRing {
  readonly #reporting: Lane;
  /** descriptors and bytes of the frame that the stages so far end in the middle of */
  #frame = 0;
  #frameBytes = 0;

  /** `wake`: the ring may have work. */
  constructor(ring: DescriptorRing, values: Float64Array, wake: () => void) {
    super(ring, values, C.fault_tx_dma, wake);
    this.#reporting = new Lane(wake);
  }

  /** Where serving ends for now. */
  get end(): number {
    return this.#reporting.busy ? this.ring.next : this.ring.staged;
  }

  /** Whether there is something to serve or to fetch. `waitsAt`: where a frame had no end yet. */
  hasWork(waitsAt: number): boolean {
    const { end } = this;
    return (this.ring.next !== end && end !== waitsAt) || this.#canStage(waitsAt);
  }

  /** Begins the next stage if there is nothing to serve in the one that is here. */
  stage(waitsAt: number): void {
    if (!this.#canStage(waitsAt)) return;
    const { ring } = this;
    if (ring.staged === ring.next) this.#beginFrame();
    const count = Math.min(ring.distance(ring.staged, ring.tail), STAGE_DESCRIPTORS);
    this.fetchDescriptors(count, () => this.#fetchBuffers(count));
  }

  /** Brings the status of [start, start + count) to the driver where `asked(i)` says so; `then` all of it is there. */
  report(start: number, count: number, asked: (i: number) => boolean, then: () => void): void {
    const { ring } = this;
    const { u8, size } = ring;
    const batch = new DmaBatch();
    for (let i = 0; i < count; ) {
      let n = 0;
      while (i + n < count && asked(i + n) && ((start + i) % size) + n < size) n++;
      if (n > 0) this.#storeStatus(batch, (start + i) % size, n);
      i += Math.max(n, 1);
    }
    this.submit(this.#reporting, ring.remote!, batch, () => {
      if (ring.isCopy(u8)) then();
      this.goOn();
    });
  }

  override cancel(): void {
    this.cancelFetch();
    this.#reporting.cancel();
  }

  override abandon(): void {
    this.fetching.abandon();
    this.#reporting.abandon();
  }

  #canStage(waitsAt: number): boolean {
    const { next, staged, tail } = this.ring;
    return !this.fetching.busy && staged !== tail && (staged === next || staged === waitsAt);
  }

  /** Brings the buffers of the first of `count` descriptors into the guest memory's copy: as many as a stage holds. */
  #fetchBuffers(count: number): void {
    const { ring } = this;
    const remote = ring.remote!;
    const batch = new DmaBatch();
    let at = ring.staged;
    for (let i = 0; i < count; i++) {
      if (!this.#fetchBuffer(batch, at)) break;
      if (++at === ring.size) at = 0;
    }
    this.submit(this.fetching, remote, batch, () => {
      ring.staged = at;
      this.goOn();
    });
  }

  /**
   * Adds what the transmitter may read for the descriptor at `at`. What lies nowhere, or is more than a frame has, it does
   * not read. False: the stage is full.
   */
  #fetchBuffer(batch: DmaBatch, at: number): boolean {
    const { ring } = this;
    const w = 4 * at;
    const cmd = ring.u32[w + 2]!;
    const kind = D.descriptorKind(cmd);
    const hasBuffer = kind === D.LEGACY || kind === D.DATA;
    // one without a buffer stands alone, unless it is within a frame
    if (!hasBuffer && this.#frame === 0) return true;
    const gpa = ring.u32[w]! + ring.u32[w + 1]! * 4294967296;
    const len = !hasBuffer || gpa === 0 ? 0 : cmd & (kind === D.LEGACY ? D.TXD_LEN_LEGACY : D.TXD_LEN_DATA);
    if (this.#frameBytes + len <= MAX_FRAME_LEN) {
      if (batch.bytes > 0 && batch.bytes + len > STAGE_BYTES) return false;
      if (len > 0) ring.remote!.fetch(batch, gpa, len);
      this.#frameBytes += len;
    } else this.#frameBytes = Number.POSITIVE_INFINITY;
    // a frame that takes up the whole ring has no end
    if (++this.#frame === ring.size - 1 || (cmd & D.TXD_CMD_EOP) !== 0) this.#beginFrame();
    return true;
  }

  #beginFrame(): void {
    this.#frame = 0;
    this.#frameBytes = 0;
  }

  /** Adds the bytes from the first status to the last of `n` descriptors that follow each other. */
  #storeStatus(batch: DmaBatch, first: number, n: number): void {
    const { ring } = this;
    const from = DESCRIPTOR_BYTES * first + STATUS;
    const to = from + DESCRIPTOR_BYTES * (n - 1) + 1;
    ring.remote!.storeFrom(batch, ring.base + from, ring.u8.subarray(from, to));
  }
}
