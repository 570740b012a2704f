/**
 * PCI configuration space, 256 bytes, as a table (PCI Local Bus 3.0 §6; header type 0).
 *
 * Each field is a row: where it is, what it holds after reset, which bits the driver may write, and
 * which of them it clears by writing 1. Whatever has no row reads 0 and is not written (§6.1: "reads of
 * reserved or unimplemented registers must be completed normally and a data value of 0 returned").
 */
import { PCI_NUM_BARS, type PciBar } from './pci-function.js';

export const PCI_CONFIG_BYTES = 256;

// offsets of the header (§6.1, figure 6-1)
export const PCI_VENDOR_ID = 0x00;
export const PCI_DEVICE_ID = 0x02;
export const PCI_COMMAND = 0x04;
export const PCI_STATUS = 0x06;
export const PCI_REVISION_ID = 0x08;
export const PCI_CLASS_PROG = 0x09;
export const PCI_CACHE_LINE_SIZE = 0x0c;
export const PCI_LATENCY_TIMER = 0x0d;
export const PCI_BASE_ADDRESS_0 = 0x10;
export const PCI_SUBSYSTEM_VENDOR_ID = 0x2c;
export const PCI_SUBSYSTEM_ID = 0x2e;
export const PCI_CAPABILITY_LIST = 0x34;
export const PCI_INTERRUPT_LINE = 0x3c;
export const PCI_INTERRUPT_PIN = 0x3d;

// command register (§6.2.2)
export const PCI_COMMAND_IO = 0x1;
export const PCI_COMMAND_MEMORY = 0x2;
export const PCI_COMMAND_MASTER = 0x4;
export const PCI_COMMAND_PARITY = 0x40;
export const PCI_COMMAND_SERR = 0x100;
export const PCI_COMMAND_INTX_DISABLE = 0x400;

// status register (§6.2.3)
export const PCI_STATUS_INTERRUPT = 0x08;
export const PCI_STATUS_CAP_LIST = 0x10;
/** parity, aborts, SERR#: set by hardware, cleared by writing 1 */
const PCI_STATUS_ERRORS = 0xf900;

// base address registers (§6.2.5.1)
const PCI_BASE_ADDRESS_SPACE_IO = 0x1;
const PCI_BASE_ADDRESS_MEM_TYPE_64 = 0x4;
const PCI_BASE_ADDRESS_MEM_PREFETCH = 0x8;

// capability identifiers (appendix H)
export const PCI_CAP_ID_PM = 0x01;
export const PCI_CAP_ID_MSI = 0x05;
export const PCI_CAP_ID_VNDR = 0x09;
export const PCI_CAP_ID_MSIX = 0x11;

/** first byte after the header (§6.1) */
const FIRST_CAPABILITY = 0x40;

/** One field. Masks default to 0: read-only. */
export interface ConfigField {
  off: number;
  bytes: 1 | 2 | 4;
  /** after reset */
  value: number;
  /** bits that the driver sets and clears */
  writable?: number;
  /** bits that the driver clears by writing 1 */
  clears?: number;
}

/** A capability: its fields count from its first byte, identifier and next pointer come by themselves. */
export interface PciCapability {
  readonly id: number;
  readonly bytes: number;
  /** where it must be; otherwise after the one before, on the next multiple of 4 */
  readonly at?: number;
  readonly fields: readonly ConfigField[];
}

// MSI capability (§6.8.1), 64-bit addresses, one message by default, no mask bits
const MSI_FLAGS = 2;
const MSI_FLAGS_ENABLE = 0x1;
const MSI_FLAGS_64BIT = 0x80;

/** `log2Vectors`: the messages that the function can send (multiple message capable). */
export function msiCapability(log2Vectors = 0, at?: number): PciCapability {
  return {
    id: PCI_CAP_ID_MSI,
    bytes: 14,
    ...(at === undefined ? {} : { at }),
    fields: [
      {
        off: MSI_FLAGS,
        bytes: 2,
        value: MSI_FLAGS_64BIT | (log2Vectors << 1),
        // enable, multiple message enable
        writable: MSI_FLAGS_ENABLE | (log2Vectors > 0 ? 0x70 : 0),
      },
      { off: 4, bytes: 4, value: 0, writable: 0xfffffffc },
      { off: 8, bytes: 4, value: 0, writable: 0xffffffff },
      { off: 12, bytes: 2, value: 0, writable: 0xffff },
    ],
  };
}

