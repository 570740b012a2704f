/**
 * Adaptive polling, port by port.
 *
 * A pollable is *active* (polled in turn, its peer's notifications suppressed) or *armed* (not
 * polled; its peer notifies, and the descriptor's callback calls `activate`). An active pollable
 * that found no work for `spinUs` is armed; arming looks once more, because the peer may have
 * published between our last look and the re-enabling of notifications (VirtIO 1.2 §2.7.10).
 * With nothing active the loop blocks in the event queue: an idle fabric uses no CPU.
 */
import type { Mevent } from './mevent.js';

export interface Pollable {
  /** Serves at most one burst; returns the number of frames served, 0 when there was nothing. */
  poll(): number;
  /** Asks the peer for notifications, then looks once more: true if work is there (stays active). */
  arm(): boolean;
  /** Tells the peer that it need not notify: this side polls. */
  disarm(): void;
}

interface Entry {
  readonly pollable: Pollable;
  active: boolean;
  removed: boolean;
  lastWorkUs: number;
}

export interface PollLoopOptions {
  /** how long an active pollable may find nothing before it is armed, in microseconds */
  spinUs?: number;
  /** turns between two looks at the event queue while something is active */
  turnsPerEvents?: number;
}

export class PollLoop {
  readonly #entries = new Map<Pollable, Entry>();
  readonly #active: Entry[] = [];
  readonly #spinUs: number;
  readonly #turnsPerEvents: number;

  constructor(
    readonly mevent: Mevent,
    options: PollLoopOptions = {},
  ) {
    this.#spinUs = options.spinUs ?? 50;
    this.#turnsPerEvents = options.turnsPerEvents ?? 16;
  }

  add(pollable: Pollable): void {
    if (!this.#entries.has(pollable))
      this.#entries.set(pollable, { pollable, active: false, removed: false, lastWorkUs: 0 });
  }

  remove(pollable: Pollable): void {
    const entry = this.#entries.get(pollable);
    if (!entry) return;
    entry.removed = true;
    this.#entries.delete(pollable);
    const at = this.#active.indexOf(entry);
    if (at >= 0) this.#active.splice(at, 1);
  }

  /** Polls `pollable` from the next turn on: its peer has notified, or has just been attached. */
  activate(pollable: Pollable): void {
    const entry = this.#entries.get(pollable);
    if (!entry || entry.active) return;
    entry.active = true;
    entry.lastWorkUs = performance.now() * 1000;
    pollable.disarm();
    this.#active.push(entry);
  }

  get activeCount(): number {
    return this.#active.length;
  }

  /** Polls every active pollable `turnsPerEvents` times; arms those idle for long enough. */
  turn(): number {
    let work = 0;
    const active = this.#active;
    for (let t = 0; t < this.#turnsPerEvents && active.length > 0; t++) {
      for (let i = 0; i < active.length; i++) {
        const entry = active[i] as Entry;
        const n = entry.pollable.poll();
        if (n > 0) {
          work += n;
          entry.lastWorkUs = 0;
        }
      }
    }
    this.#armIdle();
    return work;
  }

  #armIdle(): void {
    const active = this.#active;
    if (active.length === 0) return;
    const nowUs = performance.now() * 1000;
    for (let i = active.length - 1; i >= 0; i--) {
      const entry = active[i] as Entry;
      if (entry.lastWorkUs === 0) entry.lastWorkUs = nowUs;
      else if (nowUs - entry.lastWorkUs >= this.#spinUs && !entry.removed && !entry.pollable.arm()) {
        entry.active = false;
        active.splice(i, 1);
      }
    }
  }

  /** One step of the fabric thread: poll what is active, dispatch events; block only when all is armed. */
  step(maxBlockMs: number): void {
    this.turn();
    this.mevent.dispatch(this.#active.length > 0 ? 0 : maxBlockMs);
  }
}
