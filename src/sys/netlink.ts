/**
 * rtnetlink(7), as much as an interface's user needs: look one up, change it, hear of its changes.
 *
 * A request is answered while it is sent, so nothing here waits. All calls speak of the network
 * namespace that the calling thread was in when the socket was made.
 */
import { NetbeError } from '../errors.js';
import { type Fd, ownFd } from './fd.js';
import { E, errno, errnoName, errnoText, libc, sysError } from './libc.js';
import { NativeBuffer } from './native-buffer.js';
import { SOCK_CLOEXEC, SOCK_NONBLOCK } from './sockopt.js';

const socketC = libc.func('int socket(int domain, int type, int protocol)') as (
  d: number,
  t: number,
  p: number,
) => number;
const bindC = libc.func('int bind(int fd, uint64_t addr, uint32_t length)') as (
  fd: number,
  a: number,
  n: number,
) => number;
type Transfer = (fd: number, addr: number, length: number, flags: number) => number;
const sendC = libc.func('int64_t send(int fd, uint64_t buf, size_t length, int flags)') as Transfer;
const recvC = libc.func('int64_t recv(int fd, uint64_t buf, size_t length, int flags)') as Transfer;

// linux/socket.h, linux/netlink.h, linux/rtnetlink.h
export const AF_NETLINK = 16;
const SOCK_RAW = 3;
const NETLINK_ROUTE = 0;
const RTMGRP_LINK = 1;
const NLM_F_REQUEST = 1;
const NLM_F_ACK = 4;
const NLMSG_ERROR = 2;
const RTM_NEWLINK = 16;
const RTM_DELLINK = 17;
const RTM_GETLINK = 18;
const NLA_TYPE_MASK = 0x3fff;

// linux/if_link.h
const IFLA_ADDRESS = 1;
const IFLA_IFNAME = 3;
const IFLA_MTU = 4;
const IFLA_MASTER = 10;
const IFLA_LINKINFO = 18;
const IFLA_CARRIER = 33;
const IFLA_XDP = 43;
const IFLA_INFO_KIND = 1;
const IFLA_INFO_DATA = 2;
const IFLA_XDP_ATTACHED = 2;
const XDP_ATTACHED_SKB = 2;
const IFLA_TUN_OWNER = 1;
const IFLA_TUN_TYPE = 3;
const IFLA_TUN_PERSIST = 6;
const IFLA_TUN_MULTI_QUEUE = 7;

// linux/if.h
const IFF_UP = 1;

// struct nlmsghdr { u32 len; u16 type, flags; u32 seq, pid; }, struct ifinfomsg { u8 family, pad; u16 type; i32 index; u32 flags, change; }
const NLMSG_HDR = 16;
const IFINFO = 16;
const RECEIVE_BYTES = 32768;

/** What a tun driver's interface says of itself. */
export interface TunInfo {
  type: 'tun' | 'tap';
  /** user that may attach without CAP_NET_ADMIN */
  owner: number | undefined;
  persistent: boolean;
  multiQueue: boolean;
}

export interface LinkInfo {
  index: number;
  name: string;
  /** administratively up */
  up: boolean;
  carrier: boolean;
  mtu: number;
  mac: string;
  /** index of the bridge it belongs to; 0: none */
  master: number;
  /** driver: "tun", "bridge", "veth"…; empty for hardware */
  kind: string;
  /** an XDP program is attached behind the driver */
  genericXdp: boolean;
  tun: TunInfo | undefined;
}

export interface LinkChange {
  up?: boolean;
  mtu?: number;
  mac?: Uint8Array;
  /** index of a bridge; 0 leaves it */
  master?: number;
}

function openSocket(groups: number): Fd {
  const fd = ownFd(
    socketC(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_ROUTE),
    'socket',
    'NETLINK_ROUTE',
  );
  // struct sockaddr_nl { u16 family, pad; u32 pid, groups; }
  const address = new NativeBuffer(16);
  address.u32[0] = AF_NETLINK;
  address.u32[2] = groups;
  if (bindC(fd.number, address.addr, 12) === 0) return fd;
  const error = sysError('bind', 'NETLINK_ROUTE');
  fd.close();
  throw error;
}

