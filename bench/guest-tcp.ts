/**
 * guest-tcp: throughput of one TCP connection between two user-mode-linux guests on one VALE switch,
 * with offloads (segments of up to 64 KiB cross the switch whole) and without.
 */
import type { Guest } from '../test/support/guest/guest.js';
import { iperf } from '../test/support/guest/net.js';
import { type Bench, type BenchOptions, type BenchResult, resultOf } from './support/bench.js';
import { ADDRESS_OF_B, configureBoth, withGuestPair } from './support/guest-pair.js';

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
    const gbps: number[] = [];
    for (let i = 0; i < runs; i++) {
      const { bitsPerSecond } = await iperf(a, b, ADDRESS_OF_B, { seconds: Math.max(1, ms / 1000) });
      gbps.push(bitsPerSecond / 1e9);
    }
    yield resultOf({ name: 'guest-tcp', params: { ...params, guests: 'user-mode-linux' }, unit: 'Gbit/s', ours: gbps });
  }
}

export const guestTcp: Bench = {
  name: 'guest-tcp',
  summary: 'TCP between two user-mode-linux guests, with offloads and without',
  run,
};
