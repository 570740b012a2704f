/**
 * guest-rtt: round trips between two user-mode-linux guests on one VALE switch, as ping sees them, at
 * different distances from one ping to the next: the sparser, the deeper everybody sleeps.
 */
import type { Guest } from '../test/support/guest/guest.js';
import { ping } from '../test/support/guest/net.js';
import { type Bench, type BenchOptions, type BenchResult, resultOf } from './support/bench.js';
import { ADDRESS_OF_B, withGuestPair } from './support/guest-pair.js';

const intervalsMs = [10, 100];

async function* run(options: BenchOptions): AsyncGenerator<BenchResult> {
  options.progress('booting two guests');
  yield* await withGuestPair((a) => measure(a, options));
}

async function* measure(a: Guest, { runs, ms, progress }: BenchOptions): AsyncGenerator<BenchResult> {
  for (const intervalMs of intervalsMs) {
    const count = Math.max(10, Math.round((runs * ms) / intervalMs));
    progress(`${count} pings, one every ${intervalMs} ms`);
    const { rttUs, sent, received } = await ping(a, ADDRESS_OF_B, { count, intervalS: intervalMs / 1000 });
    const params = { intervalMs, lost: sent - received, guests: 'user-mode-linux' };
    yield resultOf({ name: 'guest-rtt', params, unit: 'us', ours: rttUs });
  }
}

export const guestRtt: Bench = {
  name: 'guest-rtt',
  summary: 'round trips of pings between two user-mode-linux guests',
  run,
};
