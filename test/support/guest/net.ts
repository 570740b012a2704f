/** What tests, benches and the demo do with the network inside guests. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Guest } from './guest.js';

export interface InterfaceOptions {
  /** address with prefix length: 10.0.0.1/24 */
  address?: string;
  /** IPv6 address with prefix length; switches IPv6 on for this interface */
  address6?: string;
  mtu?: number;
  /** false: checksums and segmentation are the guest kernel's own work */
  offloads?: boolean;
}

const offloadNames = ['tx', 'tso', 'gso', 'gro', 'sg'];

/** Sets up an interface and waits for its link. */
export async function configure(guest: Guest, dev: string, options: InterfaceOptions = {}): Promise<void> {
  const steps: string[] = [];
  if (options.mtu !== undefined) steps.push(`ip link set ${dev} mtu ${options.mtu}`);
  if (options.offloads === false) {
    // one that the device never offered is fixed: ethtool says so and goes on
    steps.push(`ethtool -K ${dev} ${offloadNames.map((n) => `${n} off`).join(' ')} >/dev/null 2>&1 || :`);
  }
  if (options.address6 !== undefined) {
    const conf = `/proc/sys/net/ipv6/conf/${dev}`;
    steps.push(`echo 0 >${conf}/accept_dad`, `echo 0 >${conf}/disable_ipv6`);
  }
  steps.push(`ip link set ${dev} up`);
  if (options.address !== undefined) steps.push(`ip addr add ${options.address} dev ${dev}`);
  if (options.address6 !== undefined) steps.push(`ip addr add ${options.address6} dev ${dev}`);
  await guest.sh(steps.join(' && '));
  await waitForCarrier(guest, dev, true);
}

export async function carrier(guest: Guest, dev: string): Promise<boolean> {
  const { output } = await guest.run(`cat /sys/class/net/${dev}/carrier`);
  return output.trim() === '1';
}

/** Waits until the guest sees the link up or down. */
export async function waitForCarrier(guest: Guest, dev: string, up: boolean): Promise<void> {
  await until(
    () => carrier(guest, dev).then((now) => now === up),
    `${guest.name}: link of ${dev} ${up ? 'up' : 'down'}`,
  );
}

/** Polls a condition. Slow machines get the time they need: only what never happens fails. */
export async function until(
  condition: () => Promise<boolean> | boolean,
  what: string,
  timeoutMs = 30_000,
): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`waited ${timeoutMs} ms in vain for: ${what}`);
    await sleep(50);
  }
}

export async function macOf(guest: Guest, dev: string): Promise<string> {
  return (await guest.sh(`cat /sys/class/net/${dev}/address`)).trim();
}

export interface PingResult {
  sent: number;
  received: number;
  /** round trips in microseconds, in order */
  rttUs: number[];
}

/** busybox ping; `size` bytes of payload. */
export async function ping(
  guest: Guest,
  address: string,
  options: { count?: number; intervalS?: number; size?: number } = {},
): Promise<PingResult> {
  const { count = 3, intervalS = 0.2, size = 56 } = options;
  const timeoutMs = 30_000 + count * intervalS * 1000;
  const { output } = await guest.run(`ping -c ${count} -i ${intervalS} -s ${size} -W 5 ${address}`, timeoutMs);
  const summary = /(\d+) packets transmitted, (\d+) packets received/.exec(output);
  if (summary === null) throw new Error(`guest ${guest.name}: ping ${address} said:\n${output}`);
  const rttUs = [...output.matchAll(/time=([\d.]+) ms/g)].map((m) => Math.round(Number(m[1]) * 1000));
  return { sent: Number(summary[1]), received: Number(summary[2]), rttUs };
}

/** Waits until `guest` has an answer from `address`. */
export async function waitForPing(guest: Guest, address: string, timeoutMs?: number): Promise<void> {
  const once = async (): Promise<boolean> => (await guest.run(`ping -c 1 -W 1 ${address}`)).status === 0;
  await until(once, `${guest.name}: an answer from ${address}`, timeoutMs);
}

export interface IperfResult {
  /** received by the server */
  bitsPerSecond: number;
  bytes: number;
  retransmits: number;
}

/** One TCP stream from `client` to `server` (which has `address`), iperf3. */
export async function iperf(
  client: Guest,
  server: Guest,
  address: string,
  options: { seconds?: number; extra?: string } = {},
): Promise<IperfResult> {
  const { seconds = 2, extra = '' } = options;
  const port = await startIperfServer(server);
  const { output } = await client.run(
    `iperf3 -c ${address} -p ${port} -t ${seconds} -J ${extra}`,
    60_000 + seconds * 1000,
  );
  const report = JSON.parse(output.slice(output.indexOf('{'))) as IperfReport;
  if (report.error !== undefined) throw new Error(`guest ${client.name}: iperf3 to ${address}: ${report.error}`);
  const received = report.end.sum_received;
  return {
    bitsPerSecond: received.bits_per_second,
    bytes: received.bytes,
    retransmits: report.end.sum_sent.retransmits,
  };
}

interface IperfReport {
  error?: string;
  end: {
    sum_sent: { retransmits: number };
    sum_received: { bits_per_second: number; bytes: number };
  };
}

let nextPort = 5201;

/** An iperf3 server for one test, listening on the returned port: a new one each time, for the last server may still be ending. */
export async function startIperfServer(guest: Guest): Promise<number> {
  const port = nextPort++;
  await guest.sh(`iperf3 -s -1 -D -p ${port} >/dev/null 2>&1`);
  const listening = `netstat -ltn | grep -q ":${port} "`;
  await until(async () => (await guest.run(listening)).status === 0, `${guest.name}: iperf3 listening`);
  return port;
}

/** A counter of /sys/class/net/DEV/statistics, for instance rx_packets. */
export async function statistic(guest: Guest, dev: string, name: string): Promise<number> {
  return Number(await guest.sh(`cat /sys/class/net/${dev}/statistics/${name}`));
}

/** Sets offloads of an interface by ethtool's short names, for instance `{ tso: false, rxvlan: true }`. */
export async function setOffloads(guest: Guest, dev: string, offloads: Record<string, boolean>): Promise<void> {
  const words = Object.entries(offloads).map(([name, on]) => `${name} ${on ? 'on' : 'off'}`);
  await guest.sh(`ethtool -K ${dev} ${words.join(' ')} >/dev/null`);
}

/** The driver's own statistics (ethtool -S). */
export async function driverStatistics(guest: Guest, dev: string): Promise<Record<string, number>> {
  const lines = (await guest.sh(`ethtool -S ${dev}`)).matchAll(/^ +(\S+): (\d+)$/gm);
  return Object.fromEntries([...lines].map(([, name, value]) => [name, Number(value)]));
}

/** TCP segments that the guest's kernel refused, for their checksum among other reasons. */
export async function badSegments(guest: Guest): Promise<number> {
  const [names, values] = (await guest.sh("grep '^Tcp:' /proc/net/snmp")).split('\n').map((line) => line.split(' '));
  const value = (name: string): number => Number(values![names!.indexOf(name)]);
  return value('InErrs') + value('InCsumErrors');
}

/** A tagged interface DEV.ID (802.1Q) with an address. */
export async function addVlan(guest: Guest, dev: string, id: number, address: string): Promise<void> {
  await guest.sh(`load 8021q && ip link add link ${dev} name ${dev}.${id} type vlan id ${id}`);
  await guest.sh(`ip link set ${dev}.${id} up && ip addr add ${address} dev ${dev}.${id}`);
}
