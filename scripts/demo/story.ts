/** The demo's steps. Each throws if what it shows did not come true. */
import { createWriteStream } from 'node:fs';
import { finished } from 'node:stream/promises';
import { formatBytes, formatCount, formatTable, plural } from '../../src/cli/format.js';
import type { Counters } from '../../src/control/fabric-types.js';
import type { Guest } from '../../test/support/guest/guest.js';
import type { Lab } from '../../test/support/guest/lab.js';
import { configure, iperf, macOf, type PingResult, ping } from '../../test/support/guest/net.js';
import type { Screen } from './screen.js';

export interface DemoGuest {
  name: string;
  mac: string;
  address: string;
  kernel: string;
}

export interface DemoResult {
  guests: DemoGuest[];
  pings: { sent: number; received: number; rttUs: { min: number; p50: number; max: number } };
  tcpGbps: { aToB: number; bToA: number };
  /** taken from the guests and forwarded */
  frames: number;
  /** counter name to frames, those that are not zero */
  drops: Record<string, number>;
  pcapng: { file: string; frames: number };
}

/** The two guests: names of their NICs and switch ports, and addresses */
export const people = [
  { name: 'vm1', address: '10.99.0.1' },
  { name: 'vm2', address: '10.99.0.2' },
] as const;

const PINGS = 20;
const TCP_SECONDS = 2;

export async function tell(lab: Lab, screen: Screen, pcapngFile: string): Promise<DemoResult> {
  const [a, b, guests] = await boot(lab, screen);
  const pcapng = await captureFirstExchange(lab, screen, a, pcapngFile);

  screen.begin('Ping', `vm1 asks vm2 ${PINGS} times`);
  const pings = summary(await ping(a, people[1].address, { count: PINGS, intervalS: 0.05 }));
  const { min, p50, max } = pings.rttUs;
  const ms = (us: number): string => (us / 1000).toFixed(2);
  screen.result(
    'Ping',
    `${pings.received} of ${pings.sent} answered, round trip ${ms(p50)} ms (from ${ms(min)} to ${ms(max)})`,
  );
  if (pings.received !== pings.sent) throw new Error(`${pings.sent - pings.received} pings were not answered`);

  const tcpGbps = {
    aToB: await throughput(screen, a, b, people[1].address),
    bToA: await throughput(screen, b, a, people[0].address),
  };

  await showSwitch(lab, screen, guests);
  return { guests, pings, tcpGbps, ...totals(lab.fabric.counters()), pcapng };
}

async function boot(lab: Lab, screen: Screen): Promise<[Guest, Guest, DemoGuest[]]> {
  screen.begin('Guests', 'booting two user-mode-linux kernels');
  const started = Date.now();
  const [a, b] = await Promise.all(people.map(({ name }) => lab.uml(name)));
  screen.result('Guests', `two Linux kernels up in ${((Date.now() - started) / 1000).toFixed(1)} s`);
  const guests: DemoGuest[] = [];
  for (const [i, guest] of [a!, b!].entries()) {
    const { name, address } = people[i]!;
    await configure(guest, 'eth0', { address: `${address}/24` });
    guests.push({ name, address, mac: await macOf(guest, 'eth0'), kernel: (await guest.sh('uname -r')).trim() });
  }
  const rows = guests.map((g) => [g.name, `Linux ${g.kernel}`, 'eth0 (virtio-net)', g.mac, `${g.address}/24`]);
  screen.block(table(['GUEST', 'KERNEL', 'NIC', 'MAC', 'ADDRESS'], rows));
  return [a!, b!, guests];
}

async function captureFirstExchange(
  lab: Lab,
  screen: Screen,
  a: Guest,
  file: string,
): Promise<{ file: string; frames: number }> {
  screen.begin('Capture', 'recording the first exchange');
  const out = createWriteStream(file);
  const capture = lab.fabric.capture(people[0].name);
  const header = await capture.next();
  out.write(header.value);
  const pump = (async () => {
    for await (const chunk of capture) out.write(chunk);
  })();
  const before = crossed(lab.fabric.counters());
  const first = await ping(a, people[1].address, { count: 2, intervalS: 0.1 });
  await capture.return?.();
  await pump;
  out.end();
  await finished(out);
  const frames = crossed(lab.fabric.counters()) - before;
  if (first.received !== first.sent) throw new Error('the guests do not reach each other');
  screen.result('Capture', `the first exchange, ARP and ping, ${frames} frames: ${file}`);
  return { file, frames };
}

