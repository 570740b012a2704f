/**
 * npm run setup [-- COMPONENT… | --list | --dry-run]: fetches what the tests, the demo and the benches
 * need besides npm packages, as an ordinary user, into a cache folder.
 */
import { parseArgs } from 'node:util';
import { exitStatus, NetbeError, usageError } from '../src/errors.js';
import { cacheDir, componentDir } from './setup/cache.js';
import { components } from './setup/components.js';
import { chooseComponents, setUp, stateOf } from './setup/install.js';

const usage = `Usage: npm run setup [-- COMPONENT… | --list | --dry-run]

Fetches Debian packages into a cache folder and unpacks them there: no root, nothing is installed.
Without COMPONENT: everything that npm test and npm run demo need.

Components
${components.map((c) => `  ${c.name.padEnd(8)} ${c.purpose}${c.byDefault ? '' : ' (only if named)'}`).join('\n')}

Options
  --list      what is there, and where
  --dry-run   what would be downloaded

Environment
  NETBE_CACHE           the cache folder (now ${cacheDir()})
  NETBE_DEBIAN_MIRROR   a Debian mirror, where the system's apt sources name none
  NETBE_UML             a user-mode-linux kernel of your own
  NETBE_QEMU            a qemu-system-x86_64 of your own
  NETBE_QEMU11          another, 10.1 or newer, for what needs vfio-user
`;

function list(): void {
  for (const c of components) {
    const state = stateOf(c);
    const where = state === 'ready' ? componentDir(c.name) : state === 'yours' ? process.env[c.override!.variable] : '';
    process.stdout.write(`${c.name.padEnd(8)} ${state.padEnd(8)} ${where}\n`);
  }
}

async function main(): Promise<void> {
  let args: ReturnType<typeof parse>;
  try {
    args = parse();
  } catch (error) {
    throw usageError((error as Error).message, undefined, 'See npm run setup -- --help');
  }
  const { values, positionals } = args;
  if (values.help) process.stdout.write(usage);
  else if (values.list) list();
  else {
    const chosen = chooseComponents(positionals);
    await setUp(chosen, { dryRun: values['dry-run'] });
    if (!values.quiet && !values['dry-run'])
      process.stderr.write(`Set-up complete: ${chosen.map((c) => c.name).join(', ')}\n`);
  }
}

function parse() {
  return parseArgs({
    allowPositionals: true,
    options: {
      help: { type: 'boolean', short: 'h' },
      list: { type: 'boolean' },
      'dry-run': { type: 'boolean' },
      quiet: { type: 'boolean' },
    },
  });
}

try {
  await main();
} catch (error) {
  if (!(error instanceof NetbeError)) throw error;
  process.stderr.write(`setup: ${error.message}\n${error.remedy ? `${error.remedy}\n` : ''}`);
  process.exitCode = exitStatus(error.kind);
}
