/**
 * netgraph-forward: frames a second between two netgraph backends in memory, on one core, through one bridge
 * and through chains of nodes, beside a VALE switch with the same users and frames.
 */
import { fileURLToPath } from 'node:url';
import type { Bench, BenchOptions, BenchResult } from './support/bench.js';
import { compareMpps } from './support/compare.js';
import { measuringCpus, Worker } from './support/worker.js';

const backendWorker = fileURLToPath(new URL('./support/backend-worker.js', import.meta.url));

const cases = [
  { type: 'bridge', nodes: 1, bytes: 64 },
  { type: 'bridge', nodes: 1, bytes: 1514 },
  { type: 'bridge', nodes: 4, bytes: 64 },
  { type: 'bridge', nodes: 16, bytes: 64 },
  { type: 'hub', nodes: 1, bytes: 64 },
  { type: 'tee', nodes: 1, bytes: 64 },
  { type: 'tee', nodes: 4, bytes: 64 },
  { type: 'tee', nodes: 16, bytes: 64 },
];

async function* run(options: BenchOptions): AsyncGenerator<BenchResult> {
  const cpu = measuringCpus().measured;
  const worker = (...args: (string | number)[]) =>
    new Worker({ command: process.execPath, args: [backendWorker, ...args.map(String)], cpu });
  for (const params of cases) {
    options.progress(`${params.nodes} ${params.type}, ${params.bytes} bytes`);
    const ours = worker(params.type, params.bytes, params.nodes);
    const vale = worker('vale', params.bytes);
    yield await compareMpps(
      { name: 'netgraph-forward', params, ours, reference: { name: 'VALE', worker: vale } },
      options,
    );
  }
}

export const netgraphForward: Bench = {
  name: 'netgraph-forward',
  summary: 'frames a second through netgraph nodes in memory, beside a VALE switch',
  run,
};
