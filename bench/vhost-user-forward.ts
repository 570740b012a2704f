/**
 * vhost-user-forward: frames a second from one vhost-user port to another, on one core, beside DPDK's
 * own vhost-user forwarding (testpmd, which has no switch) on the same core, by turns. The load is
 * DPDK's virtio-user driver on another core.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Bench, type BenchOptions, type BenchResult, BenchSkipped, inTurn, resultOf } from './support/bench.js';
import { Dpdk } from './support/dpdk.js';
import { waitForFile } from './support/wait.js';
import { measuringCpus, Worker } from './support/worker.js';

const fabricWorker = fileURLToPath(new URL('./support/fabric-worker.js', import.meta.url));

const sizes = [64, 1518];
/** frame check sequence, which is counted in the usual sizes and is not there */
const FCS_LEN = 4;

async function* run(options: BenchOptions): AsyncGenerator<BenchResult> {
  if (cpus().length < 2) throw new BenchSkipped('it needs two cores: one for the load, one that is measured');
  const dpdk = await Dpdk.open();
  const dir = mkdtempSync(join(tmpdir(), 'netbe-bench-'));
  const workers: Worker[] = [];
  try {
    yield* compare(dpdk, dir, workers, options);
  } finally {
    for (const worker of workers.reverse()) await worker.close();
    rmSync(dir, { recursive: true, force: true });
  }
}

async function* compare(
  dpdk: Dpdk,
  dir: string,
  workers: Worker[],
  { runs, ms, progress }: BenchOptions,
): AsyncGenerator<BenchResult> {
  const start = (worker: Worker): Worker => {
    workers.push(worker);
    return worker;
  };
  const sockets = ['a0', 'a1', 'b0', 'b1'].map((name) => join(dir, `${name}.sock`)) as [string, string, string, string];
  const [a0, a1, b0, b1] = sockets;
  progress('connecting the generator to netbe and to DPDK');
  const fabric = start(
    new Worker({ command: process.execPath, args: [fabricWorker, a0, a1], cpu: measuringCpus().measured }),
  );
  await fabric.next();
  const forwarder = start(dpdk.startForwarder([b0, b1]));
  for (const socket of sockets) await waitForFile(socket, forwarder);
  const ports = sockets.map((socket, i) => ({ socket, mac: `02:00:00:00:00:0${i}` }));
  const generator = start(await dpdk.startGenerator(ports));

  for (const bytes of sizes) {
    progress(`${bytes} bytes`);
    const measure = async (pair: number) =>
      (await generator.ask<{ mpps: number }>(`${pair} ${ms} ${bytes - FCS_LEN}`)).mpps;
    const ours = async () => {
      forwarder.pause();
      return measure(0);
    };
    const reference = async () => {
      // ours has nothing to do, blocks, and leaves the core to it
      forwarder.resume();
      return measure(1);
    };
    const values = await inTurn(runs, ours, reference);
    yield resultOf({
      name: 'vhost-user-forward',
      params: { bytes, hugePages: dpdk.hugePages },
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
