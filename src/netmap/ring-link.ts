/**
 * A netmap port as frames: what is sent goes into its transmit rings, what its receive rings have is handed over,
 * whatever rings these are (a pipe's, a persistent port's, one of several, a monitor's).
 *
 * A frame that is sent is copied into one slot or several (NS_MOREFRAG), all of a burst are handed over by
 * one txsync in flush(); where the ring has no room for it after another, it is dropped and counted. A frame
 * that came is described from its slots once: their contents may be other processes' to write, and are
 * checked then. A chain that has no end yet is no frame yet.
 */
import { counterIndices } from '../engine/counters.js';
import type { Pollable } from '../engine/poll-loop.js';
import type { Runtime } from '../engine/runtime.js';
import { NetbeError } from '../errors.js';
import { copyPieces } from '../memory/copy.js';
import { Iovec, iovecRead } from '../memory/iovec.js';
import { E } from '../sys/libc.js';
import { ETH_ADDRS_LEN, ETH_HDR_LEN, MAX_FRAME_LEN } from '../wire/ethernet.js';
import { VNET_HDR_LEN, type VnetHdrLen } from '../wire/vnet-header.js';
import { NETMAP_MAX_FRAGS, NS_MOREFRAG } from './abi.js';
import type { NetmapPort } from './port.js';

export const ringsCounterNames = [
  'rx_frames',
  'rx_no_space',
  'rx_discarded',
  'rx_drop_bad_slot',
  'tx_frames',
  'tx_drop_full',
  'tx_drop_runt',
  'tx_drop_too_long',
  'tx_drop_bad_slot',
  'tx_drop_no_ring',
] as const;

const C = counterIndices(ringsCounterNames);

/** frames handed over in one call of poll() */
const BURST = 256;
/** slots or frames of one receive ring after which they are given back, and the next ring has its turn */
const STREAK = 64;

export interface RingLinkOptions {
  runtime: Runtime;
  /** its counters are kept under this name */
  name: string;
  openPort: (onReady: () => void) => NetmapPort;
  onReceive: (() => void) | undefined;
}

export class RingLink implements Pollable {
  readonly name: string;
  readonly #runtime: Runtime;
  readonly #port: NetmapPort;
  readonly #values: Float64Array;
  readonly #onReceive: (() => void) | undefined;
  /** bytes of header that the port had when it was opened */
  readonly #hdrLenBefore: number;
  #hdrLen: VnetHdrLen = 0;
  #enabled = false;
  #closed = false;
  #taken = 0;
  #burst = Number.POSITIVE_INFINITY;
  // receive: the ring in hand, slots taken from it since its last sync, and the frame in hand
  #at = 0;
  #streak = 0;
  #len = 0;
  /** head behind the frame in hand */
  #behind = 0;
  readonly #pieces = new Iovec(NETMAP_MAX_FRAGS);
  // transmit: rings with frames that are not synced, by bit
  #dirty = 0;
  readonly #slots = new Iovec(NETMAP_MAX_FRAGS);
  readonly #start = new Uint8Array(VNET_HDR_LEN + ETH_ADDRS_LEN);

  constructor({ runtime, name, openPort, onReceive }: RingLinkOptions) {
    this.name = name;
    this.#runtime = runtime;
    this.#onReceive = onReceive;
    this.#port = openPort(() => runtime.loop.activate(this));
    try {
      this.#values = runtime.counters.create(name, ringsCounterNames).values;
    } catch (error) {
      this.#port.close();
      throw error;
    }
    this.#hdrLenBefore = this.#port.vnetHdrLen;
    runtime.loop.add(this);
  }

  get vnetHdrLen(): VnetHdrLen {
    return this.#hdrLen;
  }

  // ---- transmit ----

  send(iov: Iovec): number {
    const { total } = iov;
    const len = total - this.#hdrLen;
    if (len < ETH_HDR_LEN || len > MAX_FRAME_LEN)
      return this.#dropSent(total, len < ETH_HDR_LEN ? C.tx_drop_runt : C.tx_drop_too_long);
    const port = this.#port;
    if (port.txRings.length === 0) return this.#dropSent(total, C.tx_drop_no_ring);
    const r = port.txRings.length === 1 ? 0 : this.#ringFor(iov);
    const ring = port.txRings[r]!;
    const needed = Math.ceil(total / ring.bufSize);
    if (needed > NETMAP_MAX_FRAGS) return this.#dropSent(total, C.tx_drop_too_long);
    if (this.#txSpace(r) < needed) {
      port.txsync(r);
      this.#dirty &= ~(1 << r);
      if (this.#txSpace(r) < needed) return this.#dropSent(total, C.tx_drop_full);
    }
    return this.#fill(r, iov, needed);
  }

  #dropSent(total: number, counter: number): number {
    this.#values[counter]!++;
    return total;
  }

