/**
 * Counters in shared memory: one writer (the fabric thread), any number of readers, no locks.
 *
 * A counter is a double (exact to 2^53), naturally aligned, so that a reader never sees half of
 * one. A subject (a port, a switch) owns a run of consecutive counters, named when it is made.
 */
import { NetbeError } from '../errors.js';

/** Names and place of one subject's counters; plain data, sent to readers when it changes. */
export interface CounterDirectoryEntry {
  subject: string;
  names: readonly string[];
  /** index of the first counter in the page */
  first: number;
}

/** The counters of one subject. `values[i]` is the counter `names[i]`: add to it, nothing else. */
export interface CounterSet extends CounterDirectoryEntry {
  readonly values: Float64Array;
}

/** Index of each counter in the values of its subject; of some that follow others, those behind the `first` ones. */
export function counterIndices<Name extends string>(names: readonly Name[], first = 0): Record<Name, number> {
  return Object.fromEntries(names.map((name, i) => [name, first + i])) as Record<Name, number>;
}

export class CounterPage {
  readonly buffer: SharedArrayBuffer;
  readonly #sets = new Map<string, CounterSet>();
  /** called after a subject came or went, so that readers can be told */
  onDirectoryChange: (() => void) | undefined;

  constructor(readonly capacity = 64 * 1024) {
    this.buffer = new SharedArrayBuffer(capacity * Float64Array.BYTES_PER_ELEMENT);
  }

  /** A run of zeroed counters for `subject`. Throws EEXIST if it has one, ENOSPC if the page is full. */
  create(subject: string, names: readonly string[]): CounterSet {
    if (this.#sets.has(subject))
      throw new NetbeError(`counters of ${subject} exist already`, { code: 'EEXIST', subject });
    const first = this.#findRoom(names.length);
    const values = new Float64Array(this.buffer, first * 8, names.length).fill(0);
    const set: CounterSet = { subject, names, first, values };
    this.#sets.set(subject, set);
    this.onDirectoryChange?.();
    return set;
  }

  release(subject: string): void {
    if (this.#sets.delete(subject)) this.onDirectoryChange?.();
  }

  directory(): CounterDirectoryEntry[] {
    return [...this.#sets.values()].map(({ subject, names, first }) => ({ subject, names, first }));
  }

  /** First fit between the runs in use. */
  #findRoom(count: number): number {
    let at = 0;
    for (const s of [...this.#sets.values()].sort((a, b) => a.first - b.first)) {
      if (s.first - at >= count) break;
      at = s.first + s.names.length;
    }
    if (at + count > this.capacity)
      throw new NetbeError(`no room for ${count} counters: the page holds ${this.capacity}`, { code: 'ENOSPC' });
    return at;
  }
}

/** Reads every counter of a page from any thread: subject, then name, then value. */
export function readCounters(
  buffer: SharedArrayBuffer,
  directory: readonly CounterDirectoryEntry[],
): Record<string, Record<string, number>> {
  const page = new Float64Array(buffer);
  const out: Record<string, Record<string, number>> = {};
  for (const { subject, names, first } of directory)
    out[subject] = Object.fromEntries(names.map((name, i) => [name, page[first + i] as number]));
  return out;
}
