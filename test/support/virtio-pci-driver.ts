/**
 * A driver of virtio-net on PCI, modern or legacy, through a vfio-user connection: finds the structures by
 * their capabilities, negotiates, places its rings, sends and receives (VirtIO 1.2 §4.1).
 */
import assert from 'node:assert/strict';
import type { Mapping } from '../../src/memory/window.js';
import { createEventfd, eventfdRead } from '../../src/sys/eventfd.js';
import type { Fd } from '../../src/sys/fd.js';
import { bytes, CMD, dmaMap, IRQ, irqSet, type VfioUserClient } from './vfio-user-client.js';
import type { VfioFabric } from './vfio-user-rig.js';
import { VirtqueueDriver } from './virtqueue-driver.js';

export const CONFIG = 7;
export const DRIVER_MEMORY = 1 << 20;
const BUFFER_BYTES = 2048;
export const RX = 0;
export const TX = 1;

export const STATUS = { ACKNOWLEDGE: 1, DRIVER: 2, DRIVER_OK: 4, FEATURES_OK: 8, NEEDS_RESET: 64 } as const;

const MAC = 1n << 5n;
const STATUS_FEATURE = 1n << 16n;
const MRG_RXBUF = 1n << 15n;
const VERSION_1 = 1n << 32n;
export const MODERN_FEATURES = MAC | STATUS_FEATURE | MRG_RXBUF | VERSION_1;
export const LEGACY_FEATURES = MAC | STATUS_FEATURE;

/** Fields of the common configuration structure (§4.1.4.3). */
export const COMMON = {
  DEVICE_FEATURE_SELECT: 0,
  DEVICE_FEATURE: 4,
  DRIVER_FEATURE_SELECT: 8,
  DRIVER_FEATURE: 12,
  CONFIG_MSIX_VECTOR: 16,
  NUM_QUEUES: 18,
  DEVICE_STATUS: 20,
  CONFIG_GENERATION: 21,
  QUEUE_SELECT: 22,
  QUEUE_SIZE: 24,
  QUEUE_MSIX_VECTOR: 26,
  QUEUE_ENABLE: 28,
  QUEUE_NOTIFY_OFF: 30,
  QUEUE_DESC: 32,
} as const;

/** The legacy header (§4.1.4.10). */
export const LEGACY = {
  DEVICE_FEATURES: 0,
  DRIVER_FEATURES: 4,
  QUEUE_ADDRESS: 8,
  QUEUE_SIZE: 12,
  QUEUE_SELECT: 14,
  QUEUE_NOTIFY: 16,
  STATUS: 18,
  ISR: 19,
  CONFIG: 20,
} as const;

export interface Capability {
  id: number;
  at: number;
  /** of a vendor capability: which structure (§4.1.4) */
  type: number;
  bar: number;
  offset: number;
  length: number;
}

export class VirtioPciDriver {
  readonly vm: VfioUserClient;
  readonly rings: VirtqueueDriver[] = [];
  /** a descriptor for each MSI-X vector, or one for INTx */
  readonly irqs: Fd[] = [];
  readonly memory: Fd;
  readonly #mapping: Mapping;
  readonly legacy: boolean;
  #hdrLen = 12;

  constructor(rig: VfioFabric, path: string, options: { legacy?: boolean; msix?: boolean } = {}) {
    const { legacy = false, msix = !legacy } = options;
    this.legacy = legacy;
    this.vm = rig.vfioClient(path);
    this.vm.version();
    this.memory = rig.memory(DRIVER_MEMORY);
    this.vm.get(CMD.DMA_MAP, dmaMap(0, DRIVER_MEMORY), { fds: [this.memory] });
    const { windows } = rig.runtime;
    this.#mapping = windows.mapFile({ fd: this.memory.number, fileOffset: 0, length: DRIVER_MEMORY, pageSize: 4096 });
    rig.onClose(() => this.#mapping.close());
    this.#setUpInterrupts(rig, msix);
    // I/O, memory, bus master
    this.vm.writeRegion(CONFIG, 4, bytes(7).subarray(0, 2));
  }

  #setUpInterrupts(rig: VfioFabric, msix: boolean): void {
    const count = msix ? 3 : 1;
    for (let i = 0; i < count; i++) this.irqs.push(rig.own(createEventfd()));
    this.vm.get(CMD.DEVICE_SET_IRQS, irqSet(IRQ.EVENTFD | IRQ.TRIGGER, msix ? 2 : 0, 0, count), { fds: this.irqs });
    if (!msix) return;
    const { at } = this.capabilities().find((c) => c.id === 0x11)!;
    this.vm.writeRegion(CONFIG, at + 2, bytes(0x8000).subarray(0, 2));
  }

