/**
 * guest-tcp: throughput of one TCP connection between two user-mode-linux guests on one VALE switch,
 * with offloads (segments of up to 64 KiB cross the switch whole) and without; beside a connection
 * within one of them, which never leaves its kernel.
 */
import type { Guest } from '../test/support/guest/guest.js';
import { iperf } from '../test/support/guest/net.js';
import { type Bench, type BenchOptions, type BenchResult, inTurn, resultOf } from './support/bench.js';
import { ADDRESS_OF_B, configureBoth, LOOPBACK, withGuestPair } from './support/guest-pair.js';

// in this order: a guest's offloads are switched off and not on again
const cases = [
  { offloads: true, mtu: 1500 },
  { offloads: true, mtu: 9000 },
  { offloads: false, mtu: 9000 },
  { offloads: false, mtu: 1500 },
];

async function* run(options: BenchOptions): AsyncGenerator<BenchResult> {
  options.progress('booting two guests');
  yield* await withGuestPair((a, b) => measure(a, b, options));
}

async function* measure(a: Guest, b: Guest, { runs, ms, progress }: BenchOptions): AsyncGenerator<BenchResult> {
  for (const params of cases) {
    progress(`${params.offloads ? 'with' : 'without'} offloads, MTU ${params.mtu}`);
    await configureBoth(a, b, params);
    const gbps = async (to: Guest, address: string) =>
      (await iperf(a, to, address, { seconds: Math.max(1, ms / 1000) })).bitsPerSecond / 1e9;
    const values = await inTurn(
      runs,
      () => gbps(b, ADDRESS_OF_B),
      () => gbps(a, LOOPBACK),
    );
    yield resultOf({
      name: 'guest-tcp',
      params: { ...params, guests: 'user-mode-linux' },
      unit: 'Gbit/s',
      ours: values.ours,
      reference: { name: 'within one guest', values: values.reference },
    });
  }
}

export const guestTcp: Bench = {
  name: 'guest-tcp',
  summary: 'TCP between two user-mode-linux guests, with offloads and without',
  run,
};
