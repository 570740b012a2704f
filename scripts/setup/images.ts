/**
 * Boot images of the guests: an initramfs of busybox, iperf3 and ethtool, our own init, and the modules
 * of one kernel; for QEMU also the kernel itself, unpacked. Built in well under a second from the
 * components in the cache, and again whenever one of them or the init script has changed.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { NetbeError } from '../../src/errors.js';
import { componentDir, hashOf, imagesDir, publishFile, readManifest } from './cache.js';
import { CpioArchive } from './cpio.js';
import { unpackKernel } from './vmlinux.js';

/** Raised when the code below makes something else of the same inputs */
const buildVersion = '6';

// this file runs from dist/scripts/setup; the init script is not compiled and stays where it is
const initScript = fileURLToPath(new URL('../../../scripts/guest/init.sh', import.meta.url));

/** Modules loaded at boot, in this order, each after those it needs; what a kernel has built in has no file. */
const bootModules = ['ipv6', 'virtio_pci', 'virtio_mmio', 'virtio_net', 'e1000'];
/** Modules that a test may load: `load NAME` in the guest */
const extraModules = ['pktgen', '8021q', 'vfio_pci', 'vfio_iommu_type1'];

/** Loads a module after those it needs; one that is there already is no matter. */
const loadScript = `#!/bin/sh
while read -r module; do
  [ -d "/sys/module/$module" ] || insmod "/modules/$module.ko" || exit
done < "/modules/$1.order"
`;

export type GuestKernel = 'uml' | 'kernel';

export interface BootImage {
  kernel: string;
  initrd: string;
}

/** Where the image is, built if it is not there or out of date. Throws ENOENT if a component is missing. */
export function bootImage(of: GuestKernel): BootImage {
  const own = of === 'uml' && process.env.NETBE_UML ? process.env.NETBE_UML : null;
  const parts = own === null ? ['guest', of] : ['guest'];
  const manifests = parts.map((name) => requireComponent(name));
  const init = readFileSync(initScript);
  const initrd = built(`${of}-initrd`, [own ?? '', init.toString(), ...manifests], () =>
    buildInitramfs(init, own === null ? moduleFiles(componentDir(of)) : new Map()),
  );
  if (of === 'uml') return { kernel: own ?? findProgram(componentDir('uml'), 'linux.uml'), initrd };
  const kernel = built('vmlinux', [manifests.at(-1)!], () => unpackKernel(readFileSync(vmlinuz()), unxz));
  return { kernel, initrd };
}

/** The kernel of the QEMU guests as a boot loader takes it: bzImage */
export function vmlinuz(): string {
  requireComponent('kernel');
  return findOne(componentDir('kernel'), /^vmlinuz-/);
}

/** By Debian's xz: not every machine has one, and busybox's does not know the filter for x86 code. */
function unxz(packed: Buffer): Buffer {
  const guest = componentDir('guest');
  const args = ['--library-path', libraryDirs(guest).join(':'), findProgram(guest, 'xz'), '-dc'];
  const { stdout, stderr, status, error } = spawnSync(loaderOf(guest), args, { input: packed, maxBuffer: 256 << 20 });
  if (status === 0) return stdout;
  throw new NetbeError(`the kernel image cannot be unpacked: ${error?.message ?? stderr}`, { code: 'EINVAL' });
}

/** The file made of `inputs`; older ones of the same name go. */
function built(name: string, inputs: readonly string[], build: () => Buffer): string {
  const file = join(imagesDir(), `${name}-${hashOf(buildVersion, ...inputs)}`);
  if (existsSync(file)) return file;
  mkdirSync(imagesDir(), { recursive: true });
  for (const old of readdirSync(imagesDir()))
    if (old.startsWith(`${name}-`)) rmSync(join(imagesDir(), old), { force: true });
  publishFile(file, build());
  return file;
}

/** The manifest of a component that is there, as text. */
export function requireComponent(name: string): string {
  const manifest = readManifest(name);
  if (manifest !== null) return JSON.stringify(manifest);
  throw new NetbeError(`the component "${name}" has not been set up`, {
    code: 'ENOENT',
    kind: 'environment',
    subject: componentDir(name),
    remedy: `Run: npm run setup -- ${name}`,
  });
}

