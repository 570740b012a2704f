/**
 * A netmap port as its user has it open: the rings that it asked for, syncs, readiness, close. What a
 * descriptor bound by NETMAP_REQ_REGISTER is in netmap; several users may share a port's rings.
 */
import type { Pollable } from '../engine/poll-loop.js';
import { createEventfd, eventfdWrite } from '../sys/eventfd.js';
import type { Fd } from '../sys/fd.js';
import {
  IFNAMSIZ,
  NETMAP_API,
  NI_BUFS_HEAD,
  NI_FLAGS,
  NI_HOST_RX_RINGS,
  NI_HOST_TX_RINGS,
  NI_NAME,
  NI_PRIV_MEM,
  NI_RING_OFS,
  NI_RX_RINGS,
  NI_TX_RINGS,
  NI_VERSION,
} from './abi.js';
import { NR_EXCLUSIVE } from './abi-register.js';
import type { NetmapAdapter } from './adapter.js';
import type { KRing } from './kring.js';
import type { NetmapMemory } from './memory.js';
import type { NetmapRing } from './ring.js';

/** Rings of an adapter that a user has: numbers [first, end) of each kind. */
export interface RingSelection {
  tx: readonly KRing[];
  rx: readonly KRing[];
}

export interface NetmapPortOptions {
  /** extra buffers, in a list that begins at ni_bufs_head; there may be fewer */
  extraBufs?: number;
  /** NR_EXCLUSIVE */
  flags?: number;
  /** frames have come, or room for some: called by the poll loop, once for all that has happened since */
  onReady?: (() => void) | undefined;
}

export class NetmapPort implements Pollable {
  readonly name: string;
  readonly memory: NetmapMemory;
  /** offset of this user's netmap_if in the region (nr_offset) */
  readonly nifpOff: number;
  readonly txRings: readonly NetmapRing[];
  readonly rxRings: readonly NetmapRing[];
  /** extra buffers that were given */
  readonly extraBufs: number;
  /** of the rings, in the same order: for whoever drives them from another process */
  readonly txKrings: readonly KRing[];
  readonly rxKrings: readonly KRing[];
  onReady: (() => void) | undefined;
  readonly #adapter: NetmapAdapter;
  #eventfd: Fd | undefined;
  #ready = false;
  #inLoop = false;
  #closed = false;

  constructor(adapter: NetmapAdapter, name: string, selection: RingSelection, options: NetmapPortOptions) {
    this.#adapter = adapter;
    this.name = name;
    this.memory = adapter.memory;
    this.txKrings = selection.tx;
    this.rxKrings = selection.rx;
    this.txRings = selection.tx.map(({ ring }) => ring);
    this.rxRings = selection.rx.map(({ ring }) => ring);
    this.onReady = options.onReady;
    this.nifpOff = this.memory.allocIf();
    this.#takeRings(((options.flags ?? 0) & NR_EXCLUSIVE) !== 0);
    const { head, count } = this.memory.allocBufList(options.extraBufs ?? 0);
    this.extraBufs = count;
    this.#writeIf(head);
    adapter.users.add(this);
    adapter.usersChanged();
  }

