/**
 * What the names of a NIC's counters say: `tx_` is from the guest, `rx_` towards it; then `frames`,
 * `bytes`, or `drop_REASON` for each way to lose a frame.
 */
import type { Counters } from './fabric-types.js';

export interface CounterMeaning {
  direction: 'tx' | 'rx';
  what: 'frames' | 'bytes' | 'drops' | 'events';
  /** of a drop: "no_buffers"; of an event: its name */
  reason: string;
}

/** "rx_drop_no_buffers" is a drop, towards the guest, for the reason "no_buffers". */
export function meaningOf(counter: string): CounterMeaning | undefined {
  const match = /^(tx|rx)_(.+)$/.exec(counter);
  if (!match) return undefined;
  const direction = match[1] as 'tx' | 'rx';
  const rest = match[2] as string;
  if (rest === 'frames' || rest === 'bytes') return { direction, what: rest, reason: '' };
  const drop = /^drop_(.+)$/.exec(rest);
  return drop ? { direction, what: 'drops', reason: drop[1] as string } : { direction, what: 'events', reason: rest };
}

export interface PortTotals {
  txFrames: number;
  txBytes: number;
  rxFrames: number;
  rxBytes: number;
  /** frames lost, both ways */
  drops: number;
  /** counter name, then frames, of those that are not 0 */
  dropsByName: Record<string, number>;
}

/**
 * The sums of a NIC and of the backend that it is plugged into, which keeps counters under its device
 * string: a frame that the NIC sent may still be dropped by the switch.
 */
export function nicTotals(counters: Counters, nic: { name: string; backend: string }): PortTotals {
  const own = counters[nic.name] ?? {};
  const backend = counters[nic.backend] ?? {};
  const dropsByName: Record<string, number> = {};
  for (const [name, n] of [...Object.entries(own), ...Object.entries(backend)])
    if (n > 0 && meaningOf(name)?.what === 'drops') dropsByName[name] = (dropsByName[name] ?? 0) + n;
  const { tx_frames = 0, tx_bytes = 0, rx_frames = 0, rx_bytes = 0 } = own;
  return {
    txFrames: tx_frames,
    txBytes: tx_bytes,
    rxFrames: rx_frames,
    rxBytes: rx_bytes,
    drops: Object.values(dropsByName).reduce((sum, n) => sum + n, 0),
    dropsByName,
  };
}
