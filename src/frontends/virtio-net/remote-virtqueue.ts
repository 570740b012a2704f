/**
 * A virtqueue (VirtIO 1.2 §2.7) in memory that is not shared: between a ring of our own (StandInRing), which Virtqueue serves
 * as it serves any, and the guest's (RemoteRing), which is reached by transfers. A chain is available in the former only
 * when its descriptors are there and all that the device will read of it has been fetched.
 *
 * It goes round, one batch of transfers at a time, for as long as there is anything to do:
 *
 *   1. what was written to used chains, then the entries of the used ring, then its index, are stored, each when the one
 *      before is acknowledged: a driver that sees the index finds the rest (§2.7.8.2);
 *   2. the available index is fetched, and with it what the driver says of interrupts: since the used index was acknowledged
 *      before, whoever needs an interrupt is interrupted (§2.7.7.2, §2.7.10);
 *   3. if the index is a new one, the entries and descriptors that it announces are fetched, then indirect tables, then
 *      the buffers of chains to be read, and then the chains are made available.
 *
 * The driver is never told not to notify, since nobody looks at its memory otherwise. With VIRTIO_F_EVENT_IDX avail_event is
 * the available index that was fetched last, and after it was acknowledged the index is fetched once more.
 *
 * What is under way is bounded, for each queue: one batch; of what is fetched FETCH_BYTES, and of what waits to be stored
 * HELD_BYTES, each exceeded by at most one chain (1 MiB) or table (512 KiB), in at most 2 × MAX_SEGMENTS pieces.
 *
 * Stopping. The guest knows of used chains up to the used index that was sent to it last, and that is the queue's base:
 * chains beyond it are available again, whether they were used or not. So none is lost, and none comes back twice; a frame
 * that was sent may be sent again, and one that was received may be missing. A batch that is under way cannot be taken
 * back: the queue, when it is started again, waits for it (and see `outstanding`). A broken ring is not touched any more.
 *
 * Memory that changes under a running queue does not stop it. What waits to be stored was copied when it was used; what
 * was fetched from memory that is gone, and has not been taken, is fetched anew.
 */
import type { Place } from '../../memory/address-map.js';
import { DmaBatch, type RemoteMemory } from '../../memory/remote-memory.js';
import type { WindowPool } from '../../memory/window.js';
import { MAX_SEGMENTS } from './receiver.js';
import { RemoteChain } from './remote-chain.js';
import { RemoteRing } from './remote-ring.js';
import { STAND_IN, STAND_IN_SIZE, StandInRing } from './stand-in-ring.js';
import {
  DESC_BYTES,
  FAULT_AVAIL_IDX,
  FAULT_DMA,
  type RingAddresses,
  VIRTQ_AVAIL_F_NO_INTERRUPT,
  VIRTQ_DESC_F_WRITE,
  type Virtqueue,
} from './virtqueue.js';

/** chains that are fetched at a time */
const FETCH_CHAINS = 64;
/** another chain, or another table, is fetched in a batch that has less */
const FETCH_BYTES = 256 * 1024;
/** another chain to be written is made available while those that are not back with the driver have room for less */
const HELD_BYTES = 2 ** 20;

/** What the NIC wants to know. */
export interface RemoteEvents {
  /** there are chains to be taken */
  available(): void;
  /** the driver wants an interrupt */
  interrupt(): void;
  /** the ring is broken, see Virtqueue.fault: it is to be stopped */
  broken(): void;
}

export class RemoteVirtqueue {
  running = false;
  readonly #vq: Virtqueue;
  /** chains are to be written: a receive queue */
  readonly #receives: boolean;
  readonly #windows: WindowPool;
  readonly #events: RemoteEvents;
  #memory: RemoteMemory | undefined;
  #ring!: RemoteRing;
  #standIn: StandInRing | undefined;

  // Indices modulo 2^16, none ahead of the next: #told, #collected, those of the Virtqueue, #offered, #seen
  /** used index that the guest has, or is about to have */
  #told = 0;
  /** used index at the last look at what the driver wants */
  #signalled = 0;
  /** used index up to which #data has what was written */
  #collected = 0;
  /** available index of the stand-in */
  #offered = 0;
  /** available index that was fetched last */
  #seen = 0;
  /** avail_event that the guest has; -1: none of ours */
  #availEvent = -1;
  /** the used index, and that notifications are wanted, have been written since the start */
  #introduced = false;

