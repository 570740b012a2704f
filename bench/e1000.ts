/**
 * e1000: netbe's 82545EM through vfio-user beside QEMU's own (e1000-82545em) in a guest of the same kernel, each on a tap of
 * the host, the host's network stack at the other end.
 *
 * TCP and short frames both ways; what a program in the guest gets of registers and interrupts alone. The guests take turns:
 * only one of them works at a time.
 */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { chooseComponents, setUp } from '../scripts/setup/install.js';
import type { Guest } from '../test/support/guest/guest.js';
import { Lab } from '../test/support/guest/lab.js';
import { configure, setOffloads, statistic, waitForPing } from '../test/support/guest/net.js';
import { startQemu } from '../test/support/guest/qemu.js';
import { enterOwnNetwork, ip, tapsUnavailable } from '../test/support/tap.js';
import { type Bench, type BenchOptions, type BenchResult, BenchSkipped, inTurn, resultOf } from './support/bench.js';
import { compileReference } from './support/cc.js';
import { Worker } from './support/worker.js';

/** of a datagram in a frame of 64 bytes, its frame check sequence counted */
const UDP_PAYLOAD = 18;

/** A guest with one e1000 on a tap; the host is .2 of its network. */
interface Side {
  guest: Guest;
  tap: string;
  address: string;
  host: string;
}

/** The host's end of both: sinks, and a sender to each. */
interface Host {
  sinks: Worker;
  sender(side: Side): Worker;
}

type Measure = (side: Side, host: Host, ms: number) => Promise<number>;

interface Case {
  params: BenchResult['params'];
  unit: string;
  measure: Measure;
}

const cases: readonly Case[] = [
  { params: { what: 'TCP', from: 'guest', tso: true }, unit: 'Gbit/s', measure: tcpFromGuest(true) },
  { params: { what: 'TCP', from: 'guest', tso: false }, unit: 'Gbit/s', measure: tcpFromGuest(false) },
  { params: { what: 'TCP', from: 'host' }, unit: 'Gbit/s', measure: tcpFromHost },
  { params: { what: 'frames', bytes: 64, from: 'guest', burst: 1 }, unit: 'kpps', measure: framesFromGuest(1) },
  { params: { what: 'frames', bytes: 64, from: 'guest', burst: 32 }, unit: 'kpps', measure: framesFromGuest(32) },
  { params: { what: 'frames', bytes: 64, from: 'host' }, unit: 'kpps', measure: framesFromHost },
  { params: { what: 'register reads' }, unit: 'k/s', measure: registers('read') },
  { params: { what: 'register writes' }, unit: 'k/s', measure: registers('write') },
  { params: { what: 'interrupts' }, unit: 'k/s', measure: interrupts },
];

function tcpFromGuest(tso: boolean): Measure {
  return async ({ guest, host }, { sinks }, ms) => {
    await setOffloads(guest, 'eth0', { tso });
    const [before, start] = [await sinks.ask<{ bytes: number }>('count'), performance.now()];
    await guest.sh(`echo "tcp ${ms}" | net-load client ${host} >/dev/null`, ms + 30_000);
    const seconds = (performance.now() - start) / 1000;
    return ((await sinks.ask<{ bytes: number }>('count')).bytes - before.bytes) / seconds / 125e6;
  };
}

/** As the guest's kernel counts it */
async function tcpFromHost(side: Side, host: Host, ms: number): Promise<number> {
  const received = (): Promise<number> => statistic(side.guest, 'eth0', 'rx_bytes');
  return (await perSecond(received, () => host.sender(side).ask(`tcp ${ms}`))) / 125e6;
}

async function framesFromHost(side: Side, host: Host, ms: number): Promise<number> {
  const received = (): Promise<number> => statistic(side.guest, 'eth0', 'rx_packets');
  return (await perSecond(received, () => host.sender(side).ask(`udp ${ms} ${UDP_PAYLOAD}`))) / 1e3;
}

/** By the guest kernel's pktgen, TDT written once a burst; as the host's tap counts it */
function framesFromGuest(burst: number): Measure {
  const control = '/proc/net/pktgen/pgctrl';
  return async ({ guest, tap }, _host, ms) => {
    await guest.sh(`echo "burst ${burst}" >/proc/net/pktgen/eth0 && echo start >${control} &`);
    const taken = async (): Promise<number> => framesTaken(tap);
    try {
      return (await perSecond(taken, () => sleep(ms))) / 1e3;
    } finally {
      await guest.sh(`echo stop >${control}`);
    }
  };
}

function registers(what: 'read' | 'write' | 'interrupt'): Measure {
  return async ({ guest }, _host, ms) => Number(await guest.sh(`e1000-load eth0 ${what} ${ms}`, ms + 30_000)) / 1e3;
}

/** As many as there can be: without the driver's moderation, which is on in all other measurements */
async function interrupts(side: Side, host: Host, ms: number): Promise<number> {
  await side.guest.sh('ethtool -C eth0 rx-usecs 0');
  try {
    return await registers('interrupt')(side, host, ms);
  } finally {
    await side.guest.sh('ethtool -C eth0 rx-usecs 3');
  }
}

