/**
 * How a virtio device looks on the PCI bus (VirtIO 1.2 §4.1): a transitional network card, with the
 * capabilities of the modern interface in BAR 4 and the legacy one in the I/O ports of BAR 0.
 */
import {
  type ConfigField,
  msixCapability,
  PCI_CAP_ID_VNDR,
  PCI_CONFIG_BYTES,
  type PciCapability,
  PciConfigSpace,
} from '../pci/config-space.js';
import type { PciBar } from '../pci/pci-function.js';

// §4.1.2: vendor 0x1af4, transitional network card 0x1000, revision 0, subsystem device: the virtio device ID
const VIRTIO_VENDOR_ID = 0x1af4;
const TRANSITIONAL_NETWORK_CARD = 0x1000;
const ETHERNET_CONTROLLER = 0x020000;

export const LEGACY_BAR = 0;
export const MSIX_BAR = 1;
export const MODERN_BAR = 4;

/** receive, transmit, configuration change */
export const MSIX_VECTORS = 3;
export const MSIX_PBA_OFF = 0x800;

/** The parts of BAR 4, a page each. */
export const PART_BYTES = 0x1000;
export const COMMON_OFF = 0x0000;
export const ISR_OFF = 0x1000;
export const DEVICE_OFF = 0x2000;
export const NOTIFY_OFF = 0x3000;
/** §4.1.4.4: bytes between the notification addresses of two queues */
export const NOTIFY_OFF_MULTIPLIER = 4;

export const VIRTIO_BARS: readonly (PciBar | undefined)[] = [
  { kind: 'io', size: 64 },
  { kind: 'mem32', size: 0x1000 },
  undefined,
  undefined,
  { kind: 'mem64', size: 4 * PART_BYTES, prefetchable: true },
  undefined,
];

// §4.1.4: struct virtio_pci_cap { u8 cap_vndr, cap_next, cap_len, cfg_type, bar, id, padding[2]; le32 offset, length }
const CAP_BYTES = 16;
const CAP_LEN = 2;
const CAP_CFG_TYPE = 3;
const CAP_BAR = 4;
const CAP_OFFSET = 8;
const CAP_LENGTH = 12;
const CAP_DATA = 16;
const VIRTIO_PCI_CAP_COMMON_CFG = 1;
const VIRTIO_PCI_CAP_NOTIFY_CFG = 2;
const VIRTIO_PCI_CAP_ISR_CFG = 3;
const VIRTIO_PCI_CAP_DEVICE_CFG = 4;
const VIRTIO_PCI_CAP_PCI_CFG = 5;

function structure(type: number, offset: number, length: number, ...more: ConfigField[]): PciCapability {
  const bytes = CAP_BYTES + 4 * more.length;
  return {
    id: PCI_CAP_ID_VNDR,
    bytes,
    fields: [
      { off: CAP_LEN, bytes: 1, value: bytes },
      { off: CAP_CFG_TYPE, bytes: 1, value: type },
      { off: CAP_BAR, bytes: 1, value: MODERN_BAR },
      { off: CAP_OFFSET, bytes: 4, value: offset },
      { off: CAP_LENGTH, bytes: 4, value: length },
      ...more,
    ],
  };
}

/** §4.1.4.9: an access of a BAR through configuration space, for firmware that cannot map one. */
const pciConfigAccess: PciCapability = {
  id: PCI_CAP_ID_VNDR,
  bytes: CAP_BYTES + 4,
  fields: [
    { off: CAP_LEN, bytes: 1, value: CAP_BYTES + 4 },
    { off: CAP_CFG_TYPE, bytes: 1, value: VIRTIO_PCI_CAP_PCI_CFG },
    { off: CAP_BAR, bytes: 1, value: 0, writable: 0xff },
    { off: CAP_OFFSET, bytes: 4, value: 0, writable: 0xffffffff },
    { off: CAP_LENGTH, bytes: 4, value: 0, writable: 0xffffffff },
  ],
};

const capabilities: readonly PciCapability[] = [
  msixCapability({ vectors: MSIX_VECTORS, bar: MSIX_BAR, tableOff: 0, pbaOff: MSIX_PBA_OFF }),
  structure(VIRTIO_PCI_CAP_COMMON_CFG, COMMON_OFF, PART_BYTES),
  structure(VIRTIO_PCI_CAP_ISR_CFG, ISR_OFF, PART_BYTES),
  structure(VIRTIO_PCI_CAP_DEVICE_CFG, DEVICE_OFF, PART_BYTES),
  structure(VIRTIO_PCI_CAP_NOTIFY_CFG, NOTIFY_OFF, PART_BYTES, {
    off: CAP_DATA,
    bytes: 4,
    value: NOTIFY_OFF_MULTIPLIER,
  }),
  pciConfigAccess,
];

/** What the last capability reaches: registers of a BAR. `value` of a read is the register's. */
export interface BarAccess {
  readBar(bar: number, off: number, size: 1 | 2 | 4): number;
  writeBar(bar: number, off: number, size: 1 | 2 | 4, value: number): void;
}

export class VirtioConfigSpace extends PciConfigSpace {
  readonly #access: BarAccess;
  readonly #capOff: number;

  constructor(virtioDeviceId: number, access: BarAccess) {
    super({
      identity: {
        vendorId: VIRTIO_VENDOR_ID,
        deviceId: TRANSITIONAL_NETWORK_CARD,
        revision: 0,
        classCode: ETHERNET_CONTROLLER,
        subsystemVendorId: VIRTIO_VENDOR_ID,
        subsystemId: virtioDeviceId,
      },
      bars: VIRTIO_BARS,
      interruptPin: 1,
      capabilities,
    });
    this.#access = access;
    this.#capOff = this.#lastCapability();
  }

  override read(off: number, out: Uint8Array): void {
    super.read(off, out);
    const data = this.#capOff + CAP_DATA;
    if (off >= data + 4 || off + out.length <= data) return;
    const size = this.#accessSize();
    if (size === 0) return;
    const value = this.#access.readBar(this.u8(this.#capOff + CAP_BAR), this.u32(this.#capOff + CAP_OFFSET), size);
    for (let i = 0; i < size; i++) {
      const at = data + i - off;
      if (at >= 0 && at < out.length) out[at] = (value >>> (8 * i)) & 0xff;
    }
  }

  override write(off: number, data: Uint8Array): void {
    super.write(off, data);
    if (off !== this.#capOff + CAP_DATA) return;
    const size = this.#accessSize();
    if (size === 0 || data.length < size) return;
    let value = 0;
    for (let i = size - 1; i >= 0; i--) value = value * 256 + (data[i] as number);
    this.#access.writeBar(this.u8(this.#capOff + CAP_BAR), this.u32(this.#capOff + CAP_OFFSET), size, value);
  }

  /** Bytes of the access that the driver has set up; 0 if it is none that the BAR has. */
  #accessSize(): 0 | 1 | 2 | 4 {
    const size = this.u32(this.#capOff + CAP_LENGTH);
    const bar = VIRTIO_BARS[this.u8(this.#capOff + CAP_BAR)];
    if (bar === undefined || this.u32(this.#capOff + CAP_OFFSET) + size > bar.size) return 0;
    return size === 1 || size === 2 || size === 4 ? size : 0;
  }

  /** The chain's end (PCI 3.0 §6.7). */
  #lastCapability(): number {
    let at = this.u8(0x34);
    for (let next = this.u8(at + 1); next !== 0 && next < PCI_CONFIG_BYTES; next = this.u8(at + 1)) at = next;
    return at;
  }
}
