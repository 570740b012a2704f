/**
 * What an ether node has its interface receive besides what it would: all frames, or those to group addresses.
 * The kernel takes it back when the node goes, or the process ends.
 */
import { readFileSync } from 'node:fs';
import type { Fd } from '../../sys/fd.js';
import { netdevInfo } from '../../sys/netdev.js';
import { joinGroup, leaveGroup, openPacketSocket, setPromiscuous } from '../../sys/packet-socket.js';

const GROUP_BIT = 1;

export type GroupError = 'EADDRNOTAVAIL' | 'EADDRINUSE' | 'ENOENT';

export class EtherWants {
  readonly #ifname: string;
  /** held while the interface is promiscuous for us */
  #promisc: Fd | undefined;
  /** held while there are groups */
  #groupSocket: Fd | undefined;
  readonly #groups = new Set<string>();

  constructor(ifname: string) {
    this.#ifname = ifname;
  }

  get promiscuous(): boolean {
    return this.#promisc !== undefined;
  }

  setPromiscuous(on: boolean): void {
    if (on === this.promiscuous) return;
    this.#promisc?.close();
    this.#promisc = undefined;
    if (!on) return;
    const socket = openPacketSocket();
    try {
      setPromiscuous(socket.number, netdevInfo(this.#ifname).index);
    } catch (error) {
      socket.close();
      throw error;
    }
    this.#promisc = socket;
  }

  /** As if_addmulti of FreeBSD, once for each address: EADDRINUSE also when somebody else has joined it. */
  join(mac: Uint8Array): GroupError | undefined {
    if ((mac[0]! & GROUP_BIT) === 0) return 'EADDRNOTAVAIL';
    const { index } = netdevInfo(this.#ifname);
    const hex = Buffer.from(mac).toString('hex');
    if (joinedGroups(index).has(hex)) return 'EADDRINUSE';
    this.#groupSocket ??= openPacketSocket();
    joinGroup(this.#groupSocket.number, index, mac);
    this.#groups.add(hex);
    return undefined;
  }

  /** ENOENT for what the node has not joined: what the host has joined stays its own. */
  leave(mac: Uint8Array): GroupError | undefined {
    const hex = Buffer.from(mac).toString('hex');
    if (this.#groupSocket === undefined || !this.#groups.delete(hex)) return 'ENOENT';
    leaveGroup(this.#groupSocket.number, netdevInfo(this.#ifname).index, mac);
    return undefined;
  }

  /** Wants nothing any more. */
  clear(): void {
    this.#promisc?.close();
    this.#promisc = undefined;
    this.#groupSocket?.close();
    this.#groupSocket = undefined;
    this.#groups.clear();
  }
}

/** Group addresses that an interface receives for anybody, in hexadecimal: the last column of /proc/net/dev_mcast. */
function joinedGroups(ifindex: number): Set<string> {
  const rows = readFileSync('/proc/thread-self/net/dev_mcast', 'utf8')
    .split('\n')
    .map((line) => line.trim().split(/\s+/));
  return new Set(rows.filter(([index]) => Number(index) === ifindex).map((row) => row.at(-1) as string));
}
