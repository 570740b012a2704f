/**
 * switch-forward: frames a second through a VALE switch in memory, on one core, beside a learning
 * switch in C over the same rings of slots with the same frames.
 */
import { fileURLToPath } from 'node:url';
import type { Bench, BenchOptions, BenchResult } from './support/bench.js';
import { compileReference } from './support/cc.js';
import { compareMpps } from './support/compare.js';
import { measuringCpus, Worker } from './support/worker.js';

const switchWorker = fileURLToPath(new URL('./support/switch-worker.js', import.meta.url));

const cases = [
  { ports: 2, macs: 1, bytes: 64 },
  { ports: 2, macs: 1, bytes: 1514 },
  { ports: 8, macs: 32, bytes: 64 },
  { ports: 8, macs: 32, bytes: 1514 },
];

async function* run(options: BenchOptions): AsyncGenerator<BenchResult> {
  const cpu = measuringCpus().measured;
  const program = compileReference('switch-forward.c');
  for (const params of cases) {
    options.progress(`${params.ports} ports, ${params.macs} addresses each, ${params.bytes} bytes`);
    const args = [params.ports, params.macs, params.bytes].map(String);
    const ours = new Worker({ command: process.execPath, args: [switchWorker, ...args], cpu });
    const reference = new Worker({ command: program, args, cpu });
    yield await compareMpps(
      { name: 'switch-forward', params, ours, reference: { name: 'C', worker: reference } },
      options,
    );
  }
}

export const switchForward: Bench = {
  name: 'switch-forward',
  summary: 'frames a second through a VALE switch in memory, beside the same loop in C',
  run,
};
