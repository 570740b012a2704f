/** What a thread of pkt-gen has done, in memory that the reporting thread reads while it goes on. */

export const C_PKTS = 0;
export const C_BYTES = 1;
export const C_EVENTS = 2;
/** fewest free slots of the receive rings since the last report */
export const C_MIN_SPACE = 3;
/** milliseconds on the clock of performance.now() with its origin */
export const C_TIC = 4;
export const C_TOC = 5;
/** 1: it came to its end, 0: something was wrong */
export const C_COMPLETED = 6;
const COUNTERS = 8;

export const NO_MIN_SPACE = 99999;

export function makeCounterBuffer(threads: number): SharedArrayBuffer {
  return new SharedArrayBuffer(threads * COUNTERS * 8);
}

export function threadCounters(buffer: SharedArrayBuffer, thread: number): Float64Array {
  return new Float64Array(buffer, thread * COUNTERS * 8, COUNTERS);
}

export function nowMs(): number {
  return performance.timeOrigin + performance.now();
}
