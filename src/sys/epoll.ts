/**
 * epoll(7). Each registered descriptor carries a 32-bit token; `wait` fills a buffer that is read
 * with `tokenAt` and `eventsAt` until the next wait.
 */
import { type Fd, ownFd } from './fd.js';
import { E, errno, libc, sysError } from './libc.js';
import { NativeBuffer } from './native-buffer.js';
import { packedEpollEvent } from './process.js';

const createC = libc.func('int epoll_create1(int flags)') as (flags: number) => number;
const ctlC = libc.func('int epoll_ctl(int epfd, int op, int fd, uint64_t event)') as (
  epfd: number,
  op: number,
  fd: number,
  event: number,
) => number;
const waitFunc = libc.func('int epoll_wait(int epfd, uint64_t events, int maxevents, int timeout)');
const waitC = waitFunc as (epfd: number, events: number, maxevents: number, timeout: number) => number;

// linux/eventpoll.h
const EPOLL_CLOEXEC = 0o2000000;
const EPOLL_CTL_ADD = 1;
const EPOLL_CTL_DEL = 2;
const EPOLL_CTL_MOD = 3;
export const EPOLLIN = 0x1;
export const EPOLLOUT = 0x4;
export const EPOLLERR = 0x8;
export const EPOLLHUP = 0x10;
export const EPOLLRDHUP = 0x2000;
export const EPOLLET = 0x80000000;

// struct epoll_event { uint32 events; uint64 data; }: 12 bytes where packed, else 16 with data at 8
const STRIDE = packedEpollEvent ? 3 : 4;
const DATA = packedEpollEvent ? 1 : 2;

const event = new NativeBuffer(16);

export class Epoll {
  readonly #fd: Fd;
  readonly #events: NativeBuffer;
  /** what waitAsync fills: it may still be under way when wait() uses the other buffer */
  readonly #asyncEvent = new NativeBuffer(16);

  /** `maxEvents`: most events that one wait reports */
  constructor(readonly maxEvents: number) {
    this.#events = new NativeBuffer(maxEvents * STRIDE * 4);
    this.#fd = ownFd(createC(EPOLL_CLOEXEC), 'epoll_create1');
  }

  get fd(): number {
    return this.#fd.number;
  }

  /** Throws EPERM for a file that cannot be waited for, such as a regular one. */
  add(fd: number, events: number, token: number): void {
    this.#control(EPOLL_CTL_ADD, fd, events, token);
  }

  modify(fd: number, events: number, token: number): void {
    this.#control(EPOLL_CTL_MOD, fd, events, token);
  }

  /** False when the descriptor is not registered, or is closed already. */
  remove(fd: number): boolean {
    return ctlC(this.#fd.number, EPOLL_CTL_DEL, fd, event.addr) === 0;
  }

  /** Number of events; 0 after the timeout or a signal. -1 waits for ever, 0 does not wait. */
  wait(timeoutMs: number): number {
    const n = waitC(this.#fd.number, this.#events.addr, this.maxEvents, timeoutMs);
    if (n >= 0) return n;
    if (errno() === E.EINTR) return 0;
    throw sysError('epoll_wait');
  }

  /**
   * Waits in a thread of Node's pool until something is ready; reports nothing: call wait(0) then.
   * The descriptor must stay open until `done`. Whatever ends the wait, also a signal, calls `done`.
   */
  waitAsync(timeoutMs: number, done: () => void): void {
    waitFunc.async(this.#fd.number, this.#asyncEvent.addr, 1, timeoutMs, done);
  }

  eventsAt(i: number): number {
    return this.#events.u32[i * STRIDE] as number;
  }

  tokenAt(i: number): number {
    return this.#events.u32[i * STRIDE + DATA] as number;
  }

  close(): void {
    this.#fd.close();
  }

  #control(op: number, fd: number, events: number, token: number): void {
    event.u32[0] = events;
    event.u32[DATA] = token;
    if (ctlC(this.#fd.number, op, fd, event.addr) !== 0) throw sysError('epoll_ctl', `descriptor ${fd}`);
  }
}
