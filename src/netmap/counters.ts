/** Counters of the rings of a netmap port; tx is what its user sends. */
import { counterIndices } from '../engine/counters.js';

export const ringCounterNames = [
  'tx_frames',
  'rx_frames',
  'rx_drop_full',
  'rx_drop_bad_slot',
  'tx_drop_bad_slot',
  'tx_drop_unfinished',
  'tx_drop_too_many_frags',
  'tx_drop_indirect',
  'tx_drop_not_attached',
  'ring_reinits',
  'forwarded',
  'forward_drops',
  'monitor_slots',
  'monitor_drops',
] as const;

/** Index of each. */
export const R = counterIndices(ringCounterNames);