const received = new NativeBuffer(RECEIVE_BYTES);
const view = new DataView(received.u8.buffer);

/** Sends a request and returns the answer's error number (0: none); its messages go to `onLink`. */
function request(
  type: number,
  index: number,
  flags: number,
  change: number,
  attributes: Buffer,
  onLink?: (link: LinkInfo) => void,
): number {
  const length = NLMSG_HDR + IFINFO + attributes.length;
  const message = new NativeBuffer(length);
  message.u32[0] = length;
  message.u32[1] = type | ((NLM_F_REQUEST | NLM_F_ACK) << 16);
  message.i32[5] = index;
  message.u32[6] = flags;
  message.u32[7] = change;
  message.u8.set(attributes, NLMSG_HDR + IFINFO);
  const fd = openSocket(0);
  try {
    if (sendC(fd.number, message.addr, length, 0) < 0) throw sysError('send', 'NETLINK_ROUTE');
    for (;;) {
      const n = recvC(fd.number, received.addr, RECEIVE_BYTES, 0);
      if (n < 0) throw sysError('recv', 'NETLINK_ROUTE');
      for (let at = 0; at + NLMSG_HDR <= n; at += align(view.getUint32(at, true))) {
        const kind = view.getUint16(at + 4, true);
        if (kind === NLMSG_ERROR) return -view.getInt32(at + NLMSG_HDR, true);
        if (kind === RTM_NEWLINK) onLink?.(parseLink(at, view.getUint32(at, true)));
      }
    }
  } finally {
    fd.close();
  }
}

function align(n: number): number {
  return Math.max(4, (n + 3) & ~3);
}

function attribute(type: number, payload: Uint8Array): Buffer {
  const out = Buffer.alloc(align(4 + payload.length));
  out.writeUInt16LE(4 + payload.length, 0);
  out.writeUInt16LE(type, 2);
  out.set(payload, 4);
  return out;
}

function u32Attribute(type: number, value: number): Buffer {
  const payload = Buffer.alloc(4);
  payload.writeUInt32LE(value);
  return attribute(type, payload);
}

/** The interface of this name or index, or undefined. */
export function getLink(which: string | number): LinkInfo | undefined {
  let found: LinkInfo | undefined;
  const byName = typeof which === 'string';
  const attributes = byName ? attribute(IFLA_IFNAME, Buffer.from(`${which}\0`)) : Buffer.alloc(0);
  const no = request(RTM_GETLINK, byName ? 0 : which, 0, 0, attributes, (link) => {
    found = link;
  });
  if (no !== 0 && no !== E.ENODEV) throw sysError('RTM_GETLINK', String(which), undefined, no);
  return found;
}

/** Changes an interface. Throws NetbeError: EPERM without CAP_NET_ADMIN, EINVAL for a value out of range. */
export function setLink(index: number, change: LinkChange, subject: string): void {
  const { up, mtu, mac, master } = change;
  const attributes = Buffer.concat([
    mtu === undefined ? Buffer.alloc(0) : u32Attribute(IFLA_MTU, mtu),
    mac === undefined ? Buffer.alloc(0) : attribute(IFLA_ADDRESS, mac),
    master === undefined ? Buffer.alloc(0) : u32Attribute(IFLA_MASTER, master),
  ]);
  const no = request(RTM_NEWLINK, index, up ? IFF_UP : 0, up === undefined ? 0 : IFF_UP, attributes);
  if (no === 0) return;
  throw new NetbeError(`${subject}: ${errnoText(no)}`, {
    code: errnoName(no),
    kind: no === E.EPERM ? 'environment' : 'usage',
    errno: no,
    syscall: 'RTM_NEWLINK',
    subject,
  });
}