// MSI-X capability (§6.8.2)
const MSIX_FLAGS = 2;
const MSIX_FLAGS_ENABLE = 0x8000;
const MSIX_FLAGS_MASKALL = 0x4000;

export interface MsixLayout {
  vectors: number;
  bar: number;
  tableOff: number;
  pbaOff: number;
}

export function msixCapability({ vectors, bar, tableOff, pbaOff }: MsixLayout): PciCapability {
  return {
    id: PCI_CAP_ID_MSIX,
    bytes: 12,
    fields: [
      { off: MSIX_FLAGS, bytes: 2, value: vectors - 1, writable: MSIX_FLAGS_ENABLE | MSIX_FLAGS_MASKALL },
      { off: 4, bytes: 4, value: tableOff | bar },
      { off: 8, bytes: 4, value: pbaOff | bar },
    ],
  };
}

// power management capability (PCI Bus Power Management 1.2 §3.2)
const PM_PMC = 2;
const PM_CTRL = 4;
const PM_CTRL_STATE_MASK = 0x3;
/** nothing is lost from D3hot to D0: there is nothing to set up again */
const PM_CTRL_NO_SOFT_RESET = 0x8;
const PM_CTRL_PME_ENABLE = 0x100;
const PM_CTRL_PME_STATUS = 0x8000;

/** `pmc`: power management capabilities, by default version 2 and nothing but D0 and D3hot. */
export function powerManagementCapability(pmc = 0x0002, at?: number): PciCapability {
  const wakes = (pmc & 0xf800) !== 0;
  return {
    id: PCI_CAP_ID_PM,
    bytes: 8,
    ...(at === undefined ? {} : { at }),
    fields: [
      { off: PM_PMC, bytes: 2, value: pmc },
      {
        off: PM_CTRL,
        bytes: 2,
        value: PM_CTRL_NO_SOFT_RESET,
        writable: PM_CTRL_STATE_MASK | (wakes ? PM_CTRL_PME_ENABLE : 0),
        clears: wakes ? PM_CTRL_PME_STATUS : 0,
      },
    ],
  };
}

export interface PciIdentity {
  vendorId: number;
  deviceId: number;
  revision: number;
  /** base class, sub-class, programming interface: 0x020000 is an Ethernet controller (appendix D) */
  classCode: number;
  subsystemVendorId: number;
  subsystemId: number;
}

export interface PciConfigOptions {
  identity: PciIdentity;
  bars: readonly (PciBar | undefined)[];
  /** 1 is INTA#; 0: the function has no interrupt pin */
  interruptPin: 0 | 1 | 2 | 3 | 4;
  capabilities: readonly PciCapability[];
}

export class PciConfigSpace {
  readonly #bytes = new Uint8Array(PCI_CONFIG_BYTES);
  readonly #reset = new Uint8Array(PCI_CONFIG_BYTES);
  readonly #writable = new Uint8Array(PCI_CONFIG_BYTES);
  readonly #clears = new Uint8Array(PCI_CONFIG_BYTES);
  readonly #capabilities = new Map<number, number>();
  readonly interruptPin: number;

  constructor(options: PciConfigOptions) {
    const { bars, capabilities, interruptPin } = options;
    this.interruptPin = interruptPin;
    for (const field of headerFields(options)) this.#place(field, 0);
    bars.slice(0, PCI_NUM_BARS).forEach((bar, i) => {
      if (bar) for (const field of barFields(bar, i)) this.#place(field, 0);
    });
    this.#chain(capabilities);
    this.reset();
  }

