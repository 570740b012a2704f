/**
 * TCP and UDP sockets over IPv4 loopback, and datagrams of both families in batches.
 *
 * Frames in the clear have no business beyond the machine: addresses are 127.0.0.0/8, and others are
 * refused. All sockets are non-blocking; what fails on one that stands is returned as -errno.
 */
import { usageError } from '../errors.js';
import type { Fd } from './fd.js';
import { E, errno, libc, sysError } from './libc.js';
import { NativeBuffer } from './native-buffer.js';
import { removeStaleSocket } from './socket.js';
import {
  bindSocket,
  connectC,
  listenC,
  openSocket,
  SOCK_DGRAM,
  SOCK_STREAM,
  type SocketOption,
  tryIntSockopt,
} from './sockopt.js';

const fchmodC = libc.func('int fchmod(int fd, uint32_t mode)') as (fd: number, mode: number) => number;
type BatchCall = (fd: number, messages: number, count: number, flags: number, timeout?: number) => number;
const recvmmsgC = libc.func(
  'int recvmmsg(int fd, uint64_t messages, uint32_t count, int flags, uint64_t timeout)',
) as BatchCall;
const sendmmsgC = libc.func('int sendmmsg(int fd, uint64_t messages, uint32_t count, int flags)') as BatchCall;

export const AF_UNIX = 1;
export const AF_INET = 2;
const SOL_SOCKET = 1;
const IPPROTO_TCP = 6;
const SO_REUSEADDR: SocketOption = { level: SOL_SOCKET, option: 2, name: 'SO_REUSEADDR' };
const SO_SNDBUF: SocketOption = { level: SOL_SOCKET, option: 7, name: 'SO_SNDBUF' };
const SO_RCVBUF: SocketOption = { level: SOL_SOCKET, option: 8, name: 'SO_RCVBUF' };
const TCP_NODELAY: SocketOption = { level: IPPROTO_TCP, option: 1, name: 'TCP_NODELAY' };
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const SUN_PATH_MAX = 107;

/** "unix:PATH", or "HOST:PORT" in 127.0.0.0/8, taken apart. */
export type SocketAddress = { kind: 'unix'; path: string } | { kind: 'inet'; host: string; port: number };

/** Throws a usage error that says what is allowed. `prefix`: "tcp" or "udp", which may stand before HOST:PORT. */
export function parseSocketAddress(text: string, prefix: 'tcp' | 'udp'): SocketAddress {
  const remedy = `Write unix:PATH, or ${prefix}:127.0.0.1:PORT.`;
  if (text.startsWith('unix:')) {
    const path = text.slice(5);
    if (path === '' || Buffer.byteLength(path) > SUN_PATH_MAX)
      throw usageError(
        `socket path of ${Buffer.byteLength(path)} bytes: allowed are 1 to ${SUN_PATH_MAX}`,
        text,
        remedy,
      );
    return { kind: 'unix', path };
  }
  const match = /^(?:(tcp|udp):)?(\d{1,3}(?:\.\d{1,3}){3}|localhost):(\d{1,5})$/.exec(text);
  if (match === null || (match[1] !== undefined && match[1] !== prefix))
    throw usageError(`"${text}" is no socket address`, text, remedy);
  const host = match[2] === 'localhost' ? '127.0.0.1' : (match[2] as string);
  const port = Number(match[3]);
  const octets = host.split('.').map(Number);
  if (octets.some((o) => o > 255) || octets[0] !== 127)
    throw usageError(
      `"${text}" is not on this machine: frames go unencrypted, so only 127.0.0.0/8 is allowed`,
      text,
      remedy,
    );
  if (port < 1 || port > 65535) throw usageError(`port ${port} of "${text}" is not from 1 to 65535`, text, remedy);
  return { kind: 'inet', host, port };
}

const sockaddr = new NativeBuffer(112);

/** Writes struct sockaddr_un or sockaddr_in into `sockaddr`; returns its length. */
function setSockaddr(address: SocketAddress): number {
  const { u8 } = sockaddr;
  u8.fill(0);
  if (address.kind === 'unix') {
    u8[0] = AF_UNIX;
    u8.set(Buffer.from(address.path), 2);
    return 3 + Buffer.byteLength(address.path);
  }
  u8[0] = AF_INET;
  u8[2] = address.port >>> 8;
  u8[3] = address.port & 255;
  u8.set(address.host.split('.').map(Number), 4);
  return 16;
}

export function addressText(address: SocketAddress): string {
  return address.kind === 'unix' ? `unix:${address.path}` : `${address.host}:${address.port}`;
}

