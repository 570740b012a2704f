/** netbe ports: one line a NIC; with --watch again and again, with rates. */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Command, InvalidArgumentError } from 'commander';
import type { ControlClient } from '../control/control-client.js';
import { nicTotals, type PortTotals } from '../control/counter-names.js';
import type { NicInfo } from '../control/fabric-types.js';
import { clientCommand, connect, type FabricChoice, print, printJson } from './command.js';
import { type Column, formatBytes, formatCount, formatRate, formatTable } from './format.js';

interface PortRow extends PortTotals {
  port: string;
  backend: string;
  link: 'up' | 'down';
  guest: string;
  pid: number | null;
}

interface Sample {
  /** milliseconds */
  at: number;
  rows: PortRow[];
}

export function portsCommand(): Command {
  return clientCommand('ports', 'the ports of a running fabric, with their counters')
    .option('-w, --watch [seconds]', 'repeat, with rates, until Ctrl-C (default: every second)', parseSeconds)
    .option('--json', 'as JSON; with --watch one line each time')
    .addHelpText('after', '\nExamples:\n  netbe ports\n  netbe ports --watch 2\n  netbe ports --json | jq .[].drops\n')
    .action(async (options: FabricChoice & { watch?: number | true; json?: boolean }) => {
      const client = connect(options);
      if (options.watch === undefined) {
        const { rows } = await sample(client);
        if (options.json) printJson(rows);
        else print(portsTable(rows));
      } else await watch(client, options.watch === true ? 1 : options.watch, options.json ?? false);
    });
}

function parseSeconds(text: string): number {
  const seconds = Number(text);
  if (!(seconds >= 0.1 && seconds <= 3600)) throw new InvalidArgumentError('Give seconds from 0.1 to 3600.');
  return seconds;
}

async function sample(client: ControlClient): Promise<Sample> {
  const [nics, counters] = await Promise.all([client.nics(), client.counters()]);
  const rows = nics.map((nic) => ({
    port: nic.name,
    backend: nic.backend,
    link: nic.device.link,
    guest: guestState(nic),
    pid: nic.transport.peerPid,
    ...nicTotals(counters, nic),
  }));
  return { at: Date.now(), rows };
}

function guestState({ transport, device }: NicInfo): string {
  if (transport.state !== 'connected') return transport.state;
  const ready = device.queues.every((q) => q.started && q.enabled);
  return ready ? 'running' : 'starting';
}

async function watch(client: ControlClient, seconds: number, json: boolean): Promise<void> {
  const clear = process.stdout.isTTY && !json;
  let before: Sample | undefined;
  for (;;) {
    const now = await sample(client);
    if (json) print(JSON.stringify({ at: new Date(now.at).toISOString(), ports: now.rows }));
    else print(`${clear ? '\x1b[H\x1b[2J' : ''}${portsTable(now.rows, before && rates(before, now))}`);
    before = now;
    await sleep(seconds * 1000);
  }
}

interface Rate {
  txPps: number;
  rxPps: number;
  txBps: number;
  rxBps: number;
}

/** Per second, by port; a port that is new, or was made anew, has none. */
function rates(before: Sample, now: Sample): Map<string, Rate> {
  const seconds = Math.max(0.001, (now.at - before.at) / 1000);
  const out = new Map<string, Rate>();
  for (const row of now.rows) {
    const old = before.rows.find((r) => r.port === row.port);
    if (!old || old.txFrames > row.txFrames || old.rxFrames > row.rxFrames) continue;
    out.set(row.port, {
      txPps: (row.txFrames - old.txFrames) / seconds,
      rxPps: (row.rxFrames - old.rxFrames) / seconds,
      txBps: ((row.txBytes - old.txBytes) * 8) / seconds,
      rxBps: ((row.rxBytes - old.rxBytes) * 8) / seconds,
    });
  }
  return out;
}

const columns: Column[] = [
  { head: 'PORT' },
  { head: 'BACKEND' },
  { head: 'LINK' },
  { head: 'GUEST' },
  ...['TX FRAMES', 'TX BYTES', 'RX FRAMES', 'RX BYTES', 'DROPS'].map((head) => ({ head, align: 'right' as const })),
];
const rateColumns: Column[] = ['TX PPS', 'TX BIT/S', 'RX PPS', 'RX BIT/S'].map((head) => ({ head, align: 'right' }));

function portsTable(rows: PortRow[], perSecond?: Map<string, Rate>): string {
  if (rows.length === 0) return 'The fabric has no NIC. Add one with netbe nic add.';
  const cells = rows.map((row) => {
    const line = [
      row.port,
      row.backend,
      row.link,
      row.pid === null ? row.guest : `${row.guest} (pid ${row.pid})`,
      formatCount(row.txFrames),
      formatBytes(row.txBytes),
      formatCount(row.rxFrames),
      formatBytes(row.rxBytes),
      formatCount(row.drops),
    ];
    const rate = perSecond?.get(row.port);
    if (perSecond === undefined) return line;
    if (!rate) return [...line, '', '', '', ''];
    return [...line, ...[rate.txPps, rate.txBps, rate.rxPps, rate.rxBps].map(formatRate)];
  });
  return formatTable(perSecond === undefined ? columns : [...columns, ...rateColumns], cells);
}
