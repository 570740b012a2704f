/**
 * A tap as a network backend: an interface of the host whose wire ends here.
 *
 * transmit.ts and receive.ts are the data path, interface.ts what may happen to the interface
 * meanwhile. Receive is polled while frames come; else the descriptor wakes the fabric.
 */
import type { CounterSet } from '../../engine/counters.js';
import { EVF_READ, type MeventHandle } from '../../engine/mevent.js';
import type { Pollable } from '../../engine/poll-loop.js';
import type { Runtime } from '../../engine/runtime.js';
import { NetbeError } from '../../errors.js';
import type { Burst } from '../../memory/burst.js';
import type { Iovec } from '../../memory/iovec.js';
import type { Fd } from '../../sys/fd.js';
import { tunSetVnetHdrSize } from '../../sys/tun.js';
import { receiveOffloads, sendOffloads } from '../../wire/vnet-header.js';
import {
  type BackendOpen,
  type BackendStatus,
  checkVnetHdrLen,
  type NetBackend,
  type ReceiveCallback,
  type VnetHdrLen,
} from '../net-backend.js';
import { type AttachedTap, attachTap } from './attach.js';
import { T, tapCounterNames } from './counters.js';
import { Interface, type InterfaceOwner } from './interface.js';
import type { TapIo } from './io.js';
import { probeFeatures, setOffloads } from './offloads.js';
import { openTapIo } from './open-io.js';
import type { TapOptions } from './options.js';
import { ReadSlots, TapReceiver } from './receive.js';
import { TapTransmitter } from './transmit.js';

/** The header that the kernel puts before frames for a user without one: the shortest there is. */
const OWN_HDR_LEN = 10;

export class TapBackend implements NetBackend, Pollable, InterfaceOwner {
  readonly name: string;
  vnetHdrLen: VnetHdrLen = 0;
  readonly #runtime: Runtime;
  readonly #options: TapOptions;
  readonly #persistent: boolean;
  readonly #onReceive: ReceiveCallback | undefined;
  readonly #counters: CounterSet;
  readonly #interface: Interface;
  readonly #slots: ReadSlots;
  readonly #tx: TapTransmitter;
  readonly #rx: TapReceiver;
  #features = 0n;
  #cap: bigint;
  // what goes and comes with the interface
  #fds: readonly Fd[];
  #io: TapIo;
  #handles: readonly MeventHandle[];
  #vnetHdr: boolean;
  #enabled = false;
  /** the callback runs after a fill: it gets what was read, and the next read is the next poll's */
  #serving = false;
  #closed = false;

