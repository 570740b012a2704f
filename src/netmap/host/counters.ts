/** Counters of a port on an interface of the host. tx is what comes from the port's user, rx what goes to it. */
import { counterIndices } from '../../engine/counters.js';
import { segmentFaultNames } from '../../wire/segmentation.js';
import { vnetFaultNames } from '../../wire/vnet-header.js';

const vnetDrops = vnetFaultNames.slice(1).map((name) => `tx_drop_${name}` as const);
const segmentDrops = segmentFaultNames.slice(1).map((name) => `tx_drop_${name}` as const);

/** without those for a virtio-net header that breaks a rule */
export const ownHostCounterNames = [
  'rx_frames',
  'tx_frames',
  'rx_no_space',
  'rx_discarded',
  // counted by the kernel: the receive ring was full; no buffer was free, or the frame was longer than one
  'rx_drop_ring_full',
  'rx_drop_no_buffer',
  'rx_drop_runt',
  'rx_drop_too_long',
  'rx_drop_vnet_header',
  'rx_drop_gso',
  'rx_checksums_completed',
  'rx_frames_segmented',
  'tx_full',
  'tx_drop_runt',
  'tx_drop_too_long',
  'tx_drop_link_down',
  'tx_drop_refused',
  'tx_drop_invalid',
  'tx_drop_too_big_to_segment',
  'tx_checksums_completed',
  'tx_frames_segmented',
  'link_changes',
] as const;

export const hostCounterNames: readonly string[] = [...ownHostCounterNames, ...vnetDrops, ...segmentDrops];

/** Index of each of a port's own counters. */
export const H = counterIndices(ownHostCounterNames);
/** verdict v > 0 of checkVnetHeader is counted at VNET_DROPS + v */
export const VNET_DROPS = ownHostCounterNames.length - 1;
/** verdict v > 0 of Segmenter.begin is counted at SEGMENT_DROPS + v */
export const SEGMENT_DROPS = VNET_DROPS + vnetDrops.length;
