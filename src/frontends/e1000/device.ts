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
import { msiCapability, PciConfigSpace, powerManagementCapability } from '../pci/config-space.js';
import type { AccessSize, PciBar, PciFunction, PciInterrupts } from '../pci/pci-function.js';
import { checkMac, checkMtu } from '../virtio-net/mac.js';
import { C, counterNames } from './counters.js';
import { Eeprom } from './eeprom.js';
import { Filters } from './filters.js';
import { Interrupts } from './interrupts.js';
import { PHY_ADDRESS, Phy } from './phy.js';
import { Receiver } from './receive.js';
import { type Reader, RegisterFile, type Writer } from './register-file.js';
import * as R from './registers.js';
import { Statistics } from './statistics.js';
import { Transmitter } from './transmit.js';

const IDENTITY = {
  vendorId: 0x8086,
  deviceId: 0x100f,
  revision: 1,
  // Ethernet controller (PCI 3.0 appendix D)
  classCode: 0x020000,
  subsystemVendorId: 0x8086,
  subsystemId: 0x1008,
};

// base address registers (manual §4.1.1)
const BAR_REGISTERS = 0;
const BAR_FLASH = 1;
const BAR_IO = 2;
const bars: readonly (PciBar | undefined)[] = [
  { kind: 'mem32', size: R.REGISTER_BYTES },
  { kind: 'mem32', size: 64 * 1024 },
  { kind: 'io', size: 8 },
  undefined,
  undefined,
  undefined,
];

// the I/O window (manual §13.2.2)
const IOADDR = 0;
const IODATA = 4;

/** where the 82545EM has them (manual §4.1.3, §4.1.4) */
const PM_OFFSET = 0xdc;
const MSI_OFFSET = 0xf0;

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
}

export class E1000 implements PciFunction, Pollable {
  readonly name: string;
  readonly config = new PciConfigSpace({
    identity: IDENTITY,
    bars,
    interruptPin: 1,
    capabilities: [powerManagementCapability(0x0002, PM_OFFSET), msiCapability(0, MSI_OFFSET)],
  });
  readonly bars = bars;
  readonly counters: CounterSet;

