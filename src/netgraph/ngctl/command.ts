/** What every command of ngctl is made of: its words, its run, and what it may use. */
import type { NgSocket } from '../nodes/socket.js';

/** Exit status (sysexits.h), as ngctl(8) ends with. */
export const EX_OK = 0;
export const EX_USAGE = 64;
export const EX_NOINPUT = 66;
export const EX_OSERR = 71;

/** `usage`: the arguments are wrong. `error`: it has been told why. */
export type CommandResult = 'ok' | 'usage' | 'error' | 'quit';

export interface NgctlContext {
  readonly socket: NgSocket;
  /** the level that `debug` gets and sets */
  debugLevel: number;
  /** for standard output, without newline */
  print(line: string): void;
  /** for standard error, behind "ngctl: " */
  warn(line: string): void;
}

export interface NgctlCommand {
  /** name and arguments, as `help` and a usage error tell them */
  readonly usage: string;
  readonly summary: string;
  readonly help?: string;
  readonly aliases?: readonly string[];
  /** argv[0] is what the person typed for the name. */
  run(context: NgctlContext, argv: readonly string[]): CommandResult;
}

/**
 * Options before the arguments, as getopt(3) takes them: `allowed` letters, alone or together, "--" ends them.
 * Undefined for a letter that there is not, which has been told.
 */
export function options(
  context: NgctlContext,
  argv: readonly string[],
  allowed: string,
): { letters: Set<string>; rest: readonly string[] } | undefined {
  const letters = new Set<string>();
  let i = 1;
  for (; i < argv.length; i++) {
    const arg = argv[i] as string;
    if (arg === '--') {
      i++;
      break;
    }
    if (!/^-./.test(arg)) break;
    for (const letter of arg.slice(1)) {
      if (!allowed.includes(letter)) {
        context.warn(`illegal option -- ${letter}`);
        return undefined;
      }
      letters.add(letter);
    }
  }
  return { letters, rest: argv.slice(i) };
}
