/**
 * ksocket (ng_ksocket(4)): a socket of the host as a node. Its one hook says which by its name,
 * FAMILY/TYPE/PROTOCOL: inet/dgram/udp for a tunnel. What comes to the hook is sent, a datagram a frame;
 * what is received comes out of it. An end that is not connected sends nowhere.
 *
 * Nothing is encrypted: between machines a tunnel wants a protected network.
 */
import { counterIndices } from '../../engine/counters.js';
import { EVF_WRITE, type MeventHandle } from '../../engine/mevent.js';
import { NetbeError } from '../../errors.js';
import type { Fd } from '../../sys/fd.js';
import { E, errnoName } from '../../sys/libc.js';
import { NativeBuffer } from '../../sys/native-buffer.js';
import { acceptFrom, bindTo, connectTo, inProgress, listenOn, socketName } from '../../sys/plain-socket.js';
import {
  getSockopt,
  openSocket,
  type SocketOption,
  setSockopt,
  takeSocketError,
  tryIntSockopt,
} from '../../sys/sockopt.js';
import type { NgBurst } from '../burst.js';
import type { Netgraph } from '../engine.js';
import { type Errno, isErrno } from '../errno.js';
import type { NgHook } from '../hook.js';
import { OpenSocket } from '../ksocket/open-socket.js';
import { knownOptions, linuxOption, sockoptType } from '../ksocket/options.js';
import { fromLinux, PF_INET, PF_LOCAL, sockaddr, toLinux } from '../ksocket/sockaddr.js';
import type { NgMessage } from '../message.js';
import { type NgCommand, type NgMethods, type NgNode, type NgResult, type NgType, NODE_COUNTERS } from '../node.js';
import { struct } from '../parse/composites.js';
import { pack, unpack } from '../parse/parse-type.js';
import { hint32, int32 } from '../parse/scalars.js';

const NGM_KSOCKET_COOKIE = 942710669;
const BIND = 1;
const LISTEN = 2;
const ACCEPT = 3;
const CONNECT = 4;
const GETNAME = 5;
const GETPEERNAME = 6;
const SETOPT = 7;
const GETOPT = 8;

const acceptType = struct({ nodeid: hint32, addr: sockaddr });
/** NGM_KSOCKET_GETOPT: level and name */
const getoptType = struct({ level: int32, name: int32 });

const command = (cmd: number, name: string, types: Pick<NgCommand, 'mesgType' | 'respType'>): NgCommand => ({
  cookie: NGM_KSOCKET_COOKIE,
  cmd,
  name,
  ...types,
});

const cmdlist: readonly NgCommand[] = [
  command(BIND, 'bind', { mesgType: sockaddr }),
  command(LISTEN, 'listen', { mesgType: int32 }),
  command(ACCEPT, 'accept', { respType: acceptType }),
  command(CONNECT, 'connect', { mesgType: sockaddr, respType: int32 }),
  command(GETNAME, 'getname', { respType: sockaddr }),
  command(GETPEERNAME, 'getpeername', { respType: sockaddr }),
  command(SETOPT, 'setopt', { mesgType: sockoptType }),
  command(GETOPT, 'getopt', { mesgType: getoptType, respType: sockoptType }),
];

const counters = ['tx_frames', 'tx_drop_full', 'tx_drop_not_connected', 'tx_drop_refused'] as const;
const C = counterIndices(counters, NODE_COUNTERS);

const families: Record<string, number> = { local: PF_LOCAL, inet: PF_INET };
const types: Record<string, number> = { stream: 1, dgram: 2, raw: 3, seqpacket: 5 };
const protocols: Record<string, number> = {
  ip: 0,
  raw: 0,
  icmp: 1,
  igmp: 2,
  tcp: 6,
  udp: 17,
  gre: 47,
  esp: 50,
  ah: 51,
};
const SOCK_STREAM = 1;

const SOCKET_BUFFER_BYTES = 4 * 2 ** 20;
const SO_SNDBUF: SocketOption = { level: 1, option: 7, name: 'SO_SNDBUF' };
const SO_RCVBUF: SocketOption = { level: 1, option: 8, name: 'SO_RCVBUF' };
const MAX_OPTLEN = 1024;
const optionBytes = new NativeBuffer(MAX_OPTLEN);

