/**
 * Debian packages without root: apt-get with a state of its own (lists, status, downloads), steered
 * through a private apt.conf. The system's apt sources only tell which mirror is near and how to
 * reach it (proxies and credentials of the system's apt.conf stay in force); nothing is installed
 * and nothing of the system is written.
 *
 * The suites are fixed, whatever the machine runs, so that everybody tests with the same versions.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { NetbeError } from '../../src/errors.js';

/** Suites of Debian; the first goes before the others. */
export type Suites = readonly [string, ...string[]];

/** Where a component comes from unless it names suites of its own */
export const defaultSuites: Suites = ['bookworm'];
const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg';

export interface DebianPackage {
  name: string;
  version: string;
  /** bytes of the .deb file */
  size: number;
  section: string;
  /** names of the alternatives of every dependency, flattened */
  depends: string[];
}

/** Set-up cannot go on for want of something on the machine. */
export function cannotFetch(message: string, remedy: string, cause?: unknown): NetbeError {
  return new NetbeError(message, { code: 'ENOENT', kind: 'environment', remedy, cause });
}

export function missingTools(): string[] {
  return ['apt-get', 'apt-cache', 'dpkg-deb'].filter((tool) => spawnSync(tool, ['--version']).error !== undefined);
}

function osRelease(key: string): string {
  try {
    const line = readFileSync('/etc/os-release', 'utf8')
      .split('\n')
      .find((l) => l.startsWith(`${key}=`));
    return line?.slice(key.length + 1).replaceAll('"', '') ?? '';
  } catch {
    return '';
  }
}

/** Base URI of a Debian mirror: NETBE_DEBIAN_MIRROR, else what the system's apt sources name for one of `suites` or its own release. */
function findMirror(suites: Suites): string {
  if (process.env.NETBE_DEBIAN_MIRROR) return process.env.NETBE_DEBIAN_MIRROR;
  // --no-release-info answers before the first `apt-get update` as well
  const args = ['indextargets', '--no-release-info', '--format', '$(REPO_URI) $(RELEASE) $(COMPONENT)'];
  const { stdout } = spawnSync('apt-get', [...args, 'Created-By: Packages'], { encoding: 'utf8' });
  const rows = (stdout ?? '').split('\n').map((line) => line.split(' '));
  const own = osRelease('ID') === 'debian' ? [osRelease('VERSION_CODENAME')] : [];
  for (const release of [...suites, ...own, ...defaultSuites, 'stable']) {
    const row = rows.find(([, r, component]) => r === release && component === 'main');
    if (row?.[0]) return row[0];
  }
  throw cannotFetch(
    "the system's apt sources name no Debian mirror",
    'Name one: NETBE_DEBIAN_MIRROR=http://HOST/debian (and install the package debian-archive-keyring where apt lacks it).',
  );
}

/** One line of apt's status descriptor: dlstatus:FILE:PERCENT:TEXT */
export type OnProgress = (percent: number) => void;

export class PrivateApt {
  readonly #conf: string;
  readonly #dir: string;

