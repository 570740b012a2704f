/**
 * netmap: ports of netmap(4), by the names of nm_open(3): interfaces of the host, their host rings, and by
 * their rings pipes and ports of this fabric's own netmap.
 */
import { usageError } from '../errors.js';
import {
  NR_EXCLUSIVE,
  NR_MONITOR_RX,
  NR_MONITOR_TX,
  NR_REG_ALL_NIC,
  NR_REG_NIC_SW,
  NR_REG_ONE_NIC,
  NR_REG_ONE_SW,
} from '../netmap/abi-register.js';
import { hostModes } from '../netmap/host/host-port.js';
import { openHostRings } from '../netmap/host/host-rings.js';
import { refuseSecondUser } from '../netmap/host/interface.js';
import { type HostPortOptions, openHostPort } from '../netmap/host/open.js';
import { type Netmap, netmapOf } from '../netmap/netmap.js';
import { type NetmapPortName, type PortNamePart, parsePortName, portNameError } from '../netmap/port-name.js';
import { interfaceNames, netdevInfo } from '../sys/netdev.js';
import { TUN_PATH } from '../sys/tun.js';
import type { BackendNeeds, BackendOpen, BackendOption, NetBackend, NetBackendType } from './net-backend.js';
import { NetmapIf } from './netmap/interface.js';
import { openPortRings } from './netmap/rings.js';
import { choiceOption, integerOption } from './options.js';

const MODE: BackendOption = {
  name: 'mode',
  value: ['auto', ...hostModes].join('|'),
  summary: 'how frames come and go; auto: the first of the others that works',
  default: 'auto',
};
const QUEUES: BackendOption = {
  name: 'queues',
  value: 'all|N',
  summary: 'receive queues to take with XDP, from the first on; frames of the others go to the host',
  default: 'all',
};
const PROMISC: BackendOption = {
  name: 'promisc',
  value: 'on|off',
  summary: "take frames for any address, not just the interface's own",
  default: 'on',
};
const RING: BackendOption = {
  name: 'ring',
  value: '64-4096',
  summary: 'slots of each receive and transmit ring; of an interface a power of two',
  default: '1024',
};
const ZERO_COPY: BackendOption = {
  name: 'zero-copy',
  value: 'auto|on|off',
  summary: 'let the driver work in the frame memory itself (xdp-native); auto: where it can',
  default: 'auto',
};
const RINGS: BackendOption = {
  name: 'rings',
  value: '1-16',
  summary: 'rings each way of a pipe that is made by this opening',
  default: '1',
};

const MONITOR = NR_MONITOR_TX | NR_MONITOR_RX;

/** options that say how frames of the wire come and go */
const WIRE_OPTIONS = [MODE, QUEUES, PROMISC, RING, ZERO_COPY];

function open(request: BackendOpen): NetBackend {
  const { device, runtime } = request;
  const interfaces = interfaceNames();
  const netmap = netmapOf(runtime);
  const name = parsePortName(device, (nrName) => interfaces.includes(nrName) || netmap.find(nrName) !== undefined);
  if (hasRings(netmap, name, interfaces.includes(name.portName))) return openRings(request, name);
  refuseOption(RINGS, request, 'says how many rings a port has that is made: an interface has its own');
  refuse(name);
  if (name.mode === NR_REG_ALL_NIC) return openInterface(request, name);
  for (const option of WIRE_OPTIONS)
    refuseOption(option, request, 'says how frames of the wire come and go: host rings have none of it');
  return new NetmapIf(request, netdevInfo(name.portName), openHostRings, false);
}

function openRings(request: BackendOpen, name: NetmapPortName): NetBackend {
  refuseSecondUser(request.runtime, request.device);
  for (const option of [MODE, QUEUES, PROMISC, ZERO_COPY])
    refuseOption(option, request, 'is for interfaces of the host: this port has none behind it');
  return openPortRings(request, name, {
    slots: request.options.has(RING.name) ? integerOption(RING, request.options, 64, 4096) : undefined,
    rings: integerOption(RINGS, request.options, 1, 16),
  });
}

