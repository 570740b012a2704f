/** Counters that a node's messages report: a structure of 64-bit ones, each a double until it is asked for. */

import { counterIndices } from '../../engine/counters.js';
import { struct } from '../parse/composites.js';
import { type ParseType, pack } from '../parse/parse-type.js';
import { uint64 } from '../parse/scalars.js';

export class StatsLayout<Name extends string> {
  readonly type: ParseType<Record<string, bigint | number>>;
  /** index of each counter */
  readonly at: Readonly<Record<Name, number>>;

  constructor(readonly names: readonly Name[]) {
    this.type = struct(Object.fromEntries(names.map((name) => [name, uint64])));
    this.at = counterIndices(names);
  }

  create(): Float64Array {
    return new Float64Array(this.names.length);
  }

  toValue(stats: Float64Array): Record<string, number> {
    return Object.fromEntries(this.names.map((name, i) => [name, stats[i] as number]));
  }

  pack(stats: Float64Array): Uint8Array {
    return pack(this.type, this.toValue(stats));
  }
}
