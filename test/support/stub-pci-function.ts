/** A PCI function that serves nothing: registers are plain memory, and what a transport asks is noted. */

import type { NicStatus } from '../../src/frontends/nic-frontend.js';
import {
  msiCapability,
  msixCapability,
  PciConfigSpace,
  powerManagementCapability,
} from '../../src/frontends/pci/config-space.js';
import type { AccessSize, PciBar, PciFunction, PciInterrupts } from '../../src/frontends/pci/pci-function.js';
import type { GuestMemory } from '../../src/memory/guest-memory.js';

export const STUB_BARS: readonly (PciBar | undefined)[] = [
  { kind: 'mem32', size: 0x20000 },
  { kind: 'io', size: 64 },
  { kind: 'mem64', size: 0x4000, prefetchable: true },
  undefined,
  undefined,
  undefined,
];

export class StubPciFunction implements PciFunction {
  readonly name = 'stub';
  readonly bars = STUB_BARS;
  readonly config = new PciConfigSpace({
    identity: {
      vendorId: 0x8086,
      deviceId: 0x100f,
      revision: 2,
      classCode: 0x020000,
      subsystemVendorId: 0x8086,
      subsystemId: 0x1008,
    },
    bars: STUB_BARS,
    interruptPin: 1,
    capabilities: [
      powerManagementCapability(),
      msiCapability(2),
      msixCapability({ vectors: 3, bar: 2, tableOff: 0, pbaOff: 0x800 }),
    ],
  });
  readonly registers = this.bars.map((bar) => new DataView(new ArrayBuffer(bar?.size ?? 0)));
  /** "R0+4:4", "W0+8:4=1" in the order in which they came */
  readonly accesses: string[] = [];
  /** "attach", "detach", "reset", "memory", "config" */
  readonly events: string[] = [];
  memory: GuestMemory | undefined;
  interrupts: PciInterrupts | undefined;
  /** what readBar returns instead of the register */
  answer: number | undefined;

  readBar(bar: number, off: number, size: AccessSize): number {
    this.accesses.push(`R${bar}+${off}:${size}`);
    const view = this.registers[bar]!;
    if (this.answer !== undefined) return this.answer;
    return size === 4 ? view.getUint32(off, true) : size === 2 ? view.getUint16(off, true) : view.getUint8(off);
  }

  writeBar(bar: number, off: number, size: AccessSize, value: number): void {
    this.accesses.push(`W${bar}+${off}:${size}=${value.toString(16)}`);
    const view = this.registers[bar]!;
    if (size === 4) view.setUint32(off, value, true);
    else if (size === 2) view.setUint16(off, value, true);
    else view.setUint8(off, value);
  }

  attach(memory: GuestMemory, interrupts: PciInterrupts): void {
    this.memory = memory;
    this.interrupts = interrupts;
    this.events.push('attach');
  }

  detach(): void {
    this.memory = undefined;
    this.interrupts = undefined;
    this.events.push('detach');
  }

  memoryChanged(): void {
    this.events.push('memory');
  }

  configChanged(): void {
    this.events.push('config');
  }

  reset(): void {
    this.config.reset();
    this.events.push('reset');
  }

  close(): void {}

  setLink(): void {}

  wrapBackend(): void {}

  backendStatus(): Record<string, never> {
    return {};
  }

  status(): NicStatus {
    return {
      mac: '02:00:00:00:00:01',
      mtu: undefined,
      link: 'up',
      features: [],
      vnetHdrLen: 0,
      starved: false,
      queues: [],
    };
  }
}