/** Listens for TCP connections. Throws EADDRINUSE and the like. */
export function listenTcp(address: SocketAddress & { kind: 'inet' }, backlog: number): Fd {
  const subject = addressText(address);
  const fd = openSocket(AF_INET, SOCK_STREAM, 0, subject);
  try {
    tryIntSockopt(fd.number, SO_REUSEADDR, 1);
    if (bindSocket(fd.number, sockaddr, setSockaddr(address)) !== 0) throw sysError('bind', subject);
    if (listenC(fd.number, backlog) !== 0) throw sysError('listen', subject);
    return fd;
  } catch (error) {
    fd.close();
    throw error;
  }
}

/** Begins to connect by TCP: when the descriptor is writable, takeSocketError tells how it went (0: it stands). */
export function connectTcp(address: SocketAddress & { kind: 'inet' }): Fd {
  const subject = addressText(address);
  const fd = openSocket(AF_INET, SOCK_STREAM, 0, subject);
  if (connectC(fd.number, sockaddr.addr, setSockaddr(address)) === 0) return fd;
  const no = errno();
  if (no === E.EINPROGRESS) return fd;
  fd.close();
  throw sysError('connect', subject, undefined, no);
}

/** Small segments go at once: frames are written in batches already. */
export function setNoDelay(fd: Fd): void {
  tryIntSockopt(fd.number, TCP_NODELAY, 1);
}

/**
 * A datagram socket bound to `local`. A unix socket is its owner's alone (0600), and takes the place of one
 * that a process left; its path is the caller's to remove.
 */
export function bindDatagram(local: SocketAddress, bufferBytes: number): Fd {
  const subject = addressText(local);
  const family = local.kind === 'unix' ? AF_UNIX : AF_INET;
  const fd = openSocket(family, SOCK_DGRAM, 0, subject);
  try {
    tryIntSockopt(fd.number, SO_SNDBUF, bufferBytes);
    tryIntSockopt(fd.number, SO_RCVBUF, bufferBytes);
    if (local.kind === 'unix') {
      removeStaleSocket(local.path);
      if (fchmodC(fd.number, 0o600) !== 0) throw sysError('fchmod', subject);
    }
    if (bindSocket(fd.number, sockaddr, setSockaddr(local)) !== 0) throw sysError('bind', subject);
    return fd;
  } catch (error) {
    fd.close();
    throw error;
  }
}

// struct mmsghdr { struct msghdr (56 bytes); unsigned len; } is 64 bytes; struct iovec 16
const MMSGHDR = 64;
const IOVEC = 16;
const MSG_LEN = 56;

/**
 * Datagrams sent or received many at a call. Message i is one buffer at a native address, and for
 * sending, all go to one address. Nothing is allocated after construction.
 */
export class DatagramBatch {
  readonly #memory: NativeBuffer;
  readonly #name: NativeBuffer;
  readonly #iovecs: number;

  constructor(
    readonly size: number,
    to?: SocketAddress,
  ) {
    this.#memory = new NativeBuffer(size * (MMSGHDR + IOVEC));
    this.#name = new NativeBuffer(112);
    this.#iovecs = size * MMSGHDR;
    let nameLength = 0;
    if (to !== undefined) {
      nameLength = setSockaddr(to);
      this.#name.u8.set(sockaddr.u8);
    }
    for (let i = 0; i < size; i++) {
      const at = i * MMSGHDR;
      if (nameLength > 0) {
        this.#memory.setU64(at, this.#name.addr);
        this.#memory.u32[at / 4 + 2] = nameLength;
      }
      this.#memory.setU64(at + 16, this.#memory.addr + this.#iovecs + i * IOVEC);
      this.#memory.setU64(at + 24, 1);
    }
  }

  setBuffer(i: number, addr: number, length: number): void {
    const at = this.#iovecs + i * IOVEC;
    this.#memory.setU64(at, addr);
    this.#memory.setU64(at + 8, length);
  }

  /** Bytes of message `i` after receive. */
  length(i: number): number {
    return this.#memory.u32[(i * MMSGHDR + MSG_LEN) / 4] as number;
  }

  /** Number of messages received, or -errno. */
  receive(fd: number): number {
    const n = recvmmsgC(fd, this.#memory.addr, this.size, MSG_DONTWAIT, 0);
    return n < 0 ? -errno() : n;
  }

  /** Sends messages `from` to `count`. Returns how many went, or -errno for the first. */
  send(fd: number, from: number, count: number): number {
    const n = sendmmsgC(fd, this.#memory.addr + from * MMSGHDR, count - from, MSG_DONTWAIT | MSG_NOSIGNAL);
    return n < 0 ? -errno() : n;
  }
}