  /** Throws NetbeError with nothing left open. */
  constructor({ runtime, device, onReceive }: BackendOpen, options: TapOptions, persistent: boolean) {
    this.name = device;
    this.#runtime = runtime;
    this.#options = options;
    this.#persistent = persistent;
    this.#onReceive = onReceive;
    this.#counters = runtime.counters.create(device, tapCounterNames);
    const undo: (() => void)[] = [() => runtime.counters.release(device)];
    try {
      const tap = this.#attach(options.interfaceName);
      this.#fds = tap.fds;
      this.#vnetHdr = tap.vnetHdr;
      undo.push(() => closeAll(tap.fds));
      this.#cap = this.#probe(tap);
      this.#slots = new ReadSlots(runtime.windows);
      undo.push(() => this.#slots.close());
      this.#io = this.#openIo(tap.fds);
      undo.push(() => closeIo(this.#io));
      this.#handles = this.#watch(this.#io);
      undo.push(() => deleteAll(this.#handles));
      this.#interface = new Interface(runtime.mevent, this, tap.link);
      const { values } = this.#counters;
      this.#tx = new TapTransmitter(runtime.windows, values, this.#io.writer);
      this.#rx = new TapReceiver(runtime.windows, values, this.#io.reader, this.#slots);
    } catch (error) {
      for (const step of undo.reverse()) step();
      throw error;
    }
    this.#agree();
    runtime.loop.add(this);
    this.#report(this.#interface.link.name);
  }

  // ---- data path ----

  send(iov: Iovec): number {
    return this.#tx.send(iov);
  }

  sendBurst(burst: Burst, from: number, count: number): number {
    return this.#tx.sendBurst(burst, from, count);
  }

  flush(): void {
    this.#tx.flush();
    if (this.#tx.gone) this.#lost();
  }

  peekRecvLen(): number {
    if (this.#rx.count === 0 && !this.#serving) this.#fill();
    return this.#rx.peekLen();
  }

  recv(iov: Iovec): number {
    return this.peekRecvLen() === 0 ? 0 : this.#rx.recv(iov);
  }

  recvReady(): number {
    return this.#rx.count;
  }

  recvBurst(burst: Burst, count: number): number {
    return this.#rx.recvBurst(burst, count);
  }

  rxDiscard(): number {
    return this.peekRecvLen() === 0 ? 0 : this.#rx.discard();
  }

  recvEnable(): void {
    if (this.#closed) return;
    this.#enabled = true;
    if (this.peekRecvLen() > 0) this.#call();
    this.#runtime.loop.activate(this);
  }

  recvDisable(): void {
    this.#enabled = false;
    this.disarm();
  }

  /** Reads a batch and lets the user take it. */
  poll(): number {
    if (!this.#enabled) return 0;
    const frames = this.#rx.count === 0 ? this.#fill() : 0;
    if (this.#rx.count > 0) this.#call();
    return frames;
  }

  arm(): boolean {
    if (!this.#enabled) return false;
    if (this.#rx.count > 0) return true;
    // level-triggered: what has come meanwhile calls back
    for (const handle of this.#handles) handle.enable();
    return false;
  }

  disarm(): void {
    for (const handle of this.#handles) handle.disable();
  }

  #fill(): number {
    if (this.#interface.state === 'gone') return 0;
    const frames = this.#rx.fill();
    if (this.#io.reader.gone) this.#lost();
    return frames;
  }

  #call(): void {
    this.#serving = true;
    try {
      this.#onReceive?.();
    } finally {
      this.#serving = false;
    }
  }

  // ---- control ----

  getCap(): bigint {
    return this.#cap;
  }

  setCap(features: bigint, vnetHdrLen: number): boolean {
    const length = checkVnetHdrLen(vnetHdrLen, this.name);
    if (!this.#vnetHdr && length !== 0) return false;
    this.vnetHdrLen = length;
    this.#features = length === 0 ? 0n : features & this.#cap;
    this.#agree();
    return true;
  }

  status(): BackendStatus {
    const { state, link } = this.#interface;
    return {
      interface: link.name,
      state: state === 'gone' ? 'deleted' : state === 'moved' ? 'moved' : link.up ? 'up' : 'down',
      carrier: link.carrier,
      mtu: link.mtu,
      mac: link.mac,
      io: this.#way,
      queues: this.#options.queues,
    };
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#enabled = false;
    this.#runtime.loop.remove(this);
    this.#tx.flush();
    this.#interface.close();
    this.#detach();
    this.#tx.close();
    this.#slots.close();
    this.#runtime.counters.release(this.name);
  }

  /** Header length and offloads of the descriptors, and of both directions, as they were agreed upon. */
  #agree(): void {
    const kernelHdrLen = !this.#vnetHdr ? 0 : this.vnetHdrLen === 0 ? OWN_HDR_LEN : this.vnetHdrLen;
    this.#rx.forget();
    this.#tx.flush();
    if (this.#interface.state !== 'gone') this.#applyToKernel(kernelHdrLen);
    this.#tx.hdrLen = this.vnetHdrLen;
    this.#tx.kernelHdrLen = kernelHdrLen;
    this.#tx.offloads = sendOffloads(this.#features);
    this.#rx.hdrLen = this.vnetHdrLen;
    this.#rx.kernelHdrLen = kernelHdrLen;
    this.#rx.offloads = receiveOffloads(this.#features);
  }

  #applyToKernel(kernelHdrLen: VnetHdrLen): void {
    const fd = this.fd();
    try {
      if (kernelHdrLen !== 0) tunSetVnetHdrSize(fd, kernelHdrLen);
      setOffloads(fd, this.#features);
    } catch (error) {
      // deleted in this moment: a read or write will say so
      if (!(error instanceof NetbeError) || error.code !== 'EBADFD') throw error;
    }
  }

  #probe({ fds, vnetHdr }: AttachedTap): bigint {
    return vnetHdr && this.#options.offload ? probeFeatures(fds[0]!.number) : 0n;
  }

  #attach(interfaceName: string): AttachedTap {
    return attachTap({
      device: this.name,
      options: { ...this.#options, interfaceName },
      persistent: this.#persistent,
      log: this.#runtime.log,
    });
  }

  #openIo(fds: readonly Fd[]): TapIo {
    const numbers = fds.map((fd) => fd.number);
    const io = openTapIo(this.#options.io, numbers, this.#slots, this.#runtime.windows);
    if (io.fallback !== undefined)
      this.#runtime.log.info(
        { device: this.name, reason: io.fallback },
        `${this.name}: io_uring cannot be used for everything`,
      );
    return io;
  }

  #watch({ reader }: TapIo): MeventHandle[] {
    const { mevent, loop } = this.#runtime;
    return reader.wakeFds.map((fd) => mevent.addDisabled(fd, EVF_READ, () => loop.activate(this)));
  }

  /** how frames go out and come in */
  get #way(): string {
    const { writer, reader } = this.#io;
    return writer.way === reader.way ? writer.way : `${writer.way}, reads by readv`;
  }

  #report(interfaceName: string): void {
    const fields = { device: this.name, interface: interfaceName, io: this.#way, queues: this.#options.queues };
    this.#runtime.log.info(fields, `${this.name} is attached to interface ${interfaceName}`);
  }

  #detach(): void {
    deleteAll(this.#handles);
    this.#handles = [];
    closeIo(this.#io);
    closeAll(this.#fds);
  }

  // ---- what the interface reports ----

  get device(): string {
    return this.name;
  }

  get log(): Runtime['log'] {
    return this.#runtime.log;
  }

  fd(): number {
    return this.#fds[0]!.number;
  }

  onChange(): void {
    this.#counters.values[T.interface_changes]!++;
  }

  #lost(): void {
    this.#tx.gone = false;
    this.#interface.lost();
  }

  /** Nothing can be read any more, and what is written is counted: nobody waits for the descriptors. */
  onGone(): void {
    this.#counters.values[T.interface_lost]!++;
    deleteAll(this.#handles);
    this.#handles = [];
  }

  onReappeared(name: string): boolean {
    const { log, loop } = this.#runtime;
    try {
      const tap = this.#attach(name);
      this.#rx.forget();
      this.#detach();
      this.#fds = tap.fds;
      this.#vnetHdr = tap.vnetHdr;
      this.#io = this.#openIo(tap.fds);
      this.#tx.writer = this.#io.writer;
      this.#rx.reader = this.#io.reader;
      this.#handles = this.#watch(this.#io);
      this.#interface.attached(tap.link);
      this.#agree();
      this.#report(name);
      if (this.#enabled) loop.activate(this);
      return true;
    } catch (error) {
      if (!(error instanceof NetbeError)) throw error;
      log.warn({ device: this.name, interface: name, remedy: error.remedy }, error.message);
      return false;
    }
  }
}

function closeAll(fds: readonly Fd[]): void {
  for (const fd of fds) fd.close();
}

function closeIo({ writer, reader }: TapIo): void {
  writer.close();
  reader.close();
}

function deleteAll(handles: readonly MeventHandle[]): void {
  for (const handle of handles) handle.delete();
}
