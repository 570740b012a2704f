/**
 * A VALE switch (netmap's vale(4)): learning, up to 254 ports, in the thread that owns it.
 *
 * As in VALE a burst is forwarded as a whole: send() notes where a frame is, flush() looks up every
 * destination, then hands each port its frames, which its user pulls straight out of the sender's
 * memory: one copy. Transmit always completes; a receiver that is full drops.
 *
 * Frames that a receive callback sends in turn are copied and forwarded after the burst in hand, a
 * bounded number of times: two ports that answer each other for ever do not stop the fabric.
 */
import type { CounterSet } from '../../engine/counters.js';
import type { Runtime } from '../../engine/runtime.js';
import { NetbeError } from '../../errors.js';
import type { Burst } from '../../memory/burst.js';
import { Iovec, iovecRead } from '../../memory/iovec.js';
import type { Mapping, Window, WindowPool } from '../../memory/window.js';
import { ETH_HDR_LEN, MAX_FRAME_LEN } from '../../wire/ethernet.js';
import { checkVnetHeader, forwardedHeaderWord, neededOffloads } from '../../wire/vnet-header.js';
import { BATCH_FRAMES, FrameBatch, ROUTE_NO_LEARN } from './batch.js';
import { P, portCounterNames, S, switchCounterNames, VNET_DROPS } from './counters.js';
import { DeferredFrames } from './deferred.js';
import { Offloader } from './offload.js';
import { ValePort, type ValePortOptions } from './port.js';
import { PortTable } from './ports.js';
import { ForwardingTable } from './table.js';

/** as NM_BDG_MAXPORTS of netmap */
export const MAX_PORTS = 254;

const BATCH_PIECES_OF_SEND = 8192;
/** rounds of frames sent from within receive callbacks that one flush forwards */
const MAX_ROUNDS = 16;

export interface ValeSwitchOptions {
  /** addresses that the table holds; a power of two */
  tableEntries?: number;
  /** seconds without a frame after which an address is forgotten */
  maxAge?: number;
  /** seconds, monotonic; for tests */
  clock?: () => number;
}

export interface ValeSwitchStatus {
  name: string;
  ports: { index: number; name: string; subject: string }[];
  table: { mac: string; port: string; ageSec: number }[];
}

export class ValeSwitch {
  readonly counters: CounterSet;
  readonly #pool: WindowPool;
  readonly #runtime: Runtime;
  readonly #ports: (ValePort | undefined)[] = new Array(MAX_PORTS).fill(undefined);
  #attached: ValePort[] = [];
  readonly #table: ForwardingTable;
  readonly #clock: () => number;
  readonly #batch: FrameBatch;
  #pieces = 0;
  /** frames of the batch that were sent; behind them are those that completion made */
  #sent = 0;
  readonly #portTable: PortTable;
  #delivering = false;
  readonly #offloader: Offloader;
  /** frames sent while a burst is delivered */
  readonly #deferred: DeferredFrames;
  readonly #header = new Uint8Array(12);
  readonly #headerWords = new Int32Array(this.#header.buffer);
  /** the first 12 bytes of the frame in hand */
  readonly #addresses = new Int32Array(3);
  readonly #scratch: Mapping;
  readonly #scratchIov = new Iovec(1);

  constructor(
    runtime: Runtime,
    readonly name: string,
    options: ValeSwitchOptions = {},
  ) {
    this.#runtime = runtime;
    this.#pool = runtime.windows;
    this.#batch = new FrameBatch(runtime.windows);
    this.#portTable = new PortTable(runtime.windows);
    this.#table = new ForwardingTable(runtime.windows, options.tableEntries, options.maxAge);
    this.#clock = options.clock ?? (() => runtime.loop.nowSec);
    this.#scratch = runtime.windows.mapAnonymous(12);
    this.#scratchIov.push(this.#scratch.window.index, this.#scratch.off, 12);
    this.#offloader = new Offloader(runtime.windows);
    this.#deferred = new DeferredFrames(runtime.windows);
    this.counters = runtime.counters.create(name, switchCounterNames);
  }

