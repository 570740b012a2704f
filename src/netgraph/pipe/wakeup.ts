/**
 * Wakes a pipe when its next frame is due, and never before. A thread that sleeps comes back some time after
 * its timer, by as much as the machine pleases: so the timer goes off a little early, and for the rest of the time the
 * pipe is polled, like a port that has work. How early follows what the machine has shown of itself, within limits:
 * a pipe in which frames are far apart costs no more than that each time, and one in which nothing waits costs nothing.
 *
 * Times are microseconds of the monotonic clock.
 */
import type { Mevent } from '../../engine/mevent.js';
import type { Pollable, PollLoop } from '../../engine/poll-loop.js';
import type { Deadline } from '../../engine/timers.js';

const MIN_LEAD_US = 50;
const MAX_LEAD_US = 400;
const FIRST_LEAD_US = 150;
/** a wake-up that came sooner than expected takes the lead back by this part of the difference */
const DECAY = 1 / 16;

export interface WakeupOptions {
  runtime: { mevent: Pick<Mevent, 'addDeadline'>; loop: Pick<PollLoop, 'add' | 'remove' | 'activate'> };
  /** when the next frame is due; Infinity: none waits */
  nextUs: () => number;
  /** Sends what is due. */
  advance: () => void;
  /** tests have their own */
  nowUs?: () => number;
}

export class Wakeup implements Pollable {
  readonly #loop: WakeupOptions['runtime']['loop'];
  readonly #nextUs: () => number;
  readonly #advance: () => void;
  readonly #nowUs: () => number;
  readonly #deadline: Deadline;
  /** when the deadline goes off; Infinity: it is not set */
  #setUs = Number.POSITIVE_INFINITY;
  #leadUs = FIRST_LEAD_US;
  /** how late the timer was the last time */
  #lateUs = FIRST_LEAD_US;
  #polled = false;

  constructor({ runtime, nextUs, advance, nowUs = () => performance.now() * 1000 }: WakeupOptions) {
    this.#loop = runtime.loop;
    this.#nextUs = nextUs;
    this.#advance = advance;
    this.#nowUs = nowUs;
    this.#deadline = runtime.mevent.addDeadline(() => this.#wake());
    runtime.loop.add(this);
  }

  /** how long before a frame is due the timer goes off */
  get leadUs(): number {
    return this.#leadUs;
  }

  /** To be called when a frame may be due sooner than those before. */
  schedule(): void {
    if (!this.#polled && !this.#sleep()) this.#loop.activate(this);
  }

  /** Sets the timer; false when there is no time for one. */
  #sleep(): boolean {
    const nextUs = this.#nextUs();
    if (nextUs === Number.POSITIVE_INFINITY) return true;
    const wakeUs = nextUs - this.#leadUs;
    if (wakeUs <= this.#nowUs()) return false;
    if (wakeUs >= this.#setUs) return true;
    this.#setUs = wakeUs;
    this.#deadline.set(wakeUs / 1000);
    return true;
  }

  #wake(): void {
    this.#lateUs = this.#nowUs() - this.#setUs;
    this.#setUs = Number.POSITIVE_INFINITY;
    this.poll();
    this.schedule();
  }

  /** Between a timer and the frame that it was for the lead stays as it is: there is nothing to sleep for. */
  #learn(): void {
    // at once when it was too little, slowly when it was too much
    const leadUs = Math.max(this.#lateUs, this.#leadUs + (this.#lateUs - this.#leadUs) * DECAY);
    this.#leadUs = Math.min(Math.max(leadUs, MIN_LEAD_US), MAX_LEAD_US);
    this.#lateUs = this.#leadUs;
  }

  // ---- of the poll loop ----

  poll(): number {
    if (this.#nextUs() > this.#nowUs()) return 0;
    this.#learn();
    this.#advance();
    return 1;
  }

  arm(): boolean {
    this.#polled = false;
    return !this.#sleep();
  }

  disarm(): void {
    this.#polled = true;
  }

  close(): void {
    this.#deadline.clear();
    this.#loop.remove(this);
  }
}
