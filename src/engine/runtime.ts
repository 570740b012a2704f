/**
 * What a fabric lends to everything that runs in it: one event loop, one poll loop, one pool of
 * memory windows, one page of counters, one log. All of it belongs to one thread.
 */
import type { WindowPool } from '../memory/window.js';
import type { CounterPage } from './counters.js';
import type { Mevent } from './mevent.js';
import type { PollLoop } from './poll-loop.js';

/** The subset of pino's logger that netbe calls. */
export interface Log {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export interface Runtime {
  readonly mevent: Mevent;
  readonly loop: PollLoop;
  readonly windows: WindowPool;
  readonly counters: CounterPage;
  readonly log: Log;
}
