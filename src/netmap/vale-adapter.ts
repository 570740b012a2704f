/**
 * A VALE port with rings (netmap_vp_adapter): what its user puts into transmit rings goes through the
 * switch at each txsync, what the switch has for it lands in receive rings at once.
 *
 * Transmit always completes. A frame from ring i of its sender goes to receive ring i modulo their
 * number, a flooded one to ring 0; a ring without room drops. A frame may take several slots each way.
 * A port that is attached to no switch (a persistent one) sends into nothing.
 */
import type { Runtime } from '../engine/runtime.js';
import { NetbeError } from '../errors.js';
import { OFFLOAD_ALL } from '../wire/vnet-header.js';
import { NetmapAdapter, type RingSizes } from './adapter.js';
import { ChainReader } from './chain-reader.js';
import { ChainWriter, NO_ROOM } from './chain-writer.js';
import { R } from './counters.js';
import { A_OPEN, A_TOUCHED, K_DROP_BAD, K_DROP_FULL, K_FRAMES, type KRing } from './kring.js';
import type { NetmapMemory } from './memory.js';
import type { ValePort } from './vale/port.js';
import type { ValeSwitchOptions } from './vale/switch.js';
import { valeSwitches } from './vale/switches.js';

/** frames that are sent one by one before the kernel is asked again, at most */
const MAX_RUN = 256;

export class ValeAdapter extends NetmapAdapter {
  readonly #persistent: boolean;
  #port: ValePort | undefined;
  #switchName = '';
  #txOffloads = OFFLOAD_ALL;
  #rxOffloads = OFFLOAD_ALL;
  readonly #reader: ChainReader;
  readonly #writer = new ChainWriter();

  constructor(runtime: Runtime, name: string, memory: NetmapMemory, sizes: RingSizes, persistent: boolean) {
    super(runtime, name, memory, sizes);
    this.#persistent = persistent;
    this.#reader = new ChainReader(runtime.windows, this.counters.values);
  }

  override get persistent(): boolean {
    return this.#persistent;
  }

  /** Name of the switch that it is attached to, or "". */
  get switchName(): string {
    return this.#switchName;
  }

  /** Number of the port in its switch, or -1. */
  get portIndex(): number {
    return this.#port?.index ?? -1;
  }

  attach(switchName: string, portName: string, options: ValeSwitchOptions = {}): void {
    if (this.#port !== undefined)
      throw new NetbeError(`${this.name} is attached to ${this.#switchName}`, {
        code: 'EBUSY',
        kind: 'usage',
        subject: this.name,
        remedy: `Detach it first: netbe vale-ctl -d ${this.#switchName}:${portName}`,
      });
    const onReceive = () => this.#receive();
    const onFilled = () => this.#filled();
    // what the rings cannot take is dropped: nothing waits in the switch
    this.#port = valeSwitches(this.runtime).attach(
      switchName,
      { name: portName, slots: 0, ringBytes: 4096, onReceive, onFilled },
      options,
    );
    this.#switchName = switchName;
    this.headerChanged(this.vnetHdrLen);
    if (this.memory.window === this.table.window) this.#port.setAdapter(this.table.window, this.table.off);
    this.table.words[A_OPEN] = 1;
    this.#port.recvEnable();
  }

  detach(): void {
    if (this.#port === undefined) return;
    valeSwitches(this.runtime).detach(this.#switchName, this.#port);
    this.#port = undefined;
    this.#switchName = '';
  }

  protected override detached(): void {
    this.detach();
  }

  protected override headerChanged(len: number): void {
    const port = this.#port;
    if (port === undefined) return;
    port.vnetHdrLen = len;
    // without a header there is no way to say that something was left undone
    port.txOffloads = len === 0 ? 0 : this.#txOffloads;
    port.rxOffloads = len === 0 ? 0 : this.#rxOffloads;
  }

  override setOffloads(tx: number = OFFLOAD_ALL, rx: number = OFFLOAD_ALL): void {
    this.#txOffloads = tx;
    this.#rxOffloads = rx;
    this.headerChanged(this.vnetHdrLen);
  }

  override opened(kring: KRing): void {
    kring.reset();
  }

  // ---- transmit ----

  protected transmit(kring: KRing, head: number): void {
    const port = this.#port;
    let at = kring.hwcur;
    if (port === undefined) at = this.#sendToNobody(kring, head);
    else {
      // many frames that the kernel leaves in a row are offered to it less and less often
      let run = 1;
      for (;;) {
        const before = at;
        at = this.#sendPlain(port, kring, at, head);
        if (at === head) break;
        if (at !== before) run = 1;
        const stop = this.#sendAny(port, kring, at, head, run);
        if (stop === at) break;
        at = stop;
        run = Math.min(2 * run, MAX_RUN);
      }
      port.flush();
    }
    kring.hwcur = at;
    kring.hwtail = kring.prev(at);
  }

  /** Sends what the kernel can, from slot `at` on. Returns the first slot that it left. */
  #sendPlain(port: ValePort, kring: KRing, at: number, head: number): number {
    const { window } = this.table;
    if (window !== this.memory.window) return at;
    const stop = port.sendSlots(window, kring.off, at, head, kring.ringId);
    const frames = kring.takeCount(K_FRAMES);
    const { values } = this.counters;
    values[R.tx_frames]! += frames;
    values[R.tx_drop_bad_slot]! += kring.takeCount(K_DROP_BAD);
    port.countForwarded(frames);
    return stop;
  }

  /** Sends up to `count` frames of any kind. Returns the slot behind them. */
  #sendAny(port: ValePort, kring: KRing, from: number, head: number, count: number): number {
    const reader = this.#reader;
    let at = from;
    for (let n = 0; n < count && at !== head; n++) {
      const complete = reader.read(kring, at, head);
      if (reader.next === at) break;
      at = reader.next;
      if (!complete) continue;
      port.send(reader.iov, reader.route(kring.ringId));
      this.counters.values[R.tx_frames]!++;
    }
    return at;
  }

  #sendToNobody(kring: KRing, head: number): number {
    this.counters.values[R.tx_drop_not_attached]! += kring.distance(kring.hwcur, head);
    return head;
  }

  // ---- receive ----

  protected release(kring: KRing, head: number): void {
    kring.hwcur = head;
  }

  /** The kernel has put frames into our rings, or dropped some. */
  #filled(): void {
    const { values } = this.counters;
    this.table.words[A_TOUCHED] = 0;
    for (const kring of this.rxKrings) {
      values[R.rx_frames]! += kring.takeCount(K_FRAMES);
      values[R.rx_drop_full]! += kring.takeCount(K_DROP_FULL);
      values[R.rx_drop_bad_slot]! += kring.takeCount(K_DROP_BAD);
    }
    this.wake();
  }

  /** Takes all that the switch has for us, into the rings or away. */
  #receive(): void {
    const port = this.#port;
    if (port === undefined) return;
    const { values } = this.counters;
    const writer = this.#writer;
    let received = 0;
    for (let len = port.peekRecvLen(); len > 0; len = port.peekRecvLen()) {
      const kring = this.rxKrings[port.nextRing() % this.rxKrings.length]!;
      const slots = writer.list(kring, len);
      if (slots <= 0) {
        values[slots === NO_ROOM ? R.rx_drop_full : R.rx_drop_bad_slot]!++;
        port.rxDiscard();
      } else if (port.recv(writer.iov) > 0) {
        writer.fill(kring, slots, len);
        received++;
      }
    }
    values[R.rx_frames]! += received;
    if (received > 0) this.wake();
  }
}
