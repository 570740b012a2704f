/** What benches with guests need before they begin. */
import { chooseComponents, setUp } from '../../scripts/setup/install.js';
import { BenchSkipped } from './bench.js';

/** Components of the set-up for guests of QEMU 11, which have vfio-user. */
export const QEMU11_GUEST = ['qemu11', 'guest', 'kernel'];

/** Sets up what guests are made of. Throws BenchSkipped. */
export async function setUpGuests(components: string[]): Promise<void> {
  try {
    await setUp(chooseComponents(components));
  } catch (error) {
    throw new BenchSkipped(`the guests cannot be set up: ${(error as Error).message}`);
  }
}
