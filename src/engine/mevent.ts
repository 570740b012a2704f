/**
 * The event loop of a fabric, in the manner of bhyve's mevent(3): descriptors and timers with a
 * callback each, enabled or disabled.
 *
 * Level-triggered unless asked otherwise: a callback is called again as long as its descriptor is
 * ready. A descriptor that hung up or failed counts as ready for every filter. The owner deletes the
 * handle before it closes the descriptor. All calls are made on one thread, but for a write to
 * `wakeFd`, which may come from anywhere.
 */
import { NetbeError } from '../errors.js';
import { EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN, EPOLLOUT, Epoll } from '../sys/epoll.js';
import { createEventfd, eventfdRead, eventfdWrite } from '../sys/eventfd.js';
import type { Fd } from '../sys/fd.js';
import { BackgroundWaiter } from './background-wait.js';
import { type Deadline, type Timer, TimerQueue } from './timers.js';

export const EVF_READ = EPOLLIN;
export const EVF_WRITE = EPOLLOUT;

/** events served by one dispatch at most */
const BATCH = 64;
// tokens of the loop's own descriptors; those of sources follow
const WAKE_TOKEN = 0;
const TIMER_TOKEN = 1;

export type MeventCallback = (fd: number) => void;

export interface MeventHandle {
  /** Calls back from now on; also at once if the descriptor is ready already. Idempotent. */
  enable(): void;
  /** On return, and until enable(), the callback is not called. Idempotent. */
  disable(): void;
  /** The callback is never called again, not even for an event of the batch being served. Idempotent. */
  delete(): void;
}

export interface MeventAddOptions {
  /**
   * Edge-triggered (EV_CLEAR of kqueue): one call for each time that the descriptor becomes ready, or is
   * written to again. It need not be read: the way to wait for an eventfd that a stranger shares with us.
   */
  edge?: boolean;
}

/** The handles of one descriptor: epoll knows a descriptor only once. */
interface Source {
  readonly fd: number;
  readonly token: number;
  read: Handle | undefined;
  write: Handle | undefined;
  /** what epoll watches; 0: the descriptor is not registered */
  events: number;
}

/** What a handle needs of its Mevent. */
interface HandleOwner {
  update(source: Source): void;
  remove(source: Source, handle: Handle): void;
}

class Handle implements MeventHandle {
  enabled = false;
  #deleted = false;

  constructor(
    readonly owner: HandleOwner,
    readonly source: Source,
    readonly events: number,
    readonly callback: MeventCallback,
  ) {}

