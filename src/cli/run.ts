/** netbe run (NICs from -s, as in bhyve) and netbe up (a fabric file). */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Command, InvalidArgumentError, Option } from 'commander';
import type { NicSpec } from '../control/fabric-types.js';
import { checkName, duplicateError, findDuplicate, resolveNic } from '../control/nic-spec.js';
import { DEFAULT_FABRIC_NAME, DEFAULT_SPIN_US, type LogLevel, logLevels } from '../control/schema.js';
import { parseSlotSpec } from '../control/slot-spec.js';
import { NetbeError, usageError } from '../errors.js';
import { scriptLines } from '../netgraph/ngctl/files.js';
import { type FabricChoice, print, withFabricChoice } from './command.js';
import type { ForegroundOptions } from './foreground.js';
import { plural } from './format.js';
import { backendsHelp, slotHelp } from './help.js';
import { type SandboxChoice, sandboxChoice, withSandboxOptions } from './sandbox.js';

interface LogOptions {
  logLevel?: LogLevel;
  logJson?: boolean;
}

interface RunOptions extends FabricChoice, LogOptions, SandboxChoice {
  slot?: string[];
  strictMemory?: boolean;
  spinUs?: number;
  backend?: string[];
  netgraph?: string;
}

function collect(value: string, before: string[] = []): string[] {
  return [...before, value];
}

function withLogOptions(command: Command): Command {
  return command
    .addOption(new Option('--log-level <level>', 'least severe message to log (default: info)').choices(logLevels))
    .option('--log-json', 'log JSON lines to standard error, and print nothing else');
}

export function runCommand(): Command {
  const command = new Command('run')
    .summary("run a fabric of NICs in the foreground, with bhyve's -s")
    .description('Runs a fabric in the foreground until Ctrl-C.')
    .option('-s, --slot <spec>', 'a NIC: slot[:func],emulation,backend[,key=value...]; any number', collect)
    .option('--strict-memory', 'refuse guest memory whose file could be shrunk')
    .option('--spin-us <n>', `microseconds to poll a port that has no work (default: ${DEFAULT_SPIN_US})`, parseSpin)
    .option('--netgraph <file>', 'commands of ngctl that make the graph that NICs join; run first')
    .option('--backend <module>', 'JavaScript module with a backend of your own; any number', collect);
  return withSandboxOptions(withLogOptions(withFabricChoice(command)))
    .addHelpText(
      'after',
      `\n${slotHelp()}\n\n${backendsHelp()}\n\nExamples:\n  netbe run -s 2:0,virtio-net,vale0:vm1,socket=vm1.sock -s 3:0,virtio-net,vale0:vm2,socket=vm2.sock\n  netbe run -s help\n`,
    )
    .action(run);
}

function parseSpin(text: string): number {
  const n = Number(text);
  if (!/^\d{1,7}$/.test(text) || n > 1_000_000) throw new InvalidArgumentError('Give microseconds from 0 to 1000000.');
  return n;
}

async function run(options: RunOptions): Promise<void> {
  const texts = options.slot ?? [];
  if (texts.includes('help')) return print(`${slotHelp()}\n\n${backendsHelp()}`);
  if (texts.length === 0 && options.netgraph === undefined)
    throw usageError(
      'no NIC is given',
      '-s',
      'Give one with -s 2:0,virtio-net,vale0:vm1,socket=vm1.sock; netbe run --help shows more.',
    );
  const backends = (options.backend ?? []).map((module) => pathToFileURL(resolve(module)));
  const nics = texts.map((text): NicSpec => {
    const spec = parseSlotSpec(text, { ownBackends: backends.length > 0 });
    return { ...spec, socket: resolve(spec.socket) };
  });
  const dup = findDuplicate(nics.map((nic) => resolveNic(nic)));
  if (dup) throw duplicateError(dup, (i) => `-s ${texts[i]}`);
  await inForeground({
    name: checkName(options.fabric ?? DEFAULT_FABRIC_NAME),
    control: options.control === undefined ? undefined : resolve(options.control),
    log: { level: options.logLevel ?? 'info', format: options.logJson ? 'json' : 'auto' },
    netgraph: options.netgraph === undefined ? [] : graphCommands(options.netgraph),
    nics,
    patches: [],
    poll: options.spinUs === undefined ? {} : { spinUs: options.spinUs },
    strictMemory: options.strictMemory ?? false,
    backends,
    sandbox: options,
    reads: options.netgraph === undefined ? [] : [resolve(options.netgraph)],
  });
}

function graphCommands(path: string): string[] {
  try {
    return scriptLines(readFileSync(path, 'utf8')).map(({ line }) => line);
  } catch (error) {
    const { code = 'EIO', message } = error as NodeJS.ErrnoException;
    throw new NetbeError(`--netgraph ${path}: ${message}`, { code, kind: 'usage', subject: path });
  }
}

export function upCommand(): Command {
  const command = new Command('up')
    .summary('run the fabric of a file in the foreground')
    .description('Runs the fabric that a YAML file describes, in the foreground until Ctrl-C.')
    .argument('<file>', 'fabric file')
    .option('--check', 'check the file, and run nothing');
  return withSandboxOptions(withLogOptions(withFabricChoice(command)))
    .addHelpText(
      'after',
      '\nA file:\n  nics:\n    - backend: vale0:vm1\n      socket: vm1.sock\n    - backend: vale0:vm2\n      socket: vm2.sock\n      mtu: 9000\n\nAll keys: docs/fabric-yaml.md; netbe schema fabric prints the JSON Schema.\n\n' +
        'Examples:\n  netbe up fabric.yaml\n  netbe up fabric.yaml --check\n',
    )
    .action(async (file: string, options: FabricChoice & LogOptions & SandboxChoice & { check?: boolean }) => {
      const { loadConfig } = await import('../control/config.js');
      const config = loadConfig(file);
      if (options.check) return print(`${file} is right: ${plural(config.nics.length, 'NIC')}`);
      const format = options.logJson ? 'json' : config.log.format;
      await inForeground({
        ...config,
        name: checkName(options.fabric ?? config.name),
        control: options.control === undefined ? config.control : resolve(options.control),
        log: { level: options.logLevel ?? config.log.level, format },
        sandbox: options,
        reads: [resolve(file)],
      });
    });
}

type Launch = Omit<ForegroundOptions, 'sandbox'> & {
  sandbox: SandboxChoice;
  /** files that the sandbox must leave readable */
  reads: string[];
};

/**
 * Runs the fabric in its sandbox: this process becomes itself anew, and comes by here once more. What is
 * needed only then is loaded then: the other commands start faster without an HTTP server.
 */
async function inForeground({ sandbox: choice, reads, ...options }: Launch): Promise<void> {
  const { ASKED_OFF, enterSandbox, noSandbox, resumeSandbox } = await import('../control/sandbox.js');
  let sandbox = resumeSandbox();
  if (sandbox === undefined) {
    const wanted = await sandboxChoice(choice);
    sandbox = noSandbox(wanted ? await enterSandbox({ ...options, ...wanted, reads }) : [ASKED_OFF]);
  }
  const { runInForeground } = await import('./foreground.js');
  await runInForeground({ ...options, sandbox });
}
