/** The one list of backends, and the choice among them by the device's name (netbe_init of bhyve). */
import type { Runtime } from '../engine/runtime.js';
import { usageError } from '../errors.js';
import { dgramBackend } from './dgram.js';
import { loopbackBackend } from './loopback.js';
import type { NetBackend, NetBackendType, ReceiveCallback } from './net-backend.js';
import { netgraphBackend } from './netgraph.js';
import { netmapBackend } from './netmap.js';
import { checkOptions, parseDevice } from './options.js';
import { streamBackend } from './stream.js';
import { tapBackend } from './tap.js';
import { valeBackend } from './vale.js';
import { vmnetBackend } from './vmnet.js';

const types: NetBackendType[] = [
  valeBackend,
  tapBackend,
  vmnetBackend,
  netmapBackend,
  netgraphBackend,
  streamBackend,
  dgramBackend,
  loopbackBackend,
];

/** Every backend there is: help, documentation and the conformance suite are made from it. */
export const netBackends: readonly NetBackendType[] = types;

/** Adds a backend of the user's own. Throws if its prefix is taken or would never match. */
export function registerBackend(type: NetBackendType): void {
  if (!/^[a-z][a-z0-9-]*[a-z]$/.test(type.prefix))
    throw usageError(`backend prefix "${type.prefix}" must be lower-case letters, and end in one`, type.prefix);
  if (types.some((t) => t.prefix === type.prefix))
    throw usageError(`a backend with the prefix "${type.prefix}" exists already`, type.prefix);
  types.push(type);
}

/**
 * The backend for a device name: by prefix, but only where the name ends, or a digit or a colon follows:
 * "tapestry" is no tap; an identifier before the colon is for those that have one. Throws EINVAL with the
 * list of what exists.
 */
export function findBackend(device: string): NetBackendType {
  const isFollowedBy = (pattern: RegExp) => (type: NetBackendType) =>
    device.startsWith(type.prefix) && pattern.test(device.slice(type.prefix.length));
  const found =
    types.find(isFollowedBy(/^(?:[0-9:]|$)/)) ??
    types.filter(({ hasIdentifier }) => hasIdentifier).find(isFollowedBy(/^\w+:/));
  if (found !== undefined) return found;
  throw usageError(
    `no backend for device "${device}"`,
    device,
    `Backends: ${types.map((t) => `${t.prefix} (for example ${t.example})`).join(', ')}.`,
  );
}

export interface DeviceSpec {
  device: string;
  options?: ReadonlyMap<string, string> | Readonly<Record<string, string>>;
}

/**
 * Opens the backend that a device string names ("vale0:vm1" or "vale0:vm1,ring=2048"), or a device
 * with its options apart. `subject` is the name of whoever it is for. Throws NetbeError.
 */
export function openBackend(
  runtime: Runtime,
  spec: string | DeviceSpec,
  onReceive: ReceiveCallback | undefined,
  subject: string,
): NetBackend {
  const parsed = typeof spec === 'string' ? parseDevice(spec) : spec;
  const { device } = parsed;
  const options = toMap(parsed.options);
  const type = findBackend(device);
  checkOptions(type, device, options);
  if (type.needsReceive && onReceive === undefined)
    throw usageError(`${device} needs a receive callback: ${type.prefix} cannot be opened for sending only`, device);
  return type.open({ runtime, device, options, onReceive, subject });
}

function toMap(options: DeviceSpec['options']): ReadonlyMap<string, string> {
  if (options === undefined) return new Map();
  return options instanceof Map ? options : new Map(Object.entries(options));
}
