/**
 * netmap: ports of netmap(4), by the names of nm_open(3): interfaces of the host and their host rings.
 */
import { NetbeError, usageError } from '../errors.js';
import { NR_REG_ALL_NIC, NR_REG_NIC_SW, NR_REG_ONE_SW, NR_REG_SW } from '../netmap/abi-register.js';
import { hostModes } from '../netmap/host/host-port.js';
import { openHostRings } from '../netmap/host/host-rings.js';
import { type HostPortOptions, openHostPort } from '../netmap/host/open.js';
import { type NetmapPortName, parsePortName, portNameError } from '../netmap/port-name.js';
import { interfaceNames, netdevInfo } from '../sys/netdev.js';
import { TUN_PATH } from '../sys/tun.js';
import type { BackendNeeds, BackendOpen, BackendOption, NetBackend, NetBackendType } from './net-backend.js';
import { NetmapIf } from './netmap/interface.js';
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
  summary: 'slots of each receive and transmit ring, a power of two',
  default: '1024',
};
const ZERO_COPY: BackendOption = {
  name: 'zero-copy',
  value: 'auto|on|off',
  summary: 'let the driver work in the frame memory itself (xdp-native); auto: where it can',
  default: 'auto',
};

/** options that say how frames of the wire come and go */
const WIRE_OPTIONS = [MODE, QUEUES, PROMISC, RING, ZERO_COPY];

function open(request: BackendOpen): NetBackend {
  const { device } = request;
  const names = interfaceNames();
  const name = parsePortName(device, (nrName) => names.includes(nrName));
  refuse(name);
  if (name.mode !== NR_REG_ALL_NIC) refuseWireOptions(request, name);
  if (request.runtime.counters.directory().some(({ subject }) => subject === device))
    throw new NetbeError(`${device} is open already: an interface has one user`, {
      code: 'EBUSY',
      kind: 'usage',
      subject: device,
      remedy: 'To share it, join it to a switch: patch it to a port such as vale0:up.',
    });
  return name.mode === NR_REG_ALL_NIC
    ? openInterface(request, name)
    : new NetmapIf(request, netdevInfo(name.portName), openHostRings, false);
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

/** Throws for what no NIC or patch can use. */
function refuse(name: NetmapPortName): void {
  const { mode, ringId, portName, text } = name;
  for (const part of ['pipe', 'flags', 'memId', 'options'] as const)
    if (name.at[part] !== undefined)
      throw portNameError(
        name,
        part,
        `"${text.slice(name.at[part])}": only interfaces and their host rings can be opened`,
      );
  if (mode === NR_REG_ONE_SW && ringId > 0)
    throw portNameError(name, 'mode', 'an interface has one pair of host rings: ^0');
  if (mode === NR_REG_NIC_SW)
    throw portNameError(
      name,
      'mode',
      'a NIC or patch has one end: it cannot be that of the wire and that of the host',
      `Open netmap:${portName} for the wire and netmap:${portName}^ for the host, for instance each as a port of a switch:`,
    );
  if (![NR_REG_ALL_NIC, NR_REG_SW, NR_REG_ONE_SW].includes(mode))
    throw portNameError(name, 'mode', 'the rings of an interface are opened together');
}

function refuseWireOptions({ device, options }: BackendOpen, { portName }: NetmapPortName): void {
  for (const { name: option } of WIRE_OPTIONS)
    if (options.has(option))
      throw usageError(
        `${device}: ${option} says how frames of the wire come and go: host rings have none of it`,
        device,
        `Leave ${option} out, or give it to netmap:${portName}.`,
      );
}

function needs(device: string): BackendNeeds {
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
  summary: 'an interface of the host, its whole traffic, through AF_XDP or AF_PACKET',
  example: 'netmap:eth1',
  options: WIRE_OPTIONS,
  needsReceive: true,
  needs,
  open,
};
