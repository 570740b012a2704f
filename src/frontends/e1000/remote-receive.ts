/**
 * A receive ring in memory that is not shared. Free descriptors are fetched when RDT is written. The receiver writes frames
 * into the copy of the buffers that they name, as it does in shared memory; then a burst of them is stored: first
 * exactly the bytes that were received, then the descriptors. Meanwhile frames wait in the backend, and RDH stays where it
 * is, so that what a burst had used is free again if nothing becomes of it.
 */
import { DmaBatch, type RemoteMemory } from '../../memory/remote-memory.js';
import { C } from './counters.js';
import { descriptorBytes, Lane, RemoteRing } from './remote-ring.js';
import { DESCRIPTOR_BYTES, type DescriptorRing } from './ring.js';

/** Descriptors fetched at a time, and bytes of buffers that a burst may use: what is outstanding for a ring. */
export const FETCH_DESCRIPTORS = 256;
export const BURST_BYTES = 256 * 1024;

/** where what the controller writes into a descriptor begins (manual §3.2.3) */
const WRITTEN_BACK = 8;

/** What the driver is told of a burst when it has it. */
type Delivered = (frames: number, bytes: number, causes: number) => void;

export class RemoteReceive extends RemoteRing {
  readonly #storing: Lane;
  readonly #delivered: Delivered;
  /** frames of the burst that is being stored; -1: there is none */
  #frames = -1;
  /** its data is stored, and its descriptors are being stored */
  #reporting = false;

  /** `goOn`: there may be descriptors for what waits. */
  constructor(ring: DescriptorRing, values: Float64Array, goOn: () => void, delivered: Delivered) {
    super(ring, values, C.fault_rx_dma, goOn);
    this.#storing = new Lane(goOn);
    this.#delivered = delivered;
  }

  /** Descriptors that can be used now, of buffers of `bufLen` bytes. */
  ready(bufLen: number): number {
    if (this.#storing.busy) return 0;
    const { ring } = this;
    const room = BURST_BYTES / bufLen - ring.distance(ring.head, ring.next);
    return Math.min(ring.distance(ring.next, ring.fetched), room);
  }

  /** Fetches free descriptors that are not here. The ring must be usable. */
  fetch(): void {
    if (this.ring.fetched !== this.ring.tail && !this.fetching.busy) this.fetchDescriptors(FETCH_DESCRIPTORS);
  }

  /** Stores what the descriptors from the head on say was received, and then the descriptors; tells the driver at last. */
  store(frames: number, bytes: number, causes: number): void {
    const { ring } = this;
    const { size, u32, base, head, next } = ring;
    const copy = ring.copy!;
    const remote = ring.remote!;
    const data = new DmaBatch();
    for (let at = head; at !== next; at = (at + 1) % size) {
      const w = 4 * at;
      remote.store(data, u32[w]! + u32[w + 1]! * 4294967296, u32[w + 2]! & 0xffff);
    }
    const stored = (): void => {
      // what was a copy may have become shared memory, which has a head of its own
      if (ring.copy === copy) {
        this.#end();
        ring.head = next;
        this.#delivered(frames, bytes, causes);
      } else this.#drop(C.rx_drop_disabled);
      this.goOn();
    };
    const report = (): void => {
      const batch = new DmaBatch();
      const end = head < next ? next : size;
      const there =
        storeDescriptors(remote, batch, base, copy, head, end) &&
        (end === next || storeDescriptors(remote, batch, base, copy, 0, next));
      if (there) {
        this.#reporting = true;
        this.submit(this.#storing, remote, batch, stored);
      } else {
        // the ring's memory went away meanwhile
        this.#drop(C.rx_drop_disabled);
        this.goOn();
      }
    };
    this.#frames = frames;
    this.submit(this.#storing, remote, data, report);
  }

  /** The driver does not receive any more: what was stored and not reported is dropped. */
  disable(): void {
    this.cancelFetch();
    if (!this.#reporting) this.#drop(C.rx_drop_disabled);
  }

  override cancel(): void {
    this.cancelFetch();
    this.#drop(C.rx_drop_disabled);
  }

  override abandon(): void {
    this.fetching.abandon();
    this.#storing.abandon();
  }

  protected override refused(): void {
    this.#drop(C.fault_rx_ring);
    super.refused();
  }

  /** Nothing becomes of the burst under way: its descriptors are free again. */
  #drop(counter: number): void {
    if (this.#frames < 0) return;
    this.values[counter]! += this.#frames;
    this.#end();
    this.#storing.cancel();
    this.cancelFetch();
    this.ring.rewind();
  }

  #end(): void {
    this.#frames = -1;
    this.#reporting = false;
  }
}

/** Adds what was written into descriptors [from, to), which follow each other. False: they are not guest memory. */
function storeDescriptors(
  remote: RemoteMemory,
  batch: DmaBatch,
  base: number,
  copy: Uint8Array,
  from: number,
  to: number,
): boolean {
  const bytes = descriptorBytes(copy, from, to - from).subarray(WRITTEN_BACK);
  return remote.storeFrom(batch, base + DESCRIPTOR_BYTES * from + WRITTEN_BACK, bytes);
}