  /** The chain of capabilities (PCI 3.0 §6.7). */
  capabilities(): Capability[] {
    const config = this.vm.readRegion(CONFIG, 0, 256);
    const out: Capability[] = [];
    for (let at = config[0x34]!; at !== 0 && out.length < 48; at = config[at + 1]!)
      out.push({
        ...{ id: config[at]!, at, type: config[at + 3]!, bar: config[at + 4]! },
        ...{ offset: config.readUInt32LE(at + 8), length: config.readUInt32LE(at + 12) },
      });
    return out;
  }

  readCommon(off: number, size: number): number {
    return this.vm.readRegion(4, off, size).readUIntLE(0, size);
  }

  writeCommon(off: number, size: number, value: number): void {
    this.vm.writeRegion(4, off, bytes(value).subarray(0, size));
  }

  get status(): number {
    return this.legacy ? this.vm.readRegion(0, LEGACY.STATUS, 1)[0]! : this.readCommon(COMMON.DEVICE_STATUS, 1);
  }

  set status(value: number) {
    if (this.legacy) this.vm.writeRegion(0, LEGACY.STATUS, Uint8Array.of(value));
    else this.writeCommon(COMMON.DEVICE_STATUS, 1, value);
  }

  offered(): bigint {
    if (this.legacy) return BigInt(this.vm.read32(0, LEGACY.DEVICE_FEATURES));
    const word = (select: number) => {
      this.writeCommon(COMMON.DEVICE_FEATURE_SELECT, 4, select);
      return BigInt(this.readCommon(COMMON.DEVICE_FEATURE, 4));
    };
    return word(0) | (word(1) << 32n);
  }

  accept(features: bigint): void {
    this.#hdrLen = (features & (VERSION_1 | MRG_RXBUF)) !== 0n ? 12 : 10;
    if (this.legacy) {
      this.vm.write32(0, LEGACY.DRIVER_FEATURES, Number(features));
      return;
    }
    for (const select of [0, 1]) {
      this.writeCommon(COMMON.DRIVER_FEATURE_SELECT, 4, select);
      this.writeCommon(COMMON.DRIVER_FEATURE, 4, Number((features >> BigInt(32 * select)) & 0xffffffffn));
    }
  }

  /** Places a ring; `size` is the driver's choice on the modern interface. */
  placeRing(queue: number, size = 64): VirtqueueDriver {
    const { window, off } = this.#mapping;
    if (this.legacy) {
      this.vm.writeRegion(0, LEGACY.QUEUE_SELECT, bytes(queue).subarray(0, 2));
      const legacySize = this.vm.readRegion(0, LEGACY.QUEUE_SIZE, 2).readUInt16LE(0);
      const ring = new VirtqueueDriver(window, off, { size: legacySize, gpa: ringAt(queue), usedAlign: 4096 });
      this.vm.write32(0, LEGACY.QUEUE_ADDRESS, ring.desc / 4096);
      this.rings[queue] = ring;
      return ring;
    }
    const ring = new VirtqueueDriver(window, off, { size, gpa: ringAt(queue) });
    this.writeCommon(COMMON.QUEUE_SELECT, 2, queue);
    this.writeCommon(COMMON.QUEUE_SIZE, 2, size);
    if (this.irqs.length > 1) this.writeCommon(COMMON.QUEUE_MSIX_VECTOR, 2, queue);
    for (const [i, at] of [ring.desc, ring.avail, ring.used].entries()) {
      this.writeCommon(COMMON.QUEUE_DESC + 8 * i, 4, at);
      this.writeCommon(COMMON.QUEUE_DESC + 8 * i + 4, 4, 0);
    }
    this.writeCommon(COMMON.QUEUE_ENABLE, 2, 1);
    this.rings[queue] = ring;
    return ring;
  }

