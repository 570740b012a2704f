/**
 * Adaptive polling, port by port.
 *
 * A pollable is *active* (polled in turn, its peer's notifications suppressed) or *armed* (not
 * polled; its peer notifies, and the descriptor's callback calls `activate`). An active pollable
 * that found no work for `spinUs` is armed; arming looks once more, because the peer may have
 * published between our last look and the re-enabling of notifications (VirtIO 1.2 §2.7.10).
 * With nothing active the loop blocks in the event queue: an idle fabric uses no CPU.
 *
 * Everything may be called from within poll(), arm() and the callbacks of the event queue.
 */

export interface Pollable {
  /** Serves at most one burst; returns the number of frames served, 0 when there was nothing. */
  poll(): number;
  /** Asks the peer for notifications, then looks once more: true if work is there (then it stays active). */
  arm(): boolean;
  /** Tells the peer that it need not notify: this side polls. Also called after an arm() that found work. */
  disarm(): void;
}

/** What the loop needs of Mevent. */
export interface EventQueue {
  dispatch(timeoutMs: number): number;
}

interface Entry {
  readonly pollable: Pollable;
  /** in #active, unless `removed` */
  active: boolean;
  removed: boolean;
  /** activate() was called while arm() ran */
  activated: boolean;
  /** when work was last seen; 0: since the last look at the clock */
  lastWorkUs: number;
}

export interface PollLoopOptions {
  /** how long an active pollable may find nothing before it is armed, in microseconds */
  spinUs?: number;
}

// A turn goes round all active pollables until one of these is reached, and so bounds the time between
// two looks at the event queue: few idle pollables are asked several times, many busy ones once.
const POLLS_PER_TURN = 32;
const FRAMES_PER_TURN = 256;

export class PollLoop {
  readonly #events: EventQueue;
  readonly #entries = new Map<Pollable, Entry>();
  readonly #active: Entry[] = [];
  /** entries of #active that have been removed and are still in it */
  #removedCount = 0;
  readonly #spinUs: number;

  /**
   * Seconds on a monotonic clock, read once a turn and after each sleep: for ageing and the like,
   * where a look at the clock a burst would cost more than the burst's bookkeeping.
   */
  nowSec = Math.floor(performance.now() / 1000);

  /** A poll() or arm() threw; the pollable has been removed. */
  onError: ((error: unknown, pollable: Pollable) => void) | undefined;

  constructor(events: EventQueue, options: PollLoopOptions = {}) {
    this.#events = events;
    this.#spinUs = options.spinUs ?? 50;
  }

  /** Begins armed. Idempotent. */
  add(pollable: Pollable): void {
    if (this.#entries.has(pollable)) return;
    this.#entries.set(pollable, { pollable, active: false, removed: false, activated: false, lastWorkUs: 0 });
  }

  /** On return it is never polled or armed again. */
  remove(pollable: Pollable): void {
    const entry = this.#entries.get(pollable);
    if (!entry) return;
    this.#entries.delete(pollable);
    entry.removed = true;
    if (entry.active) this.#removedCount++;
  }

  /** Polls `pollable` from the next turn on: its peer has notified, or has just been attached. */
  activate(pollable: Pollable): void {
    const entry = this.#entries.get(pollable);
    if (!entry) return;
    entry.activated = true;
    entry.lastWorkUs = 0;
    if (entry.active) return;
    entry.active = true;
    this.#active.push(entry);
    pollable.disarm();
  }

  /** Pollables that are polled; while there are any, step() does not block. */
  get activeCount(): number {
    return this.#active.length - this.#removedCount;
  }

  /** Polls every active pollable at least once, then arms those idle for long enough. Returns frames served. */
  turn(): number {
    const active = this.#active;
    let frames = 0;
    let polls = 0;
    while (this.activeCount > 0 && polls < POLLS_PER_TURN && frames < FRAMES_PER_TURN) {
      polls += active.length;
      frames += this.#round();
    }
    if (active.length > 0) this.#armIdle();
    return frames;
  }

  /** One step of a fabric: poll what is active, serve events; block only when all is armed. Returns frames served. */
  step(maxBlockMs: number): number {
    const frames = this.turn();
    if (this.activeCount > 0) this.#events.dispatch(0);
    else {
      this.#events.dispatch(maxBlockMs);
      this.nowSec = Math.floor(performance.now() / 1000);
    }
    return frames;
  }

  #round(): number {
    const active = this.#active;
    let frames = 0;
    let i = 0;
    try {
      for (; i < active.length; i++) {
        const entry = active[i] as Entry;
        if (entry.removed) continue;
        const n = entry.pollable.poll();
        if (n > 0) {
          frames += n;
          entry.lastWorkUs = 0;
        }
      }
    } catch (error) {
      this.#fail(active[i] as Entry, error);
    }
    return frames;
  }

  #armIdle(): void {
    const active = this.#active;
    const nowUs = performance.now() * 1000;
    this.nowSec = Math.floor(nowUs / 1e6);
    let kept = 0;
    // entries that arm() activates meanwhile are appended, and visited
    for (let i = 0; i < active.length; i++) {
      const entry = active[i] as Entry;
      if (entry.removed) {
        this.#removedCount--;
        continue;
      }
      if (entry.lastWorkUs === 0) entry.lastWorkUs = nowUs;
      else if (nowUs - entry.lastWorkUs >= this.#spinUs && this.#arm(entry)) continue;
      active[kept++] = entry;
    }
    if (kept < active.length) active.length = kept;
  }

  /** True if the entry is armed, or gone: it leaves #active. */
  #arm(entry: Entry): boolean {
    entry.activated = false;
    let work = false;
    try {
      work = entry.pollable.arm() || entry.activated;
      if (work && !entry.removed) entry.pollable.disarm();
    } catch (error) {
      this.#fail(entry, error);
    }
    if (entry.removed) {
      this.#removedCount--;
      return true;
    }
    entry.active = work;
    if (work) entry.lastWorkUs = 0;
    return !work;
  }

  #fail(entry: Entry, error: unknown): void {
    this.remove(entry.pollable);
    this.onError?.(error, entry.pollable);
  }
}
