/** What people are told of the controller: its rings, and what its driver has turned on, by the manual's names. */
import type { GuestMemory } from '../../memory/guest-memory.js';
import type { NicStatus } from '../nic-frontend.js';
import * as R from './registers.js';
import type { DescriptorRing } from './ring.js';

const features: readonly (readonly [name: string, offset: number, bit: number])[] = [
  ['CTRL.VME', R.CTRL, R.CTRL_VME],
  ['RCTL.UPE', R.RCTL, R.RCTL_UPE],
  ['RCTL.MPE', R.RCTL, R.RCTL_MPE],
  ['RCTL.LPE', R.RCTL, R.RCTL_LPE],
  ['RCTL.BAM', R.RCTL, R.RCTL_BAM],
  ['RCTL.VFE', R.RCTL, R.RCTL_VFE],
  ['RCTL.SECRC', R.RCTL, R.RCTL_SECRC],
  ['RXCSUM.IPOFLD', R.RXCSUM, R.RXCSUM_IPOFLD],
  ['RXCSUM.TUOFLD', R.RXCSUM, R.RXCSUM_TUOFLD],
];

export function featureNames(words: Uint32Array): string[] {
  return features.filter(([, offset, bit]) => (words[offset >> 2]! & bit) !== 0).map(([name]) => name);
}

/** A ring that is enabled and cannot be served is broken, until the driver writes other registers. */
export function ringStatus(
  ring: DescriptorRing,
  enabled: boolean,
  memory: GuestMemory | undefined,
): NicStatus['queues'][number] {
  const broken = enabled && memory !== undefined && !ring.usable(memory);
  return { size: ring.length, started: ring.length > 0, enabled, broken, availIdx: ring.head };
}
