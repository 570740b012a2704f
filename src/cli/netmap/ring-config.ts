/** `tx_slots[,rx_slots[,tx_rings[,rx_rings]]]`, as -C of pkt-gen and vale-ctl takes it; what is left out or 0 is the default. */
import { usageError } from '../../errors.js';

export interface RingConfig {
  txSlots?: number;
  rxSlots?: number;
  txRings?: number;
  rxRings?: number;
}

export function parseRingConfig(text: string, option: string): RingConfig {
  if (text === '') return {};
  const parts = text.split(',');
  if (parts.length > 4 || !parts.every((part) => /^\d{0,6}$/.test(part)))
    throw usageError(
      `${option} ${text}: not one to four numbers with commas`,
      text,
      'Write tx_slots[,rx_slots[,tx_rings[,rx_rings]]]; 0 or nothing is the default.',
    );
  const numberAt = (i: number) => Number(parts[i] ?? 0);
  const [txSlots, txRings] = [numberAt(0), numberAt(2)];
  const rxSlots = parts.length > 1 ? numberAt(1) : txSlots;
  const rxRings = parts.length > 3 ? numberAt(3) : txRings;
  const given = Object.entries({ txSlots, rxSlots, txRings, rxRings }).filter(([, value]) => value > 0);
  return Object.fromEntries(given);
}
