/** What the benches share that send DPDK's frames through vhost-user ports. */
import { mkdtempSync, rmSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { BenchSkipped } from './bench.js';
import { Dpdk } from './dpdk.js';
import { measuringCpus, Worker } from './worker.js';

const fabricWorker = fileURLToPath(new URL('./fabric-worker.js', import.meta.url));

/** frame check sequence, which is counted in the usual sizes and is not there */
const FCS_LEN = 4;

/** A folder for sockets and the processes around them; all of it goes with close(). */
export class VhostBench {
  readonly dpdk: Dpdk;
  readonly #dir = mkdtempSync(join(tmpdir(), 'netbe-bench-'));
  readonly #workers: Worker[] = [];
  #generator: Worker | undefined;

  private constructor(dpdk: Dpdk) {
    this.dpdk = dpdk;
  }

  /** Throws BenchSkipped where there is no DPDK, or only one core. */
  static async open(): Promise<VhostBench> {
    if (cpus().length < 2) throw new BenchSkipped('it needs two cores: one for the load, one that is measured');
    return new VhostBench(await Dpdk.open());
  }

  socket(name: string): string {
    return join(this.#dir, `${name}.sock`);
  }

  /** Has close() end it. */
  keep(worker: Worker): Worker {
    this.#workers.push(worker);
    return worker;
  }

  /** A fabric on the measured core with a NIC for each socket and `idle` further ones. */
  async startFabric(sockets: readonly string[], idle = 0): Promise<void> {
    const args = [fabricWorker, String(idle), ...sockets];
    const fabric = this.keep(new Worker({ command: process.execPath, args, cpu: measuringCpus().measured }));
    await fabric.next();
  }

  /** Connects the generator: to each two sockets a pair of ports. */
  async startGenerator(sockets: readonly string[]): Promise<void> {
    const ports = sockets.map((socket, i) => ({ socket, mac: `02:00:00:00:00:0${i}` }));
    this.#generator = this.keep(await this.dpdk.startGenerator(ports));
  }

  /** Mpps from the first port of a pair to the second; `bytes` with frame check sequence. */
  async measure(pair: number, ms: number, bytes: number): Promise<number> {
    const { mpps } = await this.#generator!.ask<{ mpps: number }>(`${pair} ${ms} ${bytes - FCS_LEN}`);
    return mpps;
  }

  async close(): Promise<void> {
    // the generator first: the others then see their peers go, as in life
    for (const worker of this.#workers.reverse()) await worker.close();
    rmSync(this.#dir, { recursive: true, force: true });
  }
}
