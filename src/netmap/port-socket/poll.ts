/**
 * poll(2) over ports that are open in other threads or processes: first syncs and looks, for a while again and
 * again, then sleeps until the fabric says that tail has moved.
 */
import { EPOLLIN, Epoll } from '../../sys/epoll.js';
import { createEventfd, eventfdRead, eventfdWrite } from '../../sys/eventfd.js';
import type { Fd } from '../../sys/fd.js';

export const POLLIN = 1;
export const POLLOUT = 4;
export const POLLERR = 8;

/** A port that can be waited for. Events are POLLIN (frames), POLLOUT (slots to send with), POLLERR (it is gone). */
export interface PollablePort {
  /** Syncs, and tells which of the events hold. */
  check(events: number): number;
  /** Asks to be woken for them, then checks once more. */
  arm(events: number): number;
  disarm(): void;
  /** readable when there is something to wake up for */
  readonly waitFds: readonly number[];
  /** One of waitFds is readable. */
  woken(fd: number): void;
}

export interface PollEntry {
  readonly port: PollablePort;
  /** waited for */
  events: number;
  /** found */
  revents: number;
}

/** as long as a fabric polls a port that has no work */
const DEFAULT_SPIN_US = 50;

/** Syncs all ports; sets revents, and returns the number of entries that have some. */
export function checkEntries(entries: readonly PollEntry[]): number {
  let ready = 0;
  for (const entry of entries) {
    entry.revents = entry.port.check(entry.events);
    if (entry.revents !== 0) ready++;
  }
  return ready;
}

export class PortPoll {
  readonly entries: readonly PollEntry[];
  readonly #epoll: Epoll;
  readonly #wake: Fd;
  readonly #portOfFd = new Map<number, PollablePort>();
  readonly #spinMs: number;

  constructor(ports: readonly PollablePort[], spinUs = DEFAULT_SPIN_US) {
    this.entries = ports.map((port) => ({ port, events: 0, revents: 0 }));
    this.#spinMs = spinUs / 1000;
    this.#wake = createEventfd();
    this.#epoll = new Epoll(2 * ports.length + 1);
    this.#epoll.add(this.#wake.number, EPOLLIN, this.#wake.number);
    for (const port of ports)
      for (const fd of port.waitFds) {
        this.#portOfFd.set(fd, port);
        this.#epoll.add(fd, EPOLLIN, fd);
      }
  }

  /** Whoever adds 1 to this eventfd, from any thread, ends a wait. */
  get wakeFd(): number {
    return this.#wake.number;
  }

  wake(): void {
    eventfdWrite(this.#wake.number);
  }

  /** Number of entries with revents; 0 after the timeout or a wake-up. -1 waits for ever. */
  poll(timeoutMs: number): number {
    const start = performance.now();
    const deadline = timeoutMs < 0 ? Number.POSITIVE_INFINITY : start + timeoutMs;
    const spinEnd = Math.min(start + this.#spinMs, deadline);
    do {
      const ready = checkEntries(this.entries);
      if (ready > 0) return ready;
    } while (performance.now() < spinEnd);
    for (;;) {
      const left = deadline - performance.now();
      if (left <= 0) return 0;
      const ready = this.#sleep(left);
      if (ready !== 0) return Math.max(0, ready);
    }
  }

  /** -1 after a wake-up, else the number of entries with revents. */
  #sleep(ms: number): number {
    const armed = this.#arm();
    const fds = armed > 0 ? 0 : this.#epoll.wait(ms === Number.POSITIVE_INFINITY ? -1 : Math.ceil(ms));
    let woken = false;
    for (let i = 0; i < fds; i++) woken = this.#woken(this.#epoll.tokenAt(i)) || woken;
    for (const { port } of this.entries) port.disarm();
    const ready = armed > 0 ? armed : checkEntries(this.entries);
    return ready === 0 && woken ? -1 : ready;
  }

  #arm(): number {
    let ready = 0;
    for (const entry of this.entries) {
      entry.revents = entry.port.arm(entry.events);
      if (entry.revents !== 0) ready++;
    }
    return ready;
  }

  /** True if somebody ends the wait. */
  #woken(fd: number): boolean {
    if (fd === this.#wake.number) {
      eventfdRead(fd);
      return true;
    }
    this.#portOfFd.get(fd)?.woken(fd);
    return false;
  }

  close(): void {
    this.#epoll.close();
    this.#wake.close();
  }
}
