/**
 * socket(2), setsockopt(2) and getsockopt(2) with values that the caller has laid out in native memory, and the calls
 * that sockets of every family share.
 */
import { type Fd, ownFd } from './fd.js';
import { libc, sysError } from './libc.js';
import { NativeBuffer } from './native-buffer.js';

const socketC = libc.func('int socket(int domain, int type, int protocol)') as (
  domain: number,
  type: number,
  protocol: number,
) => number;
const setsockoptC = libc.func('int setsockopt(int fd, int level, int name, uint64_t value, uint32_t length)') as (
  fd: number,
  level: number,
  name: number,
  value: number,
  length: number,
) => number;
const getsockoptC = libc.func('int getsockopt(int fd, int level, int name, uint64_t value, uint64_t length)') as (
  fd: number,
  level: number,
  name: number,
  value: number,
  length: number,
) => number;
const bindC = libc.func('int bind(int fd, uint64_t addr, uint32_t length)') as (
  fd: number,
  addr: number,
  length: number,
) => number;

// with addresses that the caller has laid out in native memory; -1 and errno
export const connectC = libc.func('int connect(int fd, uint64_t addr, uint32_t length)') as (
  fd: number,
  addr: number,
  length: number,
) => number;
export const listenC = libc.func('int listen(int fd, int backlog)') as (fd: number, backlog: number) => number;
export const accept4C = libc.func('int accept4(int fd, uint64_t addr, uint64_t length, int flags)') as (
  fd: number,
  addr: number,
  length: number,
  flags: number,
) => number;

// linux/net.h
export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_RAW = 3;
export const SOCK_NONBLOCK = 0o4000;
export const SOCK_CLOEXEC = 0o2000000;

/** A non-blocking socket. `what` is its name in the error. */
export function openSocket(domain: number, type: number, protocol: number, what: string, remedy?: string): Fd {
  const fd = socketC(domain, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
  if (fd < 0) throw sysError('socket', what, remedy);
  return ownFd(fd, 'socket', what);
}

/** An option's name and number, for the call and for its error. */
export interface SocketOption {
  readonly level: number;
  readonly option: number;
  readonly name: string;
}

/** Sets an option to `length` bytes of `value`. Throws NetbeError that names the option. */
export function setSockopt(fd: number, option: SocketOption, value: NativeBuffer, length: number): void {
  if (setsockoptC(fd, option.level, option.option, value.addr, length) !== 0)
    throw sysError(`setsockopt ${option.name}`);
}

const integer = new NativeBuffer(8);

/** Sets an option that is an int. */
export function setIntSockopt(fd: number, option: SocketOption, value: number): void {
  integer.i32[0] = value;
  setSockopt(fd, option, integer, 4);
}

/** Whether the kernel took it: for options that newer kernels have. */
export function tryIntSockopt(fd: number, option: SocketOption, value: number): boolean {
  integer.i32[0] = value;
  return setsockoptC(fd, option.level, option.option, integer.addr, 4) === 0;
}

const optionLength = new NativeBuffer(8);

/** Reads an option into `value`; returns its length in bytes. Throws NetbeError that names the option. */
export function getSockopt(fd: number, option: SocketOption, value: NativeBuffer, length: number): number {
  optionLength.u32[0] = length;
  if (getsockoptC(fd, option.level, option.option, value.addr, optionLength.addr) !== 0)
    throw sysError(`getsockopt ${option.name}`);
  return optionLength.u32[0] as number;
}

/** bind(2) to an address in the first `length` bytes of `address`. Returns 0 or -1; errno says why. */
export function bindSocket(fd: number, address: NativeBuffer, length: number): number {
  return bindC(fd, address.addr, length);
}

const SO_ERROR: SocketOption = { level: 1, option: 4, name: 'SO_ERROR' };
const SO_SNDBUFFORCE: SocketOption = { level: 1, option: 32, name: 'SO_SNDBUFFORCE' };

/** Takes the error that waits at a socket, so that it is not reported again; 0: none. */
export function takeSocketError(fd: number): number {
  getSockopt(fd, SO_ERROR, integer, 4);
  return integer.i32[0] as number;
}

/** Bytes of frames that may be on their way out of a socket; as far as this process may. */
export function raiseSendBuffer(fd: number, bytes: number): void {
  tryIntSockopt(fd, SO_SNDBUFFORCE, bytes);
}
