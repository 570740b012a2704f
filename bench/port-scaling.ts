/**
 * port-scaling: what further ports of a switch cost: frames a second on one core with 2 to 250 ports,
 * beside the same switch with two. Idle: two of the ports talk, the others are just there. Busy: all
 * send, each frame of a burst to another port.
 */
import { fileURLToPath } from 'node:url';
import { type Bench, type BenchOptions, type BenchResult, inTurn, resultOf } from './support/bench.js';
import { measuringCpus, Worker } from './support/worker.js';

const switchWorker = fileURLToPath(new URL('./support/switch-worker.js', import.meta.url));

const BYTES = 64;
/** few, so that the figure is of ports and not of caches */
const SLOTS = 64;

const cases = [16, 64, 250].flatMap((ports) => [
  { ports, busy: 2 },
  { ports, busy: ports },
]);

function startSwitch(ports: number, busy: number): Worker {
  const args = [switchWorker, ...[ports, 1, BYTES, busy, SLOTS].map(String)];
  return new Worker({ command: process.execPath, args, cpu: measuringCpus().measured });
}

async function* run({ runs, ms, progress }: BenchOptions): AsyncGenerator<BenchResult> {
  const two = startSwitch(2, 2);
  const measure = async (worker: Worker) => (await worker.ask<{ mpps: number }>(String(ms))).mpps;
  try {
    for (const { ports, busy } of cases) {
      progress(`${ports} ports, ${busy} of them busy`);
      const worker = startSwitch(ports, busy);
      try {
        const values = await inTurn(
          runs,
          () => measure(worker),
          () => measure(two),
        );
        yield resultOf({
          name: 'port-scaling',
          params: { ports, busy, bytes: BYTES },
          unit: 'Mpps',
          ours: values.ours,
          reference: { name: '2 ports', values: values.reference },
        });
      } finally {
        await worker.close();
      }
    }
  } finally {
    await two.close();
  }
}

export const portScaling: Bench = {
  name: 'port-scaling',
  summary: 'frames a second with 16, 64 and 250 ports, idle and busy, beside 2 ports',
  run,
};
