/**
 * NICs of QEMU guests on taps of the host, its network stack at the other end: TCP and short frames both ways. Two such NICs
 * take turns, so that only one guest works at a time.
 */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Guest } from '../../test/support/guest/guest.js';
import { configure, setOffloads, statistic, waitForPing } from '../../test/support/guest/net.js';
import { ip } from '../../test/support/tap.js';
import { type BenchOptions, type BenchResult, inTurn, resultOf } from './bench.js';
import { compileReference } from './cc.js';
import { Worker } from './worker.js';

/** of a datagram in a frame of 64 bytes, its frame check sequence counted */
const UDP_PAYLOAD = 18;

/** A guest's NIC on a tap; the host is .2 of its network. */
export interface Side {
  guest: Guest;
  /** the NIC's interface in the guest */
  dev: string;
  tap: string;
  address: string;
  host: string;
}

/** The host's end of both: sinks, and a sender to each. */
export interface Host {
  sinks: Worker;
  sender(side: Side): Worker;
}

export type Measure = (side: Side, host: Host, ms: number) => Promise<number>;

export interface Case {
  params: BenchResult['params'];
  unit: string;
  measure: Measure;
}

export const trafficCases: readonly Case[] = [
  { params: { what: 'TCP', from: 'guest', tso: true }, unit: 'Gbit/s', measure: tcpFromGuest(true) },
  { params: { what: 'TCP', from: 'guest', tso: false }, unit: 'Gbit/s', measure: tcpFromGuest(false) },
  { params: { what: 'TCP', from: 'host' }, unit: 'Gbit/s', measure: tcpFromHost },
  { params: { what: 'frames', bytes: 64, from: 'guest', burst: 1 }, unit: 'kpps', measure: framesFromGuest(1) },
  { params: { what: 'frames', bytes: 64, from: 'guest', burst: 32 }, unit: 'kpps', measure: framesFromGuest(32) },
  { params: { what: 'frames', bytes: 64, from: 'host' }, unit: 'kpps', measure: framesFromHost },
];

function tcpFromGuest(tso: boolean): Measure {
  return async ({ guest, dev, host }, { sinks }, ms) => {
    await setOffloads(guest, dev, { tso });
    const [before, start] = [await sinks.ask<{ bytes: number }>('count'), performance.now()];
    await guest.sh(`echo "tcp ${ms}" | net-load client ${host} >/dev/null`, ms + 30_000);
    const seconds = (performance.now() - start) / 1000;
    return ((await sinks.ask<{ bytes: number }>('count')).bytes - before.bytes) / seconds / 125e6;
  };
}

/** As the guest's kernel counts it */
async function tcpFromHost(side: Side, host: Host, ms: number): Promise<number> {
  const received = (): Promise<number> => statistic(side.guest, side.dev, 'rx_bytes');
  return (await perSecond(received, () => host.sender(side).ask(`tcp ${ms}`))) / 125e6;
}

async function framesFromHost(side: Side, host: Host, ms: number): Promise<number> {
  const received = (): Promise<number> => statistic(side.guest, side.dev, 'rx_packets');
  return (await perSecond(received, () => host.sender(side).ask(`udp ${ms} ${UDP_PAYLOAD}`))) / 1e3;
}

/** By the guest kernel's pktgen, the device told once a burst; as the host's tap counts it */
function framesFromGuest(burst: number): Measure {
  const control = '/proc/net/pktgen/pgctrl';
  return async ({ guest, dev, tap }, _host, ms) => {
    await guest.sh(`echo "burst ${burst}" >/proc/net/pktgen/${dev} && echo start >${control} &`);
    const taken = async (): Promise<number> => framesTaken(tap);
    try {
      return (await perSecond(taken, () => sleep(ms))) / 1e3;
    } finally {
      await guest.sh(`echo stop >${control}`);
    }
  };
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

/** The generator of load, to run on the host; statically linked, so that guests can run it too (`programs` of QemuOptions). */
export function netLoad(): string {
  return compileReference('net-load.c', ['-lpthread', ...staticForGuests]);
}

export const staticForGuests = ['-static', '-march=x86-64'];

/** Sets up both ends of a NIC; `network`: the first three bytes of their addresses. */
export async function sideOf(guest: Guest, dev: string, tap: string, network: string): Promise<Side> {
  const [address, host] = [`${network}.1`, `${network}.2`];
  ip(`addr add ${host}/24 dev ${tap}`);
  ip(`link set ${tap} up`);
  await configure(guest, dev, { address: `${address}/24` });
  await waitForPing(guest, host);
  return { guest, dev, tap, address, host };
}

/** What the host sends ends here: once in every guest. */
export async function startSinks(guest: Guest): Promise<void> {
  await guest.sh('mkfifo /tmp/never && (net-load server </tmp/never >/dev/null & sleep 1000000 >/tmp/never &)');
}

/** What pktgen sends once it is started: frames of 64 bytes with their frame check sequence, to the host, without end */
async function preparePktgen({ guest, dev, host }: Side): Promise<void> {
  const thread = '/proc/net/pktgen/kpktgend_0';
  const settings = ['pkt_size 60', 'count 0', `dst ${host}`, 'dst_mac 02:00:00:00:00:02', 'clone_skb 1000', 'delay 0'];
  await guest.sh(`load pktgen && echo rem_device_all >${thread} && echo "add_device ${dev}" >${thread}`);
  for (const setting of settings) await guest.sh(`echo "${setting}" >/proc/net/pktgen/${dev}`);
}

/** Each case with the one and with the other, in turn. */
export async function* measureInTurn(
  { name, params, reference }: { name: string; params: BenchResult['params']; reference: string },
  [ours, theirs]: readonly [Side, Side],
  cases: readonly Case[],
  { runs, ms, progress }: BenchOptions,
): AsyncGenerator<BenchResult> {
  const sinks = new Worker({ command: netLoad(), args: ['server'] });
  const senders = new Map<Side, Worker>();
  const host: Host = { sinks, sender: (side) => senders.get(side)! };
  try {
    await sinks.next();
    for (const side of [ours, theirs]) {
      await preparePktgen(side);
      const sender = new Worker({ command: netLoad(), args: ['client', side.address] });
      senders.set(side, sender);
      await sender.next();
    }
    for (const { params: what, unit, measure } of cases) {
      const all = { ...params, ...what };
      progress(
        Object.entries(all)
          .map(([key, value]) => `${key} ${value}`)
          .join(', '),
      );
      const values = await inTurn(
        runs,
        () => measure(ours, host, ms),
        () => measure(theirs, host, ms),
      );
      yield resultOf({
        name,
        params: all,
        unit,
        ours: values.ours,
        reference: { name: reference, values: values.reference },
      });
    }
  } finally {
    for (const worker of [sinks, ...senders.values()]) await worker.close();
  }
}
