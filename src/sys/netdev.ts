/**
 * Network interfaces of the calling thread's network namespace: what netdevice(7) and ethtool(2) tell
 * about one, and being told when one changes (rtnetlink(7)).
 */
import { readFileSync } from 'node:fs';
import { NetbeError } from '../errors.js';
import { type Fd, readAt } from './fd.js';
import { ioctl } from './ioctl.js';
import { E, sysError } from './libc.js';
import { NativeBuffer } from './native-buffer.js';
import { bindSocket, openSocket, SOCK_DGRAM, SOCK_RAW } from './sockopt.js';

const AF_UNIX = 1;
const AF_NETLINK = 16;
const NETLINK_ROUTE = 0;
const RTMGRP_LINK = 1;

// linux/sockios.h
const SIOCGIFNAME = 0x8910;
const SIOCGIFFLAGS = 0x8913;
const SIOCGIFMTU = 0x8921;
const SIOCGIFHWADDR = 0x8927;
const SIOCGIFINDEX = 0x8933;
const SIOCETHTOOL = 0x8946;
// linux/ethtool.h
const ETHTOOL_GDRVINFO = 0x3;
const ETHTOOL_GCHANNELS = 0x3c;
// linux/if.h
const IFF_UP = 0x1;
const IFF_RUNNING = 0x40;
export const ARPHRD_ETHER = 1;

/** longest interface name (IFNAMSIZ less its zero) */
export const IFNAME_MAX = 15;

export interface NetdevInfo {
  name: string;
  index: number;
  mtu: number;
  mac: Uint8Array;
  /** ARPHRD_* */
  hardwareType: number;
  /** administratively up */
  up: boolean;
  /** up, and with a carrier */
  running: boolean;
  /** of the kernel, for instance "veth"; empty where it does not say */
  driver: string;
  /** receive queues in use; 1 where the driver does not say */
  rxQueues: number;
}

// struct ifreq { char ifr_name[16]; union … } is 40 bytes on 64-bit Linux
const IFREQ_BYTES = 40;
const UNION = 16;
const ifreq = new NativeBuffer(IFREQ_BYTES);
const ethtool = new NativeBuffer(256);

/** Names of all interfaces, as /proc/net/dev lists them. */
export function interfaceNames(): string[] {
  const lines = readFileSync('/proc/thread-self/net/dev', 'utf8').split('\n').slice(2);
  return lines.map((line) => line.replace(/:[^:]*$/, '').trim()).filter((name) => name !== '');
}

function openControlSocket(): Fd {
  return openSocket(AF_UNIX, SOCK_DGRAM, 0, 'AF_UNIX');
}

function request(fd: number, code: number, name: string, what: string): void {
  ifreq.u8.fill(0);
  ifreq.u8.set(Buffer.from(name));
  ioctl(fd, code, ifreq.u8, what, name);
}

function ethtoolRequest(fd: number, code: number, name: string, what: string): boolean {
  ethtool.u8.fill(0);
  ethtool.u32[0] = code;
  ifreq.u8.fill(0);
  ifreq.u8.set(Buffer.from(name));
  ifreq.setU64(UNION, ethtool.addr);
  try {
    ioctl(fd, SIOCETHTOOL, ifreq.u8, what, name);
    return true;
  } catch {
    return false; // not every driver answers
  }
}

