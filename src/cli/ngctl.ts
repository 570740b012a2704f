/**
 * netbe ngctl: ngctl(8) for the graph of a running fabric, with the original's commands, options and exit
 * status. Commands run in the fabric; files are this process's own.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { Command } from 'commander';
import type { NgctlClient } from '../control/ngctl-client.js';
import { EX_NOINPUT, EX_OK, EX_OSERR, EX_USAGE } from '../netgraph/ngctl/command.js';
import { ngctlCommands } from '../netgraph/ngctl/commands.js';
import { scriptLines, splitFiles, writeBytes } from '../netgraph/ngctl/files.js';
import { connect, type FabricChoice, withFabricChoice } from './command.js';
import { ngctlHistory } from './ngctl-history.js';

const PROMPT = '+ ';
/** `read` within a file that is read */
const MAX_NESTED_SCRIPTS = 16;
const STDIN = '-';

interface NgctlOptions extends FabricChoice {
  debug?: number;
  file?: string;
  name?: string;
}

const optionsWithValue = new Set(['-f', '--file', '-n', '--name', '--fabric', '--control']);

/**
 * The arguments of netbe with "--" before the command of ngctl: from there on options are the command's, as
 * that of `ngctl show -n br0:`.
 */
export function separateNgctl(argv: readonly string[]): string[] {
  const name = argv.findIndex((arg) => !arg.startsWith('-'));
  if (argv[name] !== 'ngctl') return [...argv];
  let at = name + 1;
  while (at < argv.length && /^-./.test(argv[at]!) && argv[at] !== '--') at += optionsWithValue.has(argv[at]!) ? 2 : 1;
  return argv[at] === '--' ? [...argv] : [...argv.slice(0, at), '--', ...argv.slice(at)];
}

export function ngctlCommand(): Command {
  const commands = ngctlCommands.map(({ usage, summary }) => `  ${usage.padEnd(40)} ${summary}`);
  return withFabricChoice(new Command('ngctl'))
    .summary("the fabric's netgraph, with the commands of ngctl(8)")
    .description("Shows and changes the fabric's netgraph. Without a command it asks for them, if on a terminal.")
    .argument('[command...]', 'a command and its arguments')
    .option('-d, --debug', 'raise the level of debugging; any number', (_, level: number) => level + 1, 0)
    .option('-f, --file <file>', 'run the commands in a file; - is standard input')
    .option('-n, --name <name>', 'name of the node of this program (default: ngctl and its process ID)')
    .addHelpText(
      'after',
      `\nCommands:\n${commands.join('\n')}\n\nExit status: 0, 64 wrong usage, 66 no such file, 71 anything else.\n\n` +
        'Examples:\n  netbe ngctl list\n  netbe ngctl msg br0: getstats 1\n  netbe ngctl -f graph.ngctl\n  netbe ngctl dot | dot -Tsvg > graph.svg\n',
    )
    .action(async (words: string[], options: NgctlOptions) => {
      process.exitCode = await ngctl(words, options);
    });
}

async function ngctl(words: readonly string[], options: NgctlOptions): Promise<number> {
  const terminal = process.stdin.isTTY === true && process.stdout.isTTY === true;
  if (words.length === 0 && options.file === undefined && !terminal) {
    warn('no command specified');
    warn('usage: ngctl [-d] [-f file] [-n name] [command ...]');
    return EX_USAGE;
  }
  const script = words.length === 0 && options.file !== undefined ? readScript(options.file) : undefined;
  if (script === null) return EX_NOINPUT;
  const session = await connect(options).openNgctl(options.name ?? `ngctl${process.pid}`);
  const client = new Client(session);
  session.onEnd = () => {
    warn('the fabric has ended');
    process.exit(EX_OSERR);
  };
  try {
    if (options.debug) await client.command(['debug', String(options.debug)]);
    if (words.length > 0) return (await client.command(words)).status;
    if (script !== undefined) return await client.script(script, 0);
    return await interactive(client, session);
  } finally {
    session.close();
  }
}

