/**
 * What both rings do when they lie in guest memory that is not shared (memory/remote-memory.ts): descriptors that the
 * driver has made available are fetched into the ring's copy, and what was served is stored. remote-transmit.ts and
 * remote-receive.ts have the rest.
 *
 * The driver is told of nothing that its memory does not say yet. First its data is there, then the status in the
 * descriptors, then the head moves on and causes appear: each when what comes before has been acknowledged. So the head
 * means to a driver that looks at it what it means in shared memory, and one that looks at DD finds it no later.
 *
 * What becomes of transfers that are under way, the one rule. A transfer cannot be called back: it may be carried out
 * later, as a bus master's last write may. What would follow from it can be left undone:
 *
 *   the ring is set up anew (base, length or head written), a reset, detach   nothing follows
 *   TCTL.EN, RCTL.EN or bus mastering is switched off, D3                    what was fetched is void; data that was
 *                                                                            stored is not reported, its frames are
 *                                                                            dropped; a status that was stored counts
 *   the driver takes descriptors back by TDT or RDT                          what was fetched is void; what was
 *                                                                            stored counts
 *   the memory changes                                                       all counts: what is here is in memory of
 *                                                                            our own, and has been since it came
 *   the hypervisor refuses a transfer that counts                            the ring is given up until it is set up
 *                                                                            anew, and the refusal is counted
 *
 * Memory changes with each frame behind an IOMMU, so that what was fetched must outlive it. Void or not, nothing of its
 * kind begins before it is over: what it writes late, here or there, would be taken for what is asked for next.
 */
import { DmaBatch, type RemoteMemory } from '../../memory/remote-memory.js';
import { DESCRIPTOR_BYTES, type DescriptorRing } from './ring.js';

/** Carries out one batch at a time. */
export class Lane {
  readonly #free: () => void;
  #token: object | undefined;
  #then: ((ok: boolean) => void) | undefined;

  /** `free`: a batch is over that did not count any more. */
  constructor(free: () => void) {
    this.#free = free;
  }

  get busy(): boolean {
    return this.#token !== undefined;
  }

  /** Whether something follows from what is under way. */
  get counts(): boolean {
    return this.#then !== undefined;
  }

  submit(remote: RemoteMemory, batch: DmaBatch, then: (ok: boolean) => void): void {
    const token = {};
    this.#token = token;
    this.#then = then;
    remote.submit(batch, (ok) => {
      if (this.#token !== token) return;
      const follows = this.#then;
      this.abandon();
      if (follows === undefined) this.#free();
      else follows(ok);
    });
  }

  /** Nothing follows from what is under way. */
  cancel(): void {
    this.#then = undefined;
  }

  /** Nor will it ever be over: the connection has ended. */
  abandon(): void {
    this.#token = undefined;
    this.#then = undefined;
  }
}

/** The bytes of `count` descriptors in a copy of a ring. */
export function descriptorBytes(u8: Uint8Array, from: number, count: number): Uint8Array {
  return u8.subarray(DESCRIPTOR_BYTES * from, DESCRIPTOR_BYTES * (from + count));
}

export abstract class RemoteRing {
  protected readonly ring: DescriptorRing;
  protected readonly fetching: Lane;
  /** of descriptors, and for receive of frames: the controller may look for work again */
  protected readonly goOn: () => void;
  protected readonly values: Float64Array;
  readonly #refusals: number;
  /** where what is being fetched ends */
  #fetchEnd = 0;

  /** `refusals`: the counter of refused transfers. */
  constructor(ring: DescriptorRing, values: Float64Array, refusals: number, goOn: () => void) {
    this.ring = ring;
    this.values = values;
    this.#refusals = refusals;
    this.goOn = goOn;
    this.fetching = new Lane(goOn);
  }

  /** The tail was written. Descriptors that the driver took back by it are not what they were when it makes them available again. */
  tailMoved(): void {
    const { ring } = this;
    const { size, next, tail } = ring;
    const end = this.fetching.counts ? this.#fetchEnd : ring.fetched;
    if (tail >= size || ring.distance(next, end) > ring.distance(next, tail)) this.cancelFetch();
  }

  /** What was fetched is void. */
  cancelFetch(): void {
    this.fetching.cancel();
    this.ring.unfetch();
  }

  /** Nothing follows from anything that was begun. */
  abstract cancel(): void;

  /** The connection has ended. */
  abstract abandon(): void;

  /** Brings up to `most` descriptors, from the first that is not here, into the copy. */
  protected fetchDescriptors(most: number): void {
    const { ring } = this;
    const { fetched, size, base, remote } = ring;
    const copy = ring.copy!;
    const count = Math.min(ring.distance(fetched, ring.tail), most);
    const first = Math.min(count, size - fetched);
    const batch = new DmaBatch();
    const there =
      remote!.fetchInto(batch, base + DESCRIPTOR_BYTES * fetched, descriptorBytes(copy, fetched, first)) &&
      remote!.fetchInto(batch, base, descriptorBytes(copy, 0, count - first));
    // memory has gone, and the news of it is on its way
    if (!there) return;
    this.#fetchEnd = (fetched + count) % size;
    this.submit(this.fetching, remote!, batch, () => {
      ring.fetched = this.#fetchEnd;
      this.goOn();
    });
  }

  protected submit(lane: Lane, remote: RemoteMemory, batch: DmaBatch, then: () => void): void {
    lane.submit(remote, batch, (ok) => (ok ? then() : this.refused()));
  }

  /** A transfer that counts was refused: the ring is given up. */
  protected refused(): void {
    this.values[this.#refusals]!++;
    this.cancel();
    this.ring.refuse();
    this.goOn();
  }
}
