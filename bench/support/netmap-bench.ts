/** Benches over netmap rings in one thread, beside bench/reference/netmap-rings.c. */
import { fileURLToPath } from 'node:url';
import { type Bench, type BenchOptions, type BenchResult, inTurn, resultOf } from './bench.js';
import { compileReference } from './cc.js';
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
    async *run({ runs, ms, progress }: BenchOptions): AsyncGenerator<BenchResult> {
      const cpu = measuringCpus().measured;
      const program = compileReference('netmap-rings.c');
      for (const bytes of LENGTHS) {
        progress(`${bytes} bytes`);
        const ours = new Worker({
          command: process.execPath,
          args: [netmapWorker, txPort, rxPort, String(bytes)],
          cpu,
        });
        const reference = new Worker({ command: program, args: [kind, String(bytes)], cpu });
        const measure = async (worker: Worker) => (await worker.ask<{ mpps: number }>(String(ms))).mpps;
        try {
          const values = await inTurn(
            runs,
            () => measure(ours),
            () => measure(reference),
          );
          yield resultOf({
            name,
            params: { bytes },
            unit: 'Mpps',
            ours: values.ours,
            reference: { name: 'C', values: values.reference },
          });
        } finally {
          await ours.close();
          await reference.close();
        }
      }
    },
  };
}
