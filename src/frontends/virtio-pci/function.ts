/**
 * A virtio device as a PCI function (VirtIO 1.2 §4.1), transitional: drivers find the modern interface
 * through capabilities (§4.1.4), and those from before 1.0 the legacy one in I/O ports (§4.1.4.10).
 *
 * It knows the registers, and leaves rings and frames to the device inside. The rings run while the
 * driver has said DRIVER_OK, has enabled them (a legacy driver: has placed them), and lets the function
 * reach memory (bus master).
 */
import type { CounterSet } from '../../engine/counters.js';
import type { Runtime } from '../../engine/runtime.js';
import { NetbeError } from '../../errors.js';
import type { GuestMemory } from '../../memory/guest-memory.js';
import type { BackendStatus, NetBackend } from '../../net-backends/net-backend.js';
import { VIRTIO_F_ACCESS_PLATFORM } from '../../wire/virtio-features.js';
import type { NicFrontend, NicStatus } from '../nic-frontend.js';
import { MsixTable } from '../pci/msix-table.js';
import type { AccessSize, PciFunction, PciInterrupts } from '../pci/pci-function.js';
import type { VirtioDevice } from '../virtio-device.js';
import { C, counterNames } from './counters.js';
import {
  COMMON_OFF,
  DEVICE_OFF,
  ISR_OFF,
  LEGACY_BAR,
  MODERN_BAR,
  MSIX_BAR,
  MSIX_PBA_OFF,
  MSIX_VECTORS,
  NOTIFY_OFF,
  NOTIFY_OFF_MULTIPLIER,
  PART_BYTES,
  VIRTIO_BARS,
  VirtioConfigSpace,
} from './layout.js';
import { addressOf, LegacyRegisters } from './legacy.js';
import { CommonRegisters } from './modern.js';

/** What drivers get; those from before 1.0 cannot choose, and some of them (iPXE) take no more. */
export const QUEUE_SIZE = 256;

/** §2.1 */
const DRIVER_OK = 4;
const FEATURES_OK = 8;
const DEVICE_NEEDS_RESET = 64;

/** §4.1.4.5: the device used buffers; its configuration changed */
const ISR_QUEUE = 1;
const ISR_CONFIG = 2;

export const VIRTIO_MSI_NO_VECTOR = 0xffff;

/** One queue as the driver has set it up. */
export interface QueueRegisters {
  size: number;
  vector: number;
  enabled: boolean;
  /** it could be started, and is */
  running: boolean;
  /** where it goes on after it was stopped for a while */
  base: number;
  /** guest-physical addresses, as two halves each: low, high */
  readonly desc: [number, number];
  readonly driver: [number, number];
  readonly device: [number, number];
}

export type NetDevice = VirtioDevice & NicFrontend;

export class VirtioPciFunction implements PciFunction {
  readonly name: string;
  readonly bars = VIRTIO_BARS;
  readonly config: VirtioConfigSpace;
  readonly counters: CounterSet;
  readonly device: NetDevice;
  readonly queues: readonly QueueRegisters[];
  /** §2.1 */
  deviceStatus = 0;
  driverFeatures = 0n;
  configVector = VIRTIO_MSI_NO_VECTOR;
  configGeneration = 0;
  queueSelect = 0;
  readonly #runtime: Runtime;
  readonly #modern: CommonRegisters;
  readonly #legacy: LegacyRegisters;
  readonly #msix = new MsixTable(MSIX_VECTORS, MSIX_PBA_OFF);
  readonly #scratch = new Uint8Array(4);
  #memory: GuestMemory | undefined;
  #interrupts: PciInterrupts | undefined;
  #isr = 0;
  #statusBeforeReset = 0;

  constructor(runtime: Runtime, name: string, device: NetDevice) {
    this.name = name;
    this.#runtime = runtime;
    this.device = device;
    this.counters = runtime.counters.create(`${name}/virtio-pci`, counterNames);
    this.config = new VirtioConfigSpace(device.deviceId, this);
    this.queues = Array.from({ length: device.queueCount }, () => ({
      size: QUEUE_SIZE,
      vector: VIRTIO_MSI_NO_VECTOR,
      enabled: false,
      running: false,
      base: 0,
      desc: [0, 0],
      driver: [0, 0],
      device: [0, 0],
    }));
    this.#modern = new CommonRegisters(this);
    this.#legacy = new LegacyRegisters(this);
    device.onBroken = (index) => this.#broken(index);
  }

  // ---- registers ----

  readBar(bar: number, off: number, size: AccessSize): number {
    if (bar === MODERN_BAR) return this.#readModern(off, size);
    if (bar === LEGACY_BAR) return this.#legacy.read(off, size);
    const value = bar === MSIX_BAR ? this.#msix.read(off, size) : -1;
    return value < 0 ? this.badRead(size) : value;
  }