/** Facts about an interface. Throws ENODEV with the list of those there are. */
export function netdevInfo(name: string): NetdevInfo {
  const socket = openControlSocket();
  try {
    const fd = socket.number;
    if (Buffer.byteLength(name) > IFNAME_MAX) throw noSuchInterface(name);
    request(fd, SIOCGIFINDEX, name, 'SIOCGIFINDEX');
    const index = ifreq.i32[UNION / 4] as number;
    request(fd, SIOCGIFMTU, name, 'SIOCGIFMTU');
    const mtu = ifreq.i32[UNION / 4] as number;
    request(fd, SIOCGIFHWADDR, name, 'SIOCGIFHWADDR');
    const hardwareType = (ifreq.u32[UNION / 4] as number) & 0xffff;
    const mac = ifreq.u8.slice(UNION + 2, UNION + 8);
    request(fd, SIOCGIFFLAGS, name, 'SIOCGIFFLAGS');
    const flags = (ifreq.u32[UNION / 4] as number) & 0xffff;
    const up = (flags & IFF_UP) !== 0;
    return {
      name,
      index,
      mtu,
      mac,
      hardwareType,
      up,
      running: up && (flags & IFF_RUNNING) !== 0,
      driver: driverOf(fd, name),
      rxQueues: rxQueuesOf(fd, name),
    };
  } catch (error) {
    if (error instanceof NetbeError && error.code === 'ENODEV') throw noSuchInterface(name);
    throw error;
  } finally {
    socket.close();
  }
}

function driverOf(fd: number, name: string): string {
  if (!ethtoolRequest(fd, ETHTOOL_GDRVINFO, name, 'ETHTOOL_GDRVINFO')) return '';
  const text = ethtool.u8.subarray(4, 36);
  return Buffer.from(text.subarray(0, text.indexOf(0))).toString();
}

// struct ethtool_channels { u32 cmd, max_rx, max_tx, max_other, max_combined, rx, tx, other, combined }
function rxQueuesOf(fd: number, name: string): number {
  if (!ethtoolRequest(fd, ETHTOOL_GCHANNELS, name, 'ETHTOOL_GCHANNELS')) return 1;
  return Math.max(1, (ethtool.u32[5] as number) + (ethtool.u32[8] as number));
}

function noSuchInterface(name: string): NetbeError {
  return new NetbeError(`there is no interface "${name}"`, {
    code: 'ENODEV',
    kind: 'usage',
    subject: name,
    remedy: `Interfaces of this network namespace: ${interfaceNames().join(', ')}.`,
  });
}

export type LinkState = 'up' | 'no-carrier' | 'down' | 'gone';

/** What to call when an interface's state may have changed, without polling: wait for `fd` to be readable. */
export class LinkWatch {
  readonly #control: Fd;
  readonly #netlink: Fd;
  readonly #index: number;

  constructor(index: number) {
    this.#index = index;
    this.#control = openControlSocket();
    try {
      this.#netlink = openSocket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE, 'NETLINK_ROUTE');
      // struct sockaddr_nl { u16 family, pad; u32 pid, groups }
      const address = new NativeBuffer(16);
      address.u32[0] = AF_NETLINK;
      address.u32[2] = RTMGRP_LINK;
      if (bindSocket(this.#netlink.number, address, 12) !== 0) throw sysError('bind', 'NETLINK_ROUTE');
    } catch (error) {
      this.close();
      throw error;
    }
  }

  get fd(): number {
    return this.#netlink.number;
  }

  /** Takes what netlink has to say (it only tells when to look), and looks. */
  read(): LinkState {
    // ENOBUFS: messages were lost, which is as good a reason to look as any
    let got = 0;
    do got = readAt(this.#netlink.number, message.addr, MESSAGE_BYTES);
    while (got > 0 || got === -E.ENOBUFS);
    return this.state();
  }

  state(): LinkState {
    try {
      ifreq.u8.fill(0);
      ifreq.i32[UNION / 4] = this.#index;
      ioctl(this.#control.number, SIOCGIFNAME, ifreq.u8, 'SIOCGIFNAME');
      // the name is where the next request expects it
      ioctl(this.#control.number, SIOCGIFFLAGS, ifreq.u8, 'SIOCGIFFLAGS');
    } catch {
      return 'gone';
    }
    const flags = ifreq.u32[UNION / 4] as number;
    if ((flags & IFF_UP) === 0) return 'down';
    return (flags & IFF_RUNNING) !== 0 ? 'up' : 'no-carrier';
  }

  close(): void {
    this.#control.close();
    this.#netlink?.close();
  }
}

const MESSAGE_BYTES = 16384;
const message = new NativeBuffer(MESSAGE_BYTES);
