/** An entry of a burst (src/memory/burst.ts), in bytes. */
export const BURST_OFF = 0;
export const BURST_LEN = 4;
export const BURST_HEAD = 8;
export const BURST_DONE = 12;