  #takeRings(exclusive: boolean): void {
    const taken: KRing[] = [];
    try {
      for (const kring of [...this.txKrings, ...this.rxKrings]) {
        if (kring.users === 0) this.#adapter.opened(kring);
        kring.users++;
        taken.push(kring);
        if (exclusive) kring.exclusive = true;
      }
    } catch (error) {
      this.#giveRings(taken);
      this.memory.freeIf(this.nifpOff);
      throw error;
    }
  }

  #giveRings(krings: readonly KRing[]): void {
    for (const kring of krings) {
      kring.users--;
      kring.exclusive = false;
    }
  }

  get adapter(): NetmapAdapter {
    return this.#adapter;
  }

  /** struct netmap_if of this user */
  #writeIf(bufsHead: number): void {
    const { memory, nifpOff } = this;
    const adapter = this.#adapter;
    const { u8, u32 } = memory.window;
    const off = memory.off + nifpOff;
    const name = Buffer.from(this.name, 'latin1').subarray(0, IFNAMSIZ - 1);
    u8.set(name, off + NI_NAME);
    const { sizes } = adapter;
    u32[(off + NI_VERSION) >>> 2] = NETMAP_API;
    u32[(off + NI_FLAGS) >>> 2] = memory.id === 1 ? 0 : NI_PRIV_MEM;
    u32[(off + NI_TX_RINGS) >>> 2] = sizes.txRings;
    u32[(off + NI_RX_RINGS) >>> 2] = sizes.rxRings;
    u32[(off + NI_HOST_TX_RINGS) >>> 2] = sizes.hostTxRings;
    u32[(off + NI_HOST_RX_RINGS) >>> 2] = sizes.hostRxRings;
    u32[(off + NI_BUFS_HEAD) >>> 2] = bufsHead;
    const own = new Set([...this.txKrings, ...this.rxKrings]);
    adapter.krings().forEach((kring, i) => {
      const w = (off + NI_RING_OFS + i * 8) >>> 2;
      // rings lie behind interfaces: the upper half is 0
      u32[w] = own.has(kring) ? kring.regionOff - nifpOff : 0;
    });
  }

  /** Offset of the netmap_if in the window. */
  get nifpWindowOff(): number {
    return this.memory.off + this.nifpOff;
  }

  /** First extra buffer; the user keeps the list here, and what is in it at close is freed. */
  get bufsHead(): number {
    return this.memory.window.u32[(this.nifpWindowOff + NI_BUFS_HEAD) >>> 2]!;
  }

  set bufsHead(idx: number) {
    this.memory.window.u32[(this.nifpWindowOff + NI_BUFS_HEAD) >>> 2] = idx;
  }

  /** Sends what is before head in one of txRings, or in all (NIOCTXSYNC). */
  txsync(ring?: number): void {
    if (this.#closed) return;
    const adapter = this.#adapter;
    if (ring !== undefined) adapter.txsync(this.txKrings[ring]!);
    else for (const kring of this.txKrings) adapter.txsync(kring);
  }

  /** Gives back what is before head in one of rxRings, or in all, and moves tail behind what came (NIOCRXSYNC). */
  rxsync(ring?: number): void {
    if (this.#closed) return;
    const adapter = this.#adapter;
    if (ring !== undefined) adapter.rxsync(this.rxKrings[ring]!);
    else for (const kring of this.rxKrings) adapter.rxsync(kring);
  }

  get vnetHdrLen(): number {
    return this.#adapter.vnetHdrLen;
  }

  /** Bytes of virtio-net header before each frame, of the whole port: 0, 10 or 12. */
  set vnetHdrLen(len: number) {
    this.#adapter.vnetHdrLen = len;
  }

  /** Readable when frames have come, or room for some, since it was read: to be waited for with poll(2). */
  get eventfd(): number {
    this.#eventfd ??= createEventfd();
    return this.#eventfd.number;
  }

  /** Called by the adapter: frames have come, or room for some. */
  wake(): void {
    if (this.#ready || this.#closed) return;
    if (this.onReady !== undefined) {
      this.#ready = true;
      const { loop } = this.#adapter.runtime;
      if (!this.#inLoop) {
        this.#inLoop = true;
        loop.add(this);
      }
      loop.activate(this);
    }
    if (this.#eventfd !== undefined) eventfdWrite(this.#eventfd.number);
  }

  // ---- in the poll loop ----

  poll(): number {
    if (!this.#ready) return 0;
    this.#ready = false;
    this.onReady?.();
    return 1;
  }

  arm(): boolean {
    return this.#ready;
  }

  disarm(): void {}

  /** Idempotent. Extra buffers and rings go back; frames that wait are lost with the last user. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#adapter.runtime.loop.remove(this);
    this.#eventfd?.close();
    this.#giveRings([...this.txKrings, ...this.rxKrings]);
    this.memory.freeBufList(this.bufsHead);
    this.memory.freeIf(this.nifpOff);
    this.#adapter.users.delete(this);
    this.#adapter.usersChanged();
  }
}
