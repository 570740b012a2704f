/**
 * port-scaling: what further ports cost, on one core, beside the same with two ports.
 *
 *   of=switch      a VALE switch in memory. Idle: two of the ports talk, the others are just there.
 *                  Busy: all send, each frame of a burst to another port.
 *   of=fabric      two vhost-user ports talk, the guests of the others are connected and silent
 */
import { fileURLToPath } from 'node:url';
import { type Bench, type BenchOptions, type BenchResult, type Comparison, inTurn, resultOf } from './support/bench.js';
import { mppsOf } from './support/compare.js';
import { VhostBench } from './support/vhost-bench.js';
import { measuringCpus, Worker } from './support/worker.js';

const switchWorker = fileURLToPath(new URL('./support/switch-worker.js', import.meta.url));

const portCounts = [16, 64, 250];
const BYTES = 64;
/** few, so that the figure is of ports and not of caches */
const SLOTS = 64;

async function* run(options: BenchOptions): AsyncGenerator<BenchResult> {
  yield* ofSwitch(options);
  yield* ofFabric(options);
}

function resultFor(params: Comparison['params'], values: { ours: number[]; reference: number[] }): BenchResult {
  return resultOf({
    name: 'port-scaling',
    params,
    unit: 'Mpps',
    ours: values.ours,
    reference: { name: '2 ports', values: values.reference },
  });
}

function startSwitch(ports: number, busy: number): Worker {
  const args = [switchWorker, ...[ports, 1, BYTES, busy, SLOTS].map(String)];
  return new Worker({ command: process.execPath, args, cpu: measuringCpus().measured });
}

async function* ofSwitch({ runs, ms, progress }: BenchOptions): AsyncGenerator<BenchResult> {
  const two = startSwitch(2, 2);
  try {
    for (const ports of portCounts)
      for (const busy of [2, ports]) {
        progress(`a switch of ${ports} ports, ${busy} of them busy`);
        const many = startSwitch(ports, busy);
        try {
          const values = await inTurn(
            runs,
            () => mppsOf(many, ms),
            () => mppsOf(two, ms),
          );
          yield resultFor({ of: 'switch', ports, busy, bytes: BYTES }, values);
        } finally {
          await many.close();
        }
      }
  } finally {
    await two.close();
  }
}

async function* ofFabric({ runs, ms, progress }: BenchOptions): AsyncGenerator<BenchResult> {
  for (const ports of portCounts) {
    const bench = await VhostBench.open();
    try {
      progress(`a fabric of ${ports} ports, 2 of them busy`);
      const many = [bench.socket('a0'), bench.socket('a1')];
      const two = [bench.socket('b0'), bench.socket('b1')];
      await bench.startFabric(many, ports - 2);
      await bench.startFabric(two);
      await bench.startGenerator([...many, ...two]);
      const values = await inTurn(
        runs,
        () => bench.measure(0, ms, BYTES),
        () => bench.measure(1, ms, BYTES),
      );
      yield resultFor({ of: 'fabric', ports, busy: 2, bytes: BYTES }, values);
    } finally {
      await bench.close();
    }
  }
}

export const portScaling: Bench = {
  name: 'port-scaling',
  summary: 'frames a second with 16, 64 and 250 ports, idle and busy, beside 2 ports',
  run,
};
