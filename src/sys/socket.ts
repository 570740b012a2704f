/**
 * Unix stream sockets, with descriptors passed as ancillary data (unix(7), cmsg(3)).
 *
 * All sockets are non-blocking. What fails while a connection is made throws; what fails on one that
 * stands (recvMsg, sendMsg) is returned as -errno, because a peer may go at any time.
 */
import { chmodSync, lstatSync, type Stats, unlinkSync } from 'node:fs';
import { resolve } from 'node:path';
import { NetbeError, usageError } from '../errors.js';
import { Fd, ownFd } from './fd.js';
import { E, errno, libc, sysError } from './libc.js';
import { addressOf } from './mman.js';
import { NativeBuffer } from './native-buffer.js';
import { accept4C, connectC, listenC, SOCK_CLOEXEC, SOCK_NONBLOCK } from './sockopt.js';

type AddressCall = (fd: number, addr: number, length: number) => number;
type MessageCall = (fd: number, msghdr: number, flags: number) => number;
const socketC = libc.func('int socket(int domain, int type, int protocol)') as AddressCall;
const socketpairC = libc.func('int socketpair(int domain, int type, int protocol, uint64_t fds)') as (
  domain: number,
  type: number,
  protocol: number,
  fds: number,
) => number;
const bindC = libc.func('int bind(int fd, uint64_t addr, uint32_t length)') as AddressCall;
const fchmodC = libc.func('int fchmod(int fd, uint32_t mode)') as (fd: number, mode: number) => number;
const getsockoptC = libc.func('int getsockopt(int fd, int level, int name, uint64_t value, uint64_t length)') as (
  fd: number,
  level: number,
  name: number,
  value: number,
  length: number,
) => number;
const recvmsgC = libc.func('int64_t recvmsg(int fd, uint64_t msghdr, int flags)') as MessageCall;
const sendmsgC = libc.func('int64_t sendmsg(int fd, uint64_t msghdr, int flags)') as MessageCall;

// linux/socket.h, linux/net.h, asm-generic/socket.h; the same on x86-64 and arm64
const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOL_SOCKET = 1;
const SO_PEERCRED = 17;
const SCM_RIGHTS = 1;
const MSG_CTRUNC = 0x8;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x40000000;
const STREAM = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;

/** Most descriptors that one message may carry (net/scm.h) */
export const SCM_MAX_FD = 253;

// struct sockaddr_un { uint16 sun_family; char sun_path[108]; }, the path ending in a zero byte
const SUN_PATH_MAX = 107;
const sockaddr = new NativeBuffer(110);
sockaddr.u8[0] = AF_UNIX;

/** Writes `path` into `sockaddr`; returns its length. */
function setSockaddr(path: string): number {
  const bytes = Buffer.from(path);
  if (bytes.length === 0 || bytes.length > SUN_PATH_MAX || bytes.includes(0))
    throw usageError(
      `socket path of ${bytes.length} bytes: Linux allows 1 to ${SUN_PATH_MAX}, none of them zero: ${path}`,
      path,
      'Use a shorter path, or one relative to the working directory.',
    );
  sockaddr.u8.fill(0, 2);
  sockaddr.u8.set(bytes, 2);
  return 2 + bytes.length + 1;
}

/** A listening socket and the path it is bound to. Closing it removes the path, if it is still its own. */
export class UnixListener extends Fd {
  readonly path: string;
  readonly #stat: Stats;

  constructor(fd: Fd, path: string, stat: Stats) {
    super(fd.release());
    this.path = resolve(path);
    this.#stat = stat;
  }

