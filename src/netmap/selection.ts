/** Which rings of a port a name asks for (nr_mode, nr_ringid, NR_EXCLUSIVE and the like). */
import { NetbeError } from '../errors.js';
import {
  NR_EXCLUSIVE,
  NR_REG_NIC_SW,
  NR_REG_ONE_NIC,
  NR_REG_ONE_SW,
  NR_REG_SW,
  NR_RX_RINGS_ONLY,
  NR_TX_RINGS_ONLY,
} from './abi-register.js';
import type { NetmapAdapter } from './adapter.js';
import type { KRing } from './kring.js';
import type { RingSelection } from './port.js';
import { type NetmapPortName, portNameError } from './port-name.js';

/** Throws a usage error that points at the part that cannot be had, EBUSY where another user is in the way. */
export function selectRings(adapter: NetmapAdapter, name: NetmapPortName): RingSelection {
  const { tx, rx } = ringsOfMode(adapter, name);
  const selection = {
    tx: (name.flags & NR_RX_RINGS_ONLY) !== 0 ? [] : tx,
    rx: (name.flags & NR_TX_RINGS_ONLY) !== 0 ? [] : rx,
  };
  const wanted = [...selection.tx, ...selection.rx];
  if (wanted.length === 0) throw portNameError(name, 'mode', `${adapter.name} has no such rings`);
  const exclusive = (name.flags & NR_EXCLUSIVE) !== 0;
  // rings that are synced through a CSB have one user
  const taken = wanted.find((kring) => kring.exclusive || kring.csb !== undefined || (exclusive && kring.users > 0));
  if (taken !== undefined)
    throw new NetbeError(
      `${name.text}: ring ${taken.ringId} ${taken.csb !== undefined ? 'has a user in another process' : taken.exclusive ? 'has a user who wants it alone' : 'has a user already'}`,
      { code: 'EBUSY', kind: 'usage', subject: name.text, remedy: 'Open other rings, or close the other user.' },
    );
  return selection;
}

/** The rings of `adapter` that a monitor of that name watches. */
export function ringsToWatch(adapter: NetmapAdapter, name: NetmapPortName): RingSelection {
  const selection = ringsOfMode(adapter, name);
  if (selection.tx.length + selection.rx.length === 0)
    throw portNameError(name, 'mode', `${adapter.name} has no such rings`);
  return selection;
}

function ringsOfMode(adapter: NetmapAdapter, name: NetmapPortName): RingSelection {
  const { txKrings, rxKrings, hostTxKrings, hostRxKrings } = adapter;
  switch (name.mode) {
    case NR_REG_ONE_NIC:
      return oneRing(txKrings, rxKrings, name);
    case NR_REG_ONE_SW:
      return oneRing(hostTxKrings, hostRxKrings, name);
    case NR_REG_SW:
      return { tx: hostTxKrings, rx: hostRxKrings };
    case NR_REG_NIC_SW:
      return { tx: [...txKrings, ...hostTxKrings], rx: [...rxKrings, ...hostRxKrings] };
    default:
      return { tx: txKrings, rx: rxKrings };
  }
}

function oneRing(tx: readonly KRing[], rx: readonly KRing[], name: NetmapPortName): RingSelection {
  const { ringId } = name;
  if (ringId >= tx.length && ringId >= rx.length)
    throw portNameError(name, 'mode', `there are rings 0 to ${Math.max(tx.length, rx.length) - 1}`);
  return { tx: tx.slice(ringId, ringId + 1), rx: rx.slice(ringId, ringId + 1) };
}
