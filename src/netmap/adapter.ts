/**
 * What a netmap port is behind its users (struct netmap_adapter): rings in a memory region, and what a
 * sync of them does. VALE ports, pipe ends, monitors and interfaces are the kinds.
 *
 * An adapter begins with its first user and, unless it is persistent, goes with its last.
 */
import type { CounterSet } from '../engine/counters.js';
import type { Runtime } from '../engine/runtime.js';
import { NetbeError } from '../errors.js';
import { OFFLOAD_ALL } from '../wire/vnet-header.js';
import { NR_RX, NR_TX } from './abi.js';
import { R, ringCounterNames } from './counters.js';
import { A_HDR_LEN, A_RX_RINGS, KRing, KringTable } from './kring.js';
import type { BufferHolder, NetmapMemory } from './memory.js';
import type { NetmapPort } from './port.js';

export interface RingSizes {
  txRings: number;
  rxRings: number;
  txSlots: number;
  rxSlots: number;
  hostTxRings: number;
  hostRxRings: number;
}

/** Sees frames of an adapter's rings: see monitor.ts. */
export interface RingWatcher {
  /** slots [from, to) of a transmit ring are about to be sent */
  sent(kring: KRing, from: number, to: number): void;
  /** slots [from, to) of a transmit ring have been sent, and are free again */
  completed(kring: KRing, from: number, to: number): void;
  /** slots [from, to) of a receive ring have been filled */
  received(kring: KRing, from: number, to: number): void;
  /** slots [from, to) of a receive ring are given back by the user */
  released(kring: KRing, from: number, to: number): void;
}

export abstract class NetmapAdapter implements BufferHolder {
  readonly runtime: Runtime;
  readonly name: string;
  readonly memory: NetmapMemory;
  readonly sizes: RingSizes;
  readonly table: KringTable;
  readonly txKrings: KRing[] = [];
  readonly rxKrings: KRing[] = [];
  readonly hostTxKrings: KRing[] = [];
  readonly hostRxKrings: KRing[] = [];
  readonly counters: CounterSet;
  readonly users = new Set<NetmapPort>();
  /** pipes and monitors that live on this port's memory and keep it */
  dependants = 0;
  #watcher: RingWatcher | undefined;
  /** the adapter is gone */
  onClose: (() => void) | undefined;
  protected closed = false;

  /** `ownBuffers`: each slot is given a buffer; else its maker fills the slots */
  constructor(runtime: Runtime, name: string, memory: NetmapMemory, sizes: RingSizes, ownBuffers = true) {
    this.runtime = runtime;
    this.name = name;
    this.memory = memory;
    this.sizes = sizes;
    memory.retain();
    try {
      this.counters = runtime.counters.create(`rings ${name}`, ringCounterNames);
    } catch (error) {
      memory.release();
      throw error;
    }
    this.table = new KringTable(runtime.windows);
    try {
      this.#makeKrings();
      if (ownBuffers && !this.krings().every((kring) => kring.allocBufs())) throw this.noBuffers();
      memory.holders.add(this);
    } catch (error) {
      this.#freeRings();
      throw error;
    }
    this.table.words[A_RX_RINGS] = sizes.rxRings;
  }

