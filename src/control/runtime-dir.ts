/**
 * Where the control sockets of running fabrics are: $XDG_RUNTIME_DIR/netbe, else /run/netbe for root and
 * netbe-UID in the temporary folder for others. The folder is ours alone (0700), and one socket in it,
 * NAME.sock, is a running fabric, or was one.
 */
import { lstatSync, mkdirSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { NetbeError } from '../errors.js';
import { checkName } from './nic-spec.js';

export interface Identity {
  uid: number;
  env: NodeJS.ProcessEnv;
}

function self(): Identity {
  return { uid: process.getuid?.() ?? 0, env: process.env };
}

export function runtimeDir({ uid, env }: Identity = self()): string {
  const xdg = env.XDG_RUNTIME_DIR;
  if (xdg?.startsWith('/')) return join(xdg, 'netbe');
  return uid === 0 ? '/run/netbe' : join(tmpdir(), `netbe-${uid}`);
}

export function controlSocketPath(fabricName: string, identity: Identity = self()): string {
  return join(runtimeDir(identity), `${checkName(fabricName)}.sock`);
}

/** The port socket beside a control socket: PATH without ".sock", and ".netmap". */
export function portSocketPath(control: string): string {
  return `${control.replace(/\.sock$/, '')}.netmap`;
}

/** Makes the folder, or checks that nobody else can put sockets there (the temporary folder is everybody's). */
export function ensureRuntimeDir(identity: Identity = self()): string {
  const dir = runtimeDir(identity);
  const remedy = 'Set XDG_RUNTIME_DIR to a folder of your own, or choose the control socket with --control PATH.';
  try {
    mkdirSync(dir, { recursive: true, mode: 0o700 });
  } catch (cause) {
    const { code = 'EIO' } = cause as NodeJS.ErrnoException;
    throw new NetbeError(`cannot make the runtime directory ${dir}: ${code}`, {
      code,
      kind: 'environment',
      subject: dir,
      remedy,
      cause,
    });
  }
  const stat = lstatSync(dir);
  if (!stat.isDirectory() || stat.uid !== identity.uid || (stat.mode & 0o022) !== 0)
    throw new NetbeError(`the runtime directory ${dir} is not a folder that only user ${identity.uid} can write`, {
      code: 'EACCES',
      kind: 'environment',
      subject: dir,
      remedy,
    });
  return dir;
}

/** Names of the fabrics that have a control socket; some may be dead. */
export function knownFabrics(identity: Identity = self()): string[] {
  try {
    return readdirSync(runtimeDir(identity))
      .filter((file) => file.endsWith('.sock'))
      .map((file) => file.slice(0, -'.sock'.length))
      .sort();
  } catch {
    return [];
  }
}
