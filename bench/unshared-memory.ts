/**
 * unshared-memory: virtio-net and e1000 over vfio-user in a guest whose memory QEMU does not share, so that every descriptor and
 * frame comes and goes by messages, beside the same NICs in a guest that shares it. Each NIC is on a tap of the host.
 */
import { Lab } from '../test/support/guest/lab.js';
import { enterOwnNetwork, tapsUnavailable } from '../test/support/tap.js';
import { type Bench, type BenchOptions, type BenchResult, BenchSkipped } from './support/bench.js';
import { measureInTurn, netLoad, sideOf, startSinks, trafficCases } from './support/guest-nic.js';
import { QEMU11_GUEST, setUpGuests } from './support/set-up.js';

/** The order in which a guest's drivers find them. */
const nics = ['virtio-net', 'e1000'] as const;

async function* run(options: BenchOptions): AsyncGenerator<BenchResult> {
  if (tapsUnavailable) throw new BenchSkipped(tapsUnavailable);
  const programs = { 'net-load': netLoad() };
  await setUpGuests(QEMU11_GUEST);
  enterOwnNetwork();
  options.progress('booting two guests');
  const names = ['unshared', 'shared'] as const;
  const specs = names.flatMap((name, g) =>
    nics.map((emulation, n) => {
      const nic = { name: `${name}-${emulation}`, emulation, backend: `tap${2 * g + n}` };
      return emulation === 'e1000' ? nic : { ...nic, transport: 'vfio-user' as const };
    }),
  );
  await using lab = await Lab.start(specs);
  const boot = (name: (typeof names)[number]) =>
    lab.qemu(
      name,
      nics.map((nic) => `${name}-${nic}`),
      { programs, sharedMemory: name === 'shared' },
    );
  const guests = [await boot('unshared'), await boot('shared')] as const;
  for (const guest of guests) await startSinks(guest);
  for (const [n, nic] of nics.entries()) {
    const sideIn = (g: 0 | 1) => sideOf(guests[g], `eth${n}`, `tap${2 * g + n}`, `10.${2 * g + n}.0`);
    const what = { name: 'unshared-memory', params: { nic, backend: 'tap' }, reference: 'shared memory' };
    yield* measureInTurn(what, [await sideIn(0), await sideIn(1)], trafficCases, options);
  }
}

export const unsharedMemory: Bench = {
  name: 'unshared-memory',
  summary: 'virtio-net and e1000 through vfio-user in a guest that shares no memory, beside one that does',
  run,
};
