/** Counters of a VALE port and of a VALE switch. tx is what comes from the port's user, rx what goes to it. */
import { counterIndices } from '../../engine/counters.js';
import { segmentFaultNames } from '../../wire/segmentation.js';
import { vnetFaultNames } from '../../wire/vnet-header.js';

const vnetDrops = vnetFaultNames.slice(1).map((name) => `tx_drop_${name}` as const);
const segmentDrops = segmentFaultNames.slice(1).map((name) => `tx_drop_${name}` as const);

const ownPortNames = [
  'rx_queued',
  'rx_drop_full',
  'rx_no_space',
  'rx_discarded',
  'tx_drop_runt',
  'tx_drop_too_long',
  'tx_drop_self',
  'tx_drop_no_port',
  'tx_drop_loop',
  'tx_drop_too_big_to_segment',
  'tx_checksums_completed',
  'tx_frames_segmented',
  'tx_segments',
] as const;

export const portCounterNames: readonly string[] = [...ownPortNames, ...vnetDrops, ...segmentDrops];

/** Index of each of a port's own counters. */
export const P = counterIndices(ownPortNames);
/** verdict v > 0 of checkVnetHeader is counted at VNET_DROPS + v */
export const VNET_DROPS = ownPortNames.length - 1;
/** verdict v > 0 of Segmenter.begin is counted at SEGMENT_DROPS + v */
export const SEGMENT_DROPS = VNET_DROPS + vnetDrops.length;

export const switchCounterNames = [
  'unicast',
  'flooded_unknown',
  'flooded_multicast',
  'learned',
  'moved',
  'evicted',
] as const;
export const S = counterIndices(switchCounterNames);
