/**
 * Monitors (netmap_monitor.c): ports that see what passes through the rings of another one.
 *
 * A copying monitor gets a copy of each slot: of what the port sends when it sends it, of what it receives when
 * it comes, whether its user looks or not. A zero-copy monitor (NR_ZCOPY_MON) gets the buffers themselves, in the port's
 * memory, when the port is done with them: a sent one when it is free again, a received one when the user has
 * given it back; the port's slot gets the monitor's empty buffer (NS_BUF_CHANGED). A second zero-copy monitor
 * gets them when the first is done with them, and so on.
 *
 * Slots that the port has sent are flagged NS_TXMON. Ring i of a monitor sees rings i of the port. A monitor
 * that has no room misses slots, and counts them: nobody waits for it.
 */
import type { Runtime } from '../engine/runtime.js';
import { copyPiece } from '../memory/copy.js';
import { NS_BUF_CHANGED, NS_INDIRECT, NS_MOREFRAG, NS_TXMON } from './abi.js';
import { NR_MONITOR_RX, NR_MONITOR_TX, NR_ZCOPY_MON } from './abi-register.js';
import { NetmapAdapter, type RingSizes, type RingWatcher } from './adapter.js';
import { R } from './counters.js';
import type { KRing } from './kring.js';
import type { NetmapMemory } from './memory.js';
import type { RingSelection } from './port.js';

/** What the monitors of one port see of it. */
class Monitors implements RingWatcher {
  readonly copying: MonitorAdapter[] = [];
  readonly zeroCopy: MonitorAdapter[] = [];

  get empty(): boolean {
    return this.copying.length + this.zeroCopy.length === 0;
  }

  sent(kring: KRing, from: number, to: number): void {
    for (const monitor of this.copying) monitor.copy(kring, from, to, NS_TXMON);
  }

  received(kring: KRing, from: number, to: number): void {
    for (const monitor of this.copying) monitor.copy(kring, from, to, 0);
  }

  completed(kring: KRing, from: number, to: number): void {
    this.#pass(kring, from, to, NS_TXMON);
  }

  released(kring: KRing, from: number, to: number): void {
    this.#pass(kring, from, to, 0);
  }

  /** To the first that watches the ring; it passes on what it is done with. */
  #pass(kring: KRing, from: number, to: number, flag: number): void {
    this.zeroCopy.find((monitor) => monitor.watches(kring))?.take(kring, from, to, flag);
  }

  /** The zero-copy monitor that comes after `monitor`, for rings of the port that both watch. */
  after(monitor: MonitorAdapter, ring: number): MonitorAdapter | undefined {
    const { zeroCopy } = this;
    return zeroCopy.slice(zeroCopy.indexOf(monitor) + 1).find((next) => next.watchesRing(ring));
  }
}

export class MonitorAdapter extends NetmapAdapter {
  readonly #parent: NetmapAdapter;
  readonly #watched: ReadonlySet<KRing>;
  readonly #monitors: Monitors;
  readonly #zeroCopy: boolean;
  // of the slots in hand: see #fits()
  #idx = 0;
  #len = 0;
  #flags = 0;
  #ownIdx = 0;

