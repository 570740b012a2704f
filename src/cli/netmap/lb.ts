/** netbe lb: netmap's load balancer, from one port to pipes by the hash of the flow. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Command } from 'commander';
import { usageError } from '../../errors.js';
import { isPortName, parsePortName } from '../../netmap/port-name.js';
import { type FabricChoice, portSocket, withFabricChoice } from '../command.js';
import type { LbStart } from './lb-loop.js';
import { debugLine } from './output.js';
import { ToolHost } from './tool-host.js';

interface LbArgs extends FabricChoice {
  interface?: string;
  pipes?: string[];
  extraBufs?: string;
  batch?: string;
  waitLink?: string;
  busyWait?: boolean;
  logInterval?: string;
  stdoutInterval?: string;
}

const DEFAULT_PIPES = 2;
const DEFAULT_BATCH = 2048;
const DEFAULT_WAIT = 2;

export function lbCommand(): Command {
  const command = new Command('lb')
    .summary('spread the flows of a netmap port over pipes')
    .description("netmap's lb: hands the frames of a port to pipes, each flow to one of them, without copies.")
    .helpOption('-h, --help', 'show this')
    .option('-i, --interface <port>', 'the port, as nm_open reads it')
    .option(
      '-p, --pipes <[prefix:]n>',
      `a group of n pipes (default: ${DEFAULT_PIPES}) of the port, or of the port prefix; given again: a further group, which gets what the one before has done with`,
      (value, before: string[] = []) => [...before, value],
    )
    .option('-B, --extra-bufs <n>', 'extra buffers for frames that wait (default: 0)')
    .option('-b, --batch <n>', `slots between two syncs of the port (default: ${DEFAULT_BATCH})`)
    .option('-w, --wait-link <s>', `seconds to wait before the start (default: ${DEFAULT_WAIT})`)
    .option('-W, --busy-wait', 'never sleep')
    .option(
      '-s, --log-interval <s>',
      'seconds between statistics on standard error, as lb writes them to syslog (default: 0, none)',
    )
    .option('-o, --stdout-interval <s>', 'seconds between statistics on standard output (default: 0, none)');
  return withFabricChoice(command)
    .addHelpText(
      'after',
      "\nReaders open the pipes' other ends: netmap:IF}0, vale0:p}1.\n\nExample:\n  netbe lb -i vale0:in -p 4 -B 4096 -o 1\n",
    )
    .action(async (args: LbArgs) => {
      process.exitCode = await runLb(parseLb(args), args);
    });
}

function say(text: string): void {
  process.stderr.write(`${debugLine('main', text)}\n`);
}

export function parseLb(args: LbArgs): LbStart {
  const { interface: given } = args;
  if (given === undefined) throw usageError('missing interface name', '-i', 'Name a port: netbe lb -i vale0:in -p 2.');
  const text = isPortName(given) ? given : `netmap:${given}`;
  const { kind, baseName } = parsePortName(text);
  const base = kind === 'vale' ? baseName : `netmap:${baseName}`;
  return {
    interface: text,
    groups: parseGroups(args.pipes ?? [''], base),
    extraBufs: number('B', args.extraBufs, 0, 0, 1 << 20),
    batch: number('b', args.batch, DEFAULT_BATCH, 1, 65535),
    busyWait: args.busyWait ?? false,
    stdoutInterval: number('o', args.stdoutInterval, 0, 0, 86400),
    logInterval: number('s', args.logInterval, 0, 0, 86400),
  };
}

/** Names of the pipes' master ends; groups on the same port count on. */
function parseGroups(specs: readonly string[], base: string): string[][] {
  const used = new Map<string, number>();
  return specs.map((spec) => {
    const [, prefix, count] = /^(?:(.*):)?(\d*)$/.exec(spec) ?? [];
    const pipes = count === '' || count === undefined ? DEFAULT_PIPES : Number(count);
    if (count === undefined || prefix === '' || pipes < 1 || pipes > 256)
      throw usageError(`-p ${spec}: not [prefix:]n with n from 1 to 256`, spec, 'Write -p 4, or -p other:4.');
    const name = prefix === undefined ? base : prefix.startsWith('vale') ? prefix : `netmap:${prefix}`;
    const first = used.get(name) ?? 0;
    used.set(name, first + pipes);
    return Array.from({ length: pipes }, (_, i) => `${name}{${first + i}`);
  });
}

function number(option: string, text: string | undefined, fallback: number, min: number, max: number): number {
  if (text === undefined) return fallback;
  const value = Number(text);
  if (/^\d{1,9}$/.test(text) && value >= min && value <= max) return value;
  throw usageError(`-${option} ${text}: not a number from ${min} to ${max}`, text);
}

async function runLb(start: LbStart, args: LbArgs): Promise<number> {
  const seconds = number('w', args.waitLink, DEFAULT_WAIT, 0, 3600);
  say(`interface is ${start.interface}`);
  const socket = portSocket(args);
  const host = new ToolHost({ tool: 'lb', socket, options: [start], counters: new SharedArrayBuffer(8) });
  await host.open();
  if (host.ownFabric) say(`no fabric is running: made one of its own, which others join at ${socket}`);
  for (const until = Date.now() + seconds * 1000; Date.now() < until && !host.cancelled; ) await sleep(50);
  host.go();
  const [good] = await host.end();
  return good ? 0 : 1;
}
