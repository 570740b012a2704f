/**
 * netgraph-vhost-user: frames a second from one vhost-user port to another through ng_bridge, alone and in a chain of 4 and 16,
 * beside a VALE switch in the same fabric, by turns. The load is DPDK's virtio-user driver on another core.
 */
import { fileURLToPath } from 'node:url';
import { type Bench, type BenchOptions, type BenchResult, inTurn, resultOf } from './support/bench.js';
import { VhostBench } from './support/vhost-bench.js';
import { measuringCpus, Worker } from './support/worker.js';

const netgraphWorker = fileURLToPath(new URL('./support/netgraph-worker.js', import.meta.url));

const sizes = [64, 1518];
/** nodes in the chain of each pair of ports; 0: the VALE switch */
const chains = [0, 1, 4, 16];

async function* run(options: BenchOptions): AsyncGenerator<BenchResult> {
  const bench = await VhostBench.open();
  try {
    yield* compare(bench, options);
  } finally {
    await bench.close();
  }
}

async function* compare(bench: VhostBench, { runs, ms, progress }: BenchOptions): AsyncGenerator<BenchResult> {
  progress('connecting the generator');
  const sockets = chains.flatMap((_, pair) => [bench.socket(`p${pair}a`), bench.socket(`p${pair}b`)]);
  const args = [netgraphWorker, chains.join(','), ...sockets];
  const fabric = bench.keep(new Worker({ command: process.execPath, args, cpu: measuringCpus().measured }));
  await fabric.next();
  await bench.startGenerator(sockets);
  for (const bytes of sizes)
    for (const [pair, nodes] of chains.entries()) {
      if (nodes === 0) continue;
      progress(`${nodes} nodes, ${bytes} bytes`);
      const values = await inTurn(
        runs,
        () => bench.measure(pair, ms, bytes),
        () => bench.measure(0, ms, bytes),
      );
      yield resultOf({
        name: 'netgraph-vhost-user',
        params: { nodes, bytes },
        unit: 'Mpps',
        ours: values.ours,
        reference: { name: 'VALE', values: values.reference },
      });
    }
}

export const netgraphVhostUser: Bench = {
  name: 'netgraph-vhost-user',
  summary: 'frames a second through chains of ng_bridge, beside a VALE switch in the same fabric',
  run,
};
