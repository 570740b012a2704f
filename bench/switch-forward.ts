/**
 * switch-forward: frames a second through a VALE switch in memory, on one core, beside a learning
 * switch in C over the same rings of slots with the same frames.
 */
import { fileURLToPath } from 'node:url';
import { type Bench, type BenchOptions, type BenchResult, inTurn, resultOf } from './support/bench.js';
import { compileReference } from './support/cc.js';
import { measuringCpus, Worker } from './support/worker.js';

const switchWorker = fileURLToPath(new URL('./support/switch-worker.js', import.meta.url));

const cases = [
  { ports: 2, macs: 1, bytes: 64 },
  { ports: 2, macs: 1, bytes: 1514 },
  { ports: 8, macs: 32, bytes: 64 },
  { ports: 8, macs: 32, bytes: 1514 },
];

async function* run({ runs, ms, progress }: BenchOptions): AsyncGenerator<BenchResult> {
  const cpu = measuringCpus().measured;
  const program = compileReference('switch-forward.c');
  for (const params of cases) {
    progress(`${params.ports} ports, ${params.macs} addresses each, ${params.bytes} bytes`);
    const args = [params.ports, params.macs, params.bytes].map(String);
    const ours = new Worker({ command: process.execPath, args: [switchWorker, ...args], cpu });
    const reference = new Worker({ command: program, args, cpu });
    const measure = async (worker: Worker) => (await worker.ask<{ mpps: number }>(String(ms))).mpps;
    try {
      const values = await inTurn(
        runs,
        () => measure(ours),
        () => measure(reference),
      );
      yield resultOf({
        name: 'switch-forward',
        params,
        unit: 'Mpps',
        ours: values.ours,
        reference: { name: 'C', values: values.reference },
      });
    } finally {
      await ours.close();
      await reference.close();
    }
  }
}

export const switchForward: Bench = {
  name: 'switch-forward',
  summary: 'frames a second through a VALE switch in memory, beside the same loop in C',
  run,
};
