/** What is counted of the registers, under the NIC's name and "/virtio-pci": see docs/virtio-pci.md. */
import { counterIndices } from '../../engine/counters.js';
export const counterNames = ['notifications', 'features_refused', 'bad_reads', 'bad_writes'] as const;

/** Index of each counter in the values of the set. */
export const C = counterIndices(counterNames);