async function perSecond(count: () => Promise<number>, work: () => Promise<unknown>): Promise<number> {
  const [before, start] = [await count(), performance.now()];
  await work();
  return ((await count()) - before) / ((performance.now() - start) / 1000);
}

/** Frames that the host took from a tap of this thread's network namespace: /sys shows those of another one */
function framesTaken(tap: string): number {
  const lines = readFileSync('/proc/thread-self/net/dev', 'utf8').split('\n');
  const line = lines.find((l) => l.trim().startsWith(`${tap}:`));
  if (line === undefined) throw new Error(`there is no interface ${tap}`);
  return Number(line.split(':')[1]!.trim().split(/ +/)[1]);
}

/** What pktgen sends once it is started: frames of 64 bytes with their frame check sequence, to the host, without end */
async function preparePktgen(guest: Guest, host: string): Promise<void> {
  const thread = '/proc/net/pktgen/kpktgend_0';
  const settings = ['pkt_size 60', 'count 0', `dst ${host}`, 'dst_mac 02:00:00:00:00:02', 'clone_skb 1000', 'delay 0'];
  await guest.sh(`load pktgen && echo "add_device eth0" >${thread}`);
  for (const setting of settings) await guest.sh(`echo "${setting}" >/proc/net/pktgen/eth0`);
}

async function* run(options: BenchOptions): AsyncGenerator<BenchResult> {
  if (tapsUnavailable) throw new BenchSkipped(tapsUnavailable);
  const inGuest = ['-static', '-march=x86-64'];
  const programs = {
    'net-load': compileReference('net-load.c', ['-lpthread', ...inGuest]),
    'e1000-load': compileReference('e1000-load.c', inGuest),
  };
  try {
    await setUp(chooseComponents(['qemu11', 'guest', 'kernel']));
  } catch (error) {
    throw new BenchSkipped(`the guests cannot be set up: ${(error as Error).message}`);
  }
  enterOwnNetwork();
  options.progress('booting two guests');
  await using lab = await Lab.start([{ name: 'ours', emulation: 'e1000', backend: 'tap0' }]);
  // iomem: programs may map registers that a driver uses
  const guestOptions = { programs, parameters: 'iomem=relaxed' };
  await using ours = await lab.qemu('ours', ['ours'], guestOptions);
  const theirOptions = { ...guestOptions, name: 'theirs', program: 'qemu11', netbeArgs: theirArguments } as const;
  await using theirs = await startQemu(theirOptions);
  const sides = [await sideOf(ours, 'tap0', '10.1.0'), await sideOf(theirs, 'tap1', '10.2.0')] as const;
  yield* measureAll(sides, programs['net-load'], options);
}

const theirArguments = [
  ...['-m', '192M', '-netdev', 'tap,id=n0,ifname=tap1,script=no,downscript=no'],
  ...['-device', 'e1000-82545em,netdev=n0,mac=02:00:00:00:01:01,romfile='],
];

async function sideOf(guest: Guest, tap: string, network: string): Promise<Side> {
  const [address, host] = [`${network}.1`, `${network}.2`];
  ip(`addr add ${host}/24 dev ${tap}`);
  ip(`link set ${tap} up`);
  await configure(guest, 'eth0', { address: `${address}/24` });
  await waitForPing(guest, host);
  await preparePktgen(guest, host);
  return { guest, tap, address, host };
}

async function* measureAll(
  [ours, theirs]: readonly [Side, Side],
  netLoad: string,
  { runs, ms, progress }: BenchOptions,
): AsyncGenerator<BenchResult> {
  const sinks = new Worker({ command: netLoad, args: ['server'] });
  const senders = new Map<Side, Worker>();
  const workers = [sinks];
  const host: Host = { sinks, sender: (side) => senders.get(side)! };
  try {
    await sinks.next();
    for (const side of [ours, theirs]) {
      await side.guest.sh(
        'mkfifo /tmp/never && (net-load server </tmp/never >/dev/null & sleep 1000000 >/tmp/never &)',
      );
      const sender = new Worker({ command: netLoad, args: ['client', side.address] });
      workers.push(sender);
      await sender.next();
      senders.set(side, sender);
    }
    for (const { params, unit, measure } of cases) {
      progress(
        Object.entries(params)
          .map(([key, value]) => `${key} ${value}`)
          .join(', '),
      );
      const values = await inTurn(
        runs,
        () => measure(ours, host, ms),
        () => measure(theirs, host, ms),
      );
      const reference = { name: "QEMU's own e1000", values: values.reference };
      yield resultOf({ name: 'e1000', params: { ...params, backend: 'tap' }, unit, ours: values.ours, reference });
    }
  } finally {
    for (const worker of workers) await worker.close();
  }
}

export const e1000: Bench = {
  name: 'e1000',
  summary: "an e1000 through vfio-user beside QEMU's own, each on a tap: TCP, short frames, registers, interrupts",
  run,
};
