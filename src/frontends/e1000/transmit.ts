/**
 * The transmit side (manual §3.3, §3.4): descriptors from the driver's ring to the backend.
 *
 * A frame is served once its last descriptor (EOP) is there, and its buffers are read in place; descriptors are
 * written back and TDH moves on after the burst's flush(), when nothing of them is needed any more. Each descriptor
 * is read once, and what the driver changes later has no effect.
 *
 * remote-transmit.ts brings what lies in memory that is not shared, and stores what is written back.
 */
import type { GuestMemory } from '../../memory/guest-memory.js';
import { Iovec } from '../../memory/iovec.js';
import type { WindowPool } from '../../memory/window.js';
import { MAX_FRAME_LEN, type NetBackend } from '../../net-backends/net-backend.js';
import { C } from './counters.js';
import type { Interrupts } from './interrupts.js';
import * as R from './registers.js';
import { RemoteTransmit } from './remote-transmit.js';
import { DescriptorRing } from './ring.js';
import type { Statistics } from './statistics.js';
import * as D from './tx-descriptor.js';
import { FULL, MAX_PIECES, TxFrames, TxOptions } from './tx-frame.js';

/** frames, or context descriptors, of one burst */
const BUDGET = 64;

// what is to be done with a descriptor when it is written back
const REPORT = 1;
const DELAY = 2;

/** TXDCTL.LWTHRESH counts units of 8 descriptors (§13.4.44) */
const LWTHRESH_SHIFT = 25;

const EFAULT = -14;

export class Transmitter {
  readonly ring: DescriptorRing;
  readonly frames: TxFrames;
  memory: GuestMemory | undefined;
  linkUp = true;
  readonly #words: Uint32Array;
  readonly #values: Float64Array;
  readonly #interrupts: Interrupts;
  readonly #context = new D.TxContext();
  readonly #options = new TxOptions();
  readonly #iov = new Iovec(MAX_PIECES);
  readonly #remote: RemoteTransmit;
  #enabled = false;
  /** REPORT and DELAY of each descriptor of the burst */
  readonly #reports = new Uint8Array(65536);
  /** descriptors of the burst, and of the frame in hand */
  #burst = 0;
  #taken = 0;
  /** tail at which a frame had no end yet; -1: none */
  #waitsAt = -1;
  /** the ring was found unusable, and nothing has been changed since */
  #refused = false;
  /** counter of what is wrong with the frame in hand; -1: nothing */
  #fault = -1;

  constructor(
    words: Uint32Array,
    windows: WindowPool,
    backend: NetBackend,
    values: Float64Array,
    statistics: Statistics,
    interrupts: Interrupts,
    wake: () => void,
  ) {
    this.#words = words;
    this.#values = values;
    this.#interrupts = interrupts;
    this.ring = new DescriptorRing(words, R.TDBAL, windows);
    this.frames = new TxFrames(windows, backend, values, statistics);
    this.#remote = new RemoteTransmit(this.ring, windows, values, wake);
  }

  close(): void {
    this.#remote.close();
    this.frames.close();
  }

  /** The driver may transmit: TCTL.EN, and a hypervisor that lets us read its memory. */
  set enabled(on: boolean) {
    if (!on) {
      this.#remote.cancelFetch();
      this.#lookAgain();
    }
    this.#enabled = on;
  }

  /** The driver has set the ring up anew, or reset the controller. */
  renew(): void {
    this.#remote.cancel();
    this.ring.renew();
    this.#lookAgain();
  }

  memoryChanged(): void {
    this.ring.forget();
    this.#lookAgain();
  }

  /** The hypervisor has gone, after a reset. */
  detach(): void {
    this.#remote.abandon();
  }

  /** TDT was written. */
  kick(): void {
    if (this.ring.copy !== undefined) this.#remote.tailMoved();
    this.#lookAgain();
  }

