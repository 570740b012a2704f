/** The sandbox on the command line: its options, and what is in force, in words. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import type { SandboxInfo } from '../control/fabric-types.js';
import { usageError } from '../errors.js';
import { plural } from './format.js';

export interface SandboxChoice {
  /** false with --no-sandbox */
  sandbox: boolean;
  user?: string;
  allowPath?: string[];
}

function collect(value: string, before: string[] = []): string[] {
  return [...before, value];
}

export function withSandboxOptions(command: Command): Command {
  return command
    .option('--no-sandbox', 'keep all rights, to debug (default: give up what is not needed)')
    .option('--user <name>', 'user to become, when root (default: stay who you are)')
    .option('--allow-path <folder>', 'folder for sockets of NICs that are added later; any number', collect);
}

/** What enterSandbox needs of the options; undefined: --no-sandbox. */
export async function sandboxChoice({ sandbox, user, allowPath = [] }: SandboxChoice) {
  if (!sandbox) {
    if (user !== undefined) throw usageError(`--user ${user} has no meaning with --no-sandbox`, user);
    return undefined;
  }
  return { user: user === undefined ? undefined : await checkUser(user), allowPaths: allowPath.map((p) => resolve(p)) };
}

async function checkUser(name: string) {
  const { findUser } = await import('../sys/user.js');
  const user = findUser(name);
  if (user === undefined) throw usageError(`there is no user "${name}"`, name);
  const self = process.getuid?.();
  if (self === user.uid) return undefined;
  if (self !== 0)
    throw usageError(`only root can become user ${name}`, name, 'Leave --user out, or start netbe as that user.');
  return user;
}

/** What is in force, for `netbe show`. */
export function sandboxLines(info: SandboxInfo): string {
  const { state, missing, user, landlock, seccomp, threads } = info;
  const without = missing.map((what) => `  not in force: ${what}`);
  if (state === 'off') return ['sandbox: off', ...without].join('\n');
  const kept = [...new Set(threads.flatMap((t) => t.capabilities))];
  const all = (has: boolean) => (has ? `on all ${threads.length} threads` : 'not on all threads');
  const lines = [
    `sandbox: ${state}`,
    `  user ${user}, ${kept.length === 0 ? 'no capabilities' : kept.join(', ')}; no new privileges ${all(threads.every((t) => t.noNewPrivs))}`,
  ];
  if (seccomp)
    lines.push(`  seccomp filter, ${seccomp.syscalls} system calls allowed, ${all(threads.every((t) => t.seccomp))}`);
  if (landlock) {
    const writable = landlock.paths
      .filter(({ access }) => access !== 'read')
      .map(({ path, access }) => `${path} (${access})`);
    lines.push(
      `  Landlock (version ${landlock.abi}), TCP ${landlock.tcp}; reads ${plural(landlock.paths.length - writable.length, 'place')}, writes only`,
    );
    for (const place of writable) lines.push(`    ${place}`);
  }
  return [...lines, ...without].join('\n');
}
