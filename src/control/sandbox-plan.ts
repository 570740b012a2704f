/**
 * What a fabric keeps when it gives up the rest: made from what it is started with, before anything of it
 * runs. See docs/sandbox.md.
 */
import { existsSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { NetbeError, usageError } from '../errors.js';
import type { BackendNeeds, NetBackendType } from '../net-backends/net-backend.js';
import { parseDevice } from '../net-backends/options.js';
import { findBackend, netBackends } from '../net-backends/registry.js';
import { type Capability, capabilityNames } from '../sys/capabilities.js';
import type { LandlockRule } from '../sys/landlock.js';
import { type SyscallName, syscallExists } from '../sys/syscall.js';
import type { User } from '../sys/user.js';
import type { NicSpec, PatchSpec } from './fabric-types.js';
import { graphNeeds } from './sandbox-graph.js';

export interface SandboxRequest {
  /** path of the control socket */
  control: string;
  nics: readonly NicSpec[];
  patches: readonly PatchSpec[];
  /** commands of ngctl that make the graph */
  netgraph?: readonly string[];
  /** modules with backends of one's own; they are loaded already */
  backends: readonly URL[];
  /** folders in which NICs that are added later may have their sockets, and backends their files */
  allowPaths: readonly string[];
  /** files that are read at the start, for instance the fabric file */
  reads: readonly string[];
  /** who to become; undefined: nobody else */
  user: User | undefined;
}

export interface SandboxPlan {
  rules: LandlockRule[];
  tcp: boolean;
  capabilities: Capability[];
  syscalls: SyscallName[];
  socketFamilies: number[];
}

/** What the second process must know: what has been kept. */
export interface SandboxState extends SandboxPlan {
  /** version of Landlock's ABI; null: none */
  abi: number | null;
  /** what this machine lacks, in words */
  missing: string[];
}

/** Backends in use that do not say what they need: with them there can be no sandbox. */
export function undeclared(request: SandboxRequest): string[] {
  const types = devicesInUse(request).map(({ type }) => type);
  return [...new Set(types.filter((type) => type.needs === undefined).map((type) => type.prefix))];
}

/** What the backends need, and what Node and netbe do. Made while this process may still look everywhere. */
export function planSandbox(request: SandboxRequest): SandboxPlan {
  const needs = [
    ...devicesInUse(request).map(({ type, device, options }) => type.needs?.(device, options) ?? {}),
    ...graphNeeds(request.netgraph ?? []),
  ];
  const rules = [...ownRules(request), ...needs.flatMap(rulesOf)];
  const capabilities = new Set(needs.flatMap((n) => (n.capabilities ?? []).map(checkCapability)));
  const client = request.nics.some((nic) => nic.mode === 'client');
  if (request.user === undefined && process.getuid?.() === 0)
    for (const name of capabilitiesForFiles(rules, client)) capabilities.add(name);
  const syscalls = new Set(needs.flatMap((n) => (n.syscalls ?? []).map(checkSyscall)));
  if (client) syscalls.add('connect');
  return {
    rules,
    tcp: needs.some((n) => n.tcp === true),
    capabilities: [...capabilities],
    syscalls: [...syscalls],
    socketFamilies: [...new Set(needs.flatMap((n) => n.socketFamilies ?? []))],
  };
}

/** A backend as it will be opened. */
interface Device {
  type: NetBackendType;
  device: string;
  options: ReadonlyMap<string, string>;
}

export function deviceOf(spec: string | NicSpec): Device {
  if (typeof spec !== 'string')
    return {
      type: findBackend(spec.backend),
      device: spec.backend,
      options: new Map(Object.entries(spec.backendOptions ?? {})),
    };
  const parsed = parseDevice(spec);
  return { type: findBackend(parsed.device), ...parsed };
}

/** Those of the NICs and patches, and all of the user's own: they may be wanted later. */
function devicesInUse({ nics, patches, backends }: SandboxRequest): Device[] {
  const own = backends.length === 0 ? [] : netBackends.filter((type) => !builtIn.has(type));
  return [
    ...nics.map(deviceOf),
    ...patches.flatMap(({ a, b }) => [deviceOf(a), deviceOf(b)]),
    ...own.map((type): Device => ({ type, device: type.example, options: new Map() })),
  ];
}

const builtIn = new Set(netBackends);

function rulesOf({ devices = [], reads = [], socketFolders = [] }: BackendNeeds): LandlockRule[] {
  return [
    ...socketFolders.map((path): LandlockRule => ({ path: resolve(path), access: 'sockets' })),
    ...devices.map((path): LandlockRule => ({ path, access: 'device' })),
    ...reads.map((path): LandlockRule => ({ path, access: 'read' })),
  ];
}

/** What Node itself reads while it starts and runs; what is not there is left out. */
const readByNode = [
  '/proc',
  '/sys/fs/cgroup',
  '/sys/devices/system/cpu',
  '/etc/ld.so.cache',
  '/etc/ld.so.preload',
  '/etc/localtime',
  '/usr/share/zoneinfo',
  '/etc/ssl/openssl.cnf',
  '/etc/pki/tls/openssl.cnf',
  '/etc/crypto-policies',
  '/usr/lib/ssl/openssl.cnf',
  '/usr/local/ssl/openssl.cnf',
  '/dev/urandom',
  ...(process.env.OPENSSL_CONF === undefined ? [] : [process.env.OPENSSL_CONF]),
];

function ownRules({ control, nics, backends, allowPaths, reads }: SandboxRequest): LandlockRule[] {
  const modules = [import.meta.url, ...backends.filter((url) => url.protocol === 'file:')].map((url) =>
    fileURLToPath(url),
  );
  const readable = [...readByNode, ...reads, ...modules.flatMap(packageFolders)];
  const folders = [control, ...nics.map((nic) => nic.socket)].map((path) => dirname(path));
  return [
    ...mappedFiles().map((path): LandlockRule => ({ path, access: 'execute' })),
    ...[...new Set(readable)].map((path): LandlockRule => ({ path, access: 'read' })),
    { path: '/dev/null', access: 'device' },
    ...[...new Set(folders)].map((path): LandlockRule => ({ path, access: 'sockets' })),
    ...allowPaths.map((path): LandlockRule => ({ path, access: 'write' })),
  ];
}

/** Node and its libraries: what this process has mapped, the next one will. */
function mappedFiles(): string[] {
  const paths = readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .map((line) => line.slice(line.indexOf('/')))
    .filter((path) => path.startsWith('/') && !/^\/(?:dev|memfd:|SYSV)| \(deleted\)$/.test(path));
  return [...new Set(paths)];
}

/** The package of a module, and the folders in which its imports are looked for. */
function packageFolders(file: string): string[] {
  const start = dirname(realpathSync(file));
  const above = [start];
  for (let dir = start; dir !== dirname(dir); dir = dirname(dir)) above.push(dirname(dir));
  const root = above.find((dir) => existsSync(join(dir, 'package.json'))) ?? start;
  const folders = above.map((dir) => join(dir, 'node_modules')).filter((dir) => existsSync(dir));
  return [root, ...folders];
}

interface Person {
  uid: number;
  gids: readonly number[];
}

const READ = 4;
const WRITE = 2;
const SEARCH = 1;

/** Whether the permission bits alone allow it. */
function permits(path: string, bits: number, { uid, gids }: Person): boolean {
  const stat = statSync(path);
  const shift = stat.uid === uid ? 6 : gids.includes(stat.gid) ? 3 : 0;
  return ((stat.mode >> shift) & bits) === bits;
}

function reaches({ path, access }: LandlockRule, person: Person): boolean {
  const real = realpathSync(path);
  for (let dir = dirname(real); ; dir = dirname(dir)) {
    if (!permits(dir, SEARCH, person)) return false;
    if (dir === dirname(dir)) break;
  }
  const writes = access === 'sockets' || access === 'write';
  return permits(real, writes ? WRITE | SEARCH : access === 'device' ? READ | WRITE : READ, person);
}

/** What root keeps so that files of other users stay within its reach: within Landlock's bounds, that is. */
function capabilitiesForFiles(rules: readonly LandlockRule[], client: boolean): Capability[] {
  const root = { uid: 0, gids: [0, ...(process.getgroups?.() ?? [])] };
  const beyond = rules.filter(
    (rule) => existsSync(rule.path) && !rule.path.startsWith('/proc') && !reaches(rule, root),
  );
  // a socket that a hypervisor of another user has made
  if (client || beyond.some(({ access }) => access === 'sockets' || access === 'write')) return ['CAP_DAC_OVERRIDE'];
  return beyond.length > 0 ? ['CAP_DAC_READ_SEARCH'] : [];
}

/** For a process that has become another user: throws where that user cannot reach what the fabric needs. */
export function checkReach(rules: readonly LandlockRule[], user: User): void {
  const person = { uid: user.uid, gids: [user.gid, ...(process.getgroups?.() ?? [])] };
  // what is missing of these is missed by nobody, or belongs to a group that only the kernel knows of
  const matters = rules.filter(({ path }) => !readByNode.includes(path) && !path.startsWith('/dev/'));
  const beyond = matters.find((rule) => !existsSync(rule.path) || !reaches(rule, person));
  if (beyond === undefined) return;
  const writes = beyond.access === 'sockets' || beyond.access === 'write';
  throw new NetbeError(`user ${user.name} cannot ${writes ? 'make sockets in' : 'read'} ${beyond.path}`, {
    code: 'EACCES',
    kind: 'usage',
    subject: beyond.path,
    remedy: writes
      ? `Give ${user.name} a folder for the sockets: install -d -o ${user.name} FOLDER.`
      : `Let ${user.name} read it and enter the folders above it, or install netbe where everybody can.`,
  });
}

function checkCapability(name: string): Capability {
  const known = capabilityNames.find((c) => c === name);
  if (known) return known;
  throw usageError(`a backend needs the capability "${name}", which is not known`, name);
}

function checkSyscall(name: string): SyscallName {
  if (syscallExists(name)) return name;
  throw usageError(`a backend needs the system call "${name}", which the sandbox does not know`, name);
}
