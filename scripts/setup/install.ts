/**
 * Brings components into the cache: resolves, downloads, unpacks, publishes. Interrupted at any point,
 * the next run goes on: finished downloads are kept, half a tree is never mistaken for a whole one.
 */
import { mkdirSync, readdirSync, rmSync, statfsSync } from 'node:fs';
import { join, relative } from 'node:path';
import { usageError } from '../../src/errors.js';
import { cannotFetch, type DebianPackage, defaultSuites, missingTools, PrivateApt, type Suites } from './apt.js';
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

const suitesOf = (c: Component): Suites => c.suites ?? defaultSuites;

const recipeOf = (c: Component): string =>
  hashOf(
    layoutVersion,
    suitesOf(c).join(),
    hostArch(),
    JSON.stringify([c.roots, c.libraries, c.also, ...(c.keep ? [c.keep.source] : [])]),
  );

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

/** What comes from the same suites: through one apt, each package once. */
interface SuitePlan {
  apt: PrivateApt;
  packagesOf: Map<Component, DebianPackage[]>;
  debs: DebianPackage[];
}

async function fetchAll(missing: readonly Component[], progress: Progress, dryRun: boolean): Promise<void> {
  const started = Date.now();
  progress.line(`Setting up in ${cacheDir()} (nothing is installed; delete the folder to undo it)`);
  makeCacheDir(workDir());
  const plans: SuitePlan[] = [];
  for (const components of bySuites(missing)) plans.push(await planSuites(components, progress));
  const debs = plans.flatMap((plan) => plan.debs);
  const summary = `${count(debs.length, 'package')}, ${megabytes(sizeOf(debs))}`;
  if (dryRun) {
    progress.line(`Would download ${summary}: ${debs.map((deb) => deb.name).join(' ')}`);
    return;
  }
  checkSpace(sizeOf(debs));
  progress.line(`Downloading ${summary}`);
  await downloadAll(plans, sizeOf(debs), progress);
  for (const { apt, packagesOf } of plans)
    for (const [component, packages] of packagesOf) {
      progress.line(`Unpacking ${component.name} …`);
      await unpack(apt, component, packages);
    }
  progress.line(`Set up ${missing.map((c) => c.name).join(', ')} in ${((Date.now() - started) / 1000).toFixed(0)} s`);
}

function bySuites(missing: readonly Component[]): Component[][] {
  const groups = new Map<string, Component[]>();
  for (const c of missing) {
    const name = suitesOf(c).join();
    groups.set(name, [...(groups.get(name) ?? []), c]);
  }
  return [...groups.values()];
}

/** What to download for components of the same suites. */
async function planSuites(components: readonly Component[], progress: Progress): Promise<SuitePlan> {
  const suites = suitesOf(components[0]!);
  progress.line(`Reading the package lists of Debian ${suites.join(' and ')} …`);
  const apt = new PrivateApt(join(workDir(), `apt-${suites.join('-')}`), hostArch(), suites);
  await apt.update();
  const packagesOf = new Map<Component, DebianPackage[]>();
  for (const component of components) {
    const packages = selectPackages(component, await apt.resolve(component.roots));
    packagesOf.set(component, packages);
    const size = megabytes(sizeOf(packages)).padStart(8);
    progress.line(`  ${component.name.padEnd(7)}${size}  ${component.purpose} (${count(packages.length, 'package')})`);
  }
  const debs = [...new Map([...packagesOf.values()].flat().map((p) => [p.name, p])).values()];
  return { apt, packagesOf, debs };
}

async function downloadAll(plans: readonly SuitePlan[], total: number, progress: Progress): Promise<void> {
  let before = 0;
  for (const { apt, debs } of plans) {
    const size = sizeOf(debs);
    await apt.download(debs, (percent) => progress.bytes(before + (percent * size) / 100, total));
    before += size;
  }
}

async function unpack(apt: PrivateApt, component: Component, packages: readonly DebianPackage[]): Promise<void> {
  const tree = join(workDir(), `tree-${component.name}`);
  rmSync(tree, { recursive: true, force: true });
  mkdirSync(tree, { recursive: true });
  for (const p of packages) await apt.unpack(p, tree);
  if (component.keep) prune(tree, component.keep);
  publishTree(component.name, tree, {
    recipe: recipeOf(component),
    suite: suitesOf(component).join(' '),
    packages: Object.fromEntries(packages.map((p) => [p.name, p.version])),
  });
}

/** Deletes the files of `tree` that do not match. */
function prune(tree: string, keep: RegExp): void {
  for (const entry of readdirSync(tree, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (!entry.isDirectory() && !keep.test(relative(tree, path))) rmSync(path);
  }
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
