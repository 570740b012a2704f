/**
 * ether (ng_ether(4)): an Ethernet interface of the host. It need not be made: the node of that name is there as
 * soon as it is addressed, and stays. Its hook `lower` is the wire, `upper` the host's own stack:
 *
 * - lower (or divert) connected: all that the interface receives comes out of it, and the host is cut off from
 *   the interface, also from sending: Linux has one place to take an interface. Connect both where the host is
 *   to go on using it.
 * - upper connected: what the host sends through the interface comes out of it, and what comes to it the host
 *   receives as from the interface.
 * - orphans connected: frames that the host would discard because it does not know their protocol come out of it, and
 *   what comes to it goes to the wire. With lower connected, too, they are those that upper was given.
 *
 * All go through netmap's ways to the host (netmap/host/).
 */
import { NetbeError } from '../../errors.js';
import { copyPiece } from '../../memory/copy.js';
import { Iovec } from '../../memory/iovec.js';
import { openHostRings } from '../../netmap/host/host-rings.js';
import { HostInterface } from '../../netmap/host/interface.js';
import { type OpenedHostPort, openHostPort } from '../../netmap/host/open.js';
import { OrphansPort, openedOrphans } from '../../netmap/host/orphans.js';
import { ARPHRD_ETHER, interfaceNames, type NetdevInfo, netdevInfo } from '../../sys/netdev.js';
import { setLink } from '../../sys/netlink.js';
import { formatMac, MAX_FRAME_LEN } from '../../wire/ethernet.js';
import { NG_BURST_FRAMES, type NgBurst } from '../burst.js';
import type { Netgraph } from '../engine.js';
import type { Errno } from '../errno.js';
import type { NgHook } from '../hook.js';
import type { NgMessage } from '../message.js';
import { type NgCommand, type NgMethods, type NgNode, type NgResult, type NgType, NODE_COUNTERS } from '../node.js';
import { pack, unpack } from '../parse/parse-type.js';
import { enaddr, int32, string, uint32 } from '../parse/scalars.js';
import { EtherWants, type GroupError } from './ether-wants.js';

const NGM_ETHER_COOKIE = 1108206947;
const GET_IFNAME = 1;
const GET_IFINDEX = 2;
const GET_ENADDR = 3;
const SET_ENADDR = 4;
const GET_PROMISC = 5;
const SET_PROMISC = 6;
const GET_AUTOSRC = 7;
const SET_AUTOSRC = 8;
const ADD_MULTI = 9;
const DEL_MULTI = 10;
const DETACH = 11;

const cookie = NGM_ETHER_COOKIE;
const cmdlist: readonly NgCommand[] = [
  { cookie, cmd: GET_IFNAME, name: 'getifname', respType: string },
  { cookie, cmd: GET_IFINDEX, name: 'getifindex', respType: uint32 },
  { cookie, cmd: GET_ENADDR, name: 'getenaddr', respType: enaddr },
  { cookie, cmd: SET_ENADDR, name: 'setenaddr', mesgType: enaddr },
  { cookie, cmd: GET_PROMISC, name: 'getpromisc', respType: int32 },
  { cookie, cmd: SET_PROMISC, name: 'setpromisc', mesgType: int32 },
  { cookie, cmd: GET_AUTOSRC, name: 'getautosrc', respType: int32 },
  { cookie, cmd: SET_AUTOSRC, name: 'setautosrc', mesgType: int32 },
  { cookie, cmd: ADD_MULTI, name: 'addmulti', mesgType: enaddr },
  { cookie, cmd: DEL_MULTI, name: 'delmulti', mesgType: enaddr },
  { cookie, cmd: DETACH, name: 'detach' },
];

/** of addmulti and delmulti */
const groupErrors: Record<GroupError, string> = {
  EADDRNOTAVAIL: 'is no group address: its first octet is even',
  EADDRINUSE: 'is joined already, by this node or by the host',
  ENOENT: 'has not been joined by this node',
};

const DROP_NO_ROOM = NODE_COUNTERS;
const MAC_LEN = 6;
const RING_SLOTS = 1024;

/** One of the sides while its hook is connected. */
class Side {
  readonly #graph: Netgraph;
  readonly #interface: HostInterface;
  readonly #burst: NgBurst;
  readonly #iov = new Iovec(1);
  readonly #values: Float64Array;
  readonly #take = (): void => this.#drain();

