/** The commands of ngctl(8), in the order in which `help` lists them. */
import type { NgctlCommand, NgctlContext } from './command.js';
import { dotCommand } from './dot-command.js';
import { connectCommand, mkpeerCommand, nameCommand, rmhookCommand, shutdownCommand } from './graph-commands.js';
import { configCommand, listCommand, showCommand, statusCommand, typesCommand } from './list-commands.js';
import { msgCommand, writeCommand } from './msg-commands.js';

/** columns of a description */
const HELP_COLUMNS = 64;

const debugCommand: NgctlCommand = {
  usage: 'debug [level]',
  summary: 'Get or set the level of debugging',
  help: 'Without "level" the level is told. "+" and "-" raise and lower it by one, a number sets it.',
  run(context, argv) {
    if (argv.length > 2) return 'usage';
    const word = argv[1];
    if (word === undefined) context.print(`Current debug level is ${context.debugLevel}`);
    else if (word === '+' || word === '-') context.debugLevel += word === '+' ? 1 : -1;
    else {
      const level = Number.parseInt(word, 10) || 0;
      if (level < 0) return 'usage';
      context.debugLevel = level;
    }
    return 'ok';
  },
};

const helpCommand: NgctlCommand = {
  usage: 'help [command]',
  summary: 'List the commands, or tell more about one',
  aliases: ['?'],
  run(context, argv) {
    if (argv.length === 1) {
      context.print('Available commands:');
      for (const { usage, summary } of ngctlCommands) context.print(`  ${nameOf(usage).padEnd(10)} ${summary}`);
      return 'ok';
    }
    const found = findCommand(argv[1] as string);
    // as the original: what is not found is told, and no error
    if (typeof found === 'string') context.warn(found);
    else describe(context, found);
    return 'ok';
  },
};

function describe(context: NgctlContext, { usage, summary, help, aliases = [] }: NgctlCommand): void {
  context.print(`usage:    ${usage}`);
  if (aliases.length > 0) context.print(`Aliases:  ${aliases.join(', ')}`);
  context.print(`Summary:  ${summary}`);
  if (help === undefined) return;
  context.print('Description:');
  for (const line of wrap(help)) context.print(`  ${line}`);
}

function wrap(text: string): string[] {
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const line = lines.at(-1);
    if (line === undefined || line.length + 1 + word.length > HELP_COLUMNS) lines.push(word);
    else lines[lines.length - 1] = `${line} ${word}`;
  }
  return lines;
}

const readCommand: NgctlCommand = {
  usage: 'read <filename>',
  summary: 'Run the commands in a file',
  aliases: ['source', '.'],
  // the file is the caller's business: see files.ts
  run: () => 'usage',
};

const quitCommand: NgctlCommand = {
  usage: 'quit',
  summary: 'End this program',
  aliases: ['exit'],
  run: () => 'quit',
};

export const ngctlCommands: readonly NgctlCommand[] = [
  configCommand,
  connectCommand,
  debugCommand,
  dotCommand,
  helpCommand,
  listCommand,
  mkpeerCommand,
  msgCommand,
  nameCommand,
  readCommand,
  rmhookCommand,
  showCommand,
  shutdownCommand,
  statusCommand,
  typesCommand,
  writeCommand,
  quitCommand,
];

function nameOf(usage: string): string {
  return usage.split(' ', 1)[0] as string;
}

/** The command of which `word` is a beginning, or of one of whose aliases; or what is wrong with it. */
export function findCommand(word: string): NgctlCommand | string {
  const start = word.toLowerCase();
  const found = ngctlCommands.filter(({ usage, aliases = [] }) =>
    [nameOf(usage), ...aliases].some((name) => name.startsWith(start)),
  );
  if (found.length > 1) return `"${word}": ambiguous command`;
  return found[0] ?? `"${word}": unknown command`;
}
