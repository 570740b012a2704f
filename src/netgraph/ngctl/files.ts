/**
 * What commands of ngctl do with files: `read FILE`, `dot FILE` and `write HOOK -f FILE`. They are the files of whoever
 * types the command, who may be another process or user than the fabric: so they are split off first.
 */
import { findCommand } from './commands.js';
import { WRITE_MAX_BYTES } from './msg-commands.js';

export interface SplitCommand {
  /** for runNgctl, when the file has been dealt with */
  argv: readonly string[];
  /** run the commands in this file instead: see scriptLines */
  script?: string;
  /** append the bytes of this file, as writeBytes gives them */
  input?: string;
  /** store the output in this file instead of printing it */
  outputFile?: string;
}

export function splitFiles(command: string | readonly string[]): SplitCommand {
  const argv = typeof command === 'string' ? command.split(/\s+/).filter((word) => word !== '') : command;
  const found = argv.length === 0 ? '' : findCommand(argv[0] as string);
  const name = typeof found === 'string' ? '' : found.usage.split(' ', 1)[0];
  const [first, second, third, fourth] = argv;
  if (name === 'read' && argv.length === 2) return { argv: [], script: second };
  if (name === 'dot' && argv.length === 2 && !second?.startsWith('-'))
    return { argv: [first as string], outputFile: second };
  if (name === 'write' && argv.length === 4 && third === '-f') return { argv: argv.slice(0, 2), input: fourth };
  return { argv };
}

/** The words of `write` that stand for a file's bytes; undefined for an empty file, which is an error. */
export function writeBytes(file: Uint8Array): string[] | undefined {
  if (file.length === 0) return undefined;
  return [...file.subarray(0, WRITE_MAX_BYTES)].map(String);
}

/** Commands of a script with their line numbers: lines that begin with # are none. */
export function scriptLines(text: string): { line: string; number: number }[] {
  return text
    .split('\n')
    .map((line, i) => ({ line, number: i + 1 }))
    .filter(({ line }) => !line.startsWith('#') && line.trim() !== '');
}