  /** offered chains by their entry in the ring */
  #chains: RemoteChain[] = [];
  /** chains that are on their way to be offered, the next ones */
  #fetching: RemoteChain[] = [];
  /** what was written to used chains and is not under way yet */
  #data = new DmaBatch();
  /** the driver has notified since the available index was asked for */
  #kicked = false;
  /** on the way round */
  #cycling = false;
  /** a batch is under way, perhaps from before the last stop */
  #outstanding = false;
  /** changes with each stop: what comes of batches from before is ignored */
  #life = 0;
  /** changes when what is being fetched is of no use, because memory is not what it was */
  #epoch = 0;

  /** `direction`: VIRTQ_DESC_F_WRITE if chains are to be written. */
  constructor(vq: Virtqueue, direction: number, windows: WindowPool, events: RemoteEvents) {
    this.#vq = vq;
    this.#receives = direction === VIRTQ_DESC_F_WRITE;
    this.#windows = windows;
    this.#events = events;
  }

  /** Starts the Virtqueue, at its next available index. Returns what is wrong, for people, or undefined. */
  start(memory: RemoteMemory, size: number, ring: RingAddresses): string | undefined {
    const vq = this.#vq;
    if (size > STAND_IN_SIZE)
      return `queue size ${size} is beyond ${STAND_IN_SIZE}, the most in memory that is not shared`;
    const wrong = vq.check(memory.map, size, ring);
    if (wrong !== undefined) return wrong;
    const base = vq.availIdx;
    this.#standIn ??= new StandInRing(this.#windows);
    this.#standIn.begin(size, base);
    vq.start(this.#standIn.map, size, STAND_IN, memory.map);
    // nothing comes of what was under way with a hypervisor that has gone
    if (memory !== this.#memory) this.#outstanding = false;
    this.#memory = memory;
    this.#ring = new RemoteRing(memory, this.#windows, size, ring);
    // a base that is not ours is a new ring's; else the driver may still want an interrupt for what it was told before
    if (base !== this.#told) this.#signalled = base;
    this.#told = base;
    this.#collected = base;
    this.#offered = base;
    this.#seen = base;
    this.#availEvent = -1;
    this.#introduced = false;
    this.#chains = [];
    this.#fetching = [];
    this.#kicked = true;
    this.running = true;
    this.#cycle();
    return undefined;
  }

  /** The guest's memory is asked for nothing more. The Virtqueue is stopped, at its base. */
  stop(): void {
    if (!this.running) return;
    this.running = false;
    this.#life++;
    this.#cycling = false;
    this.#data = new DmaBatch();
    this.#vq.stop();
    this.#vq.setBase(this.#told);
  }

  /** Regions came or went. Returns what is wrong with the ring now, for people, or undefined. */
  memoryChanged(): string | undefined {
    const vq = this.#vq;
    const wrong = vq.check(this.#memory!.map, vq.size, this.#ring.addresses);
    if (wrong !== undefined) return wrong;
    const isCurrent = (chain: RemoteChain): boolean => chain.isCurrent(this.#memory!.map);
    let at = vq.availIdx;
    while (at !== this.#offered && isCurrent(this.#chain(at))) at = after(at);
    if (at !== this.#offered || !this.#fetching.every(isCurrent)) this.#withdraw(at);
    return undefined;
  }

  /** Chains from `idx` on are not available any more, and are fetched anew. */
  #withdraw(idx: number): void {
    this.#epoch++;
    this.#fetching = [];
    this.#offered = idx;
    this.#standIn!.availIdx = idx;
    this.#vq.setBase(this.#vq.availIdx);
    this.#cycle();
  }

  /** Whether `memory` may yet be written because of what was asked for, be it before a stop. */
  outstanding(memory: RemoteMemory | undefined): boolean {
    return this.#outstanding && this.#memory === memory;
  }

  /** The driver has notified. */
  kick(): void {
    this.#kicked = true;
    this.#cycle();
  }

  /** The Virtqueue has published used chains. What was written to them is copied now, before anything happens to it. */
  published(): void {
    const { usedIdx } = this.#vq;
    if (this.#receives) for (let at = this.#collected; at !== usedIdx; at = after(at)) this.#collect(at);
    this.#collected = usedIdx;
    this.#cycle();
  }

  close(): void {
    this.stop();
    this.#standIn?.close();
    this.#standIn = undefined;
  }

  #collect(idx: number): void {
    const { gpas, lens } = this.#chain(idx);
    let left = this.#standIn!.usedLen(idx);
    for (let i = 0; i < gpas.length && left > 0; i++) {
      const n = Math.min(left, lens[i]!);
      this.#memory!.store(this.#data, gpas[i]!, n);
      left -= n;
    }
  }

  /** The chain that was offered in entry `idx`. */
  #chain(idx: number): RemoteChain {
    return this.#chains[idx & (this.#vq.size - 1)]!;
  }

  // ---- going round ----

  #cycle(): void {
    if (!this.running || this.#cycling || this.#outstanding || !this.#hasWork()) return;
    this.#cycling = true;
    this.#storeData();
  }

  #end(): void {
    this.#cycling = false;
    this.#cycle();
  }

  #hasWork(): boolean {
    return (
      this.#kicked ||
      this.#collected !== this.#told ||
      (this.#vq.eventIdx && this.#availEvent !== this.#seen) ||
      (this.#offered !== this.#seen && this.#hasRoom())
    );
  }

  #submit(batch: DmaBatch, done: (ok: boolean) => void): void {
    const memory = this.#memory!;
    const life = this.#life;
    this.#outstanding = true;
    memory.submit(batch, (ok) => {
      if (memory !== this.#memory) return;
      this.#outstanding = false;
      if (life === this.#life) done(ok);
      else this.#cycle();
    });
  }

  #store(batch: DmaBatch, then: () => void): void {
    this.#submit(batch, (ok) => (ok ? then() : this.#break(FAULT_DMA)));
  }

  /** What was fetched, or refused, while memory changed is fetched again. */
  #fetch(batch: DmaBatch, then: () => void): void {
    const epoch = this.#epoch;
    this.#submit(batch, (ok) => {
      if (epoch !== this.#epoch) this.#end();
      else if (ok) then();
      else this.#break(FAULT_DMA);
    });
  }

  #break(fault: number): void {
    this.#vq.fault = fault;
    this.#vq.broken = true;
    this.#events.broken();
  }

  // ---- 1: to the guest ----

  #storeData(): void {
    const batch = this.#data;
    const idx = this.#collected;
    this.#data = new DmaBatch();
    this.#store(batch, () => this.#storeEntries(idx));
  }

  #storeEntries(idx: number): void {
    const batch = new DmaBatch();
    this.#ring.storeEntries(batch, this.#standIn!, this.#told, idx);
    this.#store(batch, () => this.#storeIndex(idx));
  }

