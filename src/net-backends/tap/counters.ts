/** Counters of a tap. tx is what the backend's user sends to the host, rx what the host sends to it. */
import { counterIndices } from '../../engine/counters.js';
import { E, EBADFD } from '../../sys/libc.js';
import { vnetFaultNames } from '../../wire/vnet-header.js';

const txVnetDrops = vnetFaultNames.slice(1).map((name) => `tx_drop_${name}` as const);
const rxVnetDrops = vnetFaultNames.slice(1).map((name) => `rx_drop_${name}` as const);

const ownNames = [
  'rx_no_space',
  'rx_discarded',
  'rx_drop_runt',
  'rx_drop_too_long',
  'rx_read_errors',
  'tx_drop_runt',
  'tx_drop_too_long',
  'tx_drop_down',
  'tx_drop_gone',
  'tx_drop_refused',
  'tx_drop_full',
  'tx_drop_error',
  'interface_lost',
  'interface_changes',
] as const;

export const tapCounterNames: readonly string[] = [...ownNames, ...txVnetDrops, ...rxVnetDrops];

/** Index of each of a tap's own counters. */
export const T = counterIndices(ownNames);
/** verdict v > 0 of checkVnetHeader is counted at TX_VNET_DROPS + v, or at RX_VNET_DROPS + v */
export const TX_VNET_DROPS = ownNames.length - 1;
export const RX_VNET_DROPS = TX_VNET_DROPS + txVnetDrops.length;

// as drivers/net/tun.c returns them; EBADFD: the interface has been deleted
const { EIO, EINVAL, EAGAIN, ENOMEM, ENOBUFS } = E;

/** Counter for a frame whose writing failed with this error number. */
export function writeErrorCounter(no: number): number {
  if (no === EIO) return T.tx_drop_down;
  if (no === EBADFD) return T.tx_drop_gone;
  if (no === EINVAL) return T.tx_drop_refused;
  if (no === EAGAIN || no === ENOMEM || no === ENOBUFS) return T.tx_drop_full;
  return T.tx_drop_error;
}