  /** All of §3.1.1; afterwards frames pass. */
  start(features = this.legacy ? LEGACY_FEATURES : MODERN_FEATURES): void {
    this.status = 0;
    this.status = STATUS.ACKNOWLEDGE;
    this.status = STATUS.ACKNOWLEDGE | STATUS.DRIVER;
    this.accept(features);
    let status = STATUS.ACKNOWLEDGE | STATUS.DRIVER;
    if (!this.legacy) {
      status |= STATUS.FEATURES_OK;
      this.status = status;
      assert.equal(this.status, status, 'the device takes the features');
      if (this.irqs.length > 1) this.writeCommon(COMMON.CONFIG_MSIX_VECTOR, 2, 2);
    }
    this.placeRing(RX);
    this.placeRing(TX);
    this.fillReceive();
    this.status = status | STATUS.DRIVER_OK;
    this.notify(RX);
  }

  fillReceive(count = 16): void {
    const ring = this.rings[RX]!;
    for (let i = 0; i < count && ring.freeDescriptors > 0; i++)
      ring.add([{ gpa: 0x40000 + BUFFER_BYTES * i, len: BUFFER_BYTES, writable: true }]);
    ring.publish();
  }

  notify(queue: number): void {
    if (this.legacy) this.vm.writeRegion(0, LEGACY.QUEUE_NOTIFY, bytes(queue).subarray(0, 2));
    else this.vm.postRegion(4, 0x3000 + 4 * queue, bytes(queue).subarray(0, 2));
  }

  transmit(frame: Uint8Array): void {
    const ring = this.rings[TX]!;
    while (ring.reclaim());
    const { window, off } = this.#mapping;
    const gpa = 0x80000;
    window.u8.fill(0, off + gpa, off + gpa + this.#hdrLen);
    window.u8.set(frame, off + gpa + this.#hdrLen);
    ring.add([{ gpa, len: this.#hdrLen + frame.length }]);
    ring.publish();
    this.notify(TX);
    this.vm.sync();
  }

  /** Frames that have come. */
  received(): Buffer[] {
    const out: Buffer[] = [];
    const { window, off } = this.#mapping;
    const ring = this.rings[RX]!;
    for (let got = ring.reclaim(); got !== undefined; got = ring.reclaim()) {
      const at = off + Number(this.#descriptorAddress(got.head));
      out.push(Buffer.from(window.u8.slice(at + this.#hdrLen, at + got.len)));
    }
    return out;
  }

  #descriptorAddress(head: number): bigint {
    const { window, off } = this.#mapping;
    const at = off + this.rings[RX]!.desc + 16 * head;
    return Buffer.from(window.u8.slice(at, at + 8)).readBigUInt64LE(0);
  }

  /** How often each interrupt came since it was asked last. */
  interrupts(): number[] {
    return this.irqs.map((fd) => eventfdRead(fd.number));
  }

  /** INTx: what the driver's handler does, then what the hypervisor does. */
  acknowledge(): number {
    const isr = this.legacy ? this.vm.readRegion(0, LEGACY.ISR, 1)[0]! : this.vm.readRegion(4, 0x1000, 1)[0]!;
    this.vm.get(CMD.DEVICE_SET_IRQS, irqSet(IRQ.NONE | IRQ.UNMASK, 0, 0, 1));
    return isr;
  }
}

/** Where the rings of a queue begin. */
export function ringAt(queue: number): number {
  return 0x10000 * (queue + 1);
}
