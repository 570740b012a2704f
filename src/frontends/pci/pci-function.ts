/**
 * What a transport drives of a PCI device (PCI Local Bus 3.0): one function with its configuration
 * space, its base address registers, its interrupts and its access to guest memory. The transport owns
 * the connection to the hypervisor and the guest memory; the function owns its registers.
 *
 * Life cycle: made with its backend, then `attach`ed to a hypervisor's memory and interrupts, reset at
 * any time, detached when the hypervisor goes, attached to the next one. Detached it touches no guest
 * memory and drops and counts what the network sends. Everything runs on the fabric's thread.
 *
 * Registers are a guest's to hammer: reads and writes of any register, in any order, with any value,
 * never throw. What does not exist reads all ones and is not written, and is counted by the function.
 */
import type { GuestMemory } from '../../memory/guest-memory.js';
import type { NicFrontend } from '../nic-frontend.js';
import type { PciConfigSpace } from './config-space.js';

/** The six base address registers of a function (PCI 3.0 §6.2.5). */
export const PCI_NUM_BARS = 6;

export type PciBarKind = 'mem32' | 'mem64' | 'io';

/** What a base address register maps. A mem64 takes two registers: the next entry is undefined. */
export interface PciBar {
  readonly kind: PciBarKind;
  /** bytes, a power of two: at least 16 of memory, 4 of I/O */
  readonly size: number;
  readonly prefetchable?: boolean;
}

/** Bytes of one register access: the transport splits longer ones. */
export type AccessSize = 1 | 2 | 4;

/**
 * How a function interrupts its driver. All of it may be called at any time while attached, and costs
 * nothing where nobody listens; the transport delivers what the driver has enabled in configuration space.
 */
export interface PciInterrupts {
  /**
   * The level of the INTx# pin: told when it changes, and harmless to repeat. The transport keeps the
   * interrupt bit of the status register, and holds back what INTx disable or MSI forbids.
   */
  intx(level: boolean): void;
  /** one MSI message; only while `config.msiEnabled`, and then in place of INTx */
  msi(vector: number): void;
  /** one MSI-X message; only while `config.msixEnabled` */
  msix(vector: number): void;
}

export interface PciFunction extends NicFrontend {
  /** of the NIC */
  readonly name: string;
  readonly config: PciConfigSpace;
  /** PCI_NUM_BARS entries */
  readonly bars: readonly (PciBar | undefined)[];

  /**
   * Reads `size` bytes at `off` of a BAR, little endian. [off, off + size) lies within the BAR, and is
   * not necessarily aligned. Values are unsigned; a write's fit its size.
   */
  readBar(bar: number, off: number, size: AccessSize): number;
  writeBar(bar: number, off: number, size: AccessSize, value: number): void;

  /** A hypervisor has come: its memory (regions come and go, see memoryChanged) and its interrupts. */
  attach(memory: GuestMemory, interrupts: PciInterrupts): void;
  /**
   * It has gone: neither is touched afterwards, and the function is reset: what the next one attaches is
   * another guest's memory, where the addresses in the registers mean something else.
   */
  detach(): void;
  /** Regions were mapped or unmapped: translations kept from before are void. */
  memoryChanged(): void;
  /** Configuration space was written: command, MSI, MSI-X, power state may have changed. */
  configChanged(): void;
  /** Reset of the function, registers and configuration space. Link, MAC and backend stay. */
  reset(): void;
}