/** Calls `visit` with type, offset and length of each attribute in [at, end) of what was received. */
function eachAttribute(at: number, end: number, visit: (type: number, off: number, length: number) => void): void {
  for (let p = at; p + 4 <= end; ) {
    const length = view.getUint16(p, true);
    if (length < 4 || p + length > end) return;
    visit(view.getUint16(p + 2, true) & NLA_TYPE_MASK, p + 4, length - 4);
    p += align(length);
  }
}

function text(off: number, length: number): string {
  return Buffer.from(received.u8.subarray(off, off + length))
    .toString()
    .replace(/\0.*$/s, '');
}

function parseLink(at: number, length: number): LinkInfo {
  const body = at + NLMSG_HDR;
  const link: LinkInfo = {
    index: view.getInt32(body + 4, true),
    name: '',
    up: (view.getUint32(body + 8, true) & IFF_UP) !== 0,
    carrier: false,
    mtu: 0,
    mac: '',
    master: 0,
    kind: '',
    genericXdp: false,
    tun: undefined,
  };
  eachAttribute(body + IFINFO, at + length, (type, off, n) => {
    if (type === IFLA_IFNAME) link.name = text(off, n);
    else if (type === IFLA_MTU) link.mtu = view.getUint32(off, true);
    else if (type === IFLA_MASTER) link.master = view.getUint32(off, true);
    else if (type === IFLA_CARRIER) link.carrier = view.getUint8(off) !== 0;
    else if (type === IFLA_ADDRESS)
      link.mac = Buffer.from(received.u8.subarray(off, off + n))
        .toString('hex')
        .replace(/..(?=.)/g, '$&:');
    else if (type === IFLA_XDP)
      eachAttribute(off, off + n, (nested, where) => {
        if (nested === IFLA_XDP_ATTACHED) link.genericXdp = view.getUint8(where) === XDP_ATTACHED_SKB;
      });
    else if (type === IFLA_LINKINFO) parseLinkInfo(link, off, off + n);
  });
  return link;
}

function parseLinkInfo(link: LinkInfo, at: number, end: number): void {
  eachAttribute(at, end, (type, off, n) => {
    if (type === IFLA_INFO_KIND) link.kind = text(off, n);
    else if (type === IFLA_INFO_DATA && link.kind === 'tun') link.tun = parseTun(off, off + n);
  });
}

function parseTun(at: number, end: number): TunInfo {
  const tun: TunInfo = { type: 'tap', owner: undefined, persistent: false, multiQueue: false };
  eachAttribute(at, end, (type, off) => {
    if (type === IFLA_TUN_OWNER) tun.owner = view.getUint32(off, true);
    // IFF_TUN is 1, IFF_TAP 2
    else if (type === IFLA_TUN_TYPE) tun.type = view.getUint8(off) === 1 ? 'tun' : 'tap';
    else if (type === IFLA_TUN_PERSIST) tun.persistent = view.getUint8(off) !== 0;
    else if (type === IFLA_TUN_MULTI_QUEUE) tun.multiQueue = view.getUint8(off) !== 0;
  });
  return tun;
}

/** Hears of every change of an interface. Wait for `fd` to be readable, then call read(). */
export class LinkMonitor {
  readonly #fd = openSocket(RTMGRP_LINK);

  get fd(): number {
    return this.#fd.number;
  }

  /** Reports what came since. False when changes were lost because too many came: look the interface up then. */
  read(onChange: (link: LinkInfo, deleted: boolean) => void): boolean {
    for (;;) {
      const n = recvC(this.#fd.number, received.addr, RECEIVE_BYTES, 0);
      if (n < 0) return errno() !== E.ENOBUFS;
      const changes: [LinkInfo, boolean][] = [];
      for (let at = 0; at + NLMSG_HDR <= n; at += align(view.getUint32(at, true))) {
        const type = view.getUint16(at + 4, true);
        if (type === RTM_NEWLINK || type === RTM_DELLINK)
          changes.push([parseLink(at, view.getUint32(at, true)), type === RTM_DELLINK]);
      }
      // the buffer is free again: what is called may make requests of its own
      for (const [link, deleted] of changes) onChange(link, deleted);
    }
  }

  close(): void {
    this.#fd.close();
  }
}