class Ksocket implements NgMethods {
  readonly #node: NgNode;
  readonly #graph: Netgraph;
  #hook: NgHook | undefined;
  #socket: OpenSocket | undefined;
  /** a connection that was accepted waits for its hook, whatever its name */
  #accepted: Fd | undefined;
  #accepting: NgMessage | undefined;
  #connecting: MeventHandle | undefined;
  readonly #receive = (): void => {
    if (this.#hook === undefined || this.#socket === undefined) return;
    if (this.#socket.receive(this.#hook)) return;
    this.#socket.pause();
    this.#graph.runtime.log.info({ node: this.#node.label }, 'ksocket: the peer has closed the connection');
  };

  constructor(node: NgNode, accepted?: Fd) {
    this.#node = node;
    this.#graph = node.engine;
    this.#accepted = accepted;
  }

  newhook(hook: NgHook, name: string): Errno | undefined {
    if (this.#hook !== undefined) return 'EISCONN';
    if (this.#accepted !== undefined) {
      this.#open(this.#accepted, true);
      this.#accepted = undefined;
    } else {
      const parsed = parseHookName(name);
      if (parsed === undefined)
        return this.#graph.fail(
          'EINVAL',
          `"${name}" names no socket: a ksocket's hook is FAMILY/TYPE/PROTOCOL, for instance inet/dgram/udp`,
        );
      const { family, type, protocol } = parsed;
      if (family !== PF_INET && family !== PF_LOCAL)
        return this.#graph.fail('EAFNOSUPPORT', `"${name}": of families there are inet and local`);
      const fd = openSocket(family, type, protocol, name);
      tryIntSockopt(fd.number, SO_SNDBUF, SOCKET_BUFFER_BYTES);
      tryIntSockopt(fd.number, SO_RCVBUF, SOCKET_BUFFER_BYTES);
      this.#open(fd, type === SOCK_STREAM);
    }
    this.#hook = hook;
    return undefined;
  }

  #open(fd: Fd, stream: boolean): void {
    this.#socket = new OpenSocket(this.#graph, fd, stream, () => this.#readable());
  }

  disconnect(): void {
    this.#hook = undefined;
    this.#graph.removeNode(this.#node);
  }

  close(): void {
    this.#connecting?.delete();
    this.#socket?.close();
    this.#socket = undefined;
    this.#accepted?.close();
    this.#accepted = undefined;
  }

  // ---- data ----

  rcvdata(_hook: NgHook, burst: NgBurst): void {
    const socket = this.#socket;
    if (socket === undefined) return;
    const { values } = this.#node;
    for (let from = 0; from < burst.count; ) {
      const n = socket.send(burst, from);
      if (n > 0) {
        values[C.tx_frames]! += n;
        from += n;
      } else if (n === -E.EAGAIN || n === -E.ENOBUFS) {
        values[C.tx_drop_full]! += burst.count - from;
        return;
      } else {
        values[n === -E.EDESTADDRREQ || n === -E.ENOTCONN ? C.tx_drop_not_connected : C.tx_drop_refused]!++;
        from++;
      }
    }
  }

  #readable(): void {
    if (this.#accepting !== undefined) this.#acceptNow();
    else this.#graph.turn(this.#receive);
  }

  // ---- messages ----

  rcvmsg(msg: NgMessage): NgResult {
    if (msg.typecookie !== NGM_KSOCKET_COOKIE) return 'EINVAL';
    const socket = this.#socket;
    if (socket === undefined) return 'ENXIO';
    switch (msg.cmd) {
      case BIND:
        return this.#withAddress(msg.data, (address) => this.#result('bind', bindTo(socket.fd, address)));
      case CONNECT:
        return this.#withAddress(msg.data, (address) => this.#connect(msg, address));
      case LISTEN: {
        const backlog = unpack(int32, msg.data);
        return backlog === undefined ? 'EINVAL' : this.#listen(socket, backlog);
      }
      case ACCEPT:
        if (msg.data.length !== 0) return 'EINVAL';
        return this.#accept(msg);
      case GETNAME:
      case GETPEERNAME: {
        if (msg.data.length !== 0) return 'EINVAL';
        const name = socketName(socket.fd, msg.cmd === GETPEERNAME);
        return typeof name === 'number' ? this.#result('getpeername', name) : fromLinux(name);
      }
      case SETOPT:
        return this.#setOption(socket, msg.data);
      case GETOPT:
        return this.#getOption(socket, msg.data);
      default:
        return 'EINVAL';
    }
  }

