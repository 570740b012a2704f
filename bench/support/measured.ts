/** The measured side of a bench in memory: a process that is asked on its standard input, and bursts that lie ready. */
import { createInterface } from 'node:readline';
import type { Runtime } from '../../src/engine/runtime.js';
import { BURST_ENTRIES, Burst } from '../../src/memory/burst.js';

/** Answers each line "MS" with the {"mpps":N} measured, and ends the process with its input. */
export async function answerMpps(measure: (ms: number) => number): Promise<never> {
  for await (const line of createInterface({ input: process.stdin }))
    process.stdout.write(`${JSON.stringify({ mpps: measure(Number(line)) })}\n`);
  process.exit(0);
}

/** `slots` slots of `slotBytes` from `off` on as bursts, of whose slots `len` bytes are in use. */
export function burstsOver(
  { windows }: Runtime,
  off: number,
  { slots, slotBytes, len }: { slots: number; slotBytes: number; len: number },
): Burst[] {
  return Array.from({ length: slots / BURST_ENTRIES }, (_, k) => {
    const burst = new Burst(windows);
    const words = new Uint32Array(burst.window.u8.buffer, burst.off, BURST_ENTRIES * 4);
    for (let i = 0; i < BURST_ENTRIES; i++) words.set([off + (k * BURST_ENTRIES + i) * slotBytes, len], i * 4);
    return burst;
  });
}
