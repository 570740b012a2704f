/**
 * npm run bench [-- --only NAME] [--json] [--list] [--quick]
 *
 * Runs the benches one after the other and prints a line for each figure. Progress goes to standard
 * error. A bench that lacks something says what, and the others go on.
 */
import { loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import { exitStatus, NetbeError, usageError } from '../src/errors.js';
import { e1000 } from './e1000.js';
import { guestRtt } from './guest-rtt.js';
import { guestTcp } from './guest-tcp.js';
import { netgraphForward } from './netgraph-forward.js';
import { netgraphPipe } from './netgraph-pipe.js';
import { netgraphVhostUser } from './netgraph-vhost-user.js';
import { netmapIf } from './netmap-if.js';
import { netmapPipe } from './netmap-pipe.js';
import { netmapPktGen } from './netmap-pkt-gen.js';
import { netmapVale } from './netmap-vale.js';
import { portScaling } from './port-scaling.js';
import { type Bench, type BenchOptions, type BenchResult, BenchSkipped } from './support/bench.js';
import { switchForward } from './switch-forward.js';
import { tap } from './tap.js';
import { tapForward } from './tap-forward.js';
import { unsharedMemory } from './unshared-memory.js';
import { vfioUserRegisters } from './vfio-user-registers.js';
import { vhostUserForward } from './vhost-user-forward.js';

const benches: readonly Bench[] = [
  switchForward,
  vhostUserForward,
  e1000,
  unsharedMemory,
  vfioUserRegisters,
  guestTcp,
  guestRtt,
  portScaling,
  netgraphForward,
  netgraphVhostUser,
  netgraphPipe,
  tap,
  tapForward,
  netmapIf,
  netmapVale,
  netmapPipe,
  netmapPktGen,
];

const usage = `Usage: npm run bench [-- --only NAME]… [--json] [--quick] [--list]

  --only NAME  only this bench; may be given several times
  --json       one JSON line a figure
  --quick      short measurements: does it work? Not figures to quote
  --list       the benches, one a line
`;

const full = { runs: 9, ms: 1000 };
const quick = { runs: 3, ms: 200 };

function choose(names: readonly string[]): readonly Bench[] {
  if (names.length === 0) return benches;
  return names.map((name) => {
    const found = benches.find((b) => b.name === name);
    if (found) return found;
    throw usageError(`no bench "${name}"; there are ${benches.map((b) => b.name).join(', ')}`, name);
  });
}

function describe(r: BenchResult): string {
  const params = Object.entries(r.params).map(([key, value]) => `${key}=${value}`);
  const beside = r.reference ? `  ${r.reference.name} ${r.reference.median}  ratio ${r.ratio}` : '';
  return `${r.name} ${params.join(' ')}: ${r.median} ${r.unit} (${r.min} to ${r.max}, ${r.runs} runs)${beside}`;
}

/** Another busy process spoils every figure of a machine with few cores. */
function warnOfLoad(): void {
  const [lastMinute = 0] = loadavg();
  if (lastMinute > 0.5)
    process.stderr.write(`The load of the last minute is ${lastMinute.toFixed(1)}: figures may be too low.\n`);
}

function parse() {
  try {
    return parseArgs({
      options: {
        only: { type: 'string', multiple: true, default: [] },
        json: { type: 'boolean', default: false },
        list: { type: 'boolean', default: false },
        quick: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    }).values;
  } catch (error) {
    throw usageError((error as Error).message, undefined, 'See npm run bench -- --help');
  }
}

async function runAll(chosen: readonly Bench[], length: { runs: number; ms: number }, json: boolean): Promise<void> {
  warnOfLoad();
  for (const bench of chosen) {
    const options: BenchOptions = {
      ...length,
      progress: (message) => process.stderr.write(`${bench.name}: ${message} …\n`),
    };
    try {
      for await (const result of bench.run(options))
        process.stdout.write(`${json ? JSON.stringify(result) : describe(result)}\n`);
    } catch (error) {
      if (!(error instanceof BenchSkipped)) throw error;
      process.stderr.write(`${bench.name}: skipped: ${error.message}\n`);
    }
  }
}

async function main(): Promise<void> {
  const args = parse();
  if (args.help) process.stdout.write(usage);
  else if (args.list) for (const b of benches) process.stdout.write(`${b.name.padEnd(20)} ${b.summary}\n`);
  else await runAll(choose(args.only), args.quick ? quick : full, args.json);
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(130));
try {
  await main();
} catch (error) {
  if (!(error instanceof NetbeError)) throw error;
  process.stderr.write(`bench: ${error.message}${error.remedy ? `\n${error.remedy}` : ''}\n`);
  process.exitCode = exitStatus(error.kind);
}
