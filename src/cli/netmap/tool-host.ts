/**
 * The main thread's side of netmap's programs: starts the threads that move frames, prints what they say, and ends
 * them on Ctrl-C. The first thread opens its port, and perhaps a fabric, before the others begin.
 */
import { Worker } from 'node:worker_threads';
import { NetbeError } from '../../errors.js';
import { eventfdWrite } from '../../sys/eventfd.js';
import { debugLine } from './output.js';
import {
  STATE_CANCEL,
  STATE_DONE,
  STATE_GO,
  STATE_WORDS,
  type ToolMessage,
  type ToolName,
  type ToolStart,
} from './tool-protocol.js';

export interface ToolHostOptions {
  tool: ToolName;
  socket: string;
  /** by thread */
  options: readonly unknown[];
  counters: SharedArrayBuffer;
}

interface ToolWorker {
  worker: Worker;
  wakeFd: number;
  /** resolves with what it says of its ports */
  opened: Promise<unknown>;
  /** resolves when it has ended; rejects with its failure */
  ended: Promise<boolean>;
}

export class ToolHost {
  readonly #options: ToolHostOptions;
  readonly #state = new SharedArrayBuffer(STATE_WORDS * 4);
  readonly #words = new Int32Array(this.#state);
  readonly #workers: ToolWorker[] = [];
  readonly #onSignal = (signal: NodeJS.Signals) => this.#signalled(signal);
  #signals = 0;
  /** the fabric is this program's own */
  ownFabric = false;

  constructor(options: ToolHostOptions) {
    this.#options = options;
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, this.#onSignal);
  }

  /** Opens the ports of all threads. Throws what keeps one from it; then all have ended. */
  async open(): Promise<unknown[]> {
    const infos: unknown[] = [];
    try {
      for (let i = 0; i < this.#options.options.length; i++) {
        const worker = this.#start(i);
        this.#workers.push(worker);
        infos.push(await worker.opened);
      }
      return infos;
    } catch (error) {
      this.cancel();
      await Promise.allSettled(this.#workers.map(({ ended }) => ended));
      this.#release();
      throw error;
    }
  }

  /** Lets the threads begin. */
  go(): void {
    Atomics.store(this.#words, STATE_GO, this.#workers.length);
    this.#wakeAll();
  }

  get cancelled(): boolean {
    return Atomics.load(this.#words, STATE_CANCEL) !== 0;
  }

  cancel(): void {
    Atomics.store(this.#words, STATE_CANCEL, 1);
    this.#wakeAll();
  }

  /** Whether all threads have done their work. */
  get done(): boolean {
    return Atomics.load(this.#words, STATE_DONE) >= this.#options.options.length;
  }

  /** Resolves when all threads have ended: whether each came to its end. Rejects with the first failure. */
  async end(): Promise<boolean[]> {
    try {
      const results = await Promise.allSettled(this.#workers.map(({ ended }) => ended));
      const failed = results.find((result) => result.status === 'rejected');
      if (failed) throw failed.reason;
      return results.map((result) => result.status === 'fulfilled' && result.value);
    } finally {
      this.#release();
    }
  }

  #release(): void {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.off(signal, this.#onSignal);
  }

  #wakeAll(): void {
    for (const { wakeFd } of this.#workers) if (wakeFd >= 0) eventfdWrite(wakeFd);
  }

  #signalled(signal: NodeJS.Signals): void {
    if (this.#signals++ > 0) process.exit(1);
    process.stderr.write(`${debugLine('sigint_h', `received ${signal}, stopping`)}\n`);
    this.cancel();
  }

  #start(thread: number): ToolWorker {
    const { tool, socket, options, counters } = this.#options;
    const start: ToolStart = { tool, socket, thread, options: options[thread], state: this.#state, counters };
    const worker = new Worker(new URL('./tool-worker.js', import.meta.url), {
      name: `netbe-${tool}`,
      workerData: start,
    });
    let failure: unknown;
    let good = false;
    const entry = { worker, wakeFd: -1 } as ToolWorker;
    entry.opened = new Promise((resolve, reject) => {
      worker.on('message', (message: ToolMessage) => {
        if (message.type === 'say') process.stderr.write(`${debugLine(message.fn, message.text)}\n`);
        else if (message.type === 'print') process.stdout.write(message.text);
        else if (message.type === 'done') good = message.good;
        else if (message.type === 'failed') failure = NetbeError.fromJSON(message.error);
        else {
          entry.wakeFd = message.wakeFd;
          this.ownFabric ||= message.ownFabric;
          resolve(message.info);
        }
      });
      worker.on('exit', () => {
        entry.wakeFd = -1;
        reject(failure ?? new NetbeError(`${tool} ended before it had its ports`, { code: 'EIO' }));
      });
    });
    entry.ended = new Promise((resolve, reject) => {
      worker.on('error', (error) => {
        failure = error;
      });
      worker.on('exit', () => {
        if (failure === undefined) resolve(good);
        else reject(failure);
      });
    });
    // who is not waited for must not end the process
    entry.opened.catch(() => {});
    entry.ended.catch(() => {});
    return entry;
  }
}