  readonly #runtime: Runtime;
  readonly #mac: Uint8Array;
  readonly #mtu: number | undefined;
  readonly #registers: RegisterFile;
  readonly #eeprom: Eeprom;
  readonly #phy: Phy;
  readonly #filters: Filters;
  readonly #interrupts: Interrupts;
  readonly #transmitter: Transmitter;
  readonly #receiver: Receiver;
  /** what the NIC is plugged into, without wrappers */
  readonly #backend: NetBackend;
  #memory: GuestMemory | undefined;
  #output: PciInterrupts | undefined;
  #ioAddress = 0;
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
      this.#backend = options.openBackend(() => this.#receiver.receive());
    } catch (error) {
      runtime.counters.release(name);
      throw error;
    }
    const { values } = this.counters;
    const { windows } = runtime;
    this.#registers = new RegisterFile(this.#readers(), this.#writers(), () => void values[C.fault_register]!++);
    const { words } = this.#registers;
    this.#eeprom = new Eeprom(mac, IDENTITY);
    this.#phy = new Phy(() => this.#linkChanged());
    this.#filters = new Filters(words);
    this.#interrupts = this.#makeInterrupts(words);
    const statistics = new Statistics(words);
    this.#receiver = new Receiver(words, windows, this.#backend, values, this.#filters, statistics, this.#interrupts);
    this.#transmitter = new Transmitter(words, windows, this.#backend, values, statistics, this.#interrupts);
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
    this.#memory = undefined;
    this.#output = undefined;
    this.#updateReadiness();
  }

  memoryChanged(): void {
    this.#transmitter.ring.forget();
    this.#transmitter.changed();
    this.#receiver.ring.forget();
    this.#runtime.loop.activate(this);
  }

  configChanged(): void {
    this.#updateReadiness();
    this.#interrupts.update();
  }

  reset(): void {
    this.config.reset();
    this.#ioAddress = 0;
    this.#resetController();
    this.#phy.reset();
    // whoever resets the function has no driver yet that would want to know of the link
    this.#interrupts.reset();
  }

  readBar(bar: number, off: number, size: AccessSize): number {
    this.counters.values[C.register_reads]!++;
    if (bar === BAR_REGISTERS) return this.#readRegister(off, size);
    if (bar === BAR_IO && size === 4) {
      if (off === IOADDR) return this.#ioAddress;
      if (off === IODATA && this.#ioReachesRegister) return this.#registers.read(this.#ioAddress);
    }
    // an erased flash; and whatever there is not
    if (bar !== BAR_FLASH) this.counters.values[C.fault_register]!++;
    return ones(size);
  }

  writeBar(bar: number, off: number, size: AccessSize, value: number): void {
    this.counters.values[C.register_writes]!++;
    if (bar === BAR_REGISTERS && size === 4 && (off & 3) === 0) this.#registers.write(off, value);
    else if (bar === BAR_IO && size === 4 && off === IOADDR) this.#ioAddress = value;
    else if (bar === BAR_IO && size === 4 && off === IODATA && this.#ioReachesRegister)
      this.#registers.write(this.#ioAddress, value);
    else if (bar !== BAR_FLASH) this.counters.values[C.fault_register]!++;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.detach();
    this.#runtime.loop.remove(this);
    this.#interrupts.close();
    this.#backend.recvDisable();
    this.#backend.close();
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
    const backend = wrap(this.#backend);
    this.#receiver.backend = backend;
    this.#transmitter.frames.backend = backend;
  }

  backendStatus(): BackendStatus {
    return this.#backend.status?.() ?? {};
  }

  status(): NicStatus {
    const { words } = this.#registers;
    const queue = (ring: Receiver['ring'], base: number, enabled: boolean) => {
      const size = words[(base + 8) >> 2]! / 16;
      const broken = enabled && this.#memory !== undefined && !ring.usable(this.#memory);
      return { size, started: size > 0, enabled, broken, availIdx: ring.head };
    };
    return {
      mac: formatMac(this.#mac),
      mtu: this.#mtu,
      link: this.#phy.linked ? 'up' : 'down',
      features: featureNames(words),
      vnetHdrLen: this.#backend.vnetHdrLen,
      starved: this.#receiver.starved,
      queues: [
        queue(this.#receiver.ring, R.RDBAL, (words[R.RCTL >> 2]! & R.RCTL_EN) !== 0),
        queue(this.#transmitter.ring, R.TDBAL, (words[R.TCTL >> 2]! & R.TCTL_EN) !== 0),
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

  get #ioReachesRegister(): boolean {
    return this.#ioAddress < R.REGISTER_BYTES && (this.#ioAddress & 3) === 0;
  }

  /** Registers are 32 bits wide (manual §13.2): a narrower access reads part of one. */
  #readRegister(off: number, size: AccessSize): number {
    const shift = (off & 3) * 8;
    if (size === 4 && shift === 0) return this.#registers.read(off);
    if (size < 4 && shift + size * 8 <= 32)
      return (this.#registers.read(off & ~3) >>> shift) & (size === 1 ? 0xff : 0xffff);
    this.counters.values[C.fault_register]!++;
    return ones(size);
  }

  #readers(): Record<R.ReadHook, Reader> {
    return {
      clear: (word) => {
        const { words } = this.#registers;
        const value = words[word]!;
        words[word] = 0;
        return value;
      },
      clearPair: (word) => {
        const { words } = this.#registers;
        const value = words[word]!;
        words[word] = 0;
        words[word - 1] = 0;
        return value;
      },
      icr: () => this.#interrupts.read(),
      ics: () => this.#registers.words[R.ICR >> 2]!,
    };
  }

  #writers(): Record<R.WriteHook, Writer> {
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
      rdt: () => this.#receiver.resume(),
      rdtr: (value) => {
        if ((value & R.RDTR_FPD) !== 0) this.#interrupts.flushReceive();
      },
      tdt: () => {
        this.#transmitter.kick();
        this.#runtime.loop.activate(this);
      },
      writeOneClears: (value, word) => {
        this.#registers.words[word]! &= ~value;
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
      this.#transmitter.changed();
      this.#runtime.loop.activate(this);
      return;
    }
    this.#receiver.ring.stale = true;
    this.#receiver.resume();
  }

  // ---- state ----

  /** CTRL.RST (manual §14.3): all but the PHY, the EEPROM and configuration space. */
  #resetController(): void {
    this.#interrupts.reset();
    this.#registers.reset();
    this.#registers.words[R.EECD >> 2] = this.#eeprom.wire(this.#registers.words[R.EECD >> 2]!);
    this.#loadAddress();
    this.#transmitter.ring.forget();
    this.#transmitter.changed();
    this.#receiver.ring.forget();
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
    receiver.mute = !receives ? C.rx_drop_disabled : linkUp ? 0 : C.rx_drop_link_down;
    // what waits for descriptors of a ring that is gone is dropped
    receiver.resume();
  }

  /** Settles header length and offloads with the backend. */
  #agree(): void {
    const backend = this.#backend;
    const features = WANTED_FEATURES & backend.getCap();
    backend.setCap(features, features === 0n ? 0 : VNET_HDR_LEN);
    this.#receiver.hdrLen = backend.vnetHdrLen;
    this.#transmitter.frames.hdrLen = backend.vnetHdrLen;
    this.#transmitter.frames.offloads = backend.vnetHdrLen === 0 ? 0 : sendOffloads(features);
  }

  #makeInterrupts(words: Uint32Array): Interrupts {
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
    return new Interrupts(words, output, (expire) => this.#runtime.mevent.addDeadline(expire));
  }
}

function ones(size: AccessSize): number {
  return 2 ** (8 * size) - 1;
}

/** What the driver has turned on, by the manual's names. */
function featureNames(words: Uint32Array): string[] {
  const bits: readonly (readonly [string, number, number])[] = [
    ['RCTL.UPE', R.RCTL, R.RCTL_UPE],
    ['RCTL.MPE', R.RCTL, R.RCTL_MPE],
    ['RCTL.LPE', R.RCTL, R.RCTL_LPE],
    ['RCTL.BAM', R.RCTL, R.RCTL_BAM],
    ['RCTL.VFE', R.RCTL, R.RCTL_VFE],
    ['RCTL.SECRC', R.RCTL, R.RCTL_SECRC],
    ['CTRL.VME', R.CTRL, R.CTRL_VME],
    ['RXCSUM.IPOFLD', R.RXCSUM, R.RXCSUM_IPOFLD],
    ['RXCSUM.TUOFLD', R.RXCSUM, R.RXCSUM_TUOFLD],
  ];
  return bits.filter(([, offset, bit]) => (words[offset >> 2]! & bit) !== 0).map(([name]) => name);
}
