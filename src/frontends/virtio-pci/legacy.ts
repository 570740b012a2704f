/**
 * The legacy interface (VirtIO 1.2 §4.1.4.10): a header in I/O ports, then the device's configuration,
 * four bytes later while MSI-X is enabled. A driver places a whole ring by the number of its first page,
 * cannot choose its size, and has 32 feature bits.
 */
import type { AccessSize } from '../pci/pci-function.js';
import type { QueueRegisters, VirtioPciFunction } from './function.js';

const DEVICE_FEATURES = 0;
const DRIVER_FEATURES = 4;
const QUEUE_ADDRESS = 8;
const QUEUE_SIZE = 12;
const QUEUE_SELECT = 14;
const QUEUE_NOTIFY = 16;
const DEVICE_STATUS = 18;
const ISR_STATUS = 19;
const CONFIG_MSIX_VECTOR = 20;
const QUEUE_MSIX_VECTOR = 22;
const HEADER_BYTES = 20;
const MSIX_HEADER_BYTES = 24;

/** unit of the queue address, and alignment of the used ring (§2.7.2) */
const PAGE = 4096;

/** Width of each field, by offset. */
const widths: Readonly<Record<number, AccessSize>> = {
  [DEVICE_FEATURES]: 4,
  [DRIVER_FEATURES]: 4,
  [QUEUE_ADDRESS]: 4,
  [QUEUE_SIZE]: 2,
  [QUEUE_SELECT]: 2,
  [QUEUE_NOTIFY]: 2,
  [DEVICE_STATUS]: 1,
  [ISR_STATUS]: 1,
  [CONFIG_MSIX_VECTOR]: 2,
  [QUEUE_MSIX_VECTOR]: 2,
};

export class LegacyRegisters {
  readonly #fn: VirtioPciFunction;

  constructor(fn: VirtioPciFunction) {
    this.#fn = fn;
  }

  get #headerBytes(): number {
    return this.#fn.config.msixEnabled ? MSIX_HEADER_BYTES : HEADER_BYTES;
  }

  read(off: number, size: AccessSize): number {
    const fn = this.#fn;
    const config = this.#headerBytes;
    if (off >= config) return fn.readDeviceConfig(off - config, size);
    if (widths[off] !== size) return fn.badRead(size);
    const queue = fn.queues[fn.queueSelect];
    switch (off) {
      case DEVICE_FEATURES:
        return Number(fn.offeredFeatures & 0xffffffffn);
      case DRIVER_FEATURES:
        return Number(fn.driverFeatures & 0xffffffffn);
      case QUEUE_ADDRESS:
        return queue?.enabled ? Math.floor(addressOf(queue.desc) / PAGE) : 0;
      case QUEUE_SIZE:
        return queue?.size ?? 0;
      case QUEUE_SELECT:
        return fn.queueSelect;
      case DEVICE_STATUS:
        return fn.statusRegister;
      case ISR_STATUS:
        return fn.takeIsr();
      case CONFIG_MSIX_VECTOR:
        return fn.configVector;
      case QUEUE_MSIX_VECTOR:
        return queue?.vector ?? 0xffff;
      default:
        return 0;
    }
  }

  write(off: number, size: AccessSize, value: number): void {
    const fn = this.#fn;
    const config = this.#headerBytes;
    if (off >= config) {
      fn.writeDeviceConfig(off - config, size, value);
      return;
    }
    if (widths[off] !== size) {
      fn.badWrite();
      return;
    }
    const queue = fn.queues[fn.queueSelect];
    switch (off) {
      case DRIVER_FEATURES:
        // there is no FEATURES_OK: what the device does not have is not taken
        fn.driverFeatures = BigInt(value) & fn.offeredFeatures;
        fn.acceptFeatures();
        break;
      case QUEUE_ADDRESS:
        if (queue === undefined) fn.badWrite();
        else this.#place(queue, value);
        break;
      case QUEUE_SELECT:
        fn.queueSelect = value;
        break;
      case QUEUE_NOTIFY:
        fn.notifyQueue(value);
        break;
      case DEVICE_STATUS:
        fn.setStatus(value);
        break;
      case CONFIG_MSIX_VECTOR:
        fn.setConfigVector(value);
        break;
      case QUEUE_MSIX_VECTOR:
        if (queue === undefined) fn.badWrite();
        else fn.setQueueVector(queue, value);
        break;
      default:
        fn.badWrite();
    }
  }

  /** §2.7.2: descriptor table, available ring, then, on a page of its own, the used ring; page 0: none. */
  #place(queue: QueueRegisters, page: number): void {
    const fn = this.#fn;
    fn.disableQueue(queue);
    if (page === 0) return;
    const desc = page * PAGE;
    const avail = desc + 16 * queue.size;
    const used = Math.ceil((avail + 2 * (3 + queue.size)) / PAGE) * PAGE;
    setAddress(queue.desc, desc);
    setAddress(queue.driver, avail);
    setAddress(queue.device, used);
    fn.enableQueue(queue);
  }
}

/** The number that two halves are. */
export function addressOf([low, high]: readonly [number, number]): number {
  return low + high * 2 ** 32;
}

function setAddress(halves: [number, number], address: number): void {
  halves[0] = address % 2 ** 32;
  halves[1] = Math.floor(address / 2 ** 32);
}