function buildInitramfs(init: Uint8Array, modules: Map<string, string>): Buffer {
  const guest = componentDir('guest');
  const archive = new CpioArchive();
  for (const dir of ['dev', 'proc', 'sys', 'tmp', 'etc', 'bin', 'lib']) archive.directory(dir);
  // the kernel opens it for init before anything could be mounted on /dev
  archive.charDevice('dev/console', 5, 1);
  archive.symlink('lib64', 'lib');
  archive.file('etc/passwd', 'root:x:0:0::/:/bin/sh\n', 0o644);
  archive.file('init', init);
  archive.file('bin/load', loadScript);

  const [busybox, ...programs] = ['busybox', 'iperf3', 'ethtool'].map((name) => findProgram(guest, name)) as [string];
  archive.file('bin/busybox', readFileSync(busybox));
  const applets = spawnSync(busybox, ['--list'], { encoding: 'utf8' }).stdout.split('\n');
  for (const applet of new Set(applets))
    if (applet && applet !== 'busybox') archive.symlink(`bin/${applet}`, 'busybox');

  const libraries = new Set(programs.flatMap((program) => sharedLibraries(guest, program)));
  for (const file of programs) archive.file(`bin/${basename(file)}`, readFileSync(file));
  for (const file of libraries) archive.file(`lib/${basename(file)}`, readFileSync(file));

  const all: string[] = [];
  for (const name of [...bootModules, ...extraModules]) {
    const order: string[] = [];
    addModule(name, modules, order);
    archive.file(`modules/${name}.order`, order.map((m) => `${m}\n`).join(''), 0o644);
    for (const m of order) if (!all.includes(m)) all.push(m);
  }
  for (const name of all) archive.file(`modules/${name}.ko`, readFileSync(modules.get(name)!), 0o644);
  archive.file('modules/boot', bootModules.map((name) => `${name}\n`).join(''), 0o644);
  return archive.finish();
}

/** Appends `name` to `order` after the modules that it says it needs. */
function addModule(name: string, modules: Map<string, string>, order: string[]): void {
  const file = modules.get(name);
  if (file === undefined || order.includes(name)) return;
  const depends = /(?:^|\0)depends=([^\0]*)\0/.exec(readFileSync(file).toString('latin1'))?.[1] ?? '';
  for (const needed of depends.split(',')) if (needed) addModule(needed.replaceAll('-', '_'), modules, order);
  order.push(name);
}

/** Name (with underscores, as in the kernel) to file of every module below `tree`. */
function moduleFiles(tree: string): Map<string, string> {
  const files = readdirSync(tree, { recursive: true, encoding: 'utf8' }).filter((f) => f.endsWith('.ko'));
  return new Map(files.map((f) => [basename(f, '.ko').replaceAll('-', '_'), join(tree, f)]));
}

/** Folders of `tree` that hold shared libraries. */
export function libraryDirs(tree: string): string[] {
  return ['lib/x86_64-linux-gnu', 'usr/lib/x86_64-linux-gnu'].map((d) => join(tree, d)).filter((d) => existsSync(d));
}

/** The dynamic loader that came with the libraries of `tree`. */
export function loaderOf(tree: string): string {
  return findOne(tree, /^ld-linux-x86-64\.so\.2$/, /x86_64-linux-gnu$/);
}

/** The loader itself and every library that `program` needs, all out of `tree`. */
function sharedLibraries(tree: string, program: string): string[] {
  const loader = loaderOf(tree);
  const { stdout, stderr, status } = spawnSync(
    loader,
    ['--library-path', libraryDirs(tree).join(':'), '--list', program],
    { encoding: 'utf8' },
  );
  const found = [...(stdout ?? '').matchAll(/=> (\S+) \(/g)].map((m) => m[1]!);
  if (status !== 0 || found.some((f) => !f.startsWith(tree))) {
    throw new NetbeError(`${basename(program)} lacks libraries: ${stderr || stdout}`, { code: 'ENOENT' });
  }
  return [loader, ...found];
}

export function findProgram(tree: string, name: string): string {
  return findOne(tree, new RegExp(`^${name.replaceAll('.', '\\.')}$`), /\/s?bin$/);
}

function findOne(tree: string, name: RegExp, folder = /./): string {
  const found = readdirSync(tree, { recursive: true, encoding: 'utf8' })
    .filter((f) => name.test(basename(f)) && folder.test(`/${dirname(f)}`))
    .map((f) => join(tree, f))
    .find((f) => existsSync(f));
  if (found !== undefined) return found;
  throw new NetbeError(`nothing named ${name.source} in ${tree}`, {
    code: 'ENOENT',
    subject: tree,
    remedy: 'Delete that folder and run the set-up again.',
  });
}