  /** Fills `out` with what is at `off`; zeros beyond the end. */
  read(off: number, out: Uint8Array): void {
    out.fill(0);
    if (off < PCI_CONFIG_BYTES) out.set(this.#bytes.subarray(off, off + out.length));
  }

  /** The driver's write, of which only what it may change is taken. */
  write(off: number, data: Uint8Array): void {
    const end = Math.min(off + data.length, PCI_CONFIG_BYTES);
    for (let at = off; at < end; at++) {
      const value = data[at - off] as number;
      const writable = this.#writable[at] as number;
      const old = this.#bytes[at] as number;
      this.#bytes[at] = ((old & ~writable) | (value & writable)) & ~(value & (this.#clears[at] as number));
    }
  }

  u8(off: number): number {
    return this.#bytes[off] as number;
  }

  u16(off: number): number {
    return this.u8(off) | (this.u8(off + 1) << 8);
  }

  u32(off: number): number {
    return (this.u16(off) | (this.u16(off + 2) << 16)) >>> 0;
  }

  /** The function's own write: any bit. */
  set(off: number, bytes: 1 | 2 | 4, value: number): void {
    for (let i = 0; i < bytes; i++) this.#bytes[off + i] = (value >>> (8 * i)) & 0xff;
  }

  /** Offset of the first capability with this identifier, or 0. */
  capability(id: number): number {
    return this.#capabilities.get(id) ?? 0;
  }

  get command(): number {
    return this.u16(PCI_COMMAND);
  }

  /** The function may read and write guest memory and send messages. */
  get busMaster(): boolean {
    return (this.u8(PCI_COMMAND) & PCI_COMMAND_MASTER) !== 0;
  }

  get intxDisabled(): boolean {
    return (this.command & PCI_COMMAND_INTX_DISABLE) !== 0;
  }

  get msiEnabled(): boolean {
    const at = this.capability(PCI_CAP_ID_MSI);
    return at !== 0 && (this.u8(at + MSI_FLAGS) & MSI_FLAGS_ENABLE) !== 0;
  }

  /** Messages that the function can send with MSI; 0 without the capability. */
  get msiCapable(): number {
    const at = this.capability(PCI_CAP_ID_MSI);
    return at === 0 ? 0 : 1 << ((this.u8(at + MSI_FLAGS) >> 1) & 7);
  }

  /** Messages that the function can send with MSI-X; 0 without the capability. */
  get msixCapable(): number {
    const at = this.capability(PCI_CAP_ID_MSIX);
    return at === 0 ? 0 : (this.u16(at + MSIX_FLAGS) & 0x7ff) + 1;
  }

  /** Messages that the driver allows with MSI (multiple message enable); a power of two. */
  get msiVectors(): number {
    const at = this.capability(PCI_CAP_ID_MSI);
    return at === 0 ? 0 : 1 << Math.min(5, (this.u8(at + MSI_FLAGS) >> 4) & 7);
  }

  get msixEnabled(): boolean {
    const at = this.capability(PCI_CAP_ID_MSIX);
    return at !== 0 && (this.u16(at + MSIX_FLAGS) & MSIX_FLAGS_ENABLE) !== 0;
  }

  /** All vectors of MSI-X are masked (function mask). */
  get msixMasked(): boolean {
    const at = this.capability(PCI_CAP_ID_MSIX);
    return at !== 0 && (this.u16(at + MSIX_FLAGS) & MSIX_FLAGS_MASKALL) !== 0;
  }

  /** 0 to 3: D0 to D3hot. */
  get powerState(): number {
    const at = this.capability(PCI_CAP_ID_PM);
    return at === 0 ? 0 : this.u8(at + PM_CTRL) & PM_CTRL_STATE_MASK;
  }

  /** §6.2.3: "reflects the state of the interrupt in the device", whether or not INTx# is disabled. */
  setInterruptStatus(pending: boolean): void {
    const status = this.u8(PCI_STATUS);
    this.#bytes[PCI_STATUS] = pending ? status | PCI_STATUS_INTERRUPT : status & ~PCI_STATUS_INTERRUPT;
  }

  reset(): void {
    this.#bytes.set(this.#reset);
  }

  #place({ off, bytes, value, writable = 0, clears = 0 }: ConfigField, base: number): void {
    for (let i = 0; i < bytes; i++) {
      const at = base + off + i;
      this.#reset[at] = (value >>> (8 * i)) & 0xff;
      this.#writable[at] = (writable >>> (8 * i)) & 0xff;
      this.#clears[at] = (clears >>> (8 * i)) & 0xff;
    }
  }

