/**
 * Whether a NIC that is added to a fabric in a sandbox can work there. The kernel would refuse it with a bare
 * EACCES or EPERM; this says why, and what to do.
 */
import { lstatSync, realpathSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { NetbeError } from '../errors.js';
import type { BackendNeeds } from '../net-backends/net-backend.js';
import type { NicSpec } from './fabric-types.js';
import { deviceOf, type SandboxState } from './sandbox-plan.js';

export function checkAdmission(state: SandboxState, spec: NicSpec): void {
  checkBackend(state, spec);
  const connects = state.syscalls.includes('connect');
  if (spec.mode === 'client') {
    if (connects) return;
    throw refusal(
      `the socket ${spec.socket} is to be connected to`,
      spec.socket,
      'Start the fabric with a NIC in client mode, or use mode=server.',
    );
  }
  if (state.abi !== null) checkFolder(state, dirname(spec.socket));
  if (connects || !lstatSync(spec.socket, { throwIfNoEntry: false })?.isSocket()) return;
  throw new NetbeError(`${spec.socket} is there already, and the sandbox cannot ask whether somebody listens on it`, {
    code: 'EADDRINUSE',
    kind: 'usage',
    subject: spec.socket,
    remedy: 'Remove it if its process has gone, or choose another path.',
  });
}

function checkFolder({ rules }: SandboxState, wanted: string): void {
  const folder = realPath(wanted);
  const open = rules.filter(({ access }) => access === 'sockets' || access === 'write');
  if (folder === undefined || open.some(({ path }) => isBelow(folder, realPath(path) ?? path))) return;
  throw refusal(
    `sockets in ${folder} are not allowed`,
    folder,
    `Start the fabric with --allow-path ${folder}, or use one of: ${[...new Set(open.map(({ path }) => path))].join(', ')}.`,
  );
}

/** A backend as a device string with its options, or that of a NIC. */
export function checkBackend(state: SandboxState, spec: string | NicSpec): void {
  const found = knownDevice(spec);
  if (found === undefined) return;
  const { type, device, options } = found;
  const needs = type.needs?.(device, options);
  const lacks = needs === undefined ? [] : lacking(state, needs);
  if (needs !== undefined && lacks.length === 0) {
    for (const folder of needs.socketFolders ?? []) if (state.abi !== null) checkFolder(state, resolve(folder));
    return;
  }
  throw refusal(
    `backend ${device} ${needs === undefined ? 'does not say what it needs' : `needs ${lacks.join(', ')}`}`,
    device,
    'Start the fabric with a NIC on such a backend, or with --no-sandbox.',
  );
}

function lacking(state: SandboxState, needs: BackendNeeds): string[] {
  const { capabilities = [], devices = [], reads = [], syscalls = [], socketFamilies = [], tcp = false } = needs;
  const paths = new Set(state.rules.map(({ path }) => path));
  const kept = new Set<string>([...state.capabilities, ...state.syscalls]);
  return [
    ...[...capabilities, ...syscalls].filter((name) => !kept.has(name)),
    ...[...devices, ...reads].filter((path) => !paths.has(path)),
    ...socketFamilies.filter((n) => !state.socketFamilies.includes(n)).map((n) => `sockets of family ${n}`),
    ...(tcp && !state.tcp ? ['TCP'] : []),
  ];
}

/** Undefined: one of the user's own, which only the fabric thread knows, and whose needs were met at the start */
function knownDevice(spec: string | NicSpec) {
  try {
    return deviceOf(spec);
  } catch {
    return undefined;
  }
}

/** Undefined where there is no such folder: that is for whoever opens the socket to say. */
function realPath(path: string): string | undefined {
  try {
    return realpathSync(path);
  } catch {
    return undefined;
  }
}

function isBelow(path: string, folder: string): boolean {
  return path === folder || path.startsWith(folder.endsWith('/') ? folder : `${folder}/`);
}

function refusal(what: string, subject: string, remedy: string): NetbeError {
  return new NetbeError(`${what}, and the sandbox cannot be widened while the fabric runs`, {
    code: 'EACCES',
    kind: 'usage',
    subject,
    remedy,
  });
}
