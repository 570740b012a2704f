/**
 * vhost-user-forward: frames a second from one vhost-user port to another, on one core, beside DPDK's
 * own vhost-user forwarding (testpmd, which has no switch) on the same core, by turns. The load is
 * DPDK's virtio-user driver on another core.
 */
import { type Bench, type BenchOptions, type BenchResult, inTurn, resultOf } from './support/bench.js';
import { VhostBench } from './support/vhost-bench.js';
import { waitForFile } from './support/wait.js';

const sizes = [64, 1518];

async function* run(options: BenchOptions): AsyncGenerator<BenchResult> {
  const bench = await VhostBench.open();
  try {
    yield* compare(bench, options);
  } finally {
    await bench.close();
  }
}

async function* compare(bench: VhostBench, { runs, ms, progress }: BenchOptions): AsyncGenerator<BenchResult> {
  progress('connecting the generator to netbe and to DPDK');
  const ours: [string, string] = [bench.socket('a0'), bench.socket('a1')];
  const theirs: [string, string] = [bench.socket('b0'), bench.socket('b1')];
  await bench.startFabric(ours);
  const forwarder = bench.keep(bench.dpdk.startForwarder(theirs));
  for (const socket of theirs) await waitForFile(socket, forwarder);
  await bench.startGenerator([...ours, ...theirs]);

  for (const bytes of sizes) {
    progress(`${bytes} bytes`);
    const values = await inTurn(
      runs,
      () => {
        forwarder.pause();
        return bench.measure(0, ms, bytes);
      },
      () => {
        // ours has nothing to do, blocks, and leaves the core to it
        forwarder.resume();
        return bench.measure(1, ms, bytes);
      },
    );
    yield resultOf({
      name: 'vhost-user-forward',
      params: { bytes, hugePages: bench.dpdk.hugePages },
      unit: 'Mpps',
      ours: values.ours,
      reference: { name: 'DPDK testpmd io', values: values.reference },
    });
  }
}

export const vhostUserForward: Bench = {
  name: 'vhost-user-forward',
  summary: "frames a second between two vhost-user ports, beside DPDK's own forwarding",
  run,
};