  /** §6.7: each capability begins with its identifier and the offset of the next one, 0 in the last. */
  #chain(capabilities: readonly PciCapability[]): void {
    let free = FIRST_CAPABILITY;
    let link = PCI_CAPABILITY_LIST;
    for (const { id, bytes, at = free, fields } of capabilities) {
      if (at + bytes > PCI_CONFIG_BYTES || at % 4 !== 0) throw new RangeError(`capability ${id} at ${at}: no room`);
      this.#reset[link] = at;
      this.#reset[at] = id;
      for (const field of fields) this.#place(field, at);
      if (!this.#capabilities.has(id)) this.#capabilities.set(id, at);
      link = at + 1;
      free = Math.max(free, Math.ceil((at + bytes) / 4) * 4);
    }
  }
}

function headerFields({ identity: id, bars, interruptPin, capabilities }: PciConfigOptions): ConfigField[] {
  const io = bars.some((bar) => bar?.kind === 'io') ? PCI_COMMAND_IO : 0;
  const memory = bars.some((bar) => bar !== undefined && bar.kind !== 'io') ? PCI_COMMAND_MEMORY : 0;
  const intx = interruptPin === 0 ? 0 : PCI_COMMAND_INTX_DISABLE;
  return [
    { off: PCI_VENDOR_ID, bytes: 2, value: id.vendorId },
    { off: PCI_DEVICE_ID, bytes: 2, value: id.deviceId },
    {
      off: PCI_COMMAND,
      bytes: 2,
      value: 0,
      writable: io | memory | intx | PCI_COMMAND_MASTER | PCI_COMMAND_PARITY | PCI_COMMAND_SERR,
    },
    {
      off: PCI_STATUS,
      bytes: 2,
      value: capabilities.length > 0 ? PCI_STATUS_CAP_LIST : 0,
      clears: PCI_STATUS_ERRORS,
    },
    { off: PCI_REVISION_ID, bytes: 1, value: id.revision },
    { off: PCI_CLASS_PROG, bytes: 1, value: id.classCode & 0xff },
    { off: PCI_CLASS_PROG + 1, bytes: 2, value: id.classCode >>> 8 },
    { off: PCI_CACHE_LINE_SIZE, bytes: 1, value: 0, writable: 0xff },
    { off: PCI_LATENCY_TIMER, bytes: 1, value: 0, writable: 0xff },
    { off: PCI_SUBSYSTEM_VENDOR_ID, bytes: 2, value: id.subsystemVendorId },
    { off: PCI_SUBSYSTEM_ID, bytes: 2, value: id.subsystemId },
    { off: PCI_INTERRUPT_LINE, bytes: 1, value: 0, writable: interruptPin === 0 ? 0 : 0xff },
    { off: PCI_INTERRUPT_PIN, bytes: 1, value: interruptPin },
  ];
}

/** §6.2.5.1: the bits below the size read 0 whatever is written, which tells the size. */
function barFields({ kind, size, prefetchable = false }: PciBar, index: number): ConfigField[] {
  const off = PCI_BASE_ADDRESS_0 + 4 * index;
  const least = kind === 'io' ? 4 : 16;
  if (size < least || !Number.isInteger(Math.log2(size)) || size > 2 ** 31)
    throw new RangeError(`BAR ${index}: ${size} bytes is not a power of two from ${least} to 2^31`);
  if (kind === 'mem64' && index === PCI_NUM_BARS - 1)
    throw new RangeError(`BAR ${index}: a 64-bit one takes two registers`);
  const writable = -size >>> 0;
  if (kind === 'io') return [{ off, bytes: 4, value: PCI_BASE_ADDRESS_SPACE_IO, writable }];
  const type =
    (kind === 'mem64' ? PCI_BASE_ADDRESS_MEM_TYPE_64 : 0) | (prefetchable ? PCI_BASE_ADDRESS_MEM_PREFETCH : 0);
  const low: ConfigField = { off, bytes: 4, value: type, writable };
  return kind === 'mem64' ? [low, { off: off + 4, bytes: 4, value: 0, writable: 0xffffffff }] : [low];
}
