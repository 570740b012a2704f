/**
 * The common configuration structure of the modern interface (VirtIO 1.2 §4.1.4.3). A field is written
 * with its own width, a 64-bit one as two halves; other writes are none.
 */
import { readView } from '../pci/msix-table.js';
import type { AccessSize } from '../pci/pci-function.js';
import type { QueueRegisters, VirtioPciFunction } from './function.js';

// struct virtio_pci_common_cfg
const DEVICE_FEATURE_SELECT = 0;
const DEVICE_FEATURE = 4;
const DRIVER_FEATURE_SELECT = 8;
const DRIVER_FEATURE = 12;
const CONFIG_MSIX_VECTOR = 16;
const NUM_QUEUES = 18;
const DEVICE_STATUS = 20;
const CONFIG_GENERATION = 21;
const QUEUE_SELECT = 22;
const QUEUE_SIZE = 24;
const QUEUE_MSIX_VECTOR = 26;
const QUEUE_ENABLE = 28;
const QUEUE_NOTIFY_OFF = 30;
const QUEUE_DESC = 32;
const QUEUE_DRIVER = 40;
const QUEUE_DEVICE = 48;
const COMMON_BYTES = 56;

/** §2.1: after it the driver's features are settled */
const FEATURES_OK = 8;

/** Width of each field that a driver writes, by offset. */
const writable: Readonly<Record<number, AccessSize>> = {
  [DEVICE_FEATURE_SELECT]: 4,
  [DRIVER_FEATURE_SELECT]: 4,
  [DRIVER_FEATURE]: 4,
  [CONFIG_MSIX_VECTOR]: 2,
  [DEVICE_STATUS]: 1,
  [QUEUE_SELECT]: 2,
  [QUEUE_SIZE]: 2,
  [QUEUE_MSIX_VECTOR]: 2,
  [QUEUE_ENABLE]: 2,
  [QUEUE_DESC]: 4,
  [QUEUE_DESC + 4]: 4,
  [QUEUE_DRIVER]: 4,
  [QUEUE_DRIVER + 4]: 4,
  [QUEUE_DEVICE]: 4,
  [QUEUE_DEVICE + 4]: 4,
};

/** Bits 32 * select and up of a feature word. */
function featureWord(features: bigint, select: number): number {
  return select < 2 ? Number((features >> BigInt(32 * select)) & 0xffffffffn) : 0;
}

export class CommonRegisters {
  readonly #fn: VirtioPciFunction;
  readonly #view = new DataView(new ArrayBuffer(COMMON_BYTES));
  #deviceFeatureSelect = 0;
  #driverFeatureSelect = 0;

  constructor(fn: VirtioPciFunction) {
    this.#fn = fn;
  }

  reset(): void {
    this.#deviceFeatureSelect = 0;
    this.#driverFeatureSelect = 0;
  }

  read(off: number, size: AccessSize): number {
    if (off + size > COMMON_BYTES) return this.#fn.badRead(size);
    this.#fill();
    return readView(this.#view, off, size);
  }

  write(off: number, size: AccessSize, value: number): void {
    const fn = this.#fn;
    if (writable[off] !== size) {
      fn.badWrite();
      return;
    }
    const queue = fn.queues[fn.queueSelect];
    switch (off) {
      case DEVICE_FEATURE_SELECT:
        this.#deviceFeatureSelect = value;
        break;
      case DRIVER_FEATURE_SELECT:
        this.#driverFeatureSelect = value;
        break;
      case DRIVER_FEATURE:
        this.#setFeatures(value);
        break;
      case CONFIG_MSIX_VECTOR:
        fn.setConfigVector(value);
        break;
      case DEVICE_STATUS:
        fn.setStatus(value);
        break;
      case QUEUE_SELECT:
        fn.queueSelect = value;
        break;
      default:
        if (queue === undefined) fn.badWrite();
        else this.#writeQueue(queue, off, value);
    }
  }

  #setFeatures(value: number): void {
    const fn = this.#fn;
    if ((fn.deviceStatus & FEATURES_OK) !== 0 || this.#driverFeatureSelect > 1) {
      fn.badWrite();
      return;
    }
    const shift = BigInt(32 * this.#driverFeatureSelect);
    fn.driverFeatures = (fn.driverFeatures & ~(0xffffffffn << shift)) | (BigInt(value) << shift);
  }

  #writeQueue(queue: QueueRegisters, off: number, value: number): void {
    const fn = this.#fn;
    if (off === QUEUE_MSIX_VECTOR) fn.setQueueVector(queue, value);
    // §4.1.4.3.2: "the driver MUST NOT write a 0 to queue_enable"
    else if (off === QUEUE_ENABLE) {
      if (value === 1) fn.enableQueue(queue);
      else fn.badWrite();
    }
    // what describes a ring is settled once it is enabled
    else if (queue.enabled) fn.badWrite();
    else if (off === QUEUE_SIZE) fn.setQueueSize(queue, value);
    else if (off < QUEUE_DRIVER) queue.desc[off === QUEUE_DESC ? 0 : 1] = value;
    else if (off < QUEUE_DEVICE) queue.driver[off === QUEUE_DRIVER ? 0 : 1] = value;
    else queue.device[off === QUEUE_DEVICE ? 0 : 1] = value;
  }

  #fill(): void {
    const fn = this.#fn;
    const view = this.#view;
    view.setUint32(DEVICE_FEATURE_SELECT, this.#deviceFeatureSelect, true);
    view.setUint32(DEVICE_FEATURE, featureWord(fn.offeredFeatures, this.#deviceFeatureSelect), true);
    view.setUint32(DRIVER_FEATURE_SELECT, this.#driverFeatureSelect, true);
    view.setUint32(DRIVER_FEATURE, featureWord(fn.driverFeatures, this.#driverFeatureSelect), true);
    view.setUint16(CONFIG_MSIX_VECTOR, fn.configVector, true);
    view.setUint16(NUM_QUEUES, fn.queues.length, true);
    view.setUint8(DEVICE_STATUS, fn.statusRegister);
    view.setUint8(CONFIG_GENERATION, fn.configGeneration);
    view.setUint16(QUEUE_SELECT, fn.queueSelect, true);
    // §4.1.4.3.1: a queue that is not there has size 0
    const queue = fn.queues[fn.queueSelect];
    view.setUint16(QUEUE_SIZE, queue?.size ?? 0, true);
    view.setUint16(QUEUE_MSIX_VECTOR, queue?.vector ?? 0, true);
    view.setUint16(QUEUE_ENABLE, queue?.enabled ? 1 : 0, true);
    view.setUint16(QUEUE_NOTIFY_OFF, queue === undefined ? 0 : fn.queueSelect, true);
    for (let half = 0; half < 2; half++) {
      view.setUint32(QUEUE_DESC + 4 * half, queue?.desc[half] ?? 0, true);
      view.setUint32(QUEUE_DRIVER + 4 * half, queue?.driver[half] ?? 0, true);
      view.setUint32(QUEUE_DEVICE + 4 * half, queue?.device[half] ?? 0, true);
    }
  }
}