  /** Attaches a port. Throws EEXIST for a name in use, ENOSPC when there are 254. */
  attach(options: Omit<ValePortOptions, 'counters'>): ValePort {
    const subject = `${this.name}:${options.name}`;
    if (this.#attached.some((p) => p.name === options.name))
      throw new NetbeError(`port ${subject} is in use`, {
        code: 'EEXIST',
        kind: 'usage',
        subject,
        remedy: `Choose another name; in use on ${this.name}: ${this.#attached.map((p) => p.name).join(', ')}.`,
      });
    const index = this.#ports.indexOf(undefined);
    if (index < 0)
      throw new NetbeError(`${this.name} is full: a VALE switch has ${MAX_PORTS} ports`, {
        code: 'ENOSPC',
        kind: 'usage',
        subject,
        remedy: 'Use a second switch, and join the two.',
      });
    const counters = this.#runtime.counters.create(subject, portCounterNames);
    try {
      const port = new ValePort(this, this.#pool, this.#portTable, index, { ...options, counters });
      this.#ports[index] = port;
      this.#portTable.setAttached(index, true);
      this.#attached = [...this.#attached, port];
      return port;
    } catch (error) {
      this.#runtime.counters.release(subject);
      throw error;
    }
  }

  /** Called by the port's close(). Its addresses are forgotten, what it sent and nobody has taken yet is dropped. */
  detach(port: ValePort): void {
    if (!this.#delivering) this.flush();
    this.#ports[port.index] = undefined;
    this.#attached = this.#attached.filter((p) => p !== port);
    this.#table.flush(port.index);
    this.#portTable.setAttached(port.index, false);
    this.#runtime.counters.release(port.counters.subject);
  }

  get portCount(): number {
    return this.#attached.length;
  }

  close(): void {
    for (const port of this.#attached) port.close();
    this.#deferred.close();
    this.#offloader.close();
    this.#scratch.close();
    this.#batch.close();
    this.#portTable.close();
    this.#table.close();
    this.#runtime.counters.release(this.name);
  }

  status(): ValeSwitchStatus {
    return {
      name: this.name,
      ports: this.#attached.map(({ index, name, counters }) => ({ index, name, subject: counters.subject })),
      table: this.#table
        .list(this.#clock())
        .map(({ mac, port, ageSec }) => ({ mac, port: this.#ports[port]?.name ?? '?', ageSec })),
    };
  }

  // ---- data path ----

  /** Takes a frame from a port. Always takes it: what cannot be forwarded is dropped and counted. `route`: see batch.ts. */
  send(port: ValePort, iov: Iovec, route = 0): number {
    const hdrLen = port.vnetHdrLen;
    const len = iov.total - hdrLen;
    if (len < ETH_HDR_LEN || len > MAX_FRAME_LEN) {
      port.counters.values[len < ETH_HDR_LEN ? P.tx_drop_runt : P.tx_drop_too_long]!++;
      return iov.total;
    }
    let hdr0 = 0;
    let hdr1 = 0;
    let hdr2 = 0;
    let needs = 0;
    if (hdrLen !== 0) {
      this.#readHeader(iov, hdrLen);
      hdr0 = this.#headerWords[0]!;
      // neither NEEDS_CSUM nor a GSO type: nothing else in the header means anything
      if ((hdr0 & 0xff01) === 0) hdr0 = 0;
      else {
        const verdict = checkVnetHeader(this.#header, 0, len, port.txOffloads);
        if (verdict !== 0) {
          port.counters.values[VNET_DROPS + verdict]!++;
          return iov.total;
        }
        hdr0 = forwardedHeaderWord(hdr0);
        hdr1 = this.#headerWords[1]!;
        hdr2 = this.#headerWords[2]! & 0xffff;
        needs = neededOffloads(hdr0 & 0xff, (hdr0 >>> 8) & 0xff);
      }
    }
    if (this.#delivering) {
      if (!this.#deferred.add(port.index, iov, hdrLen, hdr0, hdr1, hdr2, route))
        port.counters.values[P.tx_drop_loop]!++;
    } else {
      const batch = this.#batch;
      if (batch.count === BATCH_FRAMES || this.#pieces + iov.count > BATCH_PIECES_OF_SEND) this.flush();
      this.#pieces += iov.count;
      const i = batch.add(port.index, iov, hdrLen, hdr0, hdr1, hdr2, needs);
      if (route !== 0) batch.setRoute(i, route);
    }
    return iov.total;
  }

  /** Takes frames of a burst that need nothing but forwarding. Returns how many: the next one is for send(). */
  sendBurst(port: ValePort, burst: Burst, from: number, count: number): number {
    if (this.#delivering) return 0;
    const batch = this.#batch;
    if (batch.count + count - from > BATCH_FRAMES) this.flush();
    const n = batch.admit(port.index, burst, from, count, port.vnetHdrLen, ETH_HDR_LEN, MAX_FRAME_LEN);
    this.#pieces += n;
    return n;
  }

  /** See ValePort.sendSlots(). */
  sendSlots(port: ValePort, window: Window, txOff: number, at: number, head: number, ringId: number): number {
    const table = this.#table;
    const ports = this.#portTable;
    if (this.#delivering || window !== table.window || window !== ports.window) return at;
    this.flush();
    const now = this.#clock();
    const { off, bucketMask, maxAge } = table;
    const { index, vnetHdrLen } = port;
    const { kernel } = window;
    // biome-ignore format: one call
    const stop = kernel.valeSend(txOff, at, head, ringId, vnetHdrLen, index, off, bucketMask, now, maxAge, ports.off);
    for (let to = ports.nextFilled(); to >= 0; to = ports.nextFilled()) this.#ports[to]?.onFilled?.();
    return stop;
  }

  /** Counts what sendSlots() forwarded. */
  countForwarded(frames: number): void {
    const { values } = this.counters;
    const unknown = this.#portTable.takeFloodedUnknown();
    const multicast = this.#portTable.takeFloodedMulticast();
    values[S.unicast]! += frames - unknown - multicast;
    values[S.flooded_unknown]! += unknown;
    values[S.flooded_multicast]! += multicast;
  }

  /** Forwards and delivers all that was sent. */
  flush(): void {
    if (this.#delivering || this.#batch.count === 0) return;
    this.#delivering = true;
    try {
      this.#forwardBatch();
      for (let round = 0; this.#deferred.count > 0; round++) {
        if (round === MAX_ROUNDS) {
          this.#deferred.drop((source) => this.#countLoop(source));
          break;
        }
        this.#deferred.moveTo(this.#batch);
        this.#forwardBatch();
      }
    } finally {
      // a receive callback that throws is its user's fault, and must not wedge the switch
      for (let k = 0; k < this.#portTable.touchedCount; k++) this.#portTable.clear(this.#portTable.touched(k));
      this.#portTable.forgetTouched();
      this.#batch.truncate(0);
      this.#pieces = 0;
      this.#delivering = false;
    }
  }

  #countLoop(source: number): void {
    const port = this.#ports[source];
    if (port !== undefined) port.counters.values[P.tx_drop_loop]!++;
  }

  #forwardBatch(): void {
    const batch = this.#batch;
    const table = this.#table;
    const ports = this.#portTable;
    const { window } = batch;
    // the kernel reaches one window: with many large guests the switch's own memory may be spread
    const straight = window === table.window && window === ports.window;
    const now = this.#clock();
    const sent = batch.count;
    let unicast = 0;
    this.#sent = sent;
    for (let i = 0; i < sent; i++) {
      if (straight) {
        const { kernel, index } = window;
        const { off, bucketMask, maxAge } = table;
        const stop = kernel.forward(batch.base, i, sent, index, off, bucketMask, now, maxAge, ports.off);
        unicast += stop - i;
        i = stop;
        if (i === sent) break;
      }
      this.#forward(i, now);
    }
    this.#deliver();
    batch.truncate(0);
    this.#pieces = 0;
    const { values } = this.counters;
    values[S.unicast]! += unicast;
    values[S.learned] = table.learned;
    values[S.moved] = table.moved;
    values[S.evicted] = table.evicted;
  }

  /** Forwards one frame, whatever it is. */
  #forward(i: number, now: number): void {
    const batch = this.#batch;
    const port = this.#ports[batch.source(i)];
    if (port === undefined) return;
    this.#readAddresses(i);
    // as signed words: small integers to the engine, whatever their value
    const dstLo = this.#addresses[0]!;
    const middle = this.#addresses[1]!;
    const last = this.#addresses[2]!;
    const srcLo = (middle >>> 16) | (last << 16);
    const route = batch.route(i);
    if ((srcLo & 1) === 0 && (route & (ROUTE_NO_LEARN >>> 8)) === 0)
      this.#table.learn(last >>> 16, srcLo, port.index, now);
    const { values } = this.counters;
    if (route >>> 8 !== 0) {
      this.#forwardTo(route >>> 8, i, port);
      return;
    }
    const to = (dstLo & 1) !== 0 ? -1 : this.#table.lookup(middle & 0xffff, dstLo, now);
    if (to < 0) {
      values[(dstLo & 1) !== 0 ? S.flooded_multicast : S.flooded_unknown]!++;
      this.#flood(i, port);
    } else if (to === port.index) port.counters.values[P.tx_drop_self]!++;
    else {
      values[S.unicast]!++;
      this.#enqueue(i, port, this.#ports[to]!);
    }
  }

  /** Forwards a frame to the port that its sender named, or to all. */
  #forwardTo(to: number, i: number, port: ValePort): void {
    const dst = this.#ports[to];
    if (to === MAX_PORTS) this.#flood(i, port);
    else if (dst === undefined) port.counters.values[P.tx_drop_no_port]!++;
    else if (dst === port) port.counters.values[P.tx_drop_self]!++;
    else {
      this.counters.values[S.unicast]!++;
      this.#enqueue(i, port, dst);
    }
  }

  /** To all others, into their first ring. */
  #flood(i: number, port: ValePort): void {
    this.#batch.setRing(i, 0);
    const attached = this.#attached;
    for (let k = 0; k < attached.length; k++) {
      const dst = attached[k]!;
      if (dst !== port) this.#enqueue(i, port, dst);
    }
  }

  #enqueue(i: number, port: ValePort, dst: ValePort): void {
    const batch = this.#batch;
    if ((batch.needs(i) & ~dst.rxOffloads) === 0) {
      this.#portTable.enqueue(dst.index, i);
      return;
    }
    if (batch.convertedFirst[i]! < 0 && !this.#complete(i, port)) return;
    const first = batch.convertedFirst[i]!;
    const end = first + batch.convertedCount[i]!;
    for (let k = first; k < end; k++) this.#portTable.enqueue(dst.index, k);
  }

  /** Makes the records of frame `i` completed in software. False if it was dropped. */
  #complete(i: number, port: ValePort): boolean {
    const batch = this.#batch;
    let first = batch.count;
    let count = this.#offloader.complete(batch, i, port);
    if (count < 0) {
      // no room beside what waits: deliver that, and try again
      this.#deliver();
      first = batch.count;
      count = this.#offloader.complete(batch, i, port);
    }
    if (count < 0) {
      port.counters.values[P.tx_drop_too_big_to_segment]!++;
      count = 0;
    }
    batch.convertedFirst[i] = first;
    batch.convertedCount[i] = count;
    for (let k = first; k < first + count; k++) batch.setRing(k, batch.ring(i));
    return count > 0;
  }

  /** Hands every touched port its frames; afterwards only the frames that were sent are left in the batch. */
  #deliver(): void {
    const ports = this.#portTable;
    for (let k = 0; k < ports.touchedCount; k++) {
      const index = ports.touched(k);
      this.#ports[index]?.deliver(this.#batch);
      ports.clear(index);
    }
    ports.forgetTouched();
    if (this.#batch.count > this.#sent) {
      this.#batch.truncate(this.#sent);
      this.#offloader.reset();
    }
  }

  /** Reads the virtio-net header into #header: once, for its sender may change it. */
  #readHeader(iov: Iovec, hdrLen: number): void {
    const { windows } = this.#pool;
    const off = iov.off[0]!;
    const words = this.#headerWords;
    if (iov.len[0]! >= 12 && (off & 3) === 0) {
      const { i32 } = windows[iov.win[0]!]!;
      const w = off >>> 2;
      words[0] = i32[w]!;
      words[1] = i32[w + 1]!;
      words[2] = i32[w + 2]!;
      return;
    }
    iovecRead(this.#pool, iov, hdrLen, this.#header);
  }

  /** Copies both addresses of frame `i` to #addresses. */
  #readAddresses(i: number): void {
    const { window, off } = this.#scratch;
    this.#batch.copyTo(i, 12, this.#scratchIov, 0);
    const w = off >>> 2;
    for (let k = 0; k < 3; k++) this.#addresses[k] = window.i32[w + k]!;
  }
}