  /** `flags`: NR_MONITOR_TX, NR_MONITOR_RX, NR_ZCOPY_MON; `selection`: the rings of `parent` that are watched. */
  constructor(
    runtime: Runtime,
    name: string,
    memory: NetmapMemory,
    sizes: RingSizes,
    parent: NetmapAdapter,
    selection: RingSelection,
    flags: number,
  ) {
    super(runtime, name, memory, sizes);
    this.#parent = parent;
    const tx = (flags & NR_MONITOR_TX) !== 0 ? selection.tx : [];
    const rx = (flags & NR_MONITOR_RX) !== 0 ? selection.rx : [];
    this.#watched = new Set([...tx, ...rx]);
    this.#zeroCopy = (flags & NR_ZCOPY_MON) !== 0;
    const watcher = (parent.watcher as Monitors | undefined) ?? new Monitors();
    parent.watcher = watcher;
    this.#monitors = watcher;
    (this.#zeroCopy ? watcher.zeroCopy : watcher.copying).push(this);
    parent.dependants++;
  }

  watches(kring: KRing): boolean {
    return this.#watched.has(kring);
  }

  watchesRing(ringId: number): boolean {
    for (const kring of this.#watched) if (kring.ringId === ringId) return true;
    return false;
  }

  /** Copies slots [from, to) of a ring that is watched. */
  copy(kring: KRing, from: number, to: number, flag: number): void {
    if (!this.#watched.has(kring)) return;
    const own = this.rxKrings[kring.ringId]!;
    let seen = 0;
    for (let at = from; at !== to; at = kring.next(at)) if (this.#copySlot(kring, at, own, flag)) seen++;
    this.#count(seen, kring.distance(from, to));
  }

  /** False when there is no room, or nothing that can be copied. */
  #copySlot(kring: KRing, at: number, own: KRing, flag: number): boolean {
    if (!this.#fits(kring, at, own)) return false;
    const len = Math.min(this.#len, own.bufSize);
    const src = kring.ring.bufsOff + this.#idx * kring.bufSize;
    const dst = own.ring.bufsOff + this.#ownIdx * own.bufSize;
    copyPiece(own.ring.window, dst, kring.ring.window, src, len);
    own.ring.setLenAndFlags(own.hwtail, len, (this.#flags & NS_MOREFRAG) | flag);
    own.hwtail = own.next(own.hwtail);
    return true;
  }

  /** Takes the buffers of slots [from, to) of a ring that is watched, and leaves empty ones there. */
  take(kring: KRing, from: number, to: number, flag: number): void {
    const own = this.rxKrings[kring.ringId]!;
    let seen = 0;
    for (let at = from; at !== to; at = kring.next(at)) if (this.#takeBuffer(kring, at, own, flag)) seen++;
    this.#count(seen, kring.distance(from, to));
  }

  #takeBuffer(kring: KRing, at: number, own: KRing, flag: number): boolean {
    if (!this.#fits(kring, at, own)) return false;
    const to = own.hwtail;
    own.ring.setBufIdx(to, this.#idx);
    own.ring.setLenAndFlags(to, this.#len, (this.#flags & (NS_MOREFRAG | NS_TXMON)) | flag | NS_BUF_CHANGED);
    own.hwtail = own.next(to);
    kring.ring.setBufIdx(at, this.#ownIdx);
    kring.ring.setSlotFlags(at, this.#flags | NS_BUF_CHANGED);
    return true;
  }

  /** Reads slot `at` of a ring that is watched, and the next one of ours, each once. False when there is none, or it makes no sense. */
  #fits(kring: KRing, at: number, own: KRing): boolean {
    const { ring } = kring;
    const word = ring.lenAndFlags(at);
    this.#idx = ring.bufIdx(at);
    this.#len = word & 0xffff;
    this.#flags = word >>> 16;
    this.#ownIdx = own.ring.bufIdx(own.hwtail);
    const readable = kring.isValid(this.#idx, this.#len) && (this.#flags & NS_INDIRECT) === 0;
    return readable && own.rxSpace > 0 && own.isValid(this.#ownIdx, 0);
  }

  #count(seen: number, slots: number): void {
    const { values } = this.counters;
    values[R.monitor_slots]! += seen;
    values[R.monitor_drops]! += slots - seen;
    if (seen > 0) this.wake();
  }

  protected transmit(): void {}

  protected release(kring: KRing, head: number): void {
    if (this.#zeroCopy && head !== kring.hwcur)
      this.#monitors.after(this, kring.ringId)?.take(kring, kring.hwcur, head, 0);
    kring.hwcur = head;
  }

  protected override detached(): void {
    const parent = this.#parent;
    for (const list of [this.#monitors.copying, this.#monitors.zeroCopy]) {
      const at = list.indexOf(this);
      if (at >= 0) list.splice(at, 1);
    }
    if (this.#monitors.empty) parent.watcher = undefined;
    parent.dependants--;
    parent.usersChanged();
  }
}