  /** Frames between two addresses go through one ring: they stay in order. */
  #ringFor(iov: Iovec): number {
    const start = this.#start;
    const hdrLen = this.#hdrLen;
    iovecRead(this.#runtime.windows, iov, hdrLen + ETH_ADDRS_LEN, start);
    let sum = 0;
    for (let i = hdrLen; i < hdrLen + ETH_ADDRS_LEN; i++) sum += start[i]!;
    return sum % this.#port.txRings.length;
  }

  #txSpace(r: number): number {
    const kring = this.#port.txKrings[r]!;
    const { head } = kring.ring;
    return head < kring.numSlots ? kring.distance(head, kring.rtail) : 0;
  }

  #fill(r: number, iov: Iovec, needed: number): number {
    const kring = this.#port.txKrings[r]!;
    const { ring } = kring;
    const slots = this.#slots;
    const { head } = ring;
    slots.clear();
    let at = head;
    let left = iov.total;
    for (let i = 0; i < needed; i++) {
      const idx = ring.bufIdx(at);
      const n = Math.min(left, ring.bufSize);
      if (!kring.isValid(idx, n)) return this.#dropSent(iov.total, C.tx_drop_bad_slot);
      slots.push(ring.window.index, ring.bufOff(idx), n);
      ring.setLenAndFlags(at, n, i < needed - 1 ? NS_MOREFRAG : 0);
      left -= n;
      at = ring.next(at);
    }
    copyPieces(this.#runtime.windows, iov.win, iov.off, iov.len, 0, iov.total, slots, 0);
    ring.cur = at;
    ring.head = at;
    this.#dirty |= 1 << r;
    this.#values[C.tx_frames]!++;
    return iov.total;
  }

  flush(): void {
    if (this.#closed) return;
    for (let r = 0; this.#dirty !== 0; r++) {
      if ((this.#dirty & (1 << r)) === 0) continue;
      this.#dirty &= ~(1 << r);
      this.#port.txsync(r);
    }
  }

  // ---- receive ----

  peekRecvLen(): number {
    return !this.#closed && this.#taken < this.#burst && this.#next() ? this.#len : 0;
  }

  recv(iov: Iovec): number {
    const len = this.peekRecvLen();
    if (len === 0) return 0;
    this.#taken++;
    const fits = iov.total >= len;
    const { win, off, len: lengths } = this.#pieces;
    if (fits) copyPieces(this.#runtime.windows, win, off, lengths, 0, len, iov, 0);
    this.#values[fits ? C.rx_frames : C.rx_no_space]!++;
    this.#drop();
    return fits ? len : -E.ENOSPC;
  }

  rxDiscard(): number {
    const len = this.peekRecvLen();
    if (len === 0) return 0;
    this.#taken++;
    this.#forget();
    return len;
  }

  #forget(): void {
    this.#values[C.rx_discarded]!++;
    this.#drop();
  }

  /** Brings a frame to hand: of the ring in hand until it is empty or has had its turn, then of the others. */
  #next(): boolean {
    if (this.#len > 0) return true;
    const { length } = this.#port.rxRings;
    if (this.#streak >= STREAK && length > 0) this.#turn(length);
    for (let tried = 0; tried < length; tried++) {
      if (this.#fetch()) return true;
      this.#turn(length);
    }
    return false;
  }

  #turn(length: number): void {
    if (this.#streak > 0) this.#port.rxsync(this.#at);
    this.#streak = 0;
    this.#at = this.#at + 1 === length ? 0 : this.#at + 1;
  }

  #fetch(): boolean {
    const kring = this.#port.rxKrings[this.#at]!;
    const { ring, numSlots } = kring;
    let { head } = ring;
    if (head === kring.rtail) {
      this.#port.rxsync(this.#at);
      this.#streak = 0;
      ({ head } = ring);
    }
    if (head >= numSlots) return false;
    while (head !== kring.rtail) {
      const end = this.#describe(head);
      if (end < 0) {
        // the rest may have come meanwhile
        const before = kring.rtail;
        this.#port.rxsync(this.#at);
        if (kring.rtail === before) return false;
        continue;
      }
      if (this.#len > 0) return true;
      // a chain that cannot be believed
      this.#values[C.rx_drop_bad_slot]!++;
      this.#behind = end;
      this.#drop();
      head = end;
    }
    return false;
  }

  /** Lists the frame that begins in slot `first`. Returns the slot behind it, -1 while it has no end; #len 0: it is malformed. */
  #describe(first: number): number {
    const kring = this.#port.rxKrings[this.#at]!;
    const { ring, rtail } = kring;
    const pieces = this.#pieces;
    pieces.clear();
    let good = true;
    let at = first;
    for (;;) {
      const word = ring.lenAndFlags(at);
      const idx = ring.bufIdx(at);
      const len = word & 0xffff;
      at = ring.next(at);
      if (!kring.isValid(idx, len) || !pieces.push(ring.window.index, ring.bufOff(idx), len)) good = false;
      if (((word >>> 16) & NS_MOREFRAG) === 0) break;
      if (at === rtail) {
        // a full ring has no room for an end: somebody else wrote into its slots
        if (kring.distance(first, rtail) < kring.numSlots - 1) return -1;
        good = false;
        break;
      }
    }
    this.#len = good ? pieces.total : 0;
    this.#behind = at;
    return at;
  }

  /** The frame in hand is done with. */
  #drop(): void {
    const ring = this.#port.rxRings[this.#at]!;
    ring.cur = this.#behind;
    ring.head = this.#behind;
    this.#len = 0;
    if (++this.#streak === STREAK) this.#port.rxsync(this.#at);
  }

  recvEnable(): void {
    if (this.#closed) return;
    this.#enabled = true;
    this.#callBack();
    this.#runtime.loop.activate(this);
  }

  recvDisable(): void {
    this.#enabled = false;
  }

  // ---- polling ----

  poll(): number {
    return this.#enabled ? this.#callBack() : 0;
  }

  #callBack(): number {
    const before = this.#burst;
    this.#taken = 0;
    this.#burst = BURST;
    if (this.#next()) this.#onReceive?.();
    this.#burst = before;
    return this.#taken;
  }

  arm(): boolean {
    return this.#enabled && this.#next();
  }

  disarm(): void {}

  // ---- control ----

  /** Whether the port takes headers: asked by trying, as the seed does. */
  takesHeader(): boolean {
    const port = this.#port;
    const before = port.vnetHdrLen;
    if (!this.#trySetHdrLen(VNET_HDR_LEN)) return false;
    port.vnetHdrLen = before;
    return true;
  }

  /** OFFLOAD_* are what the user may leave undone in frames that it sends, and takes undone. False where there are no headers. */
  setHeader(length: VnetHdrLen, tx: number, rx: number): boolean {
    // what waits has headers of the length that was
    if (length !== this.#port.vnetHdrLen) while (this.#next()) this.#forget();
    if (!this.#trySetHdrLen(length)) return false;
    this.#hdrLen = length;
    this.#port.adapter.setOffloads(tx, rx);
    return true;
  }

  #trySetHdrLen(length: number): boolean {
    try {
      this.#port.vnetHdrLen = length;
      return true;
    } catch (error) {
      if (error instanceof NetbeError && error.code === 'EOPNOTSUPP') return length === 0;
      throw error;
    }
  }

  status(): Record<string, number> {
    const { txRings, rxRings, memory } = this.#port;
    return {
      txRings: txRings.length,
      rxRings: rxRings.length,
      txSlots: txRings[0]?.numSlots ?? 0,
      rxSlots: rxRings[0]?.numSlots ?? 0,
      memory: memory.id,
      vnetHdrLen: this.#hdrLen,
    };
  }

  close(): void {
    if (this.#closed) return;
    this.flush();
    this.#closed = true;
    this.#enabled = false;
    this.#runtime.loop.remove(this);
    this.#trySetHdrLen(this.#hdrLenBefore);
    this.#port.adapter.setOffloads();
    this.#port.close();
    this.#runtime.counters.release(this.name);
  }
}
