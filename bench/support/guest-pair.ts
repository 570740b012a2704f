/** Two user-mode-linux guests on one VALE switch: 10.0.0.1 and 10.0.0.2. */
import type { Guest } from '../../test/support/guest/guest.js';
import { Lab } from '../../test/support/guest/lab.js';
import { configure, type InterfaceOptions, waitForPing } from '../../test/support/guest/net.js';
import { setUpGuests } from './set-up.js';

export const ADDRESS_OF_B = '10.0.0.2';
/** of each guest's own loopback interface */
export const LOOPBACK = '127.0.0.1';

export async function withGuestPair<T>(use: (a: Guest, b: Guest) => AsyncGenerator<T>): Promise<AsyncGenerator<T>> {
  await setUpGuests(['uml', 'guest']);
  return pair(use);
}

async function* pair<T>(use: (a: Guest, b: Guest) => AsyncGenerator<T>): AsyncGenerator<T> {
  await using lab = await Lab.start([{ name: 'a' }, { name: 'b' }]);
  const [a, b] = await Promise.all([lab.uml('a'), lab.uml('b')]);
  await configure(a, 'eth0', { address: '10.0.0.1/24' });
  await configure(b, 'eth0', { address: `${ADDRESS_OF_B}/24` });
  await a.sh('ip link set lo up');
  await waitForPing(a, ADDRESS_OF_B);
  yield* use(a, b);
}

/** Sets both guests' interfaces the same way. */
export async function configureBoth(a: Guest, b: Guest, options: InterfaceOptions): Promise<void> {
  await Promise.all([a, b].map((guest) => configure(guest, 'eth0', options)));
}
