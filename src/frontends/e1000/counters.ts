/** Counters of one e1000 NIC, for people; the controller's own statistics are registers (statistics.ts). */

export const counterNames = [
  'tx_frames',
  'tx_bytes',
  'rx_frames',
  'rx_bytes',
  'tx_offloaded',
  'tx_checksums',
  'tx_frames_segmented',
  'tx_segments',
  'tx_drop_link_down',
  'tx_drop_runt',
  'tx_drop_too_long',
  'tx_drop_segmentation',
  'tx_drop_backend',
  'rx_drop_disabled',
  'rx_drop_link_down',
  'rx_drop_loopback',
  'rx_drop_address',
  'rx_drop_vlan',
  'rx_drop_pause',
  'rx_drop_too_long',
  'rx_drop_backend',
  'rx_starved',
  'interrupts',
  'resets',
  'register_reads',
  'register_writes',
  'fault_register',
  'fault_tx_ring',
  'fault_tx_dma',
  'fault_tx_type',
  'fault_tx_mixed',
  'fault_tx_unfinished',
  'fault_tx_address',
  'fault_tx_pieces',
  'fault_tx_checksum',
  'fault_tx_segmentation',
  'fault_rx_ring',
  'fault_rx_dma',
  'fault_rx_address',
] as const;

type CounterName = (typeof counterNames)[number];

/** Index of each counter in the NIC's CounterSet. */
export const C = Object.fromEntries(counterNames.map((name, i) => [name, i])) as Record<CounterName, number>;
