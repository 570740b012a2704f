/**
 * Brings components into the cache: resolves, downloads, unpacks, publishes. Interrupted at any point,
 * the next run goes on: finished downloads are kept, half a tree is never mistaken for a whole one.
 */
import { mkdirSync, rmSync, statfsSync } from 'node:fs';
import { join } from 'node:path';
import { usageError } from '../../src/errors.js';
import { cannotFetch, type DebianPackage, missingTools, PrivateApt, suite } from './apt.js';
import {
  cacheDir,
  debianDir,
  hashOf,
  makeCacheDir,
  publishTree,
  readManifest,
  withCacheLock,
  workDir,
} from './cache.js';
import { type Component, components, hostArch, selectPackages } from './components.js';
import { megabytes, Progress } from './progress.js';

/** Raised when a component of the same packages is laid out in another way */
const layoutVersion = '1';

const recipeOf = (c: Component): string =>
  hashOf(layoutVersion, suite, hostArch(), JSON.stringify([c.roots, c.libraries, c.also]));

/** The named components; those of the tests if none is named. */
export function chooseComponents(names: readonly string[]): Component[] {
  if (names.length === 0) return components.filter((c) => c.byDefault);
  return names.map((name) => {
    const found = components.find((c) => c.name === name);
    if (found !== undefined) return found;
    throw usageError(`no component "${name}"; there are ${components.map((c) => c.name).join(', ')}`, name);
  });
}

export type ComponentState = 'ready' | 'yours' | 'missing';

/** "yours": the person named their own. */
export function stateOf(c: Component): ComponentState {
  if (c.override !== undefined && process.env[c.override.variable]) return 'yours';
  return readManifest(c.name)?.recipe === recipeOf(c) ? 'ready' : 'missing';
}

/** Sets up what is missing of `wanted`. Returns at once, without a word, if nothing is. */
export async function setUp(wanted: readonly Component[], options: { dryRun?: boolean } = {}): Promise<void> {
  if (wanted.every((c) => stateOf(c) !== 'missing')) return;
  const progress = new Progress();
  checkMachine(wanted.filter((c) => stateOf(c) === 'missing'));
  await withCacheLock(
    () => progress.line('Another set-up is at work in this cache; waiting for it to finish …'),
    async () => {
      const missing = wanted.filter((c) => stateOf(c) === 'missing');
      if (missing.length > 0) await fetchAll(missing, progress, options.dryRun ?? false);
      rmSync(workDir(), { recursive: true, force: true });
    },
  );
}

function checkMachine(missing: readonly Component[]): void {
  const advice = missing
    .map((c) => {
      const own = c.override ? `; or set ${c.override.variable} to ${c.override.meaning}` : '';
      return `  ${c.name}: ${c.purpose} (Debian package ${c.roots.join(', ')}${own})`;
    })
    .join('\n');
  const foreign = missing.filter((c) => !c.archs.includes(hostArch()));
  if (foreign.length > 0) {
    throw cannotFetch(
      `Debian has no ${foreign.map((c) => c.name).join(', ')} for ${hostArch()}`,
      `Needed are\n${advice}`,
    );
  }
  const tools = missingTools();
  if (tools.length > 0) {
    throw cannotFetch(
      `${tools.join(' and ')} not found: this machine cannot fetch Debian packages`,
      `Run the set-up on a Debian machine and copy ${debianDir()} here, or provide by other means:\n${advice}`,
    );
  }
}

async function fetchAll(missing: readonly Component[], progress: Progress, dryRun: boolean): Promise<void> {
  const started = Date.now();
  progress.line(`Setting up in ${cacheDir()} (nothing is installed; delete the folder to undo it)`);
  makeCacheDir(workDir());
  const apt = new PrivateApt(join(workDir(), 'apt'), hostArch());
  progress.line(`Reading the package lists of Debian ${suite} …`);
  await apt.update();

  const plan = new Map<Component, DebianPackage[]>();
  for (const c of missing) {
    const packages = selectPackages(c, await apt.resolve(c.roots));
    plan.set(c, packages);
    const size = megabytes(sizeOf(packages)).padStart(8);
    progress.line(`  ${c.name.padEnd(7)}${size}  ${c.purpose} (${count(packages.length, 'package')})`);
  }
  const all = [...new Map([...plan.values()].flat().map((p) => [p.name, p])).values()];
  const total = sizeOf(all);
  if (dryRun) {
    progress.line(
      `Would download ${count(all.length, 'package')}, ${megabytes(total)}: ${all.map((p) => p.name).join(' ')}`,
    );
    return;
  }
  checkSpace(total);
  progress.line(`Downloading ${count(all.length, 'package')}, ${megabytes(total)}`);
  await apt.download(all, (percent) => progress.bytes((percent * total) / 100, total));

  for (const [component, packages] of plan) {
    progress.line(`Unpacking ${component.name} …`);
    await unpack(apt, component, packages);
  }
  progress.line(`Set up ${missing.map((c) => c.name).join(', ')} in ${((Date.now() - started) / 1000).toFixed(0)} s`);
}

async function unpack(apt: PrivateApt, component: Component, packages: readonly DebianPackage[]): Promise<void> {
  const tree = join(workDir(), `tree-${component.name}`);
  rmSync(tree, { recursive: true, force: true });
  mkdirSync(tree, { recursive: true });
  for (const p of packages) await apt.unpack(p, tree);
  publishTree(component.name, tree, {
    recipe: recipeOf(component),
    suite,
    packages: Object.fromEntries(packages.map((p) => [p.name, p.version])),
  });
}

/** Unpacked, the packages take about three times their size, beside the downloads. */
function checkSpace(download: number): void {
  const needed = download * 4;
  const { bavail, bsize } = statfsSync(workDir());
  if (bavail * bsize >= needed) return;
  throw cannotFetch(
    `${cacheDir()} has ${megabytes(bavail * bsize)} left, the set-up needs about ${megabytes(needed)}`,
    'Make room there, or name another folder: NETBE_CACHE=/path/to/folder.',
  );
}

const sizeOf = (packages: readonly DebianPackage[]): number => packages.reduce((sum, p) => sum + p.size, 0);
const count = (n: number, noun: string): string => `${n} ${noun}${n === 1 ? '' : 's'}`;
