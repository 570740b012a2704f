/** netbe bridge: netmap's bridge between two ports, or between an interface and its host's stack. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Command } from 'commander';
import { usageError } from '../../errors.js';
import { isPortName } from '../../netmap/port-name.js';
import { type FabricChoice, portSocket, withFabricChoice } from '../command.js';
import type { BridgeInfo, BridgeStart } from './bridge-loop.js';
import { debugLine } from './output.js';
import { ToolHost } from './tool-host.js';

interface BridgeArgs extends FabricChoice {
  interface?: string[];
  burst?: string;
  waitLink?: string;
  copy?: boolean;
  verbose?: number;
  loopback?: boolean;
}

const DEFAULT_BURST = 1024;
const MAX_BURST = 8192;
const DEFAULT_WAIT = 4;
const MAX_WAIT = 100;

export function bridgeCommand(): Command {
  const command = new Command('bridge')
    .summary('move frames between two netmap ports')
    .description("netmap's bridge: moves frames between two ports both ways, without copies where they share memory.")
    .helpOption('-h, --help', 'show this')
    .argument('[ifa]', 'the one port, instead of the first -i')
    .argument('[ifb]', 'the other one')
    .argument('[burst]', 'instead of -b')
    .option('-i, --interface <port>', 'a port, as nm_open reads it; twice', (value, before: string[] = []) => [
      ...before,
      value,
    ])
    .option('-b, --burst <n>', `slots moved at a time, 1 to ${MAX_BURST} (default: ${DEFAULT_BURST})`)
    .option('-w, --wait-link <s>', `seconds to wait before the start, 0 to ${MAX_WAIT} (default: ${DEFAULT_WAIT})`)
    .option('-c, --copy', 'copy, although buffers could be swapped')
    .option('-v, --verbose', 'say more', (_, before: number = 0) => before + 1)
    .option('-L, --loopback', 'one port only: send back what comes, instead of handing it to the host');
  return withFabricChoice(command)
    .addHelpText(
      'after',
      '\nWith one port, or twice the same, frames go between the interface and its host rings.\n\nExamples:\n  netbe bridge -i netmap:eth0 -i vale0:up\n  netbe bridge -w 0 netmap:eth0\n',
    )
    .action(async (a: string | undefined, b: string | undefined, burst: string | undefined, args: BridgeArgs) => {
      process.exitCode = await runBridge(parse(a, b, burst, args), args);
    });
}

function say(text: string): void {
  process.stderr.write(`${debugLine('main', text)}\n`);
}

function parse(a: string | undefined, b: string | undefined, burst: string | undefined, args: BridgeArgs): BridgeStart {
  const [first, second, ...rest] = args.interface ?? [];
  for (const other of rest) say(`${other} ignored, already have 2 interfaces`);
  const ifa = a ?? first;
  if (ifa === undefined)
    throw usageError('missing interface', '-i', 'Name two ports: netbe bridge -i netmap:eth0 -i vale0:up.');
  const ifb = b ?? (a === undefined ? second : undefined) ?? ifa;
  const same = ifa === ifb;
  if (same) say(args.loopback ? 'same interface, loopbacking traffic' : 'same interface, endpoint 0 goes to host');
  return {
    a: same && !args.loopback ? `${withPrefix(ifa)}^` : withPrefix(ifa),
    b: withPrefix(ifb),
    burst: bounded('burst', burst ?? args.burst, DEFAULT_BURST, 1, MAX_BURST),
    zerocopy: !args.copy,
    verbose: args.verbose ?? 0,
  };
}

/** As bridge does: what is out of range becomes the default. */
function bounded(what: string, text: string | undefined, fallback: number, min: number, max: number): number {
  if (text === undefined) return fallback;
  const value = Number(text);
  if (Number.isInteger(value) && value >= min && value <= max) return value;
  say(`invalid ${what} ${text}, set to ${fallback}`);
  return fallback;
}

function withPrefix(text: string): string {
  return isPortName(text) ? text : `netmap:${text}`;
}

async function runBridge(start: BridgeStart, args: BridgeArgs): Promise<number> {
  const seconds = bounded('wait_link', args.waitLink, DEFAULT_WAIT, 0, MAX_WAIT);
  const socket = portSocket(args);
  const host = new ToolHost({ tool: 'bridge', socket, options: [start], counters: new SharedArrayBuffer(8) });
  const [info] = (await host.open()) as [BridgeInfo];
  if (host.ownFabric) say(`no fabric is running: made one of its own, which others join at ${socket}`);
  say(`------- zerocopy ${info.zerocopy ? '' : 'NOT '}supported`);
  say(`Wait ${seconds} secs for link to come up...`);
  for (const until = Date.now() + seconds * 1000; Date.now() < until && !host.cancelled; ) await sleep(50);
  say(`Ready to go, ${info.a.name} 0x0/${info.a.rings} <-> ${info.b.name} 0x0/${info.b.rings}.`);
  host.go();
  const [good] = await host.end();
  return good ? 0 : 1;
}
