/**
 * The cache folder: what set-up downloads and builds, never inside the clone and never in the system.
 *
 *   CACHE/debian/NAME/          an unpacked component, complete as soon as it is there (renamed into place)
 *   CACHE/debian/NAME/.netbe    its manifest: recipe and package versions
 *   CACHE/debian/images/        boot images built from the components
 *   CACHE/debian/work/          downloads and apt's state while set-up runs; safe to delete at any time
 *
 * One set-up at a time works in a cache; a second one waits for the first. The lock belongs to the
 * process (flock), so that one that was killed leaves nothing behind.
 */
import { createHash } from 'node:crypto';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { NetbeError } from '../../src/errors.js';

/** NETBE_CACHE, else XDG_CACHE_HOME/netbe, else ~/.cache/netbe */
export function cacheDir(env: NodeJS.ProcessEnv = process.env): string {
  if (env.NETBE_CACHE) return resolve(env.NETBE_CACHE);
  if (env.XDG_CACHE_HOME) return join(resolve(env.XDG_CACHE_HOME), 'netbe');
  return join(homedir(), '.cache', 'netbe');
}

export const debianDir = (): string => join(cacheDir(), 'debian');
export const componentDir = (name: string): string => join(debianDir(), name);
export const imagesDir = (): string => join(debianDir(), 'images');
export const workDir = (): string => join(debianDir(), 'work');

export interface Manifest {
  /** hash of how the component is made; another one means: make it again */
  recipe: string;
  suite: string;
  /** name to version */
  packages: Record<string, string>;
}

export function hashOf(...parts: string[]): string {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part).update('\0');
  return hash.digest('hex').slice(0, 16);
}

/** The manifest of a component that is complete; null if it is not there. */
export function readManifest(name: string): Manifest | null {
  try {
    return JSON.parse(readFileSync(join(componentDir(name), '.netbe'), 'utf8')) as Manifest;
  } catch {
    return null;
  }
}

/** Puts a finished tree in the place of `name`, with its manifest, in one step. */
export function publishTree(name: string, tree: string, manifest: Manifest): void {
  writeFileSync(join(tree, '.netbe'), `${JSON.stringify(manifest, null, 2)}\n`);
  const target = componentDir(name);
  if (existsSync(target)) {
    // a directory cannot be renamed over one that has entries: out of the way first, deleted after
    const old = join(workDir(), `old-${name}-${process.pid}`);
    renameSync(target, old);
    renameSync(tree, target);
    rmSync(old, { recursive: true, force: true });
    return;
  }
  renameSync(tree, target);
}

/** Writes a file so that a reader sees all of it or none. */
export function publishFile(path: string, data: Uint8Array | string): void {
  const partial = `${path}.${process.pid}`;
  writeFileSync(partial, data);
  renameSync(partial, path);
}

export function makeCacheDir(dir: string): void {
  try {
    mkdirSync(dir, { recursive: true });
  } catch (cause) {
    throw new NetbeError(`cannot create the cache folder ${dir}: ${(cause as Error).message}`, {
      code: (cause as NodeJS.ErrnoException).code ?? 'EIO',
      kind: 'environment',
      subject: dir,
      remedy: 'Name a folder that you may write to: NETBE_CACHE=/path/to/folder.',
      cause,
    });
  }
}

/** Runs `work` as the only set-up in this cache. `onWait` is called once if another one is at it. */
export async function withCacheLock<T>(onWait: () => void, work: () => Promise<T>): Promise<T> {
  const { tryLockFile } = await import('../../src/sys/flock.js');
  makeCacheDir(workDir());
  const lock = openSync(join(debianDir(), 'lock'), 'a');
  try {
    for (let waited = false; !tryLockFile(lock); waited = true) {
      if (!waited) onWait();
      await sleep(200);
    }
    return await work();
  } finally {
    closeSync(lock);
  }
}
