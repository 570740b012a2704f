/**
 * vfio-user-registers: register accesses over vfio-user, answered by netbe's e1000 and by a server in C that does nothing but
 * answer (reference/vfio-user-server.c), by turns.
 *
 * Made by a program in a guest, of which both are devices, so that all but the server is the same: program, guest, QEMU's
 * client. And by a client that never sleeps, which leaves the servers' own time.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { startQemu, vfioUserDevice } from '../test/support/guest/qemu.js';
import { type Bench, type BenchOptions, type BenchResult, inTurn, resultOf } from './support/bench.js';
import { compileReference } from './support/cc.js';
import { staticForGuests } from './support/guest-nic.js';
import { QEMU11_GUEST, setUpGuests } from './support/set-up.js';
import { measuringCpus, Worker, type WorkerCommand } from './support/worker.js';

/** Makes accesses for `ms` milliseconds; returns how many thousand a second it made. */
type Access = (what: 'read' | 'write', ms: number) => Promise<number>;

/** Sockets of netbe and of the reference. */
interface Pair {
  ours: string;
  reference: string;
}

const e1000Worker = fileURLToPath(new URL('./support/e1000-worker.js', import.meta.url));
/** where the reference is plugged in */
const SLOT = '10';

async function* run(options: BenchOptions): AsyncGenerator<BenchResult> {
  const server = compileReference('vfio-user-server.c');
  const client = compileReference('vfio-user-client.c');
  const load = compileReference('e1000-load.c', staticForGuests);
  await setUpGuests(QEMU11_GUEST);
  const dir = mkdtempSync(join(tmpdir(), 'netbe-bench-'));
  const workers: Worker[] = [];
  const start = (command: WorkerCommand): Worker => {
    const worker = new Worker(command);
    workers.push(worker);
    return worker;
  };
  const pairOf = (name: string): Pair => ({ ours: join(dir, `${name}.sock`), reference: join(dir, `${name}-c.sock`) });
  const pairs = [pairOf('client'), pairOf('guest')] as const;
  try {
    const cpu = measuringCpus().measured;
    await start({ command: process.execPath, args: [e1000Worker, ...pairs.map(({ ours }) => ours)], cpu }).next();
    for (const { reference } of pairs) await start({ command: server, args: [reference], cpu }).next();
    yield* fromClient(
      pairs[0],
      (socket) => start({ command: client, args: [socket], cpu: measuringCpus().load }),
      options,
    );
    yield* fromGuest(pairs[1], load, options);
  } finally {
    // clients first: the servers in C end with them
    for (const worker of workers.reverse()) await worker.close();
    rmSync(dir, { recursive: true, force: true });
  }
}

async function* fromClient(
  { ours, reference }: Pair,
  connect: (socket: string) => Worker,
  options: BenchOptions,
): AsyncGenerator<BenchResult> {
  const access = (socket: string): Access => {
    const client = connect(socket);
    return async (what, ms) => (await client.ask<{ kps: number }>(`${what} ${ms}`)).kps;
  };
  yield* compare('a client that polls', access(ours), access(reference), options);
}

async function* fromGuest({ ours, reference }: Pair, load: string, options: BenchOptions): AsyncGenerator<BenchResult> {
  options.progress('booting a guest');
  await using guest = await startQemu({
    program: 'qemu11',
    nics: [{ socket: ours, transport: 'vfio-user' }],
    extraArgs: ['-device', JSON.stringify({ ...vfioUserDevice({ socket: reference }, 'reference'), addr: SLOT })],
    programs: { 'e1000-load': load },
    // programs may map registers that a driver uses
    parameters: 'iomem=relaxed',
  });
  const access =
    (device: string): Access =>
    async (what, ms) =>
      Number(await guest.sh(`e1000-load ${device} ${what} ${ms}`, ms + 30_000)) / 1e3;
  const address = `0000:00:${SLOT}.0`;
  await guest.sh(`echo 1 >/sys/bus/pci/devices/${address}/enable`);
  yield* compare('a QEMU guest', access('eth0'), access(address), options);
}

async function* compare(
  from: string,
  ours: Access,
  reference: Access,
  { runs, ms, progress }: BenchOptions,
): AsyncGenerator<BenchResult> {
  for (const what of ['read', 'write'] as const) {
    progress(`register ${what}s, ${from}`);
    const values = await inTurn(
      runs,
      () => ours(what, ms),
      () => reference(what, ms),
    );
    yield resultOf({
      name: 'vfio-user-registers',
      params: { what: `register ${what}s`, from },
      unit: 'k/s',
      ours: values.ours,
      reference: { name: 'a server in C', values: values.reference },
    });
  }
}

export const vfioUserRegisters: Bench = {
  name: 'vfio-user-registers',
  summary: 'register accesses over vfio-user, of a guest and of a client that polls, beside a server in C',
  run,
};