  enable(): void {
    if (this.#deleted || this.enabled) return;
    this.enabled = true;
    try {
      this.owner.update(this.source);
    } catch (error) {
      this.enabled = false;
      throw error;
    }
  }

  disable(): void {
    if (!this.enabled) return;
    this.enabled = false;
    try {
      this.owner.update(this.source);
    } catch {
      // the descriptor is closed already: it reports nothing any more
    }
  }

  delete(): void {
    if (this.#deleted) return;
    this.disable();
    this.#deleted = true;
    this.owner.remove(this.source, this);
  }
}

export class Mevent {
  readonly #epoll = new Epoll(BATCH);
  readonly #wake: Fd;
  readonly #timers: TimerQueue;
  /** by token */
  readonly #sources: (Source | undefined)[] = [undefined, undefined];
  readonly #sourceOfFd = new Map<number, Source>();
  #freeTokens: number[] = [];
  /** tokens freed during a dispatch: an event of the same batch may still name them */
  #retiredTokens: number[] = [];
  #dispatching = false;
  #waiting = false;
  #background: BackgroundWaiter | undefined;
  #closed = false;
  readonly #owner: HandleOwner = {
    update: (source) => this.#update(source),
    remove: (source, handle) => this.#remove(source, handle),
  };

  /** A callback threw; its handle has been deleted. */
  onError: ((error: unknown, fd: number) => void) | undefined;
  /** Somebody has woken the loop. */
  onWake: (() => void) | undefined;

  constructor() {
    let wake: Fd | undefined;
    try {
      wake = createEventfd();
      this.#timers = new TimerQueue();
    } catch (error) {
      wake?.close();
      this.#epoll.close();
      throw error;
    }
    this.#wake = wake;
    this.#epoll.add(wake.number, EPOLLIN, WAKE_TOKEN);
    this.#epoll.add(this.#timers.fd, EPOLLIN, TIMER_TOKEN);
  }

  /** Whoever adds 1 to this eventfd, from any thread, ends a dispatch that blocks. */
  get wakeFd(): number {
    return this.#wake.number;
  }

  /** Calls back whenever the descriptor is ready. Throws EEXIST if it has this filter already, EPERM for a plain file. */
  add(fd: number, filter: number, callback: MeventCallback, options?: MeventAddOptions): MeventHandle {
    const handle = this.addDisabled(fd, filter, callback, options);
    try {
      handle.enable();
    } catch (error) {
      handle.delete();
      throw error;
    }
    return handle;
  }

  addDisabled(fd: number, filter: number, callback: MeventCallback, options: MeventAddOptions = {}): MeventHandle {
    if (filter !== EVF_READ && filter !== EVF_WRITE) throw new TypeError(`no such filter: ${filter}`);
    if (this.#closed) throw new NetbeError('the event loop is closed', { code: 'EBADF' });
    const source = this.#sourceOfFd.get(fd) ?? this.#addSource(fd);
    const side = filter === EVF_READ ? 'read' : 'write';
    if (source[side])
      throw new NetbeError(`descriptor ${fd} is watched already`, { code: 'EEXIST', subject: `descriptor ${fd}` });
    const handle = new Handle(this.#owner, source, filter | (options.edge ? EPOLLET : 0), callback);
    source[side] = handle;
    return handle;
  }

  #addSource(fd: number): Source {
    const token = this.#freeTokens.pop() ?? this.#sources.length;
    const source: Source = { fd, token, read: undefined, write: undefined, events: 0 };
    this.#sources[token] = source;
    this.#sourceOfFd.set(fd, source);
    return source;
  }

  /** Calls back every `ms` milliseconds, the first time after `ms`; enable() starts a new period. */
  addTimer(ms: number, callback: () => void): MeventHandle {
    let timer: Timer | undefined = this.#timers.add(ms, callback);
    return {
      enable: () => timer?.enable(),
      disable: () => timer?.disable(),
      delete: () => {
        timer?.disable();
        timer = undefined;
      },
    };
  }

  /** Calls back once each time that it is set; begins unset. */
  addDeadline(callback: () => void): Deadline {
    return this.#timers.addDeadline(callback);
  }

  /** Ends the current or the next dispatch. From another thread, write to `wakeFd`. */
  wake(): void {
    eventfdWrite(this.#wake.number);
  }

  /** Serves what is ready; blocks at most `timeoutMs` (-1: for ever, 0: not at all). Returns events served. */
  dispatch(timeoutMs: number): number {
    if (this.#dispatching) throw new Error('dispatch called from a callback');
    const n = this.#epoll.wait(timeoutMs);
    if (n === 0) return 0;
    this.#dispatching = true;
    for (let i = 0; i < n && !this.#closed; i++) this.#serve(this.#epoll.tokenAt(i), this.#epoll.eventsAt(i));
    this.#dispatching = false;
    if (this.#retiredTokens.length > 0) this.#recycleTokens();
    if (this.#closed) this.#closeFds();
    return n;
  }

  /**
   * Waits without blocking this thread (see background-wait.ts); then `dispatch(0)` serves what is
   * ready. wake() ends it. At most one at a time.
   */
  async whenReady(): Promise<void> {
    if (this.#waiting || this.#closed) throw new Error(this.#closed ? 'the event loop is closed' : 'already waiting');
    this.#waiting = true;
    try {
      this.#background ??= new BackgroundWaiter();
      await this.#background.readable(this.#epoll.fd);
    } finally {
      this.#waiting = false;
    }
    if (this.#closed) this.#closeFds();
  }

  /** Forgets every handle. Idempotent; also from within a callback, or while whenReady waits. */
  close(): void {
    if (this.#closed) return;
    this.#timers.close();
    for (const source of this.#sources) {
      source?.read?.delete();
      source?.write?.delete();
    }
    this.#closed = true;
    if (this.#waiting) this.wake();
    else if (!this.#dispatching) this.#closeFds();
  }

  #closeFds(): void {
    if (this.#waiting || this.#dispatching) return;
    this.#background?.release();
    this.#background = undefined;
    this.#wake.close();
    this.#epoll.close();
  }

  #serve(token: number, events: number): void {
    if (token === WAKE_TOKEN) {
      eventfdRead(this.#wake.number);
      this.onWake?.();
      return;
    }
    if (token === TIMER_TOKEN) {
      this.#timers.expire((error) => this.onError?.(error, this.#timers.fd));
      return;
    }
    const source = this.#sources[token];
    if (source === undefined) return;
    // a hang-up or an error is for both; what a callback adds meanwhile is for the next dispatch
    const broken = (events & (EPOLLERR | EPOLLHUP)) !== 0;
    const { fd, read, write } = source;
    if (read?.enabled && (broken || (events & EVF_READ) !== 0)) this.#call(read, fd);
    if (write?.enabled && (broken || (events & EVF_WRITE) !== 0)) this.#call(write, fd);
  }

  #call(handle: Handle, fd: number): void {
    try {
      handle.callback(fd);
    } catch (error) {
      handle.delete();
      this.onError?.(error, fd);
    }
  }

  #update(source: Source): void {
    const { read, write } = source;
    const events = (read?.enabled ? read.events : 0) | (write?.enabled ? write.events : 0);
    if (events === source.events) return;
    // nothing enabled: out of epoll, which would report a hang-up all the same
    if (events === 0) this.#epoll.remove(source.fd);
    else if (source.events === 0) this.#epoll.add(source.fd, events >>> 0, source.token);
    else this.#epoll.modify(source.fd, events >>> 0, source.token);
    source.events = events;
  }

  #remove(source: Source, handle: Handle): void {
    if (source.read === handle) source.read = undefined;
    else source.write = undefined;
    if (source.read || source.write) return;
    this.#sourceOfFd.delete(source.fd);
    this.#sources[source.token] = undefined;
    (this.#dispatching ? this.#retiredTokens : this.#freeTokens).push(source.token);
  }

  #recycleTokens(): void {
    this.#freeTokens = this.#freeTokens.concat(this.#retiredTokens);
    this.#retiredTokens = [];
  }
}
