/** The options of tap and vmnet, and the interface that a device string names. */
import { usageError } from '../../errors.js';
import { AF_NETLINK } from '../../sys/netlink.js';
import { IFNAMSIZ, TUN_PATH } from '../../sys/tun.js';
import type { BackendNeeds, BackendOption } from '../net-backend.js';
import { integerOption } from '../options.js';
import type { IoWay } from './io.js';

/** CAP_NET_ADMIN where it is there: for taps that are nobody's own, and for changes of the interface. */
export const tapNeeds: BackendNeeds = {
  capabilities: ['CAP_NET_ADMIN'],
  devices: [TUN_PATH],
  socketFamilies: [AF_NETLINK],
  syscalls: ['io_uring_setup', 'io_uring_enter', 'io_uring_register'],
};

const MTU: BackendOption = {
  name: 'mtu',
  value: '68-65521',
  summary: "the interface's MTU; left as it is unless given",
};
const MAC: BackendOption = {
  name: 'mac',
  value: 'XX:XX:XX:XX:XX:XX',
  summary: "the host's address on the interface, not the guest's; left as it is unless given",
};
const BRIDGE: BackendOption = {
  name: 'bridge',
  value: 'NAME',
  summary: 'Linux bridge that the interface joins; left as it is unless given',
};
const QUEUES: BackendOption = {
  name: 'queues',
  value: '1-16',
  summary: 'descriptors of the interface; more than 1 makes it, and needs it to be, a multi-queue tap',
  default: '1',
};
const IO: BackendOption = {
  name: 'io',
  value: 'auto|io_uring|readv',
  summary: 'how frames are read and written; auto is io_uring where the kernel allows it',
  default: 'auto',
};
const OFFLOAD: BackendOption = {
  name: 'offload',
  value: 'on|off',
  summary: 'whether checksums and segmentation may be left to the other side',
  default: 'on',
};

export const tapOptions: readonly BackendOption[] = [MTU, MAC, BRIDGE, QUEUES, IO, OFFLOAD];

export interface TapOptions {
  /** name of the interface */
  interfaceName: string;
  mtu: number | undefined;
  mac: Uint8Array | undefined;
  bridge: string | undefined;
  queues: number;
  io: 'auto' | IoWay;
  offload: boolean;
}

/** "tap0" is interface tap0, "tap:NAME" interface NAME. Throws EINVAL. */
export function interfaceName(prefix: string, device: string): string {
  const rest = device.slice(prefix.length);
  const name = rest.startsWith(':') ? rest.slice(1) : /^\d+$/.test(rest) ? device : '';
  // what dev_valid_name() of Linux allows, without the % that it would number
  if (/^[^\s/:%\0]+$/.test(name) && Buffer.byteLength(name) < IFNAMSIZ && name !== '.' && name !== '..') return name;
  throw usageError(
    `"${device}" names no interface`,
    device,
    `Write ${prefix}N or ${prefix}:NAME, for example ${prefix}0; a name has 1 to ${IFNAMSIZ - 1} bytes, none of them a space, "/", ":" or "%".`,
  );
}

export function parseTapOptions(prefix: string, device: string, options: ReadonlyMap<string, string>): TapOptions {
  const bridge = options.get(BRIDGE.name);
  return {
    interfaceName: interfaceName(prefix, device),
    mtu: options.has(MTU.name) ? integerOption(MTU, options, 68, 65521) : undefined,
    mac: macOption(options.get(MAC.name)),
    bridge: bridge === undefined ? undefined : interfaceName('', `:${bridge}`),
    queues: integerOption(QUEUES, options, 1, 16),
    io: choice(IO, options, ['auto', 'io_uring', 'readv']),
    offload: choice(OFFLOAD, options, ['on', 'off']) === 'on',
  };
}

function macOption(text: string | undefined): Uint8Array | undefined {
  if (text === undefined) return undefined;
  const mac = Uint8Array.from(text.split(':'), (octet) => Number.parseInt(octet, 16));
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text) || (mac[0]! & 1) !== 0 || mac.every((b) => b === 0))
    throw usageError(
      `mac=${text} is no address of an interface: six bytes, not multicast, not all zero`,
      `mac=${text}`,
    );
  return mac;
}

function choice<T extends string>(
  option: BackendOption,
  options: ReadonlyMap<string, string>,
  allowed: readonly T[],
): T {
  const text = options.get(option.name) ?? option.default;
  const found = allowed.find((a) => a === text);
  if (found === undefined)
    throw usageError(`${option.name}=${text} is not one of ${allowed.join(', ')}`, `${option.name}=${text}`);
  return found;
}