  /** `dir` is made, and may be left over from an interrupted run. */
  constructor(dir: string, arch: string, suites: Suites) {
    this.#dir = dir;
    this.#conf = join(dir, 'apt.conf');
    mkdirSync(join(dir, 'lists', 'partial'), { recursive: true });
    mkdirSync(join(dir, 'cache', 'archives', 'partial'), { recursive: true });
    mkdirSync(join(dir, 'debs'), { recursive: true });
    // no package counts as installed: dependencies are listed down to the C library
    writeFileSync(join(dir, 'status'), '');
    const signedBy = existsSync(keyring) ? ` [signed-by=${keyring}]` : '';
    const mirror = findMirror(suites);
    writeFileSync(join(dir, 'sources.list'), suites.map((s) => `deb${signedBy} ${mirror} ${s} main\n`).join(''));
    writeFileSync(this.#conf, aptConf(dir, arch, suites[0]));
  }

  async update(): Promise<void> {
    await this.#apt(['-qq', 'update']);
  }

  /** `roots` with everything they depend on, without what Debian merely recommends. */
  async resolve(roots: readonly string[]): Promise<DebianPackage[]> {
    const plan = await this.#apt(['-qq', '--print-uris', '--download-only', '-y', 'install', ...roots]);
    // 'URI' FILE SIZE HASH, with FILE = NAME_VERSION_ARCH.deb and the version's colon as %3a
    const found = new Map<string, { version: string; size: number }>();
    for (const match of plan.matchAll(/^'[^']*' ([^_\s]+)_([^_\s]+)_[^_\s]+\.deb (\d+)/gm)) {
      const [, name, version, size] = match as unknown as [string, string, string, string];
      found.set(name, { version: decodeURIComponent(version), size: Number(size) });
    }
    const records = await this.#run('apt-cache', ['show', '--no-all-versions', ...found.keys()]);
    const packages: DebianPackage[] = [];
    for (const record of records.split('\n\n')) {
      const field = (key: string) => new RegExp(`^${key}: (.*)$`, 'm').exec(record)?.[1] ?? '';
      const name = field('Package');
      const seen = found.get(name);
      if (seen === undefined) continue;
      const depends = `${field('Pre-Depends')},${field('Depends')}`
        .split(/[,|]/)
        .map((d) => d.trim().split(/[ :]/)[0]!);
      packages.push({ name, ...seen, section: field('Section').split('/').at(-1)!, depends: depends.filter(Boolean) });
      found.delete(name);
    }
    return packages;
  }

  /** Downloads into the debs folder, checked against the signed lists; goes on where an interrupted run stopped. */
  async download(packages: readonly DebianPackage[], onProgress: OnProgress): Promise<void> {
    const wanted = packages.map((p) => `${p.name}=${p.version}`);
    await this.#apt(['-qq', 'download', ...wanted], { cwd: join(this.#dir, 'debs'), onProgress });
  }

  debFile(p: DebianPackage): string {
    const stem = join(this.#dir, 'debs', `${p.name}_${p.version.replaceAll(':', '%3a')}`);
    for (const arch of ['all', ...Object.values(debianArch)]) {
      if (existsSync(`${stem}_${arch}.deb`)) return `${stem}_${arch}.deb`;
    }
    throw new NetbeError(`${p.name} ${p.version} is not among the downloads`, { code: 'ENOENT' });
  }

  async unpack(p: DebianPackage, tree: string): Promise<void> {
    await this.#run('dpkg-deb', ['-x', this.debFile(p), tree]);
  }

  #apt(args: readonly string[], options?: RunOptions): Promise<string> {
    return this.#run('apt-get', args, options);
  }

  async #run(command: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
    const own =
      command === 'dpkg-deb' ? [] : ['-c', this.#conf, ...(options.onProgress ? ['-o', 'APT::Status-Fd=3'] : [])];
    const child = spawn(command, [...own, ...args], {
      cwd: options.cwd,
      stdio: ['ignore', 'pipe', 'pipe', options.onProgress ? 'pipe' : 'ignore'],
      env: { ...process.env, LC_ALL: 'C.UTF-8' },
    });
    if (options.onProgress) reportProgress(child, options.onProgress);
    const [stdout, stderr, status] = await Promise.all([text(child, 'stdout'), text(child, 'stderr'), exit(child)]);
    if (status === 0) return stdout;
    const said = stderr.trim().split('\n').slice(-6).join('\n  ');
    throw cannotFetch(
      `${command} ${args.find((arg) => !arg.startsWith('-'))} failed:\n  ${said || status}`,
      'Check that this machine reaches its Debian mirror (NETBE_DEBIAN_MIRROR names another one), then run the set-up again: it goes on where it stopped.',
    );
  }
}

interface RunOptions {
  cwd?: string;
  onProgress?: OnProgress;
}

/** Node's name of the machine to Debian's */
export const debianArch: Record<string, string> = { x64: 'amd64', arm64: 'arm64' };

function reportProgress(child: ChildProcess, onProgress: OnProgress): void {
  const lines = createInterface({ input: child.stdio[3] as NodeJS.ReadableStream });
  lines.on('line', (line) => {
    const percent = /^dlstatus:\d+:([\d.]+):/.exec(line)?.[1];
    if (percent !== undefined) onProgress(Number(percent));
  });
}

async function text(child: ChildProcess, name: 'stdout' | 'stderr'): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of child[name]!) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}

function exit(child: ChildProcess): Promise<number | string> {
  return new Promise((done) => {
    child.once('error', (error) => done(error.message));
    child.once('close', (code, signal) => done(code ?? signal ?? 'unknown'));
  });
}

// Hooks of the system (appstream, packagekit, debconf) are for its own packages; apt drops to the user _apt
// when root runs it, and that user cannot write into a private folder.
function aptConf(dir: string, arch: string, preferredSuite: string): string {
  const quoted = {
    'Dir::State': dir,
    'Dir::State::lists': `${dir}/lists`,
    'Dir::State::status': `${dir}/status`,
    'Dir::Cache': `${dir}/cache`,
    // some images of Debian keep no cache of the lists: every call would parse them anew
    'Dir::Cache::pkgcache': 'pkgcache.bin',
    'Dir::Cache::srcpkgcache': 'srcpkgcache.bin',
    'Dir::Cache::archives': `${dir}/cache/archives`,
    'Dir::Etc::sourcelist': `${dir}/sources.list`,
    'Dir::Etc::sourceparts': '/dev/null',
    'Dir::Etc::preferences': '/dev/null',
    'Dir::Etc::preferencesparts': '/dev/null',
    'Dir::Log': dir,
    'APT::Architecture': arch,
    // backports are taken only where they are asked for
    'APT::Default-Release': preferredSuite,
    'APT::Install-Recommends': 'false',
    'APT::Sandbox::User': 'root',
    'APT::Update::Error-Mode': 'any',
    'Acquire::Languages': 'none',
    'Acquire::Retries': '3',
    'Acquire::http::Timeout': '30',
    'Acquire::https::Timeout': '30',
  };
  const cleared = ['Update::Pre-Invoke', 'Update::Post-Invoke', 'Update::Post-Invoke-Success'].map((h) => `APT::${h}`);
  const hooks = [...cleared, 'DPkg::Pre-Invoke', 'DPkg::Post-Invoke', 'DPkg::Pre-Install-Pkgs', 'APT::Architectures'];
  return [
    ...hooks.map((hook) => `#clear ${hook};`),
    `APT::Architectures { "${arch}"; };`,
    ...Object.entries(quoted).map(([key, value]) => `${key} "${value}";`),
    '',
  ].join('\n');
}
