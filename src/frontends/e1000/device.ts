/**
 * The Intel 82545EM ("e1000"): a gigabit Ethernet controller on PCI, as bhyve's pci_e82545.c has it, plugged into a
 * network backend. It knows no sockets: a transport drives it through PciFunction.
 *
 * Manual: PCI/PCI-X Family of Gigabit Ethernet Controllers Software Developer's Manual (Intel 317453). transmit.ts and
 * receive.ts are the data path, registers.ts the map of what the driver sees; here is what joins them.
 */
import type { CounterSet } from '../../engine/counters.js';
import type { Pollable } from '../../engine/poll-loop.js';
import type { Runtime } from '../../engine/runtime.js';
import type { GuestMemory } from '../../memory/guest-memory.js';
import type { BackendStatus, NetBackend, ReceiveCallback } from '../../net-backends/net-backend.js';
import { formatMac } from '../../wire/ethernet.js';
import * as F from '../../wire/virtio-features.js';
import { sendOffloads } from '../../wire/vnet-header.js';
import type { NicStatus } from '../nic-frontend.js';
import type { AccessSize, PciFunction, PciInterrupts } from '../pci/pci-function.js';
import { checkMac, checkMtu } from '../virtio-net/mac.js';
import { BarAccess } from './bar-access.js';
import { C, counterNames } from './counters.js';
import { Eeprom } from './eeprom.js';
import { Filters } from './filters.js';
import { DEFAULT_LIMITS, type InterruptLimits, Interrupts } from './interrupts.js';
import { Loopback } from './loopback.js';
import { bars, configSpace, IDENTITY } from './pci-identity.js';
import { PHY_ADDRESS, Phy } from './phy.js';
import { Receiver } from './receive.js';
import { RegisterFile } from './register-file.js';
import * as R from './registers.js';
import { Statistics } from './statistics.js';
import { featureNames, ringStatus } from './status.js';
import { Transmitter } from './transmit.js';

/** What an 82545 can leave to a backend, and complete for one. */
const WANTED_FEATURES =
  F.VIRTIO_NET_F_CSUM |
  F.VIRTIO_NET_F_HOST_TSO4 |
  F.VIRTIO_NET_F_HOST_TSO6 |
  F.VIRTIO_NET_F_HOST_ECN |
  F.VIRTIO_NET_F_HOST_USO |
  F.VIRTIO_NET_F_GUEST_CSUM;
const VNET_HDR_LEN = 12;

export interface E1000Options {
  runtime: Runtime;
  /** name of the NIC: its counters' subject */
  name: string;
  /** 6 bytes, in the EEPROM */
  mac: Uint8Array;
  /** for people: the controller has no way to tell its driver */
  mtu?: number;
  openBackend: (onReceive: ReceiveCallback) => NetBackend;
  /** how often the driver is interrupted at most */
  interruptLimits?: InterruptLimits;
}

export class E1000 implements PciFunction, Pollable {
  readonly name: string;
  readonly config = configSpace();
  readonly bars = bars;
  readonly counters: CounterSet;

  readonly #runtime: Runtime;
  readonly #mac: Uint8Array;
  readonly #mtu: number | undefined;
  readonly #registers: RegisterFile;
  readonly #access: BarAccess;
  readonly #eeprom: Eeprom;
  readonly #phy: Phy;
  readonly #filters: Filters;
  readonly #interrupts: Interrupts;
  readonly #transmitter: Transmitter;
  readonly #receiver: Receiver;
  /** what the NIC is plugged into, without wrappers, and with them */
  readonly #backend: NetBackend;
  #wrapped: NetBackend;
  /** the driver tests itself: made when it first does, and in use while `looping` */
  #loopback: Loopback | undefined;
  #looping = false;
  /** OFFLOAD_* that the backend honours */
  #offloads = 0;
  #memory: GuestMemory | undefined;
  #output: PciInterrupts | undefined;
  #closed = false;

