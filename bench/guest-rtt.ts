/**
 * guest-rtt: median round trips between two user-mode-linux guests on one VALE switch, as ping sees them, at
 * different distances from one ping to the next: the sparser, the deeper everybody sleeps. Beside a
 * guest's pings to itself.
 */
import type { Guest } from '../test/support/guest/guest.js';
import { ping } from '../test/support/guest/net.js';
import { type Bench, type BenchOptions, type BenchResult, inTurn, median, resultOf } from './support/bench.js';
import { ADDRESS_OF_B, LOOPBACK, withGuestPair } from './support/guest-pair.js';

const intervalsMs = [10, 100];

async function* run(options: BenchOptions): AsyncGenerator<BenchResult> {
  options.progress('booting two guests');
  yield* await withGuestPair((a) => measure(a, options));
}

async function* measure(a: Guest, { runs, ms, progress }: BenchOptions): AsyncGenerator<BenchResult> {
  for (const intervalMs of intervalsMs) {
    const count = Math.max(10, Math.round(ms / intervalMs));
    progress(`${runs} times ${count} pings, one every ${intervalMs} ms`);
    const p50 = async (address: string) => {
      const { rttUs, sent, received } = await ping(a, address, { count, intervalS: intervalMs / 1000 });
      lost += sent - received;
      return median(rttUs);
    };
    let lost = 0;
    const values = await inTurn(
      runs,
      () => p50(ADDRESS_OF_B),
      () => p50(LOOPBACK),
    );
    yield resultOf({
      name: 'guest-rtt',
      params: { intervalMs, pings: count, lost, guests: 'user-mode-linux' },
      unit: 'us',
      ours: values.ours,
      reference: { name: 'within one guest', values: values.reference },
    });
  }
}

export const guestRtt: Bench = {
  name: 'guest-rtt',
  summary: 'round trips of pings between two user-mode-linux guests',
  run,
};
