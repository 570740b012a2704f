/**
 * Any number of timers, periodic ones and deadlines, on one timerfd: adding one takes no descriptor, and so does not fail
 * where a process has run out of them, when timers are needed most.
 *
 * Times are milliseconds of the monotonic clock. A period that was missed is skipped, not made up for.
 */
import type { Fd } from '../sys/fd.js';
import { createTimerfd, timerfdRead, timerfdSet } from '../sys/timerfd.js';

/** the shortest time that timerfd takes for one (0 would stop it) */
const SHORTEST_MS = 0.001;

export interface Timer {
  /** Begins a new period. */
  enable(): void;
  disable(): void;
}

/** A timer that goes off once each time that it is set. */
export interface Deadline {
  /** Goes off at `dueMs` (performance.now()), and not at the time set before; at once if that is past. */
  set(dueMs: number): void;
  clear(): void;
}

interface Entry {
  /** 0: a deadline */
  readonly periodMs: number;
  readonly callback: () => void;
  dueMs: number;
}

export class TimerQueue {
  readonly #fd: Fd = createTimerfd();
  readonly #enabled = new Set<Entry>();
  #nextMs = Number.POSITIVE_INFINITY;

  /** Readable when expire() is to be called. */
  get fd(): number {
    return this.#fd.number;
  }

  add(periodMs: number, callback: () => void): Timer {
    const entry: Entry = { periodMs: Math.max(periodMs, SHORTEST_MS), callback, dueMs: 0 };
    const timer = {
      enable: () => {
        if (this.#fd.closed) return;
        entry.dueMs = performance.now() + entry.periodMs;
        this.#enabled.add(entry);
        if (entry.dueMs < this.#nextMs) this.#set(entry.dueMs);
      },
      // the descriptor may expire once for nothing
      disable: () => void this.#enabled.delete(entry),
    };
    timer.enable();
    return timer;
  }

  addDeadline(callback: () => void): Deadline {
    const entry: Entry = { periodMs: 0, callback, dueMs: 0 };
    return {
      set: (dueMs) => {
        if (this.#fd.closed) return;
        entry.dueMs = dueMs;
        this.#enabled.add(entry);
        if (dueMs < this.#nextMs) this.#set(dueMs);
      },
      clear: () => void this.#enabled.delete(entry),
    };
  }

  /** Calls what is due. A callback that throws is told, and its timer disabled. */
  expire(onError: (error: unknown) => void): void {
    timerfdRead(this.#fd.number);
    const nowMs = performance.now();
    for (const entry of [...this.#enabled]) {
      // an earlier callback may have disabled it, or begun a new period
      if (!this.#enabled.has(entry) || entry.dueMs > nowMs) continue;
      if (entry.periodMs === 0) this.#enabled.delete(entry);
      else entry.dueMs = Math.max(entry.dueMs, nowMs - entry.periodMs) + entry.periodMs;
      try {
        entry.callback();
      } catch (error) {
        this.#enabled.delete(entry);
        onError(error);
      }
    }
    let nextMs = Number.POSITIVE_INFINITY;
    for (const { dueMs } of this.#enabled) nextMs = Math.min(nextMs, dueMs);
    this.#set(nextMs);
  }

  close(): void {
    this.#enabled.clear();
    this.#fd.close();
  }

  #set(nextMs: number): void {
    if (this.#fd.closed) return;
    this.#nextMs = nextMs;
    if (nextMs < Number.POSITIVE_INFINITY)
      timerfdSet(this.#fd.number, Math.max(nextMs - performance.now(), SHORTEST_MS), 0);
  }
}
