/**
 * A transmit ring in memory that is not shared. A *stage* is a run of descriptors with their buffers: descriptors come
 * first, then the buffers that they name, into memory of our own; then the transmitter serves them as it serves a ring in
 * shared memory, up to where the stage ends in place of TDT. A frame that does not fit a stage goes on in the next one.
 * While the status of one stage is stored the next one is fetched.
 */
import type { Iovec } from '../../memory/iovec.js';
import { DmaBatch, type RemoteMemory } from '../../memory/remote-memory.js';
import type { Mapping, WindowPool } from '../../memory/window.js';
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

/** in the place of a buffer's offset: it lies outside guest memory */
const NOWHERE = 0xffffffff;
const EFAULT = -14;
const EMSGSIZE = -90;

export class RemoteTransmit extends RemoteRing {
  readonly #reporting: Lane;
  /** a stage's buffers, behind those of a frame that began in an earlier one */
  readonly #memory: Mapping;
  /** bytes in use */
  #used = 0;
  /** where in it each descriptor's buffer is */
  #places = new Uint32Array(0);
  // whether the stages so far end in the middle of a frame; its bytes, and where they begin
  #inFrame = false;
  #frameBytes = 0;
  #frameStart = 0;

  /** `wake`: the ring may have work. */
  constructor(ring: DescriptorRing, windows: WindowPool, values: Float64Array, wake: () => void) {
    super(ring, values, C.fault_tx_dma, wake);
    this.#reporting = new Lane(wake);
    this.#memory = windows.mapAnonymous(MAX_FRAME_LEN + STAGE_BYTES);
  }

  close(): void {
    this.#memory.close();
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

  /** Goes on with the next stage if there is nothing to serve in the one that is here. */
  stage(waitsAt: number): void {
    if (!this.#canStage(waitsAt)) return;
    if (this.ring.fetched === this.ring.staged) this.fetchDescriptors(STAGE_DESCRIPTORS);
    else this.#fetchBuffers();
  }

  /** As AddressMap.translate, for the buffer of the descriptor at `at`, which has been staged. */
  translate(at: number, len: number, iov: Iovec): number {
    const place = this.#places[at]!;
    if (place === NOWHERE) return EFAULT;
    return iov.push(this.#memory.window.index, this.#memory.off + place, len) ? 0 : EMSGSIZE;
  }

  /** Brings the status of [start, start + count) to the driver where `asked(i)` says so; `then` all of it is there. */
  report(start: number, count: number, asked: (i: number) => boolean, then: () => void): void {
    const { ring } = this;
    const { copy, size } = ring;
    const batch = new DmaBatch();
    for (let i = 0; i < count; ) {
      let n = 0;
      while (i + n < count && asked(i + n) && ((start + i) % size) + n < size) n++;
      if (n > 0) this.#storeStatus(batch, (start + i) % size, n);
      i += Math.max(n, 1);
    }
    this.submit(this.#reporting, ring.remote!, batch, () => {
      // what was a copy may have become shared memory, which has a head of its own
      if (ring.copy === copy) then();
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

  /** Brings the buffers of descriptors that are here into our memory: as many as a stage holds. */
  #fetchBuffers(): void {
    const { ring } = this;
    const { size, fetched } = ring;
    const remote = ring.remote!;
    this.#makeRoom();
    const full = this.#used + STAGE_BYTES;
    const batch = new DmaBatch();
    let at = ring.staged;
    while (at !== fetched && this.#fetchBuffer(batch, remote, at, full)) at = at + 1 === size ? 0 : at + 1;
    this.submit(this.fetching, remote, batch, () => {
      ring.staged = at;
      this.goOn();
    });
  }

  /** Everything that is staged has been served, but for the frame in hand: moves that to the front. */
  #makeRoom(): void {
    const { ring } = this;
    if (this.#places.length !== ring.size) this.#places = new Uint32Array(ring.size);
    if (ring.staged === ring.next) {
      this.#used = 0;
      this.#beginFrame();
    }
    const start = this.#frameStart;
    if (start === 0) return;
    const { window, off } = this.#memory;
    window.kernel.copy(off, off + start, this.#used - start);
    this.#used -= start;
    this.#frameStart = 0;
    for (let at = ring.next; at !== ring.staged; at = (at + 1) % ring.size)
      if (this.#places[at] !== NOWHERE) this.#places[at]! -= start;
  }

  /**
   * Adds what the transmitter may read for the descriptor at `at`. What is more than a frame has it does not read. False:
   * the stage is full.
   */
  #fetchBuffer(batch: DmaBatch, remote: RemoteMemory, at: number, full: number): boolean {
    const { u32 } = this.ring;
    const cmd = u32[4 * at + 2]!;
    const kind = D.descriptorKind(cmd);
    const hasBuffer = kind === D.LEGACY || kind === D.DATA;
    // one without a buffer stands alone, unless it is within a frame
    if (!hasBuffer && !this.#inFrame) return true;
    const gpa = u32[4 * at]! + u32[4 * at + 1]! * 4294967296;
    const len = !hasBuffer || gpa === 0 ? 0 : cmd & (kind === D.LEGACY ? D.TXD_LEN_LEGACY : D.TXD_LEN_DATA);
    if (this.#frameBytes + len > MAX_FRAME_LEN) this.#frameBytes = Number.POSITIVE_INFINITY;
    else if (this.#used + len > full) return false;
    else {
      const { window, off } = this.#memory;
      const from = off + this.#used;
      const there = remote.fetchInto(batch, gpa, window.u8.subarray(from, from + len));
      this.#places[at] = there ? this.#used : NOWHERE;
      if (there) this.#used += len;
      this.#frameBytes += len;
    }
    this.#inFrame = true;
    if ((cmd & D.TXD_CMD_EOP) !== 0) this.#beginFrame();
    return true;
  }

  #beginFrame(): void {
    this.#inFrame = false;
    this.#frameBytes = 0;
    this.#frameStart = this.#used;
  }

  /** Adds the bytes from the first status to the last of `n` descriptors that follow each other. */
  #storeStatus(batch: DmaBatch, first: number, n: number): void {
    const { ring } = this;
    const from = DESCRIPTOR_BYTES * first + STATUS;
    const to = from + DESCRIPTOR_BYTES * (n - 1) + 1;
    ring.remote!.storeFrom(batch, ring.base + from, ring.u8.subarray(from, to));
  }
}
