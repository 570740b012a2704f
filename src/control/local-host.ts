/**
 * A fabric in the thread of the library's user. While frames come it polls for a millisecond at a
 * time and lets Node's event loop run in between; while none come it waits in the background
 * (Mevent.whenReady). All such fabrics of a process together take up one thread of Node's pool.
 */
import { setImmediate as nodeTurn } from 'node:timers/promises';
import type { CounterDirectoryEntry } from '../engine/counters.js';
import type { NetbeError } from '../errors.js';
import { atExit } from './at-exit.js';
import { FabricCore, type FabricCoreOptions } from './fabric-core.js';
import {
  type ExitListener,
  type FabricArgs,
  type FabricHost,
  type FabricOp,
  type FabricResult,
  toNetbeError,
} from './fabric-host.js';
import { closedError } from './thread-host.js';

const SLICE_MS = 1;

export interface LocalHostOptions extends FabricCoreOptions {
  onExit: ExitListener;
}

export class LocalHost implements FabricHost {
  readonly #core: FabricCore;
  readonly #onExit: ExitListener;
  readonly #running: Promise<void>;
  readonly #forgetExit: () => void;
  #stopping = false;
  #failure: NetbeError | undefined;

  constructor(options: LocalHostOptions) {
    this.#core = new FabricCore(options);
    this.#onExit = options.onExit;
    this.#forgetExit = atExit(() => this.#core.close());
    this.#running = this.#run();
  }

  get counterBuffer(): SharedArrayBuffer {
    return this.#core.runtime.counters.buffer;
  }

  get directory(): readonly CounterDirectoryEntry[] {
    return this.#core.runtime.counters.directory();
  }

  get failure(): NetbeError | undefined {
    return this.#failure;
  }

  async call<Op extends FabricOp>(op: Op, ...args: FabricArgs<Op>): Promise<FabricResult<Op>> {
    if (this.#stopping) throw this.#failure ?? closedError();
    try {
      return (this.#core[op] as (...args: FabricArgs<Op>) => FabricResult<Op>).apply(this.#core, args);
    } catch (error) {
      throw toNetbeError(error);
    } finally {
      // a port that has become active is polled now, not after the next event
      if (!this.#stopping) this.#core.runtime.mevent.wake();
    }
  }

  async close(): Promise<void> {
    this.#stopping = true;
    if (!this.#failure) this.#core.runtime.mevent.wake();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { mevent, loop } = this.#core.runtime;
    // the constructor's caller gets its object first
    await nodeTurn();
    try {
      while (!this.#stopping) {
        if (loop.activeCount === 0) await mevent.whenReady();
        else await nodeTurn();
        const until = performance.now() + SLICE_MS;
        do this.#core.step(0);
        while (loop.activeCount > 0 && performance.now() < until);
      }
    } catch (error) {
      this.#failure = toNetbeError(error);
      this.#stopping = true;
    }
    this.#forgetExit();
    this.#core.close();
    this.#onExit(this.#failure);
  }
}