function warn(text: string): void {
  process.stderr.write(`ngctl: ${text}\n`);
}

/** The text of a script; null when it cannot be read, which has been told. */
function readScript(path: string): string | null {
  try {
    return readFileSync(path === STDIN ? 0 : path, 'utf8');
  } catch (error) {
    warn(`${path}: ${reasonOf(error)}`);
    return null;
  }
}

const reasons: Record<string, string> = {
  ENOENT: 'No such file or directory',
  EACCES: 'Permission denied',
  EISDIR: 'Is a directory',
};

function reasonOf(error: unknown): string {
  const { code = 'EIO', message } = error as NodeJS.ErrnoException;
  return reasons[code] ?? message;
}

interface Outcome {
  status: number;
  quit: boolean;
}

const failed: Outcome = { status: EX_OSERR, quit: false };

/** Runs commands: those that are about files here, the others in the fabric. */
class Client {
  readonly #session: NgctlClient;

  constructor(session: NgctlClient) {
    this.#session = session;
  }

  async command(words: readonly string[], depth = 0): Promise<Outcome> {
    const { argv, script, input, outputFile } = splitFiles(words);
    if (script !== undefined) return this.#read(script, depth);
    const whole = input === undefined ? argv : appendInput(argv, input);
    if (whole === undefined) return failed;
    const { output, error, status, quit } = await this.#session.run(whole);
    process.stderr.write(error);
    if (outputFile === undefined) process.stdout.write(output);
    else if (status === EX_OK && !store(outputFile, output)) return failed;
    return { status, quit };
  }

  /** Runs the commands of a script; the first that fails ends it. */
  async script(text: string, depth: number): Promise<number> {
    for (const { line, number } of scriptLines(text)) {
      const { status, quit } = await this.command(wordsOf(line), depth);
      if (status !== EX_OK) {
        warn(`line ${number}: error in file`);
        return status;
      }
      if (quit) break;
    }
    return EX_OK;
  }

  async #read(path: string, depth: number): Promise<Outcome> {
    if (depth === MAX_NESTED_SCRIPTS) {
      warn(`${path}: files read each other, ${MAX_NESTED_SCRIPTS} deep`);
      return failed;
    }
    const text = readScript(path);
    return text === null ? failed : { status: await this.script(text, depth + 1), quit: false };
  }
}

function wordsOf(line: string): string[] {
  return line.split(/\s+/).filter((word) => word !== '');
}

function appendInput(argv: readonly string[], path: string): string[] | undefined {
  try {
    const bytes = writeBytes(readFileSync(path));
    if (bytes !== undefined) return [...argv, ...bytes];
    warn(`file "${path}" is empty`);
  } catch (error) {
    warn(`${path}: ${reasonOf(error)}`);
  }
  return undefined;
}

function store(path: string, text: string): boolean {
  try {
    writeFileSync(path, text);
    return true;
  } catch (error) {
    warn(`${path}: ${reasonOf(error)}`);
    return false;
  }
}

/** Asks for commands until `quit` or the end of the input. What comes to the node is shown in between. */
async function interactive(client: Client, session: NgctlClient): Promise<number> {
  await client.command(['help']);
  const history = ngctlHistory();
  const prompt = createInterface({
    input: process.stdin,
    output: process.stdout,
    prompt: PROMPT,
    history: history.load(),
    historySize: history.size,
    removeHistoryDuplicates: true,
  });
  prompt.on('history', (lines) => history.save(lines));
  session.onText = (text) => {
    process.stdout.write(`\n${text}`);
    prompt.prompt(true);
  };
  prompt.prompt();
  for await (const line of prompt) {
    const words = wordsOf(line);
    if (words.length > 0 && (await client.command(words)).quit) break;
    prompt.prompt();
  }
  prompt.close();
  return EX_OK;
}