  #storeIndex(idx: number): void {
    const batch = new DmaBatch();
    if (idx !== this.#told || !this.#introduced) this.#ring.storeUsedIdx(batch, idx);
    this.#introduced = true;
    // whatever becomes of the queue: from now on the guest may see it
    this.#told = idx;
    if (this.#vq.eventIdx && this.#availEvent !== this.#seen) {
      this.#ring.storeAvailEvent(batch, this.#seen);
      this.#availEvent = this.#seen;
    }
    this.#store(batch, () => this.#fetchIndex());
  }

  // ---- 2: what the driver says ----

  #fetchIndex(): void {
    const batch = new DmaBatch();
    this.#ring.fetchIndex(batch, this.#vq.eventIdx);
    this.#kicked = false;
    this.#fetch(batch, () => this.#readIndex());
  }

  #readIndex(): void {
    const { availIdx } = this.#ring;
    const count = distance(this.#told, availIdx);
    // never back, and never more than the ring holds
    if (count > this.#vq.size || count < distance(this.#told, this.#seen)) {
      this.#break(FAULT_AVAIL_IDX);
      return;
    }
    this.#seen = availIdx;
    if (this.#wantsInterrupt()) this.#events.interrupt();
    if (this.#offered === availIdx || !this.#hasRoom()) this.#end();
    else this.#fetchChains();
  }

  /** For what the guest was told since this was asked last. */
  #wantsInterrupt(): boolean {
    const added = distance(this.#signalled, this.#told);
    this.#signalled = this.#told;
    if (added === 0) return false;
    if (this.#vq.eventIdx) return distance(this.#ring.usedEvent + 1, this.#told) < added;
    return (this.#ring.availFlags & VIRTQ_AVAIL_F_NO_INTERRUPT) === 0;
  }

  // ---- 3: from the guest ----

  #fetchChains(): void {
    const batch = new DmaBatch();
    this.#ring.fetchChains(batch);
    this.#fetch(batch, () => this.#fetchTables());
  }

  #fetchTables(): void {
    const { indirect, size } = this.#vq;
    const batch = new DmaBatch();
    const chains: RemoteChain[] = [];
    for (let at = this.#offered; at !== this.#seen; at = after(at)) {
      if (chains.length === FETCH_CHAINS || batch.bytes >= FETCH_BYTES) break;
      const chain = new RemoteChain(this.#ring.head(at));
      chain.walk(this.#ring.table, 0, size, chain.head, this.#direction, indirect);
      if (chain.tableLen > 0) chain.fetchTable(batch, this.#memory!);
      chains.push(chain);
    }
    this.#fetching = chains;
    this.#fetch(batch, () => this.#fetchBuffers());
  }

  #fetchBuffers(): void {
    const sum = this.#receives ? this.#held() : { bytes: 0, pieces: 0 };
    const limit = this.#receives ? HELD_BYTES : FETCH_BYTES;
    const batch = new DmaBatch();
    const chains: RemoteChain[] = [];
    for (const chain of this.#fetching) {
      if (sum.bytes >= limit || sum.pieces > MAX_SEGMENTS) break;
      if (chain.tableLen > 0) this.#walkTable(chain);
      if (!this.#receives) chain.fetchBuffers(batch, this.#memory!);
      sum.bytes += chain.bytes;
      sum.pieces += chain.gpas.length;
      chains.push(chain);
    }
    this.#fetching = chains;
    this.#fetch(batch, () => this.#offer());
  }

  #walkTable(chain: RemoteChain): void {
    const place: Place = { win: 0, off: 0 };
    this.#memory!.map.locate(chain.tableGpa, chain.tableLen, place);
    const { u32 } = this.#windows.windows[place.win]!;
    chain.walk(u32, place.off / 4, chain.tableLen / DESC_BYTES, 0, this.#direction, false);
  }

  get #direction(): number {
    return this.#receives ? VIRTQ_DESC_F_WRITE : 0;
  }

  /** What the driver has not got back of what was offered. */
  #held(): { bytes: number; pieces: number } {
    let bytes = 0;
    let pieces = 0;
    for (let at = this.#told; at !== this.#offered; at = after(at)) {
      const chain = this.#chain(at);
      bytes += chain.bytes;
      pieces += chain.gpas.length;
    }
    return { bytes, pieces };
  }

  /**
   * Whether more may be offered. There is room for the longest frame, and for more pieces than one can have: the
   * receiver never waits for a chain that waits for it.
   */
  #hasRoom(): boolean {
    if (!this.#receives) return true;
    const { bytes, pieces } = this.#held();
    return bytes < HELD_BYTES && pieces <= MAX_SEGMENTS;
  }

  #offer(): void {
    const standIn = this.#standIn!;
    for (const chain of this.#fetching) {
      this.#chains[this.#offered & (this.#vq.size - 1)] = chain;
      standIn.offer(this.#offered, chain.head, this.#ring.table);
      this.#offered = after(this.#offered);
    }
    standIn.availIdx = this.#offered;
    this.#fetching = [];
    this.#events.available();
    this.#end();
  }
}

function after(idx: number): number {
  return (idx + 1) & 0xffff;
}

/** How far index `to` is ahead of `from`. */
function distance(from: number, to: number): number {
  return (to - from) & 0xffff;
}
