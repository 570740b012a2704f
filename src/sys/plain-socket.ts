/** Sockets of any family with addresses as bytes: connect(2), listen(2), accept4(2), getsockname(2), getpeername(2). */
import { type Fd, ownFd } from './fd.js';
import { E, errno, libc } from './libc.js';
import { NativeBuffer } from './native-buffer.js';
import { accept4C, bindSocket, connectC, listenC, SOCK_CLOEXEC, SOCK_NONBLOCK } from './sockopt.js';

type NameCall = (fd: number, addr: number, length: number) => number;
const getsocknameC = libc.func('int getsockname(int fd, uint64_t addr, uint64_t length)') as NameCall;
const getpeernameC = libc.func('int getpeername(int fd, uint64_t addr, uint64_t length)') as NameCall;

/** struct sockaddr_storage */
const SOCKADDR_BYTES = 128;

const address = new NativeBuffer(SOCKADDR_BYTES);
const addressLength = new NativeBuffer(8);

function put(sockaddr: Uint8Array): number {
  address.u8.fill(0);
  address.u8.set(sockaddr.subarray(0, SOCKADDR_BYTES));
  return Math.min(sockaddr.length, SOCKADDR_BYTES);
}

function got(): Uint8Array {
  return address.u8.slice(0, Math.min(addressLength.u32[0] as number, SOCKADDR_BYTES));
}

/** 0 or -errno. */
export function bindTo(fd: number, sockaddr: Uint8Array): number {
  return bindSocket(fd, address, put(sockaddr)) === 0 ? 0 : -errno();
}

/** 0 or -errno; -EINPROGRESS: writable when it is decided. */
export function connectTo(fd: number, sockaddr: Uint8Array): number {
  return connectC(fd, address.addr, put(sockaddr)) === 0 ? 0 : -errno();
}

/** 0 or -errno. */
export function listenOn(fd: number, backlog: number): number {
  return listenC(fd, backlog) === 0 ? 0 : -errno();
}

/** The next connection and who it is from; -errno, with -EAGAIN when none waits. */
export function acceptFrom(fd: number): { fd: Fd; sockaddr: Uint8Array } | number {
  addressLength.u32[0] = SOCKADDR_BYTES;
  const n = accept4C(fd, address.addr, addressLength.addr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  return n < 0 ? -errno() : { fd: ownFd(n, 'accept4'), sockaddr: got() };
}

/** The socket's own address, or that of its peer; -errno when it has none. */
export function socketName(fd: number, peer: boolean): Uint8Array | number {
  addressLength.u32[0] = SOCKADDR_BYTES;
  const result = (peer ? getpeernameC : getsocknameC)(fd, address.addr, addressLength.addr);
  return result === 0 ? got() : -errno();
}

export const inProgress = (result: number): boolean => result === -E.EINPROGRESS;
