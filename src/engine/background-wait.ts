/**
 * Waits for event queues without blocking the calling thread: one system call, in one thread of the
 * pool that Node has for file access, for all of them. (The pool has four threads by default; a
 * thread for each fabric would leave none for files.)
 */
import { EPOLLIN, Epoll } from '../sys/epoll.js';
import { createEventfd, eventfdWrite } from '../sys/eventfd.js';
import type { Fd } from '../sys/fd.js';

const BATCH = 64;

class BackgroundWait {
  readonly #epoll = new Epoll(BATCH);
  readonly #wake: Fd;
  /** by descriptor, which is its token, too */
  readonly #waiters = new Map<number, () => void>();
  #running = false;
  users = 0;

  constructor() {
    try {
      this.#wake = createEventfd();
    } catch (error) {
      this.#epoll.close();
      throw error;
    }
    this.#epoll.add(this.#wake.number, EPOLLIN, this.#wake.number);
  }

  wait(fd: number, ready: () => void): void {
    // where a wait is under way, it takes the new descriptor into account
    this.#epoll.add(fd, EPOLLIN, fd);
    this.#waiters.set(fd, ready);
    if (!this.#running) this.#run();
  }

  /** Node joins its threads when the process exits: one that waits for ever would hang it. */
  readonly end = (): void => void eventfdWrite(this.#wake.number);

  close(): void {
    this.#wake.close();
    this.#epoll.close();
  }

  #run(): void {
    this.#running = true;
    this.#epoll.waitAsync(-1, () => {
      this.#running = false;
      this.#serve();
      if (this.#waiters.size > 0 && !this.#running) this.#run();
    });
  }

  #serve(): void {
    // level-triggered: what ended the wait in the background is reported here again
    const n = this.#epoll.wait(0);
    const ready: ((() => void) | undefined)[] = [];
    for (let i = 0; i < n; i++) {
      const fd = this.#epoll.tokenAt(i);
      ready.push(this.#waiters.get(fd));
      this.#waiters.delete(fd);
      if (fd !== this.#wake.number) this.#epoll.remove(fd);
    }
    for (const resolve of ready) resolve?.();
  }
}

let shared: BackgroundWait | undefined;

/** A share of the one wait; `release` it when it is not needed any more. */
export class BackgroundWaiter {
  readonly #wait: BackgroundWait;

  constructor() {
    if (!shared) {
      shared = new BackgroundWait();
      process.on('exit', shared.end);
    }
    this.#wait = shared;
    shared.users++;
  }

  /** Resolves when the descriptor, typically that of an event queue, is readable. It must stay open until then. */
  readable(fd: number): Promise<void> {
    return new Promise((resolve) => this.#wait.wait(fd, resolve));
  }

  /** Once, and not while readable() waits. */
  release(): void {
    if (--this.#wait.users > 0) return;
    process.off('exit', this.#wait.end);
    this.#wait.close();
    shared = undefined;
  }
}
