/** How large the rings of a port are to be that is made by being opened. */
import { usageError } from '../errors.js';
import { DEFAULT_SLOTS, MAX_RINGS, MAX_SLOTS, MIN_SLOTS } from './abi.js';
import type { RingSizes } from './adapter.js';
import type { NetmapPortName } from './port-name.js';

export interface NetmapOpenOptions {
  /** rings each way of a port that this makes, 1 by default */
  txRings?: number | undefined;
  rxRings?: number | undefined;
  /** slots of each, 1024 by default */
  txSlots?: number | undefined;
  rxSlots?: number | undefined;
  /** extra buffers, in a list from ni_bufs_head on; there may be fewer */
  extraBufs?: number;
  onReady?: (() => void) | undefined;
}

/** What the option @conf of a name says. */
export function confOf({ options }: NetmapPortName): Partial<NetmapOpenOptions> {
  const { conf } = options;
  if (conf === undefined) return {};
  const given = Object.entries(conf).filter(([, n]) => n > 0);
  return Object.fromEntries(given);
}

/** Throws EINVAL for numbers that there cannot be. */
export function sizesOf(name: string, options: NetmapOpenOptions): RingSizes {
  const check = (what: string, value: number, min: number, max: number): number => {
    if (Number.isInteger(value) && value >= min && value <= max) return value;
    throw usageError(`${name}: ${value} ${what}: there can be ${min} to ${max}`, name);
  };
  return {
    txRings: check('transmit rings', options.txRings ?? 1, 1, MAX_RINGS),
    rxRings: check('receive rings', options.rxRings ?? 1, 1, MAX_RINGS),
    txSlots: check('slots', options.txSlots ?? DEFAULT_SLOTS, MIN_SLOTS, MAX_SLOTS),
    rxSlots: check('slots', options.rxSlots ?? DEFAULT_SLOTS, MIN_SLOTS, MAX_SLOTS),
    hostTxRings: 0,
    hostRxRings: 0,
  };
}