  constructor(
    node: NgNode,
    readonly hook: NgHook,
    name: string,
    info: NetdevInfo,
    openPort: (info: NetdevInfo) => OpenedHostPort,
  ) {
    this.#graph = node.engine;
    this.#values = node.values;
    this.#interface = new HostInterface({
      runtime: node.engine.runtime,
      name,
      info,
      openPort: (_windows, opened) => openPort(opened),
      promisc: false,
      onReceive: () => this.#graph.turn(this.#take),
    });
    this.#burst = node.engine.buffers.takeBurst();
  }

  /** From now on what is received comes out of the hook. */
  begin(): void {
    this.#interface.recvEnable();
  }

  #drain(): void {
    const { buffers } = this.#graph;
    const burst = this.#burst;
    const from = this.#interface;
    for (let len = from.peekRecvLen(); len > 0; len = from.peekRecvLen()) {
      const off = len > MAX_FRAME_LEN ? 0 : buffers.arena(len);
      if (off === 0) {
        from.rxDiscard();
        this.#values[DROP_NO_ROOM]!++;
        continue;
      }
      this.#iov.clear();
      this.#iov.push(buffers.window.index, off, len);
      if (from.recv(this.#iov) <= 0) continue;
      burst.push(buffers.window.index, off, len);
      if (burst.count === NG_BURST_FRAMES) this.#send();
    }
    this.#send();
  }

  #send(): void {
    if (this.#burst.count > 0) this.hook.send(this.#burst);
    this.#burst.count = 0;
  }

  /** Sends frames; `mac`: from that address, whatever it was. */
  send(burst: NgBurst, mac: Uint8Array | undefined): void {
    const iov = this.#iov;
    for (let i = 0; i < burst.count; i++) {
      iov.clear();
      if (mac === undefined) iov.push(burst.win[i]!, burst.off[i]!, burst.len[i]!);
      else if (!this.#copyFrom(burst, i, mac)) continue;
      this.#interface.send(iov);
    }
    this.#interface.flush();
  }

  #copyFrom(burst: NgBurst, i: number, mac: Uint8Array): boolean {
    const { buffers, runtime } = this.#graph;
    const len = burst.len[i]!;
    const off = len < 2 * MAC_LEN ? 0 : buffers.arena(len);
    if (off === 0) {
      this.#values[DROP_NO_ROOM]!++;
      return false;
    }
    const { window } = buffers;
    copyPiece(window, off, runtime.windows.windows[burst.win[i]!]!, burst.off[i]!, len);
    for (let k = 0; k < MAC_LEN; k++) window.u8[off + MAC_LEN + k] = mac[k]!;
    this.#iov.push(window.index, off, len);
    return true;
  }

  close(): void {
    this.#interface.close();
    this.#graph.buffers.giveBurst(this.#burst);
  }
}

class Ether implements NgMethods {
  readonly #node: NgNode;
  readonly #ifname: string;
  #lower: Side | undefined;
  #upper: Side | undefined;
  #orphans: Side | undefined;
  #orphansPort: OrphansPort | undefined;
  #autosrc = true;
  #mac: Uint8Array;
  readonly #wants: EtherWants;

  constructor(node: NgNode, info: NetdevInfo) {
    this.#node = node;
    this.#ifname = info.name;
    this.#mac = info.mac;
    this.#wants = new EtherWants(info.name);
  }