/** Frames that the first guest has sent and received */
function crossed(counters: Counters): number {
  const own = counters[people[0].name] ?? {};
  return (own.tx_frames ?? 0) + (own.rx_frames ?? 0);
}

async function throughput(screen: Screen, from: Guest, to: Guest, address: string): Promise<number> {
  const way = `${from.name} → ${to.name}`;
  screen.begin('TCP', `${way}, ${TCP_SECONDS} s`);
  const { bitsPerSecond, bytes, retransmits } = await iperf(from, to, address, { seconds: TCP_SECONDS });
  const gbps = bitsPerSecond / 1e9;
  if (!(gbps > 0)) throw new Error(`no TCP throughput ${way}`);
  screen.result(
    'TCP',
    `${way}  ${gbps.toFixed(2)} Gbit/s (${formatBytes(bytes)}, ${plural(retransmits, 'retransmit')})`,
  );
  return Number(gbps.toFixed(3));
}

async function showSwitch(lab: Lab, screen: Screen, guests: readonly DemoGuest[]): Promise<void> {
  const { switches } = await lab.fabric.show();
  const vale = switches.find((s) => s.name === 'vale0');
  if (vale === undefined) throw new Error('the fabric shows no switch vale0');
  const unknown = guests.filter((g) => !vale.table.some((entry) => entry.mac === g.mac && entry.port === g.name));
  if (unknown.length > 0) throw new Error(`the switch has not learned ${unknown.map((g) => g.mac).join(', ')}`);
  screen.result('Switch', 'what vale0 has learned');
  screen.block(
    table(
      ['MAC', 'PORT', 'LAST SEEN'],
      vale.table.map((entry) => [entry.mac, entry.port, `${entry.ageSec} s ago`]),
    ),
  );

  const counters = lab.fabric.counters();
  screen.result('Counters', 'by port, as the guest sees it');
  const rows = guests.map(({ name }) => {
    const own = counters[name] ?? {};
    const n = (key: string): string => formatCount(own[key] ?? 0);
    const drops = Object.values(dropsOf(counters, [name, `vale0:${name}`])).reduce((sum, value) => sum + value, 0);
    return [
      name,
      n('tx_frames'),
      formatBytes(own.tx_bytes ?? 0),
      n('rx_frames'),
      formatBytes(own.rx_bytes ?? 0),
      formatCount(drops),
    ];
  });
  screen.block(
    formatTable(
      ['PORT', 'SENT', 'BYTES', 'RECEIVED', 'BYTES', 'DROPPED'].map((head, i) => ({
        head,
        align: i === 0 ? 'left' : 'right',
      })),
      rows,
    ),
  );
}

function totals(counters: Counters): { frames: number; drops: Record<string, number> } {
  const frames = people.reduce((sum, { name }) => sum + (counters[name]?.tx_frames ?? 0), 0);
  return { frames, drops: dropsOf(counters, Object.keys(counters)) };
}

function dropsOf(counters: Counters, subjects: readonly string[]): Record<string, number> {
  const drops: Record<string, number> = {};
  for (const subject of subjects) {
    for (const [name, value] of Object.entries(counters[subject] ?? {})) {
      if (/_drop_/.test(name) && value > 0) drops[name] = (drops[name] ?? 0) + value;
    }
  }
  return drops;
}

function summary({ sent, received, rttUs }: PingResult): DemoResult['pings'] {
  const sorted = [...rttUs].sort((x, y) => x - y);
  const at = (q: number): number => sorted[Math.floor(q * (sorted.length - 1))] ?? 0;
  return { sent, received, rttUs: { min: at(0), p50: at(0.5), max: at(1) } };
}

function table(heads: string[], rows: string[][]): string {
  return formatTable(
    heads.map((head) => ({ head })),
    rows,
  );
}
