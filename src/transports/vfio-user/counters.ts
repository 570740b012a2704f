/** What is counted of a vfio-user connection, under the NIC's name and "/vfio-user": see docs/vfio-user.md. */
import { counterIndices } from '../../engine/counters.js';
export const counterNames = [
  'register_reads',
  'register_writes',
  'config_accesses',
  'requests',
  'refused',
  'interrupts',
  'dma_reads',
  'dma_writes',
  'dma_read_bytes',
  'dma_write_bytes',
  'dma_refused',
] as const;

/** Index of each counter in the values of the set. */
export const C = counterIndices(counterNames);
