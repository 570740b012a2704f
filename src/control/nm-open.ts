/**
 * nm_open for programs: a netmap port of a running fabric, in a process or a thread of its own.
 *
 *     const port = nmOpen('vale0:app', { fabric: 'lab' });
 *     while (port.wait(POLLIN, 1000) & POLLIN)
 *       for (const ring of port.rxRings) ring.advance(count(ring));
 *
 * It blocks for the milliseconds that the fabric takes to answer, so it must not be called in a thread that a
 * fabric runs in (`thread: false`).
 */
import { NetbeError, usageError } from '../errors.js';
import { WindowPool } from '../memory/window.js';
import type { NetmapClientPort } from '../netmap/port-socket/client-port.js';
import { openClientPort, type PortOpenOptions } from '../netmap/port-socket/open.js';
import { controlSocketPath, portSocketPath } from './runtime-dir.js';
import { DEFAULT_FABRIC_NAME } from './schema.js';

export interface NmOpenOptions extends PortOpenOptions {
  /** name of the fabric, as netbe run --fabric has it; default: "default" */
  fabric?: string;
  /** path of its port socket, instead of its name */
  socket?: string;
  /** rings each way, where txRings or rxRings do not say */
  rings?: number;
  /** slots of a ring, where txSlots or rxSlots do not say */
  slots?: number;
}

let windows: WindowPool | undefined;

/** Opens the port that `name` says in the syntax of nm_open. Throws NetbeError. */
export function nmOpen(name: string, options: NmOpenOptions = {}): NetmapClientPort {
  const { fabric, socket, rings, slots, ...rest } = options;
  if (fabric !== undefined && socket !== undefined)
    throw usageError('both fabric and socket are given', socket, 'Give one: either says where the ports are.');
  const path = socket ?? portSocketPath(controlSocketPath(fabric ?? DEFAULT_FABRIC_NAME));
  const sizes = { txRings: rings, rxRings: rings, txSlots: slots, rxSlots: slots };
  windows ??= new WindowPool();
  try {
    return openClientPort(windows, path, name, { ...dropUndefined(sizes), ...dropUndefined(rest) });
  } catch (error) {
    if (!(error instanceof NetbeError) || error.syscall !== 'connect') throw error;
    throw new NetbeError(`no fabric serves ports at ${path}`, {
      code: error.code,
      kind: 'environment',
      subject: path,
      remedy: 'Start one with netbe run or netbe up, or let a Fabric of yours serve them with listenPorts(path).',
      cause: error,
    });
  }
}

function dropUndefined(options: object): PortOpenOptions {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}