  #withAddress(data: Uint8Array, call: (address: Uint8Array) => NgResult): NgResult {
    const address = toLinux(data);
    if (address === undefined) return this.#graph.fail('EINVAL', 'the address is of no family that a ksocket carries');
    return call(address);
  }

  #result(call: string, result: number): Errno | undefined {
    if (result === 0) return undefined;
    const code = errnoName(-result);
    return isErrno(code) ? code : this.#graph.fail('EIO', `${call}: ${code}`);
  }

  /** A stream may take its time: then the response says how it went. */
  #connect(msg: NgMessage, address: Uint8Array): NgResult {
    const socket = this.#socket!;
    if (this.#connecting !== undefined) return 'EALREADY';
    const result = connectTo(socket.fd, address);
    if (!inProgress(result)) return this.#result('connect', result);
    this.#connecting = this.#graph.runtime.mevent.add(socket.fd, EVF_WRITE, (fd) => {
      this.#connecting?.delete();
      this.#connecting = undefined;
      this.#graph.respond(this.#node, msg, pack(int32, takeSocketError(fd)));
    });
    return 'EINPROGRESS';
  }

  #listen(socket: OpenSocket, backlog: number): Errno | undefined {
    const error = this.#result('listen', listenOn(socket.fd, backlog));
    // connections wait until they are asked for
    if (error === undefined) socket.pause();
    return error;
  }

  #accept(msg: NgMessage): NgResult {
    if (this.#accepting !== undefined) return 'EALREADY';
    this.#accepting = msg;
    const data = this.#acceptedNode();
    if (data !== undefined) return data;
    this.#socket!.resume();
    return 'EINPROGRESS';
  }

  #acceptNow(): void {
    const msg = this.#accepting;
    const data = this.#acceptedNode();
    if (msg === undefined || data === undefined || typeof data === 'string') return;
    this.#socket?.pause();
    this.#graph.respond(this.#node, msg, data);
  }

  /** A node for the connection that waits; undefined when none does. */
  #acceptedNode(): Uint8Array | Errno | undefined {
    const got = acceptFrom(this.#socket!.fd);
    if (typeof got === 'number') {
      if (got === -E.EAGAIN) return undefined;
      this.#accepting = undefined;
      return this.#result('accept', got);
    }
    this.#accepting = undefined;
    const node = this.#graph.makeNodeCommon(ksocketType, (made) => new Ksocket(made, got.fd));
    if (typeof node === 'string') {
      got.fd.close();
      return node;
    }
    return pack(acceptType, { nodeid: node.id, addr: fromLinux(got.sockaddr) });
  }

  #option(level: number, name: number): SocketOption {
    const option = linuxOption(level, name);
    if (option !== undefined) return option;
    throw new NetbeError(`there is no socket option ${name} of level ${level}`, {
      code: 'EINVAL',
      kind: 'usage',
      remedy: `There are ${knownOptions}.`,
    });
  }

  #setOption({ fd }: OpenSocket, data: Uint8Array): NgResult {
    const request = unpack(sockoptType, data);
    if (request === undefined || request.value.length > MAX_OPTLEN) return 'EINVAL';
    optionBytes.u8.set(request.value);
    setSockopt(fd, this.#option(request.level, request.name), optionBytes, request.value.length);
    return undefined;
  }

  #getOption({ fd }: OpenSocket, data: Uint8Array): NgResult {
    const request = unpack(getoptType, data);
    if (request === undefined) return 'EINVAL';
    const length = getSockopt(fd, this.#option(request.level, request.name), optionBytes, MAX_OPTLEN);
    return pack(sockoptType, { ...request, value: optionBytes.u8.slice(0, length) });
  }
}

function parseHookName(name: string): { family: number; type: number; protocol: number } | undefined {
  const parts = name.split('/');
  if (parts.length !== 3) return undefined;
  const [family, type, protocol] = [families, types, protocols].map((table, i) => numberOf(table, parts[i] as string));
  if (family === undefined || type === undefined || protocol === undefined) return undefined;
  return { family, type, protocol };
}

function numberOf(table: Record<string, number>, word: string): number | undefined {
  if (Object.hasOwn(table, word)) return table[word];
  return /^\d{1,3}$/.test(word) ? Number(word) : undefined;
}

export const ksocketType: NgType = {
  name: 'ksocket',
  cmdlist,
  counters,
  create: (node) => new Ksocket(node),
};