/** Is the name about rings of the fabric's own: a pipe, a port that it has, or a monitor of an interface that is open by its rings? */
function hasRings(netmap: Netmap, { pipe, baseName, flags }: NetmapPortName, isInterface: boolean): boolean {
  if (pipe !== undefined) return true;
  return netmap.find(baseName) !== undefined && (!isInterface || (flags & MONITOR) !== 0);
}

function openInterface(request: BackendOpen, name: NetmapPortName): NetBackend {
  const { options } = request;
  const slots = integerOption(RING, options, 64, 4096);
  if ((slots & (slots - 1)) !== 0) throw usageError(`ring=${slots} is no power of two`, `ring=${slots}`);
  const queues = options.get(QUEUES.name) ?? 'all';
  const how: HostPortOptions = {
    mode: choiceOption<HostPortOptions['mode']>(MODE, options),
    queues: queues === 'all' ? 0 : integerOption(QUEUES, options, 1, 1024),
    slots,
    zeroCopy: choiceOption<HostPortOptions['zeroCopy']>(ZERO_COPY, options),
  };
  const promisc = choiceOption(PROMISC, options) === 'on';
  const info = netdevInfo(name.portName);
  return new NetmapIf(request, info, (windows) => openHostPort(windows, info, how), promisc);
}

/** Throws for what no NIC or patch can have of an interface. */
function refuse(name: NetmapPortName): void {
  const { mode, ringId, portName, flags } = name;
  const refuseAt = (part: PortNamePart, why: string, remedy?: string): never => {
    throw portNameError(name, part, why, remedy);
  };
  if ((flags & MONITOR) !== 0)
    refuseAt(
      'flags',
      'nobody in this fabric has the interface by its rings: a monitor would see nothing',
      'Capture its frames instead (netbe capture):',
    );
  if ((flags & ~NR_EXCLUSIVE) !== 0) refuseAt('flags', 'both directions of an interface are opened together');
  if (name.memId !== 0) refuseAt('memId', 'the rings of an interface are in memory of their own');
  if (name.at.options !== undefined)
    refuseAt('options', 'an interface has no such options', 'Those of the backend follow a comma:');
  if (mode === NR_REG_ONE_SW && ringId > 0) refuseAt('mode', 'an interface has one pair of host rings: ^0');
  if (mode === NR_REG_ONE_NIC)
    refuseAt('mode', 'the rings of an interface are opened together', 'How many are taken says queues=N:');
  if (mode === NR_REG_NIC_SW)
    refuseAt(
      'mode',
      'a NIC or patch has one end: it cannot be that of the wire and that of the host',
      `Open netmap:${portName} for the wire and netmap:${portName}^ for the host, for instance each as a port of a switch:`,
    );
}

function refuseOption(option: BackendOption, { device, options }: BackendOpen, why: string): void {
  if (options.has(option.name))
    throw usageError(`${device}: ${option.name} ${why}`, device, `Leave ${option.name} out.`);
}

function needs(device: string): BackendNeeds {
  // a port of this process needs nothing; what cannot be read is refused when it is opened
  if (/[{}]/.test(device)) return {};
  const hostRings = device.includes('^');
  return {
    // CAP_IPC_LOCK: memory of AF_XDP is locked
    capabilities: ['CAP_NET_ADMIN', 'CAP_NET_RAW', 'CAP_BPF', 'CAP_IPC_LOCK'],
    // AF_UNIX (any socket can be asked about an interface), AF_NETLINK, AF_PACKET and AF_XDP
    socketFamilies: [1, 16, 17, 44],
    syscalls: ['bpf'],
    ...(hostRings ? { devices: [TUN_PATH] } : {}),
  };
}

export const netmapBackend: NetBackendType = {
  prefix: 'netmap',
  summary: 'an interface of the host, its host rings, or a pipe or port of this process by its rings',
  example: 'netmap:eth1',
  options: [...WIRE_OPTIONS, RINGS],
  needsReceive: true,
  needs,
  open,
};