  #makeKrings(): void {
    const { sizes } = this;
    const make = (into: KRing[], dir: number, count: number, slots: number, host: boolean): void => {
      for (let i = 0; i < count; i++) into.push(new KRing(this.table, this.memory, dir, i, slots, host));
    };
    make(this.txKrings, NR_TX, sizes.txRings, sizes.txSlots, false);
    make(this.hostTxKrings, NR_TX, sizes.hostTxRings, sizes.txSlots, true);
    make(this.rxKrings, NR_RX, sizes.rxRings, sizes.rxSlots, false);
    make(this.hostRxKrings, NR_RX, sizes.hostRxRings, sizes.rxSlots, true);
  }

  protected noBuffers(): NetbeError {
    const { memory, name } = this;
    return new NetbeError(`netmap memory ${memory.id} has not enough buffers for the rings of ${name}`, {
      code: 'ENOMEM',
      kind: 'usage',
      subject: name,
      remedy: `${memory.freeBufs} of ${memory.bufTotal} buffers are free: ask for fewer slots or rings, or for memory of its own.`,
    });
  }

  /** All rings, in the order of ring_ofs of a netmap_if. */
  krings(): KRing[] {
    return [...this.txKrings, ...this.hostTxKrings, ...this.rxKrings, ...this.hostRxKrings];
  }

  /** Bytes of virtio-net header before each frame: 0, 10 or 12 (NETMAP_REQ_PORT_HDR_GET). */
  get vnetHdrLen(): number {
    return this.table.words[A_HDR_LEN]!;
  }

  set vnetHdrLen(len: number) {
    if (len !== 0 && len !== 10 && len !== 12)
      throw new NetbeError(`header length ${len} is none of 0, 10 and 12`, {
        code: 'EINVAL',
        kind: 'usage',
        subject: this.name,
      });
    this.headerChanged(len);
    this.table.words[A_HDR_LEN] = len;
  }

  /** Throws EOPNOTSUPP where frames cannot have headers of that length. */
  protected headerChanged(_len: number): void {}

  /**
   * OFFLOAD_* that users may ask for in the headers of frames, and take undone. All of them unless somebody
   * says otherwise: who sets a header length reads headers (NETMAP_REQ_PORT_HDR_SET).
   */
  setOffloads(_tx: number = OFFLOAD_ALL, _rx: number = OFFLOAD_ALL): void {}

  // ---- syncs, by users and by the fabric ----

  /** Sends what the user has put before head (NIOCTXSYNC). Returns the number of slots taken. */
  txsync(kring: KRing): number {
    const from = kring.hwcur;
    const head = kring.readUser();
    if (head < 0) {
      this.#reinit(kring);
      return 0;
    }
    const slots = kring.distance(from, head);
    const watcher = this.#watcher;
    if (slots > 0 && watcher !== undefined) watcher.sent(kring, from, head);
    this.transmit(kring, head);
    // the slot at tail has been sent too, and stays the fabric's
    if (watcher !== undefined && kring.rtail !== kring.hwtail)
      watcher.completed(kring, kring.next(kring.rtail), kring.next(kring.hwtail));
    kring.publish();
    return slots;
  }

  /** Takes back what is before head, and shows the frames that came (NIOCRXSYNC). Returns frames' slots that wait. */
  rxsync(kring: KRing): number {
    const head = kring.readUser();
    if (head < 0) {
      this.#reinit(kring);
      return 0;
    }
    const watcher = this.#watcher;
    if (watcher !== undefined && head !== kring.hwcur) watcher.released(kring, kring.hwcur, head);
    this.release(kring, head);
    if (watcher !== undefined) this.#watchArrivals(watcher);
    kring.publish();
    return kring.distance(head, kring.hwtail);
  }

  /** Who sees the frames of the rings from now on; undefined: nobody. */
  get watcher(): RingWatcher | undefined {
    return this.#watcher;
  }

  set watcher(watcher: RingWatcher | undefined) {
    this.#watcher = watcher;
    for (const kring of this.rxKrings) kring.watchedTail = kring.hwtail;
  }

  /** Shows frames as they come: nobody waits for the port's own user to look. */
  #watchArrivals(watcher: RingWatcher): void {
    for (const kring of this.rxKrings) {
      const { watchedTail, hwtail } = kring;
      if (watchedTail === hwtail) continue;
      kring.watchedTail = hwtail;
      watcher.received(kring, watchedTail, hwtail);
    }
  }

  #reinit(kring: KRing): void {
    this.counters.values[R.ring_reinits]!++;
    kring.reinit();
  }

  /** Sends slots [hwcur, head) of a transmit ring, as far as there is room, and sets hwcur and hwtail. */
  protected abstract transmit(kring: KRing, head: number): void;

  /** Slots [hwcur, head) of a receive ring are the fabric's again: sets hwcur, and hwtail where frames waited elsewhere. */
  protected abstract release(kring: KRing, head: number): void;

  /** A ring has its first user. */
  opened(_kring: KRing): void {}

  // ---- readiness ----

  /** Frames have come, or slots for sending. */
  protected wake(): void {
    if (this.#watcher !== undefined) this.#watchArrivals(this.#watcher);
    for (const user of this.users) user.wake();
  }

  get inUse(): boolean {
    return this.users.size > 0 || this.dependants > 0;
  }

  /** A user came or went, or a dependant. */
  usersChanged(): void {
    if (!this.inUse && !this.persistent) this.close();
  }

  /** It stays when its last user goes. */
  get persistent(): boolean {
    return false;
  }

  // ---- end ----

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.detached();
    this.#freeRings();
    this.onClose?.();
  }

  /** Lets go of what is on the other side. */
  protected detached(): void {}

  *buffers(): Iterable<number> {
    for (const { ring, numSlots } of this.krings()) for (let i = 0; i < numSlots; i++) yield ring.bufIdx(i);
  }

  #freeRings(): void {
    this.memory.freeBufsOf(this);
    for (const kring of this.krings()) this.memory.freeRing(kring.regionOff);
    this.table.close();
    this.runtime.counters.release(this.counters.subject);
    this.memory.release();
  }
}