  constructor(options: E1000Options) {
    const { runtime, name, mac, mtu } = options;
    checkMac(mac);
    if (mtu !== undefined) checkMtu(mtu);
    this.#runtime = runtime;
    this.name = name;
    this.#mac = Uint8Array.from(mac);
    this.#mtu = mtu;
    this.counters = runtime.counters.create(name, counterNames);
    try {
      this.#backend = options.openBackend(() => this.#backendReceives());
    } catch (error) {
      runtime.counters.release(name);
      throw error;
    }
    this.#wrapped = this.#backend;
    const { values } = this.counters;
    const { windows } = runtime;
    const readers = { icr: () => this.#interrupts.read(), ics: () => words[R.ICR >> 2]! };
    this.#registers = new RegisterFile(readers, this.#writers(), () => void values[C.fault_register]!++);
    this.#access = new BarAccess(this.#registers, values);
    const { words } = this.#registers;
    this.#eeprom = new Eeprom(mac, IDENTITY);
    this.#phy = new Phy(() => this.#linkChanged());
    this.#filters = new Filters(words);
    this.#interrupts = this.#makeInterrupts(words, options.interruptLimits ?? DEFAULT_LIMITS);
    const statistics = new Statistics(words);
    this.#receiver = new Receiver(words, windows, this.#backend, values, this.#filters, statistics, this.#interrupts);
    const wake = () => runtime.loop.activate(this);
    this.#transmitter = new Transmitter(words, windows, this.#backend, values, statistics, this.#interrupts, wake);
    this.#agree();
    this.#resetController();
    runtime.loop.add(this);
    this.#backend.recvEnable();
  }

  // ---- what the transport calls ----

  attach(memory: GuestMemory, interrupts: PciInterrupts): void {
    this.#memory = memory;
    this.#output = interrupts;
    this.memoryChanged();
    this.#updateReadiness();
  }

  detach(): void {
    this.reset();
    this.#transmitter.detach();
    this.#receiver.detach();
    this.#memory = undefined;
    this.#output = undefined;
    this.#updateReadiness();
  }

  memoryChanged(): void {
    this.#transmitter.memoryChanged();
    this.#receiver.memoryChanged();
    this.#runtime.loop.activate(this);
  }

  configChanged(): void {
    this.#updateReadiness();
    this.#interrupts.update();
    this.#runtime.loop.activate(this);
  }

  reset(): void {
    this.config.reset();
    this.#access.reset();
    this.#resetController();
    this.#phy.reset();
    // whoever resets the function has no driver yet that would want to know of the link
    this.#interrupts.reset();
  }

  readBar(bar: number, off: number, size: AccessSize): number {
    return this.#access.read(bar, off, size);
  }

  writeBar(bar: number, off: number, size: AccessSize, value: number): void {
    this.#access.write(bar, off, size, value);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.detach();
    this.#runtime.loop.remove(this);
    this.#interrupts.close();
    this.#backend.recvDisable();
    this.#backend.close();
    this.#loopback?.close();
    this.#receiver.close();
    this.#transmitter.close();
    this.#runtime.counters.release(this.name);
  }

  // ---- what the fabric calls ----

  /** Plugs the cable in, or takes it out; the driver is told (LSC). Frames are dropped while it is out. */
  setLink(up: boolean): void {
    this.#phy.setCable(up);
  }

  wrapBackend(wrap: (inner: NetBackend) => NetBackend): void {
    this.#wrapped = wrap(this.#backend);
    if (!this.#looping) this.#plug(this.#wrapped, this.#offloads);
  }

  backendStatus(): BackendStatus {
    return this.#backend.status?.() ?? {};
  }

  status(): NicStatus {
    const { words } = this.#registers;
    const memory = this.#memory;
    return {
      mac: formatMac(this.#mac),
      mtu: this.#mtu,
      link: this.#phy.linked ? 'up' : 'down',
      features: featureNames(words),
      vnetHdrLen: this.#backend.vnetHdrLen,
      starved: this.#receiver.starved,
      queues: [
        ringStatus(this.#receiver.ring, (words[R.RCTL >> 2]! & R.RCTL_EN) !== 0, memory),
        ringStatus(this.#transmitter.ring, (words[R.TCTL >> 2]! & R.TCTL_EN) !== 0, memory),
      ],
    };
  }

  // ---- polling ----

  poll(): number {
    if (this.#interrupts.dueUs !== Number.POSITIVE_INFINITY) this.#interrupts.expire();
    return this.#transmitter.serve();
  }

  arm(): boolean {
    if (this.#transmitter.hasWork) return true;
    this.#interrupts.polled = false;
    this.#interrupts.watch();
    return false;
  }

  disarm(): void {
    this.#interrupts.polled = true;
  }

  // ---- registers ----

  #writers(): ConstructorParameters<typeof RegisterFile>[1] {
    return {
      ctrl: (value) => this.#writeCtrl(value),
      eecd: () => {
        const { words } = this.#registers;
        words[R.EECD >> 2] = this.#eeprom.wire(words[R.EECD >> 2]!);
      },
      eerd: (value) => {
        this.#registers.words[R.EERD >> 2] = this.#eeprom.read(value);
      },
      ctrlExt: (value) => {
        if ((value & R.CTRL_EXT_EE_RST) !== 0) this.#loadAddress();
      },
      mdic: (value) => this.#writeMdic(value),
      icr: (value) => this.#interrupts.clear(value),
      ics: (value) => this.#interrupts.raise(value & R.INTERRUPT_CAUSES),
      ims: (value) => this.#interrupts.unmask(value),
      imc: (value) => this.#interrupts.mask(value),
      itr: () => this.#interrupts.update(),
      rctl: () => this.#updateReadiness(),
      tctl: () => {
        this.#updateReadiness();
        this.#runtime.loop.activate(this);
      },
      ring: (_value, word) => this.#ringChanged(word),
      rdt: () => this.#receiver.posted(),
      rdtr: (value) => {
        if ((value & R.RDTR_FPD) !== 0) this.#interrupts.flushReceive();
      },
      tdt: () => {
        this.#transmitter.kick();
        this.#runtime.loop.activate(this);
      },
      ra: () => this.#filters.update(),
    };
  }

  #writeCtrl(value: number): void {
    if ((value & R.CTRL_RST) !== 0) {
      this.counters.values[C.resets]!++;
      this.#resetController();
    } else if ((value & R.CTRL_PHY_RST) !== 0) this.#phy.reset();
    else this.#updateLink();
  }

  /** Reads or writes a register of the PHY (manual §13.4.7), at once. */
  #writeMdic(value: number): void {
    const { words } = this.#registers;
    const index = (value >>> 16) & 0x1f;
    let result = (value & ~R.MDIC_ERROR) | R.MDIC_READY;
    if (((value >>> 21) & 0x1f) !== PHY_ADDRESS) result |= R.MDIC_ERROR;
    else if ((value & R.MDIC_OP_READ) !== 0) result = (result & ~0xffff) | this.#phy.read(index);
    else if ((value & R.MDIC_OP_WRITE) !== 0) this.#phy.write(index, value & 0xffff);
    words[R.MDIC >> 2] = result;
    if ((value & R.MDIC_INT_EN) !== 0) this.#interrupts.raise(R.ICR_MDAC);
  }

  #ringChanged(word: number): void {
    if (word >= R.TDBAL >> 2) {
      this.#transmitter.renew();
      this.#runtime.loop.activate(this);
      return;
    }
    this.#receiver.renew();
    this.#receiver.resume();
  }

  // ---- state ----

  /** CTRL.RST (manual §14.3): all but the PHY, the EEPROM and configuration space. */
  #resetController(): void {
    this.#interrupts.reset();
    this.#registers.reset();
    this.#registers.words[R.EECD >> 2] = this.#eeprom.wire(this.#registers.words[R.EECD >> 2]!);
    this.#loadAddress();
    this.#transmitter.renew();
    this.#receiver.renew();
    this.#updateLink();
  }

  /** The first receive address comes from the EEPROM. */
  #loadAddress(): void {
    const { words } = this.#registers;
    const mac = new Uint8Array(6);
    this.#eeprom.mac(mac);
    words[R.RA >> 2] = mac[0]! | (mac[1]! << 8) | (mac[2]! << 16) | (mac[3]! << 24);
    words[(R.RA >> 2) + 1] = R.RAH_AV | mac[4]! | (mac[5]! << 8);
    this.#filters.update();
  }

  /** STATUS.LU: the PHY has a link, and CTRL.SLU lets it through (manual §13.4.1). */
  #updateLink(): void {
    const { words } = this.#registers;
    const up = this.#phy.linked && (words[R.CTRL >> 2]! & R.CTRL_SLU) !== 0;
    if (up) words[R.STATUS >> 2]! |= R.STATUS_LU;
    else words[R.STATUS >> 2]! &= ~R.STATUS_LU;
    this.#updateReadiness();
  }

