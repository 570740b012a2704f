/**
 * netmap-if: 64-byte frames a second through netmap:IF on one end of a veth, received and sent, beside the
 * plain loop in C over the same kind of socket. The load comes from another core, through the other end.
 */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { hostModes } from '../src/netmap/host/host-port.js';
import { type Bench, type BenchOptions, type BenchResult, BenchSkipped } from './support/bench.js';
import { compileReference } from './support/cc.js';
import { compareMpps } from './support/compare.js';
import { measuringCpus, Worker } from './support/worker.js';

const ourWorker = fileURLToPath(new URL('./support/netmap-if-worker.js', import.meta.url));

async function* run(options: BenchOptions): AsyncGenerator<BenchResult> {
  if (process.getuid?.() !== 0) throw new BenchSkipped('interfaces and namespaces need root');
  const program = compileReference('netmap-if.c');
  // the namespace goes with this process
  const holder = new Worker({ command: 'unshare', args: ['--net', '--', 'sh', '-c', 'echo {}; exec cat'] });
  const inside = (command: string, args: readonly string[]) => ({
    command: 'nsenter',
    args: ['--net', '--target', String(holder.pid), '--', command, ...args],
  });
  try {
    await holder.next();
    const setUp = inside('sh', ['-c', setUpVeth]);
    execFileSync(setUp.command, setUp.args, { stdio: ['ignore', 'ignore', 'inherit'] });
    const { measured, load } = measuringCpus();
    for (const direction of ['rx', 'tx'])
      for (const mode of hostModes) {
        options.progress(`${direction}, ${mode}`);
        const generator =
          direction === 'rx' ? new Worker({ ...inside(program, ['load', 'packet', 'bm1']), cpu: load }) : undefined;
        try {
          await generator?.next();
          const args = [direction, mode, 'bm0'];
          const ours = new Worker({ ...inside(process.execPath, [ourWorker, ...args]), cpu: measured });
          const reference = { name: 'C', worker: new Worker({ ...inside(program, args), cpu: measured }) };
          const params = { direction, mode, bytes: 64 };
          yield await compareMpps({ name: 'netmap-if', params, ours, reference }, options);
        } finally {
          generator?.kill();
          await generator?.close();
        }
      }
  } finally {
    await holder.close();
  }
}

const setUpVeth = [
  'echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6',
  'ip link add bm0 type veth peer name bm1',
  'ip link set bm0 up',
  'ip link set bm1 up',
].join(' && ');

export const netmapIf: Bench = {
  name: 'netmap-if',
  summary: 'frames a second through netmap:IF on a veth, beside the same loops in C',
  run,
};
