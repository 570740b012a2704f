/**
 * e1000: netbe's 82545EM through vfio-user beside QEMU's own (e1000-82545em) in a guest of the same kernel, each on a tap of
 * the host, the host's network stack at the other end.
 *
 * TCP and short frames both ways; what a program in the guest gets of registers and interrupts alone. The guests take turns:
 * only one of them works at a time.
 */
import { Lab } from '../test/support/guest/lab.js';
import { startQemu } from '../test/support/guest/qemu.js';
import { enterOwnNetwork, tapsUnavailable } from '../test/support/tap.js';
import { type Bench, type BenchOptions, type BenchResult, BenchSkipped } from './support/bench.js';
import { compileReference } from './support/cc.js';
import {
  type Case,
  type Host,
  type Measure,
  measureInTurn,
  netLoad,
  type Side,
  sideOf,
  startSinks,
  staticForGuests,
  trafficCases,
} from './support/guest-nic.js';
import { QEMU11_GUEST, setUpGuests } from './support/set-up.js';

const cases: readonly Case[] = [
  ...trafficCases,
  { params: { what: 'register reads' }, unit: 'k/s', measure: registers('read') },
  { params: { what: 'register writes' }, unit: 'k/s', measure: registers('write') },
  { params: { what: 'interrupts' }, unit: 'k/s', measure: interrupts },
];

function registers(what: 'read' | 'write' | 'interrupt'): Measure {
  return async ({ guest, dev }, _host, ms) =>
    Number(await guest.sh(`e1000-load ${dev} ${what} ${ms}`, ms + 30_000)) / 1e3;
}

/** As many as there can be: without the driver's moderation, which is on in all other measurements */
async function interrupts(side: Side, host: Host, ms: number): Promise<number> {
  const { guest, dev } = side;
  await guest.sh(`ethtool -C ${dev} rx-usecs 0`);
  try {
    return await registers('interrupt')(side, host, ms);
  } finally {
    await guest.sh(`ethtool -C ${dev} rx-usecs 3`);
  }
}

async function* run(options: BenchOptions): AsyncGenerator<BenchResult> {
  if (tapsUnavailable) throw new BenchSkipped(tapsUnavailable);
  const programs = { 'net-load': netLoad(), 'e1000-load': compileReference('e1000-load.c', staticForGuests) };
  await setUpGuests(QEMU11_GUEST);
  enterOwnNetwork();
  options.progress('booting two guests');
  await using lab = await Lab.start([{ name: 'ours', emulation: 'e1000', backend: 'tap0' }]);
  // iomem: programs may map registers that a driver uses
  const guestOptions = { programs, parameters: 'iomem=relaxed' };
  await using ours = await lab.qemu('ours', ['ours'], guestOptions);
  const theirOptions = { ...guestOptions, name: 'theirs', program: 'qemu11', netbeArgs: theirArguments } as const;
  await using theirs = await startQemu(theirOptions);
  for (const guest of [ours, theirs]) await startSinks(guest);
  const sides = [await sideOf(ours, 'eth0', 'tap0', '10.1.0'), await sideOf(theirs, 'eth0', 'tap1', '10.2.0')] as const;
  const what = { name: 'e1000', params: { backend: 'tap' }, reference: "QEMU's own e1000" };
  yield* measureInTurn(what, sides, cases, options);
}

const theirArguments = [
  ...['-m', '192M', '-netdev', 'tap,id=n0,ifname=tap1,script=no,downscript=no'],
  ...['-device', 'e1000-82545em,netdev=n0,mac=02:00:00:00:01:01,romfile='],
];

export const e1000: Bench = {
  name: 'e1000',
  summary: "an e1000 through vfio-user beside QEMU's own, each on a tap: TCP, short frames, registers, interrupts",
  run,
};
