/**
 * tap-forward: two namespaces joined by a fabric (tap, patch, VALE switch, patch, tap), beside a C program
 * that forwards between two taps without a switch, and beside the Linux bridge between two veth pairs.
 *
 * Small datagrams a second, TCP, and round trips, between sockets of the kernel. Sender and receiver
 * share the core that does not forward.
 */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { enterOwnNetwork, tapsUnavailable } from '../test/support/tap.js';
import { type Bench, type BenchOptions, type BenchResult, BenchSkipped, inTurn, resultOf } from './support/bench.js';
import { compileReference } from './support/cc.js';
import { measuringCpus, Worker } from './support/worker.js';

const forwardWorker = fileURLToPath(new URL('./support/tap-forward-worker.js', import.meta.url));
const SERVER = '10.98.0.1';
const CLIENT = '10.98.0.2';
/** of a datagram in a frame of 64 bytes, its frame check sequence counted */
const UDP_PAYLOAD = 18;

type Measure = 'udp' | 'tcp' | 'rtt';
const units = { udp: 'Mpps', tcp: 'Gbit/s', rtt: 'us' } as const;

function ip(words: string): void {
  execFileSync('ip', words.split(' '), { stdio: ['ignore', 'ignore', 'pipe'] });
}

/** A way between two namespaces, with a socket program at either end. */
class Path {
  private constructor(
    readonly forwarder: Worker | undefined,
    readonly server: Worker,
    readonly client: Worker,
  ) {}

  /** Starts the forwarder between taps `a` and `b`, or a bridge between veth pairs, and moves their far ends away. */
  static async start(name: string, command?: readonly string[]): Promise<Path> {
    const { measured, load } = measuringCpus();
    const program = compileReference('net-load.c', ['-lpthread']);
    const end = (...args: string[]): Worker =>
      new Worker({ command: 'unshare', args: ['--net', '--', program, ...args], cpu: load });
    const ends = [`${name}a`, `${name}b`] as const;
    let forwarder: Worker | undefined;
    if (command !== undefined) {
      for (const tap of ends) ip(`tuntap add ${tap} mode tap`);
      const [first = '', ...rest] = command;
      forwarder = new Worker({ command: first, args: [...rest, ...ends], cpu: measured });
      await forwarder.next();
    } else {
      ip(`link add name ${name} type bridge`);
      ip(`link set ${name} up`);
      for (const veth of ends) {
        ip(`link add name ${veth} type veth peer name ${veth}p`);
        ip(`link set ${veth}p master ${name} up`);
      }
    }
    const server = end('server');
    await server.next();
    const client = end('client', SERVER);
    await client.next();
    adopt(server, ends[0], SERVER);
    adopt(client, ends[1], CLIENT);
    return new Path(forwarder, server, client);
  }

  async measure(what: Measure, ms: number): Promise<number> {
    if (what === 'rtt') return (await this.client.ask<{ us: number }>(`rtt ${ms}`)).us;
    const before = await this.#count();
    const start = performance.now();
    await this.client.ask(what === 'udp' ? `udp ${ms} ${UDP_PAYLOAD}` : `tcp ${ms}`);
    const seconds = (performance.now() - start) / 1000;
    const after = await this.#count();
    return what === 'udp'
      ? (after.datagrams - before.datagrams) / seconds / 1e6
      : ((after.bytes - before.bytes) * 8) / seconds / 1e9;
  }

  #count(): Promise<{ datagrams: number; bytes: number }> {
    return this.server.ask('count');
  }

  async close(): Promise<void> {
    for (const worker of [this.client, this.server, this.forwarder]) await worker?.close();
  }
}

/** Moves an interface into the namespace of a worker, and gives it an address. */
function adopt(worker: Worker, name: string, address: string): void {
  ip(`link set ${name} netns ${worker.pid}`);
  for (const words of [`addr add ${address}/24 dev ${name}`, `link set ${name} up`])
    execFileSync('nsenter', ['--net', '--target', String(worker.pid), '--', 'ip', ...words.split(' ')]);
}

async function* run({ runs, ms, progress }: BenchOptions): AsyncGenerator<BenchResult> {
  if (tapsUnavailable) throw new BenchSkipped(tapsUnavailable);
  const reference = compileReference('tap-forward.c');
  enterOwnNetwork();
  const paths: Path[] = [];
  try {
    const ours = await Path.start('nb', [process.execPath, forwardWorker]);
    paths.push(ours);
    const others = { 'C tap forwarder': await Path.start('cf', [reference]), 'Linux bridge': await Path.start('lb') };
    paths.push(...Object.values(others));
    for (const what of ['udp', 'tcp', 'rtt'] as const)
      for (const [name, other] of Object.entries(others)) {
        progress(`${what}, beside ${name}`);
        const values = await inTurn(
          runs,
          () => ours.measure(what, ms),
          () => other.measure(what, ms),
        );
        yield resultOf({
          name: 'tap-forward',
          params: { what },
          unit: units[what],
          ours: values.ours,
          reference: { name, values: values.reference },
        });
      }
  } finally {
    for (const path of paths) await path.close();
  }
}

export const tapForward: Bench = {
  name: 'tap-forward',
  summary: 'tap to tap through a VALE switch, beside a C forwarder and the Linux bridge',
  run,
};
