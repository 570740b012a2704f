/** Counters of one virtio NIC. tx is what the guest sends, rx what it receives. */
import { counterIndices } from '../../engine/counters.js';
import { virtqueueFaults } from './virtqueue.js';

export const counterNames = [
  'tx_frames',
  'tx_bytes',
  'rx_frames',
  'rx_bytes',
  'tx_drop_malformed',
  'tx_drop_runt',
  'tx_drop_too_long',
  'tx_drop_disabled',
  'tx_drop_link_down',
  'tx_drop_backend',
  'rx_drop_not_ready',
  'rx_drop_link_down',
  'rx_drop_malformed',
  'rx_drop_too_long',
  'rx_starved',
  'interrupts',
  ...virtqueueFaults,
] as const;

/** Index of each counter in the NIC's CounterSet. */
export const C = counterIndices(counterNames);

/** Index of the counter of FAULT_AVAIL_IDX; the others follow in order. */
export const FIRST_FAULT = C.fault_avail_idx;
