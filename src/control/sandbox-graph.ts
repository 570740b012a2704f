/**
 * What the graph of a fabric needs of the system, found in the commands that make it: nodes that are made later
 * have what is left then.
 */
import type { BackendNeeds } from '../net-backends/net-backend.js';
import { interfaceNames } from '../sys/netdev.js';
import { TUN_PATH } from '../sys/tun.js';

// AF_UNIX, AF_INET, AF_NETLINK, AF_PACKET and AF_XDP
const eiface: BackendNeeds = {
  capabilities: ['CAP_NET_ADMIN'],
  devices: [TUN_PATH],
  socketFamilies: [1, 16],
};
const ksocket: BackendNeeds = { socketFamilies: [1, 2], tcp: true, syscalls: ['connect'] };
const ether: BackendNeeds = {
  capabilities: ['CAP_NET_ADMIN', 'CAP_NET_RAW', 'CAP_BPF', 'CAP_IPC_LOCK'],
  devices: [TUN_PATH],
  socketFamilies: [1, 16, 17, 44],
  syscalls: ['bpf'],
};

export function graphNeeds(commands: readonly string[]): BackendNeeds[] {
  const words = new Set(commands.flatMap((command) => command.split(/[\s.]+/)));
  const needs: BackendNeeds[] = [];
  if (words.has('eiface')) needs.push(eiface);
  if (words.has('ksocket')) needs.push(ksocket);
  if (interfaceNames().some((name) => [...words].some((word) => word.startsWith(`${name}:`)))) needs.push(ether);
  return needs;
}