  #lookAgain(): void {
    this.#waitsAt = -1;
    this.#refused = false;
  }

  /** Descriptors wait that serve() would do something with. */
  get hasWork(): boolean {
    const { ring } = this;
    if (!this.#enabled || this.#refused) return false;
    if (ring.copy !== undefined) return this.#remote.hasWork(this.#waitsAt);
    return ring.head !== ring.tail && ring.tail !== this.#waitsAt;
  }

  /** Serves at most one burst, up to and including the backend's flush. Returns the frames taken. */
  serve(): number {
    if (!this.hasWork) return 0;
    const { ring } = this;
    if (!ring.usable(this.memory!)) {
      this.#refused = true;
      this.#values[C.fault_tx_ring]!++;
      return 0;
    }
    if (ring.copy === undefined) return this.#serveTo(ring.tail);
    const served = this.#serveTo(this.#remote.end);
    // the flush may have led to us being reset
    if (!ring.stale) this.#remote.stage(this.#waitsAt);
    return served;
  }

  /** Serves frames as far as descriptor `end`. */
  #serveTo(end: number): number {
    const { ring } = this;
    const { size, next: start } = ring;
    let head = start;
    let served = 0;
    this.#burst = 0;
    this.#waitsAt = -1;
    while (head !== end && served < BUDGET) {
      this.#taken = 0;
      const cmd = ring.u32[ring.off32 + 4 * head + 2]!;
      const kind = D.descriptorKind(cmd);
      if (kind !== D.LEGACY && kind !== D.DATA) this.#other(kind, cmd, head);
      else if (!this.#frame(kind, cmd, head, end)) break;
      this.#burst += this.#taken;
      head += this.#taken;
      if (head >= size) head -= size;
      served++;
    }
    if (served === 0) return 0;
    this.frames.flush();
    // the flush may have led to us being reset: then there is nothing to write back
    if (this.#enabled && !ring.stale && ring.next === start) this.#writeBack(start, head);
    return served;
  }

  /** A context descriptor, or one of a kind that does not exist. */
  #other(kind: number, cmd: number, head: number): void {
    const { u32, off32 } = this.ring;
    const w = off32 + 4 * head;
    this.#note(cmd);
    if (kind === D.CONTEXT) this.#context.load(u32[w]!, u32[w + 1]!, cmd, u32[w + 3]!);
    else this.#values[C.fault_tx_type]!++;
  }

  /** Sends the frame that begins at `head`. False: its end is not there yet, or the backend is full. */
  #frame(kind: number, cmd: number, head: number, tail: number): boolean {
    if (!this.#gather(kind, cmd, head, tail)) {
      this.#waitsAt = tail;
      return false;
    }
    if (this.#fault >= 0) this.#values[this.#fault]!++;
    else if (!this.linkUp) this.#values[C.tx_drop_link_down]!++;
    else return this.frames.sendFrame(this.#iov, this.#options, this.#context) !== FULL;
    return true;
  }

  /** Collects the buffers and options of a frame. False if its last descriptor is not there. */
  #gather(kind: number, firstCmd: number, head: number, tail: number): boolean {
    const { size, u32, off32 } = this.ring;
    const iov = this.#iov;
    this.frames.begin(iov);
    this.#options.clear();
    this.#fault = -1;
    const lenMask = kind === D.LEGACY ? D.TXD_LEN_LEGACY : D.TXD_LEN_DATA;
    let cmd = firstCmd;
    for (let at = head; ; cmd = u32[off32 + 4 * at + 2]!) {
      const w = off32 + 4 * at;
      const low = u32[w]!;
      const high = u32[w + 1]!;
      const opts = u32[w + 3]!;
      this.#note(cmd);
      if (D.descriptorKind(cmd) !== kind) this.#fault = C.fault_tx_mixed;
      else if (kind === D.DATA && this.#taken === 1) this.#dataOptions(cmd, opts);
      const len = cmd & lenMask;
      // one without an address or a length transfers nothing (§3.3.3)
      if (len > 0 && (low | high) !== 0 && this.#fault < 0) this.#buffer(at, low + high * 4294967296, len);
      if (++at === size) at = 0;
      if ((cmd & D.TXD_CMD_EOP) !== 0) {
        this.#lastOptions(kind, cmd, opts);
        return true;
      }
      if (at !== tail) continue;
      // the whole ring, and no end: it will never come
      if (this.#taken < size - 1) return false;
      this.#fault = C.fault_tx_unfinished;
      return true;
    }
  }

  #buffer(at: number, gpa: number, len: number): void {
    const iov = this.#iov;
    if (iov.total + len > MAX_FRAME_LEN) {
      this.#fault = C.tx_drop_too_long;
      return;
    }
    const { copy, map } = this.ring;
    const code = copy === undefined ? map.translate(gpa, len, iov) : this.#remote.translate(at, len, iov);
    if (code !== 0) this.#fault = code === EFAULT ? C.fault_tx_address : C.fault_tx_pieces;
  }

  /** Options that stand in the first descriptor of a frame (§3.3.7.1, §3.3.7.3). */
  #dataOptions(cmd: number, opts: number): void {
    const o = this.#options;
    const c = this.#context;
    o.segment = (cmd & D.TXD_CMD_TSE) !== 0;
    if (o.segment) this.#vlanOptions(cmd, opts);
    if ((opts & D.TXD_POPTS_TXSM) !== 0) {
      o.l4 = true;
      o.l4Start = c.tucss;
      o.l4Off = c.tucso;
      o.l4End = c.tucse;
    }
    if ((opts & D.TXD_POPTS_IXSM) !== 0) {
      o.ip = true;
      o.ipStart = c.ipcss;
      o.ipOff = c.ipcso;
      o.ipEnd = c.ipcse;
    }
  }

  /** Options that stand in the last one (§3.3.3.1). */
  #lastOptions(kind: number, cmd: number, opts: number): void {
    const o = this.#options;
    if (!o.segment) this.#vlanOptions(cmd, opts);
    if (kind !== D.LEGACY || (cmd & D.TXD_CMD_IC) === 0) return;
    o.l4 = true;
    o.l4Start = (opts >>> 8) & 0xff;
    o.l4Off = (cmd >>> 16) & 0xff;
    o.l4End = 0;
  }

  #vlanOptions(cmd: number, opts: number): void {
    if ((cmd & D.TXD_CMD_VLE) === 0 || (this.#words[R.CTRL >> 2]! & R.CTRL_VME) === 0) return;
    this.#options.tpid = this.#words[R.VET >> 2]!;
    this.#options.tci = opts >>> 16;
  }

  /** Counts a descriptor of the frame in hand, and remembers what its driver wants to be told. */
  #note(cmd: number): void {
    const report = (cmd & (D.TXD_CMD_RS | D.TXD_CMD_RPS)) !== 0 ? REPORT : 0;
    this.#reports[this.#burst + this.#taken++] = report | ((cmd & D.TXD_CMD_IDE) !== 0 ? DELAY : 0);
  }

  /** Returns [start, head) to the driver, and tells it. */
  #writeBack(start: number, head: number): void {
    const { ring } = this;
    const { size, u8, off32 } = ring;
    let reported = false;
    let delayed = true;
    for (let i = 0, at = start; i < this.#burst; i++) {
      const report = this.#reports[i]!;
      if ((report & REPORT) !== 0) {
        u8[(off32 + 4 * at + 3) * 4] = D.TXD_STAT_DD;
        reported = true;
        if ((report & DELAY) === 0) delayed = false;
      }
      if (++at === size) at = 0;
    }
    if (ring.copy === undefined) {
      this.#returned(head, reported, delayed);
      return;
    }
    ring.next = head;
    const asked = (i: number) => (this.#reports[i]! & REPORT) !== 0;
    this.#remote.report(start, this.#burst, asked, () => this.#returned(head, reported, delayed));
  }

  /** The descriptors before `head` are the driver's, and say so: tells it. */
  #returned(head: number, reported: boolean, delayed: boolean): void {
    const { ring } = this;
    const before = ring.distance(ring.head, ring.tail);
    ring.head = head;
    const left = ring.distance(head, ring.tail);
    let causes = left === 0 ? R.ICR_TXQE : 0;
    const threshold = (this.#words[R.TXDCTL >> 2]! >>> LWTHRESH_SHIFT) * 8;
    if (before > threshold && left <= threshold && threshold > 0) causes |= R.ICR_TXD_LOW;
    if (reported) this.#interrupts.transmitted(delayed, causes);
    else if (causes !== 0) this.#interrupts.raise(causes);
  }
}
