/**
 * tap: frames a second to and from an interface of the host, beside a loop in C with io_uring over an
 * interface of its own; in a network namespace made for it. Sending is measured alone; receiving with a
 * load on the other core, paused while the other of the two is measured.
 */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { enterOwnNetwork, tapsUnavailable } from '../test/support/tap.js';
import { type Bench, type BenchOptions, type BenchResult, BenchSkipped, inTurn, resultOf } from './support/bench.js';
import { compileReference } from './support/cc.js';
import { mppsOf } from './support/compare.js';
import { measuringCpus, Worker } from './support/worker.js';

const tapWorker = fileURLToPath(new URL('./support/tap-worker.js', import.meta.url));

interface Case {
  direction: 'send' | 'receive';
  bytes: number;
  /** segment size; 0: frames are complete */
  gso: number;
}

// 65226: 45 segments of 1448 bytes behind their headers
const GSO_BYTES = 65_226;
const cases: readonly Case[] = (['send', 'receive'] as const).flatMap((direction) => [
  { direction, bytes: 64, gso: 0 },
  { direction, bytes: 1500, gso: 0 },
  { direction, bytes: GSO_BYTES, gso: 1448 },
]);

/** One of the two, on an interface of its own, with its load. */
class Side {
  private constructor(
    readonly worker: Worker,
    readonly load: Worker | undefined,
  ) {}

  static async start(name: string, command: string, program: readonly string[], params: Case): Promise<Side> {
    const { measured, load } = measuringCpus();
    const { direction, bytes, gso } = params;
    execFileSync('ip', ['tuntap', 'add', name, 'mode', 'tap']);
    execFileSync('ip', ['link', 'set', name, 'up']);
    const words = [String(bytes), ...(gso > 0 ? [String(gso)] : [])];
    const worker = new Worker({ command, args: [...program, name, direction, ...words], cpu: measured });
    await worker.next();
    if (direction === 'send') return new Side(worker, undefined);
    const source = new Worker({ command: compileReference('tap-load.c'), args: [name, ...words], cpu: load });
    await source.next();
    source.pause();
    return new Side(worker, source);
  }

  async measure(ms: number): Promise<number> {
    this.load?.resume();
    try {
      return await mppsOf(this.worker, ms);
    } finally {
      this.load?.pause();
    }
  }

  async close(): Promise<void> {
    await this.load?.close();
    await this.worker.close();
  }
}

async function* run({ runs, ms, progress }: BenchOptions): AsyncGenerator<BenchResult> {
  if (tapsUnavailable) throw new BenchSkipped(tapsUnavailable);
  const program = compileReference('tap-io.c');
  enterOwnNetwork();
  execFileSync('sysctl', ['-qw', 'net.ipv6.conf.default.disable_ipv6=1']);
  for (const params of cases) {
    const { direction, bytes, gso } = params;
    progress(`${direction} ${bytes} bytes`);
    const sides: Side[] = [];
    try {
      const ours = await Side.start('ours', process.execPath, [tapWorker], params);
      sides.push(ours);
      const reference = await Side.start('reference', program, [], params);
      sides.push(reference);
      const values = await inTurn(
        runs,
        () => ours.measure(ms),
        () => reference.measure(ms),
      );
      yield resultOf({
        name: 'tap',
        params: { direction, bytes, gso: gso > 0 },
        unit: 'Mpps',
        ours: values.ours,
        reference: { name: 'C with io_uring', values: values.reference },
      });
    } finally {
      for (const side of sides) await side.close();
      for (const name of ['ours', 'reference']) execFileSync('ip', ['link', 'del', name]);
    }
  }
}

export const tap: Bench = {
  name: 'tap',
  summary: 'frames a second to and from an interface of the host, beside io_uring from C',
  run,
};
