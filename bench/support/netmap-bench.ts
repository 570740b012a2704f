/** Benches over netmap rings in one thread, beside bench/reference/netmap-rings.c. */
import { fileURLToPath } from 'node:url';
import type { Bench, BenchOptions, BenchResult } from './bench.js';
import { compileReference } from './cc.js';
import { compareMpps } from './compare.js';
import { measuringCpus, Worker } from './worker.js';

const netmapWorker = fileURLToPath(new URL('./netmap-worker.js', import.meta.url));

/** of frames, in bytes; buffers have 2048: the last takes five slots (NS_MOREFRAG) */
const LENGTHS = [64, 1514, 9014];

export interface NetmapRingsBench {
  name: string;
  summary: string;
  /** what lies between the ports */
  kind: 'vale' | 'pipe';
  txPort: string;
  rxPort: string;
}

export function netmapRingsBench({ name, summary, kind, txPort, rxPort }: NetmapRingsBench): Bench {
  return {
    name,
    summary,
    async *run(options: BenchOptions): AsyncGenerator<BenchResult> {
      const cpu = measuringCpus().measured;
      const program = compileReference('netmap-rings.c');
      for (const bytes of LENGTHS) {
        options.progress(`${bytes} bytes`);
        const ours = new Worker({
          command: process.execPath,
          args: [netmapWorker, txPort, rxPort, String(bytes)],
          cpu,
        });
        const reference = new Worker({ command: program, args: [kind, String(bytes)], cpu });
        yield await compareMpps(
          { name, params: { bytes }, ours, reference: { name: 'C', worker: reference } },
          options,
        );
      }
    },
  };
}