  newhook(hook: NgHook, name: string): Errno | undefined {
    const { engine } = this.#node;
    const info = netdevInfo(this.#ifname);
    const { windows } = engine.runtime;
    if (name === 'lower' || name === 'divert') {
      if (this.#lower !== undefined) return 'EISCONN';
      this.#lower = new Side(this.#node, hook, `netmap:${info.name}`, info, (opened) => openWire(engine, opened));
    } else if (name === 'upper') {
      if (this.#upper !== undefined) return 'EISCONN';
      this.#upper = new Side(this.#node, hook, `netmap:${info.name}^`, info, (opened) =>
        openHostRings(windows, opened),
      );
    } else if (name === 'orphans') {
      if (this.#orphans !== undefined) return 'EISCONN';
      let port: OrphansPort | undefined;
      this.#orphans = new Side(this.#node, hook, `netmap:${info.name}/orphans`, info, (opened) => {
        port = new OrphansPort(windows, opened, this.#lower !== undefined);
        return openedOrphans(port);
      });
      this.#orphansPort = port;
    } else return engine.fail('EINVAL', `an ether node has the hooks lower, upper and orphans, not "${name}"`);
    return undefined;
  }

  connect(hook: NgHook): undefined {
    this.#refreshOrphans();
    this.#side(hook)?.begin();
  }

  disconnect(hook: NgHook): void {
    const side = this.#side(hook);
    if (side === undefined) return;
    side.close();
    if (side === this.#lower) this.#lower = undefined;
    else if (side === this.#upper) this.#upper = undefined;
    else {
      this.#orphans = undefined;
      this.#orphansPort = undefined;
    }
    this.#refreshOrphans();
  }

  #refreshOrphans(): void {
    this.#orphansPort?.refresh(this.#lower !== undefined);
  }

  /** The node is there as long as the interface is: it only goes back to its defaults. */
  shutdown(): boolean {
    this.#wants.clear();
    this.#autosrc = true;
    return interfaceNames().includes(this.#ifname);
  }

  close(): void {
    this.#wants.clear();
    this.#lower?.close();
    this.#upper?.close();
    this.#orphans?.close();
  }

  #side(hook: NgHook): Side | undefined {
    if (this.#lower?.hook === hook) return this.#lower;
    if (this.#upper?.hook === hook) return this.#upper;
    return this.#orphans?.hook === hook ? this.#orphans : undefined;
  }

  rcvdata(hook: NgHook, burst: NgBurst): void {
    const side = this.#side(hook);
    side?.send(burst, this.#autosrc && side !== this.#upper ? this.#mac : undefined);
  }

  // ---- messages ----

  rcvmsg(msg: NgMessage): NgResult {
    if (msg.typecookie !== NGM_ETHER_COOKIE) return 'EINVAL';
    switch (msg.cmd) {
      case GET_IFNAME:
        return pack(string, this.#ifname);
      case GET_IFINDEX:
        return pack(uint32, netdevInfo(this.#ifname).index);
      case GET_ENADDR:
        return pack(enaddr, formatMac(netdevInfo(this.#ifname).mac));
      case SET_ENADDR:
        return this.#setMac(unpack(enaddr, msg.data));
      case GET_PROMISC:
        return pack(int32, this.#wants.promiscuous ? 1 : 0);
      case SET_PROMISC:
      case SET_AUTOSRC: {
        const value = unpack(int32, msg.data);
        if (value === undefined) return 'EINVAL';
        if (msg.cmd === SET_AUTOSRC) this.#autosrc = value !== 0;
        else this.#wants.setPromiscuous(value !== 0);
        return undefined;
      }
      case GET_AUTOSRC:
        return pack(int32, this.#autosrc ? 1 : 0);
      case DETACH:
        this.#node.engine.removeNode(this.#node, true);
        return undefined;
      case ADD_MULTI:
      case DEL_MULTI:
        return this.#group(msg.cmd, unpack(enaddr, msg.data));
      default:
        return 'EINVAL';
    }
  }

  #group(cmd: number, text: string | undefined): NgResult {
    if (text === undefined) return 'EINVAL';
    const mac = macOf(text);
    const error = cmd === ADD_MULTI ? this.#wants.join(mac) : this.#wants.leave(mac);
    return error === undefined ? undefined : this.#node.engine.fail(error, `${text} ${groupErrors[error]}`);
  }

  #setMac(text: string | undefined): NgResult {
    if (text === undefined) return 'EINVAL';
    const mac = macOf(text);
    setLink(netdevInfo(this.#ifname).index, { mac }, `${this.#ifname}: ${text}`);
    this.#mac = mac;
    return undefined;
  }
}

const macOf = (text: string): Uint8Array => Uint8Array.from(text.split(':'), (octet) => Number.parseInt(octet, 16));

/** The interface's wire: in its driver, or through AF_PACKET; behind the driver it would take the host's frames, too. */
function openWire({ runtime }: Netgraph, info: NetdevInfo): OpenedHostPort {
  const options = { queues: 0, slots: RING_SLOTS, zeroCopy: 'auto' } as const;
  try {
    return openHostPort(runtime.windows, info, { ...options, mode: 'xdp-native' });
  } catch (error) {
    if (!(error instanceof NetbeError) || error.code === 'EBUSY' || error.code === 'EEXIST') throw error;
    return openHostPort(runtime.windows, info, { ...options, mode: 'packet' });
  }
}

export const etherType: NgType = {
  name: 'ether',
  cmdlist,
  counters: ['drop_no_room'],
  find: (engine, name) => {
    if (!interfaceNames().includes(name)) return undefined;
    const info = netdevInfo(name);
    if (info.hardwareType !== ARPHRD_ETHER) return undefined;
    const node = engine.makeNodeCommon(etherType, (made) => new Ether(made, info));
    if (typeof node === 'string') return undefined;
    engine.nameNode(node, name);
    return node;
  },
};
