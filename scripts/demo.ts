/**
 * npm run demo [-- --json] [-- --host]: two real Linux guests on a VALE switch, from nothing, as an ordinary user.
 *
 * Exit status 0 only if everything worked. With --json the last line of standard output is the result,
 * and what happens is told on standard error.
 */
import { accessSync, constants } from 'node:fs';
import { tmpdir } from 'node:os';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { exitStatus, NetbeError, usageError } from '../src/errors.js';
import { Lab } from '../test/support/guest/lab.js';
import { enterNamespace, inOwnNamespace, tellHost } from './demo/host.js';
import { Screen } from './demo/screen.js';
import { people, tell } from './demo/story.js';
import { chooseComponents, setUp } from './setup/install.js';

const usage = `Usage: npm run demo [-- OPTIONS]

Boots two Linux guests (user-mode-linux) on a VALE switch and lets them talk. No root is needed.

Options
  --json            end with one line of JSON on standard output
  --host            instead, a guest reaches the host's network through a tap and through a veth pair; needs
                    root, for the namespaces in which all of it happens
  --pcapng FILE     where the first exchange is recorded (default: netbe-demo.pcapng)
`;

class Interrupted extends Error {
  constructor(readonly signal: NodeJS.Signals) {
    super(`stopped by ${signal}`);
  }
}

const signals = { SIGINT: 2, SIGTERM: 15, SIGHUP: 1 } as const;

/** Rejects at the first signal; further ones do not disturb the cleaning up. */
function interruption(): Promise<never> {
  return new Promise((_, reject) => {
    for (const signal of Object.keys(signals) as (keyof typeof signals)[]) {
      process.on(signal, () => reject(new Interrupted(signal)));
    }
  });
}

async function demo(json: boolean, pcapngFile: string): Promise<void> {
  const screen = new Screen(json ? process.stderr : process.stdout);
  const interrupted = interruption();
  await Promise.race([setUp(chooseComponents(['uml', 'guest'])), interrupted]);

  const started = Date.now();
  screen.title('netbe: two Linux guests on a VALE switch');
  const lab = await Lab.start(people.map(({ name }) => ({ name })));
  try {
    screen.result(
      'Fabric',
      `switch vale0, ports ${people.map((p) => p.name).join(' and ')}, no root, no kernel module`,
    );
    const result = await Promise.race([tell(lab, screen, pcapngFile), interrupted]);
    const seconds = Number(((Date.now() - started) / 1000).toFixed(1));
    await lab.close();
    screen.result('Done', `in ${seconds} s; guests ended, sockets and temporary files removed\n`);
    if (json) process.stdout.write(`${JSON.stringify({ ...result, seconds })}\n`);
  } finally {
    await lab.close();
  }
}

async function demoHost(json: boolean): Promise<void> {
  const screen = new Screen(json ? process.stderr : process.stdout);
  const interrupted = interruption();
  await Promise.race([setUp(chooseComponents(['uml', 'guest'])), interrupted]);
  const started = Date.now();
  screen.title("netbe: a Linux guest on the host's network");
  const result = await tellHost(screen, interrupted);
  const seconds = Number(((Date.now() - started) / 1000).toFixed(1));
  screen.result('Done', `in ${seconds} s; guest ended, namespaces and interfaces removed\n`);
  if (json) process.stdout.write(`${JSON.stringify({ ...result, seconds })}\n`);
}

function fail(error: unknown): void {
  const screen = new Screen(process.stderr);
  if (error instanceof Interrupted) {
    screen.error('Stopped; cleaned up.');
    process.exitCode = 128 + signals[error.signal as keyof typeof signals];
    return;
  }
  const { message } = error as Error;
  const known = error instanceof NetbeError ? error : undefined;
  screen.error(`The demo failed: ${message}${known?.remedy ? `\n${known.remedy}` : ''}`);
  process.exitCode = known ? exitStatus(known.kind) : 1;
}

/** In the current folder, or where that cannot be written among the temporary files. */
function defaultPcapng(): string {
  try {
    accessSync('.', constants.W_OK);
    return resolve('netbe-demo.pcapng');
  } catch {
    return resolve(tmpdir(), 'netbe-demo.pcapng');
  }
}

try {
  const { values } = parse();
  if (values.help) process.stdout.write(usage);
  else if (values.host && !inOwnNamespace()) process.exitCode = await enterNamespace();
  else if (values.host) await demoHost(values.json ?? false);
  else await demo(values.json ?? false, values.pcapng ? resolve(values.pcapng) : defaultPcapng());
} catch (error) {
  fail(error);
}
// whatever an interrupted step still waits for
process.exit();

function parse() {
  try {
    return parseArgs({
      options: {
        json: { type: 'boolean' },
        host: { type: 'boolean' },
        pcapng: { type: 'string' },
        help: { type: 'boolean', short: 'h' },
      },
    });
  } catch (error) {
    throw usageError((error as Error).message, undefined, 'See npm run demo -- --help');
  }
}
