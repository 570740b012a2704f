/**
 * netmap-pkt-gen: frames a second from netbe pkt-gen -f tx to -f rx, over a VALE switch and over a pipe, in two
 * threads of a process and in two processes, beside two threads and two processes in C with the same rings. The
 * fabric's work is done in the receiver's thread.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Bench, type BenchOptions, type BenchResult, inTurn, resultOf } from './support/bench.js';
import { compileReference } from './support/cc.js';
import { mppsOf } from './support/compare.js';
import { Worker } from './support/worker.js';

const pktGenWorker = fileURLToPath(new URL('./support/pkt-gen-worker.js', import.meta.url));

/** bytes of a frame, and the slots that it is cut into */
const frames = [
  { bytes: 64, frags: 1 },
  { bytes: 1514, frags: 1 },
  { bytes: 9014, frags: 5 },
] as const;

const cases = (['vale', 'pipe'] as const).flatMap((over) =>
  (['processes', 'threads'] as const).flatMap((two) => frames.map((frame) => ({ over, two, ...frame }))),
);
type Case = (typeof cases)[number];

/** netbe's two ends: the one that is asked, and one that only sends. */
async function startOurs({ over, two, bytes, frags }: Case, dir: string): Promise<Worker[]> {
  const socket = join(dir, 'p.netmap');
  const [rx, tx] = over === 'vale' ? ['vale0:r', 'vale0:s'] : ['netmap:p}1', 'netmap:p{1'];
  const roles = [`rx=${rx}`, `tx=${tx},${bytes},${frags}`];
  const start = async (args: string[]): Promise<Worker> => {
    const worker = new Worker({
      command: process.execPath,
      args: [pktGenWorker, socket, ...args],
    });
    await worker.next<{ ready: boolean }>();
    return worker;
  };
  if (two === 'threads') return [await start(roles)];
  return [await start(roles.slice(0, 1)), await start(roles.slice(1))];
}

async function* run({ runs, ms, progress }: BenchOptions): AsyncGenerator<BenchResult> {
  const program = compileReference('netmap-pkt-gen.c', ['-pthread']);
  for (const params of cases) {
    const { over, two, bytes, frags } = params;
    progress(`${over}, two ${two}, ${bytes} bytes in ${frags} slots`);
    const dir = mkdtempSync(join(tmpdir(), 'netbe-bench-'));
    const reference = new Worker({ command: program, args: [over, two, String(bytes), String(frags)] });
    // who waits takes no time from who is measured
    reference.pause();
    const ours: Worker[] = [];
    const measure = async (measured: Worker, others: Worker[]) => {
      for (const worker of [measured, ...others]) worker.resume();
      const mpps = await mppsOf(measured, ms);
      for (const worker of [measured, ...others]) worker.pause();
      return mpps;
    };
    try {
      ours.push(...(await startOurs(params, dir)));
      const [first, ...others] = ours as [Worker, ...Worker[]];
      const values = await inTurn(
        runs,
        () => measure(first, others),
        () => measure(reference, []),
      );
      yield resultOf({
        name: 'netmap-pkt-gen',
        params,
        unit: 'Mpps',
        ours: values.ours,
        reference: { name: 'C', values: values.reference },
      });
    } finally {
      // the sender first: its fabric is the other one's
      for (const worker of [...ours.reverse(), reference]) await worker.close();
      rmSync(dir, { recursive: true, force: true });
    }
  }
}

export const netmapPktGen: Bench = {
  name: 'netmap-pkt-gen',
  summary: 'pkt-gen tx to rx over VALE and over a pipe, two threads and two processes, beside C',
  run,
};