  #linkChanged(): void {
    this.#updateLink();
    this.#interrupts.raise(R.ICR_LSC);
  }

  /** Registers, link or configuration changed: says what the data path does with frames from now on. */
  #updateReadiness(): void {
    const { words } = this.#registers;
    const { config } = this;
    const memory = config.busMaster && config.powerState === 0 ? this.#memory : undefined;
    const linkUp = (words[R.STATUS >> 2]! & R.STATUS_LU) !== 0;
    const transmitter = this.#transmitter;
    transmitter.memory = memory;
    transmitter.enabled = memory !== undefined && (words[R.TCTL >> 2]! & R.TCTL_EN) !== 0;
    transmitter.linkUp = linkUp;
    const receiver = this.#receiver;
    const receives = memory !== undefined && (words[R.RCTL >> 2]! & R.RCTL_EN) !== 0;
    receiver.memory = memory;
    if (!receives) receiver.disable();
    const looping = this.#phy.loopback || (words[R.RCTL >> 2]! & R.RCTL_LBM) === R.RCTL_LBM_MAC;
    if (looping !== this.#looping) {
      receiver.mute = C.rx_drop_disabled;
      receiver.resume();
      this.#loop(looping);
    }
    receiver.mute = !receives ? C.rx_drop_disabled : linkUp ? 0 : C.rx_drop_link_down;
    // what waits for descriptors of a ring that is gone is dropped
    receiver.resume();
  }

  /** Settles header length and offloads with the backend. */
  #agree(): void {
    const backend = this.#backend;
    const features = WANTED_FEATURES & backend.getCap();
    backend.setCap(features, features === 0n ? 0 : VNET_HDR_LEN);
    this.#offloads = backend.vnetHdrLen === 0 ? 0 : sendOffloads(features);
    this.#plug(backend, this.#offloads);
  }

  /** Frames go to this backend and come from it from now on. */
  #plug(backend: NetBackend, offloads: number): void {
    this.#receiver.backend = backend;
    this.#receiver.hdrLen = backend.vnetHdrLen;
    const { frames } = this.#transmitter;
    frames.backend = backend;
    frames.hdrLen = backend.vnetHdrLen;
    frames.offloads = offloads;
  }

  /** Frames of the network go no further while the driver tests itself. */
  #backendReceives(): void {
    if (!this.#looping) this.#receiver.receive();
    else while (this.#wrapped.rxDiscard() > 0) this.counters.values[C.rx_drop_loopback]!++;
  }

  /** Puts the loopback in the place of the network, or the network back. The receiver drops what waits. */
  #loop(on: boolean): void {
    this.#looping = on;
    this.#loopback ??= new Loopback(this.#runtime.windows, () => this.#receiver.receive());
    if (on) this.#plug(this.#loopback, 0);
    else this.#plug(this.#wrapped, this.#offloads);
    if (on) this.#loopback.recvEnable();
    else this.#loopback.recvDisable();
  }

  #makeInterrupts(words: Uint32Array, limits: InterruptLimits): Interrupts {
    const { values } = this.counters;
    const { config } = this;
    const output = {
      level: (asserted: boolean) => {
        if (asserted) values[C.interrupts]!++;
        this.#output?.intx(asserted);
      },
      get messages() {
        return config.msiEnabled;
      },
      message: () => {
        values[C.interrupts]!++;
        this.#output?.msi(0);
      },
    };
    return new Interrupts(words, output, limits, (expire) => this.#runtime.mevent.addDeadline(expire));
  }
}
