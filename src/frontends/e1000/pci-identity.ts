/** The 82545EM on PCI: identifiers, base address registers and capabilities (manual §4.1, §4.2). */
import { msiCapability, PciConfigSpace, powerManagementCapability } from '../pci/config-space.js';
import type { PciBar } from '../pci/pci-function.js';
import { REGISTER_BYTES } from './registers.js';

export const IDENTITY = {
  vendorId: 0x8086,
  deviceId: 0x100f,
  revision: 1,
  // Ethernet controller (PCI 3.0 appendix D)
  classCode: 0x020000,
  subsystemVendorId: 0x8086,
  // bhyve's
  subsystemId: 0x1008,
};

export const BAR_REGISTERS = 0;
export const BAR_FLASH = 1;
export const BAR_IO = 2;

export const bars: readonly (PciBar | undefined)[] = [
  { kind: 'mem32', size: REGISTER_BYTES },
  { kind: 'mem32', size: 64 * 1024 },
  { kind: 'io', size: 8 },
  undefined,
  undefined,
  undefined,
];

// where the 82545EM has its capabilities
const PM_OFFSET = 0xdc;
const MSI_OFFSET = 0xf0;

export function configSpace(): PciConfigSpace {
  return new PciConfigSpace({
    identity: IDENTITY,
    bars,
    interruptPin: 1,
    capabilities: [powerManagementCapability(0x0002, PM_OFFSET), msiCapability(0, MSI_OFFSET)],
  });
}