  override close(): void {
    if (this.closed) return;
    try {
      const { dev, ino } = lstatSync(this.path);
      if (dev === this.#stat.dev && ino === this.#stat.ino) unlinkSync(this.path);
    } catch {
      // gone already, or out of reach: whoever removed it or its folder meant to
    }
    super.close();
  }
}

export interface ListenOptions {
  /** permission bits of the path; 0600 unless given */
  mode?: number;
  backlog?: number;
}

/**
 * Listens at `path`. A socket left there by a process that has gone is replaced; one that somebody
 * still listens on, or anything that is not a socket, is refused (EADDRINUSE).
 */
export function listenUnix(path: string, options: ListenOptions = {}): UnixListener {
  const { mode = 0o600, backlog = 16 } = options;
  const length = setSockaddr(path);
  const fd = ownFd(socketC(AF_UNIX, STREAM, 0), 'socket', path);
  try {
    // before bind: the path never exists with wider permissions, not even for a moment
    if (fchmodC(fd.number, mode) !== 0) throw sysError('fchmod', path);
    if (bindC(fd.number, sockaddr.addr, length) !== 0) {
      const no = errno();
      if (no !== E.EADDRINUSE) throw sysError('bind', path, undefined, no);
      removeStaleSocket(path);
      if (bindC(fd.number, sockaddr.addr, setSockaddr(path)) !== 0) throw sysError('bind', path);
    }
    chmodSync(path, mode); // what the umask took away
    if (listenC(fd.number, backlog) !== 0) throw sysError('listen', path);
    return new UnixListener(fd, path, lstatSync(path));
  } catch (error) {
    fd.close();
    throw error;
  }
}

/**
 * Makes room for a socket at `path`: removes one that nobody has open any more. Throws EADDRINUSE for one
 * that somebody has, and for anything that is not a socket.
 */
export function removeStaleSocket(path: string): void {
  const inUse = (what: string, remedy: string): NetbeError =>
    new NetbeError(`${path}: ${what}`, { code: 'EADDRINUSE', kind: 'usage', syscall: 'bind', subject: path, remedy });
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return;
  if (!stat.isSocket()) throw inUse('exists and is not a socket', 'Choose another path, or move that file away.');
  const no = probe(path);
  if (no === E.ECONNREFUSED) unlinkSync(path);
  if (no === E.ECONNREFUSED || no === E.ENOENT) return;
  if (no === E.EACCES) throw sysError('connect', path, undefined, no);
  throw inUse('another process listens there', 'Choose another path, or stop that process.');
}

/**
 * Why a datagram socket cannot connect to `path`: ECONNREFUSED when nobody has the socket open. Otherwise
 * somebody does, who is not disturbed by this: 0 or EPERM for a datagram socket, EPROTOTYPE for a stream.
 */
function probe(path: string): number {
  const length = setSockaddr(path);
  const fd = ownFd(socketC(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), 'socket', path);
  const no = connectC(fd.number, sockaddr.addr, length) === 0 ? 0 : errno();
  fd.close();
  return no;
}

/** The next connection; null when none waits, or when it went away before we came. */
export function accept(fd: number): Fd | null {
  const n = accept4C(fd, 0, 0, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (n >= 0) return new Fd(n);
  const no = errno();
  if (no === E.EAGAIN || no === E.ECONNABORTED || no === E.EINTR) return null;
  throw sysError('accept4', undefined, undefined, no);
}

/** Connects at once or throws: ENOENT, ECONNREFUSED (nobody listens), EAGAIN (the listener's queue is full). */
export function connectUnix(path: string): Fd {
  const length = setSockaddr(path);
  const fd = ownFd(socketC(AF_UNIX, STREAM, 0), 'socket', path);
  if (connectC(fd.number, sockaddr.addr, length) === 0) return fd;
  const no = errno();
  fd.close();
  throw sysError('connect', path, undefined, no);
}

const pair = new NativeBuffer(8);

export function socketPair(): [Fd, Fd] {
  if (socketpairC(AF_UNIX, STREAM, 0, pair.addr) !== 0) throw sysError('socketpair');
  return [new Fd(pair.i32[0] as number), new Fd(pair.i32[1] as number)];
}

export interface PeerCredentials {
  pid: number;
  uid: number;
  gid: number;
}

// struct ucred { pid_t pid; uid_t uid; gid_t gid; } and its length
const ucred = new NativeBuffer(16);

/** Who connected, as it was at that moment (SO_PEERCRED). */
export function peerCredentials(fd: number): PeerCredentials {
  ucred.i32[3] = 12;
  if (getsockoptC(fd, SOL_SOCKET, SO_PEERCRED, ucred.addr, ucred.addr + 12) !== 0)
    throw sysError('getsockopt SO_PEERCRED', `descriptor ${fd}`);
  return { pid: ucred.i32[0] as number, uid: ucred.u32[1] as number, gid: ucred.u32[2] as number };
}

// struct msghdr (56 bytes on 64-bit Linux): name 0, namelen 8, iov 16, iovlen 24, control 32,
// controllen 40, flags 48. struct iovec { base, length }. struct cmsghdr (16 bytes): len 0, level 8, type 12.
const IOV = 56;
const CONTROL = 72;
const CMSG_HDR = 16;
const FLAGS = 48 / 4;
const message = new NativeBuffer(CONTROL + CMSG_HDR + 4 * SCM_MAX_FD);

function setMessage(buf: Uint8Array, controlLength: number): void {
  message.setU64(16, message.addr + IOV);
  message.setU64(24, 1);
  message.setU64(IOV, fixedAddressOf(buf));
  message.setU64(IOV + 8, buf.length);
  message.setU64(32, controlLength === 0 ? 0 : message.addr + CONTROL);
  message.setU64(40, controlLength);
  message.i32[FLAGS] = 0;
}

// the native address of a buffer is asked for once: that is a call through the FFI, too
const baseOf = new WeakMap<ArrayBufferLike, number>();

function fixedAddressOf(buf: Uint8Array): number {
  let base = baseOf.get(buf.buffer);
  if (base === undefined) {
    base = addressOf(buf) - buf.byteOffset;
    baseOf.set(buf.buffer, base);
  }
  return base + buf.byteOffset;
}

/** What one recvMsg brought. Whoever takes `fds` closes them. */
export interface ReceivedMessage {
  /** bytes; 0: the peer has closed; -errno, -EAGAIN when nothing waits */
  length: number;
  fds: readonly Fd[];
  /** more descriptors came than were allowed: all of them have been closed */
  truncated: boolean;
}

const NO_FDS: readonly Fd[] = Object.freeze([]);

/**
 * Receives up to `buf.length` bytes and up to `maxFds` descriptors, close-on-exec. Never throws, never
 * blocks. Pass `into` to reuse the result: then nothing is allocated unless descriptors come.
 */
export function recvMsg(fd: number, buf: Uint8Array, maxFds: number, into?: ReceivedMessage): ReceivedMessage {
  const out = into ?? { length: 0, fds: NO_FDS, truncated: false };
  // CMSG_LEN, not CMSG_SPACE: the padding after an odd number would hold one descriptor more
  setMessage(buf, CMSG_HDR + 4 * Math.min(maxFds, SCM_MAX_FD));
  const n = recvmsgC(fd, message.addr, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  out.length = n < 0 ? -errno() : n;
  out.fds = NO_FDS;
  out.truncated = false;
  if (n < 0) return out;
  const controlLength = message.getU64(40);
  if (controlLength >= CMSG_HDR) out.fds = takeFds(controlLength);
  if (((message.i32[FLAGS] as number) & MSG_CTRUNC) !== 0) {
    for (const received of out.fds) received.close();
    out.fds = NO_FDS;
    out.truncated = true;
  }
  return out;
}

function takeFds(controlLength: number): readonly Fd[] {
  const fds: Fd[] = [];
  const end = CONTROL + controlLength;
  for (let at = CONTROL; at + CMSG_HDR <= end; ) {
    const length = message.getU64(at);
    if (length < CMSG_HDR) break;
    if (message.i32[at / 4 + 2] === SOL_SOCKET && message.i32[at / 4 + 3] === SCM_RIGHTS)
      for (let p = at + CMSG_HDR; p + 4 <= Math.min(at + length, end); p += 4)
        fds.push(new Fd(message.i32[p / 4] as number));
    at += Math.ceil(length / 8) * 8;
  }
  return fds.length > 0 ? fds : NO_FDS;
}

/**
 * Sends bytes and, with the first of them, descriptors (which stay the caller's). Returns the bytes taken,
 * which may be fewer, or -errno: -EAGAIN when the socket is full, -EPIPE when the peer has gone.
 */
export function sendMsg(fd: number, buf: Uint8Array, fds: readonly number[] = []): number {
  if (fds.length > SCM_MAX_FD) return -E.EINVAL;
  const controlLength = fds.length === 0 ? 0 : CMSG_HDR + 4 * fds.length;
  setMessage(buf, controlLength);
  if (controlLength > 0) {
    message.setU64(CONTROL, controlLength);
    message.i32[CONTROL / 4 + 2] = SOL_SOCKET;
    message.i32[CONTROL / 4 + 3] = SCM_RIGHTS;
    message.i32.set(fds, (CONTROL + CMSG_HDR) / 4);
  }
  const n = sendmsgC(fd, message.addr, MSG_DONTWAIT | MSG_NOSIGNAL);
  return n < 0 ? -errno() : n;
}
