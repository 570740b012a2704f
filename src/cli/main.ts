#!/usr/bin/env node
/**
 * The command line of netbe: one file a subcommand. Exit status: 0 success, 2 the request is wrong,
 * 3 the machine lacks something, 1 anything else.
 */
import { CommanderError } from 'commander';
import { printError, statusOf } from './errors.js';
import { separateNgctl } from './ngctl.js';
import { buildProgram } from './program.js';

const runsOnWithoutReader = new Set(['run', 'up', 'capture']);
// a reader that goes away (netbe ports | head) is no error; a fabric in the foreground runs on
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  if (!runsOnWithoutReader.has(process.argv[2] ?? '')) process.exit(0);
});

const program = buildProgram();
try {
  await program.parseAsync(separateNgctl(process.argv.slice(2)), { from: 'user' });
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 2;
  else {
    printError(error, program.opts().debug === true);
    process.exitCode = statusOf(error);
  }
}
