/** What all functions of pkt-gen share: the thread's port, its counters, pacing, the frame it sends. */
import { readFileSync } from 'node:fs';
import { copyPiece } from '../../memory/copy.js';
import type { Mapping } from '../../memory/window.js';
import { POLLERR } from '../../netmap/port-socket/poll.js';
import type { NetmapRing } from '../../netmap/ring.js';
import { pause } from '../../sys/process.js';
import { hexDump } from './output.js';
import { Packet, VNET_HDR_MAX } from './packet.js';
import { firstPacketOf } from './pcap-file.js';
import { C_BYTES, C_EVENTS, C_PKTS, C_TIC, C_TOC, nowMs } from './pkt-gen-counters.js';
import {
  MAX_PKT_SIZE,
  OPT_COPY,
  OPT_DUMP,
  OPT_MEMCPY,
  OPT_RANDOM_DST,
  OPT_RANDOM_SRC,
  type PktGenOptions,
} from './pkt-gen-options.js';
import type { ToolContext, ToolPoll, ToolPort } from './tool-port.js';

export interface PktGenThread extends ToolContext {
  readonly options: PktGenOptions;
  readonly port: ToolPort;
  readonly poll: ToolPoll;
  readonly counters: Float64Array;
  /** that of the interface, or the one asked for */
  readonly srcMac: readonly number[];
}

/** Frames each thread is to send or receive; 0: without end. */
export function packetsOfThread({ options }: PktGenThread): number {
  const { packets, threads } = options;
  return packets === 0 ? 0 : Math.max(1, Math.floor(packets / threads));
}

export function begin(thread: PktGenThread): void {
  thread.counters[C_TIC] = nowMs();
}

export function finish(thread: PktGenThread, at = nowMs()): void {
  thread.counters[C_TOC] = at;
}

export function count(counters: Float64Array, pkts: number, bytes: number, events: number): void {
  counters[C_BYTES] = bytes;
  counters[C_EVENTS] = events;
  counters[C_PKTS] = pkts;
}

/** Waits for events on the thread's port. False when there is no use in going on: cancelled, or the port is gone. */
export function waitFor(thread: PktGenThread, fn: string, events: number, timeoutMs: number): boolean {
  const entry = thread.poll.entries[0]!;
  entry.events = events;
  const deadline = performance.now() + timeoutMs;
  if (thread.poll.poll(timeoutMs) === 0) {
    // somebody may just have woken us
    const late = performance.now() >= deadline && !thread.cancelled();
    if (late) thread.say(fn, 'poll error on queue 0: timeout');
    return !thread.cancelled();
  }
  if ((entry.revents & POLLERR) === 0) return !thread.cancelled();
  // what has come before the end is still there
  if ((entry.revents & events) !== 0) return !thread.cancelled();
  thread.say(fn, `the fabric has closed port ${thread.port.name}`);
  return false;
}

/** Lets one burst go every `periodNs`; sleeps where there is time for it. */
export class Pacer {
  readonly #periodMs: number;
  #next: number;
  /** frames that may still go in this period */
  budget = 0;

  constructor(readonly options: PktGenOptions) {
    this.#periodMs = options.periodNs / 1e6;
    this.#next = performance.now();
  }

  get limited(): boolean {
    return this.options.rate > 0;
  }

  /** Waits for the next period when this one's frames have gone. `poll` serves others meanwhile. */
  wait(poll: ToolPoll, cancelled: () => boolean): void {
    if (!this.limited || this.budget > 0) return;
    this.budget = this.options.burst;
    this.#next += this.#periodMs;
    for (let left = this.#next - performance.now(); left > 0 && !cancelled(); left = this.#next - performance.now()) {
      const { events } = poll.entries[0]!;
      poll.entries[0]!.events = 0;
      poll.poll(left > 2 ? 1 : 0);
      poll.entries[0]!.events = events;
    }
  }
}

/** The frame to send, in a window, with its virtio-net header before it. */
export class Frame {
  readonly packet: Packet | undefined;
  /** of its first byte, the virtio-net header where the port has one */
  readonly off: number;
  /** bytes, header included */
  size: number;
  readonly mapping: Mapping;
  /** its addresses change with every frame */
  readonly varies: boolean;
  readonly #hdrLen: number;

  constructor(thread: PktGenThread) {
    const { options, port, windows, srcMac } = thread;
    this.mapping = windows.mapAnonymous(VNET_HDR_MAX + MAX_PKT_SIZE);
    const { window, off } = this.mapping;
    if (options.packetFile !== undefined) {
      const bytes = firstPacketOf(readFileSync(options.packetFile), options.packetFile);
      window.u8.set(bytes, off);
      this.off = off;
      this.#hdrLen = 0;
      this.size = bytes.length;
      this.varies = false;
      return;
    }
    this.#hdrLen = port.vnetHdrLen;
    this.packet = new Packet(
      window.u8,
      off,
      {
        family: options.family,
        srcMac,
        dstMac: options.dstMac,
        src: options.src,
        dst: options.dst,
        size: options.size,
        randomSrc: (options.options & OPT_RANDOM_SRC) !== 0,
        randomDst: (options.options & OPT_RANDOM_DST) !== 0,
      },
      Date.now() ^ (srcMac[5] ?? 0),
    );
    this.off = this.packet.etherOff - this.#hdrLen;
    this.size = options.size + this.#hdrLen;
    this.varies = (options.options & (OPT_COPY | OPT_MEMCPY)) !== 0;
  }

  /** A random size between the smallest and the largest. */
  randomize({ size, minSize }: PktGenOptions): void {
    if (this.packet === undefined || minSize === 0 || minSize === size) return;
    const next = minSize + Math.floor(Math.random() * (size - minSize));
    this.packet.setSize(next);
    this.size = next + this.#hdrLen;
  }

  /** Copies `len` bytes from `at` on to an offset of the ring's window. */
  copyTo(ring: NetmapRing, dstOff: number, at: number, len: number): void {
    copyPiece(ring.window, dstOff, this.mapping.window, this.off + at, len);
  }

  close(): void {
    this.mapping.close();
  }
}

/** -X: what is in a slot. */
export function dumpSlot(thread: PktGenThread, ring: NetmapRing, slot: number): void {
  if ((thread.options.options & OPT_DUMP) === 0) return;
  const len = Math.min(ring.len(slot), ring.bufSize);
  const off = ring.slotOff(slot);
  const { u8 } = ring.window;
  const flags = ring.slotFlags(slot).toString(16).padStart(4, '0');
  const head = `ring 0x${ring.off.toString(16)} cur ${String(slot).padStart(5)} [buf ${String(ring.bufIdx(slot)).padStart(6)} flags 0x${flags} len ${String(len).padStart(5)}]`;
  thread.print(`${head}\n${hexDump(len, (i) => u8[off + i]!)}\n`);
}

/** Waits until what was sent has left the rings, or for as long as the fabric is there. */
export function drain(thread: PktGenThread): void {
  const { port, poll } = thread;
  poll.entries[0]!.events = 0;
  const pending = () => port.txRings.some((ring) => ring.next(ring.tail) !== ring.head);
  for (port.txsync(); pending() && !thread.cancelled(); port.txsync()) {
    if ((poll.entries[0]!.revents & POLLERR) !== 0) return;
    poll.poll(0);
    if (pending()) pause(0.05);
  }
}