  writeBar(bar: number, off: number, size: AccessSize, value: number): void {
    if (bar === MODERN_BAR) this.#writeModern(off, size, value);
    else if (bar === LEGACY_BAR) this.#legacy.write(off, size, value);
    else if (bar !== MSIX_BAR || !this.#msix.write(off, size, value)) this.badWrite();
  }

  #readModern(off: number, size: AccessSize): number {
    const part = off - (off % PART_BYTES);
    if (part === COMMON_OFF) return this.#modern.read(off, size);
    if (part === DEVICE_OFF) return this.readDeviceConfig(off - DEVICE_OFF, size);
    if (part === ISR_OFF && off === ISR_OFF) return this.takeIsr();
    // §4.1.4.4: what is read at a notification address is not said
    return part === NOTIFY_OFF ? 0 : this.badRead(size);
  }

  #writeModern(off: number, size: AccessSize, value: number): void {
    const part = off - (off % PART_BYTES);
    if (part === NOTIFY_OFF) this.notifyQueue(Math.floor((off - NOTIFY_OFF) / NOTIFY_OFF_MULTIPLIER));
    else if (part === COMMON_OFF) this.#modern.write(off, size, value);
    else if (part === DEVICE_OFF) this.writeDeviceConfig(off - DEVICE_OFF, size, value);
    else this.badWrite();
  }

  readDeviceConfig(off: number, size: AccessSize): number {
    const bytes = this.#scratch;
    this.device.readConfig(off, bytes);
    let value = 0;
    for (let i = size - 1; i >= 0; i--) value = value * 256 + (bytes[i] as number);
    return value;
  }

  writeDeviceConfig(off: number, size: AccessSize, value: number): void {
    const bytes = Uint8Array.from({ length: size }, (_, i) => (value >>> (8 * i)) & 0xff);
    if (!this.device.writeConfig(off, bytes)) this.badWrite();
  }

  /** §4.1.4.5: reading tells, and takes back, why the pin is asserted. */
  takeIsr(): number {
    const isr = this.#isr;
    this.#isr = 0;
    this.#interrupts?.intx(false);
    return isr;
  }

  notifyQueue(index: number): void {
    const queue = this.queues[index];
    if (queue === undefined) {
      this.badWrite();
      return;
    }
    this.counters.values[C.notifications]!++;
    if (queue.running) this.device.kick(index);
  }

  /** What does not exist reads all ones. */
  badRead(size: AccessSize): number {
    this.counters.values[C.bad_reads]!++;
    return 2 ** (8 * size) - 1;
  }

  badWrite(): void {
    this.counters.values[C.bad_writes]!++;
  }

  // ---- what registers do ----

  /**
   * §6.1: what a driver of a PCI function gives as addresses goes through the guest's IOMMU if it has one, which a driver that does not
   * accept ACCESS_PLATFORM would go around. It is of no concern to the device inside.
   */
  get offeredFeatures(): bigint {
    return this.device.deviceFeatures | VIRTIO_F_ACCESS_PLATFORM;
  }

  /**
   * What the driver reads. A reset is over, and 0, when nothing that was asked for before can write its memory any more:
   * a driver waits for that before it goes on (§4.1.4.3.2).
   */
  get statusRegister(): number {
    return this.deviceStatus === 0 && this.device.transfersOutstanding ? this.#statusBeforeReset : this.deviceStatus;
  }

  /** §2.1, §3.1: the driver goes on by one bit; 0 resets. */
  setStatus(value: number): void {
    if (value === 0) {
      this.#resetDevice();
      return;
    }
    // a driver cannot clear single bits (§2.1.1)
    let status = this.deviceStatus | value;
    if ((value & FEATURES_OK & ~this.deviceStatus) !== 0 && !this.acceptFeatures()) status &= ~FEATURES_OK;
    this.deviceStatus = status;
    this.#applyRunning();
  }

  /** False when the driver wants what was not offered. */
  acceptFeatures(): boolean {
    try {
      this.device.setDriverFeatures(this.driverFeatures & ~VIRTIO_F_ACCESS_PLATFORM);
      return true;
    } catch (error) {
      if (!(error instanceof NetbeError)) throw error;
      this.counters.values[C.features_refused]!++;
      return false;
    }
  }

  /** §2.7: a power of two; the driver may take less than it is offered. */
  setQueueSize(queue: QueueRegisters, size: number): void {
    if (size < 1 || size > QUEUE_SIZE || (size & (size - 1)) !== 0) this.badWrite();
    else queue.size = size;
  }

  enableQueue(queue: QueueRegisters): void {
    queue.enabled = true;
    this.#applyRunning();
  }

  /** Legacy: the driver takes the ring away. */
  disableQueue(queue: QueueRegisters): void {
    this.#stop(this.queues.indexOf(queue));
    queue.enabled = false;
    queue.base = 0;
  }

  get #mayRun(): boolean {
    return (
      (this.deviceStatus & DRIVER_OK) !== 0 && (this.deviceStatus & DEVICE_NEEDS_RESET) === 0 && this.config.busMaster
    );
  }

  #applyRunning(): void {
    for (const [index, queue] of this.queues.entries()) {
      const wanted = queue.enabled && this.#mayRun;
      if (wanted && !queue.running) this.#start(index);
      else if (!wanted && queue.running) this.#stop(index);
    }
  }

  #start(index: number): void {
    const { device } = this;
    const queue = this.queues[index] as QueueRegisters;
    try {
      device.setQueueSize(index, queue.size);
      device.setQueueAddresses(index, {
        descUser: addressOf(queue.desc),
        availUser: addressOf(queue.driver),
        usedUser: addressOf(queue.device),
      });
      device.setQueueBase(index, queue.base);
      queue.running = true;
      device.setNotifier(index, () => this.#interrupt(queue.vector, ISR_QUEUE));
      device.startQueue(index);
      device.enableQueue(index, true);
    } catch (error) {
      this.#cannotRun(index, error);
    }
  }

  #cannotRun(index: number, error: unknown): void {
    if (!(error instanceof NetbeError)) throw error;
    (this.queues[index] as QueueRegisters).running = false;
    this.#runtime.log.warn({ nic: this.name, queue: index }, `${error.message}; the driver has to reset the device`);
    this.#needsReset();
  }

  #stop(index: number): void {
    const queue = this.queues[index] as QueueRegisters;
    if (!queue.running) return;
    queue.running = false;
    this.device.enableQueue(index, false);
    queue.base = this.device.stopQueue(index);
  }

  #broken(index: number): void {
    const queue = this.queues[index] as QueueRegisters;
    queue.running = false;
    this.#needsReset();
  }

  /** §2.1.2: the driver is told by a configuration interrupt. */
  #needsReset(): void {
    if ((this.deviceStatus & DEVICE_NEEDS_RESET) !== 0) return;
    this.deviceStatus |= DEVICE_NEEDS_RESET;
    if ((this.deviceStatus & DRIVER_OK) !== 0) this.#configInterrupt();
    this.#applyRunning();
  }

  // ---- interrupts ----

  /** §4.1.5.1.2: a vector that does not exist reads back as none. */
  setQueueVector(queue: QueueRegisters, vector: number): void {
    queue.vector = vector < MSIX_VECTORS ? vector : VIRTIO_MSI_NO_VECTOR;
  }

  setConfigVector(vector: number): void {
    this.configVector = vector < MSIX_VECTORS ? vector : VIRTIO_MSI_NO_VECTOR;
  }

  #configInterrupt(): void {
    this.configGeneration = (this.configGeneration + 1) & 0xff;
    this.#interrupt(this.configVector, ISR_CONFIG);
  }

  /** Data path. */
  #interrupt(vector: number, cause: number): void {
    const interrupts = this.#interrupts;
    if (interrupts === undefined) return;
    if (this.config.msixEnabled) {
      if (vector < MSIX_VECTORS) interrupts.msix(vector);
      return;
    }
    this.#isr |= cause;
    interrupts.intx(true);
  }

  // ---- what the transport calls ----

  attach(memory: GuestMemory, interrupts: PciInterrupts): void {
    this.#memory = memory;
    this.#interrupts = interrupts;
    this.#attachDevice();
  }

  detach(): void {
    this.#interrupts = undefined;
    this.reset();
    this.#memory = undefined;
    this.device.reset();
  }

  /** A ring has to be found anew in the memory as it is now. */
  memoryChanged(): void {
    for (const [index, queue] of this.queues.entries()) {
      if (!queue.running) continue;
      try {
        this.device.relocateQueue(index);
      } catch (error) {
        this.#cannotRun(index, error);
      }
    }
  }

  configChanged(): void {
    this.#applyRunning();
  }

  reset(): void {
    this.config.reset();
    this.#resetDevice();
    this.#msix.reset();
  }

  #resetDevice(): void {
    for (const [index, queue] of this.queues.entries()) {
      this.#stop(index);
      queue.size = QUEUE_SIZE;
      queue.vector = VIRTIO_MSI_NO_VECTOR;
      queue.enabled = false;
      queue.base = 0;
      for (const half of [queue.desc, queue.driver, queue.device]) half.fill(0);
    }
    if (this.deviceStatus !== 0) this.#statusBeforeReset = this.deviceStatus;
    this.deviceStatus = 0;
    this.driverFeatures = 0n;
    this.configVector = VIRTIO_MSI_NO_VECTOR;
    this.queueSelect = 0;
    this.#modern.reset();
    this.takeIsr();
    this.device.reset();
    this.#attachDevice();
  }

  /** A reset of the device makes it forget these. */
  #attachDevice(): void {
    if (this.#memory !== undefined) this.device.setMemory(this.#memory);
    this.device.setConfigNotifier(() => this.#configInterrupt());
  }

  // ---- what the fabric calls ----

  setLink(up: boolean): void {
    this.device.setLink(up);
  }

  wrapBackend(wrap: (inner: NetBackend) => NetBackend): void {
    this.device.wrapBackend(wrap);
  }

  backendStatus(): BackendStatus {
    return this.device.backendStatus();
  }

  status(): NicStatus {
    return this.device.status();
  }

  close(): void {
    this.device.close();
    this.#runtime.counters.release(`${this.name}/virtio-pci`);
  }
}
