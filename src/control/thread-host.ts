/** A fabric in a thread of its own, seen from the main thread: see fabric-thread.ts. */
import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker } from 'node:worker_threads';
import type { CounterDirectoryEntry } from '../engine/counters.js';
import type { Log } from '../engine/runtime.js';
import { NetbeError, usageError } from '../errors.js';
import { eventfdWrite } from '../sys/eventfd.js';
import { atExit } from './at-exit.js';
import {
  type ExitListener,
  type FabricArgs,
  type FabricHost,
  type FabricOp,
  type FabricResult,
  type NgctlListener,
  THREAD_CLOSED,
  THREAD_STOP,
  type ThreadMessage,
  type ThreadRequest,
  type ThreadStart,
  toNetbeError,
} from './fabric-host.js';

/** milliseconds that the thread has to close everything before it is ended by force */
const CLOSE_MS = 5000;

export interface ThreadHostOptions extends Omit<ThreadStart, 'control'> {
  log: Log;
  onExit: ExitListener;
  onNgctl: NgctlListener;
}

interface Pending {
  resolve(value: never): void;
  reject(error: NetbeError): void;
}

export class ThreadHost implements FabricHost {
  readonly #log: Log;
  readonly #onExit: ExitListener;
  readonly #onNgctl: NgctlListener;
  readonly #worker: Worker;
  readonly #port: MessagePort;
  readonly #control = new Int32Array(new SharedArrayBuffer(8));
  readonly #pending = new Map<number, Pending>();
  readonly #ready: Promise<void>;
  #settleReady: Pending | undefined;
  #nextId = 1;
  #wakeFd = -1;
  #counterBuffer = new SharedArrayBuffer(0);
  #directory: readonly CounterDirectoryEntry[] = [];
  #failure: NetbeError | undefined;
  #closing: Promise<void> | undefined;
  #gone = false;
  readonly #forgetExit: () => void;
  /** resolves when the thread has ended */
  readonly #ended: Promise<void>;

  /** Resolves when the thread runs; rejects, with the thread gone, when a backend module cannot be loaded. */
  static async start(options: ThreadHostOptions): Promise<ThreadHost> {
    const host = new ThreadHost(options);
    try {
      await host.#ready;
    } catch (error) {
      await host.#ended;
      throw error;
    }
    return host;
  }

  private constructor(options: ThreadHostOptions) {
    const { log, onExit, onNgctl, ...rest } = options;
    this.#log = log;
    this.#onExit = onExit;
    this.#onNgctl = onNgctl;
    this.#ready = new Promise<void>((resolve, reject) => {
      this.#settleReady = { resolve: resolve as Pending['resolve'], reject };
    });
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    const start: ThreadStart = { ...rest, control: this.#control.buffer as SharedArrayBuffer };
    this.#worker = new Worker(new URL('./fabric-thread.js', import.meta.url), {
      name: 'netbe-fabric',
      workerData: { port: port2, start },
      transferList: [port2],
      // what is for code on the command line (node -e) is an error for a worker
      ...(process.execArgv.some((arg) => arg.startsWith('--input-type')) ? { execArgv: [] } : {}),
    });
    port1.on('message', (message: ThreadMessage) => this.#receive(message));
    this.#worker.on('error', (error) => this.#fail(error));
    this.#ended = new Promise((resolve) => {
      this.#worker.on('exit', () => {
        this.#exited();
        resolve();
      });
    });
    // a thread that blocks in a system call cannot be ended from outside: the process would hang
    this.#forgetExit = atExit(() => this.#stopNow());
  }

  get counterBuffer(): SharedArrayBuffer {
    return this.#counterBuffer;
  }

  get directory(): readonly CounterDirectoryEntry[] {
    return this.#directory;
  }

  get failure(): NetbeError | undefined {
    return this.#failure;
  }

  call<Op extends FabricOp>(op: Op, ...args: FabricArgs<Op>): Promise<FabricResult<Op>> {
    return this.#send(op, args) as Promise<FabricResult<Op>>;
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  /** For the end of the process: the thread closes its sockets while this one waits, for a second at most. */
  #stopNow(): void {
    Atomics.store(this.#control, THREAD_STOP, 1);
    if (this.#wakeFd < 0) return;
    eventfdWrite(this.#wakeFd);
    Atomics.wait(this.#control, THREAD_CLOSED, 0, 1000);
  }

  async #close(): Promise<void> {
    const closed = this.#send('close', []).catch(() => undefined);
    const deadline = setTimeout(() => {
      this.#log.warn({}, `the fabric thread did not close within ${CLOSE_MS} ms: it is ended by force`);
      void this.#worker.terminate();
    }, CLOSE_MS);
    await Promise.race([closed, this.#ended]);
    clearTimeout(deadline);
    await this.#worker.terminate();
    await this.#ended;
  }

  #send(op: ThreadRequest['op'], args: unknown[]): Promise<unknown> {
    if (this.#gone) return Promise.reject(this.#failure ?? closedError());
    if (this.#closing && op !== 'close') return Promise.reject(closedError());
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      try {
        this.#port.postMessage({ id, op, args } satisfies ThreadRequest);
      } catch (error) {
        // functions, for instance, cannot go to another thread
        reject(usageError(`${op} takes plain data: ${(error as Error).message}`));
        return;
      }
      this.#pending.set(id, { resolve, reject });
      eventfdWrite(this.#wakeFd);
    });
  }

  #receive(message: ThreadMessage): void {
    switch (message.type) {
      case 'ready':
        this.#wakeFd = message.wakeFd;
        this.#counterBuffer = message.counterBuffer;
        this.#settleReady?.resolve(undefined as never);
        break;
      case 'failed':
        this.#fail(NetbeError.fromJSON(message.error));
        break;
      case 'result':
        this.#take(message.id)?.resolve(message.result as never);
        break;
      case 'error':
        this.#take(message.id)?.reject(NetbeError.fromJSON(message.error));
        break;
      case 'directory':
        this.#directory = message.directory;
        break;
      case 'ngctl':
        this.#onNgctl(message.session);
        break;
      case 'log':
        this.#log[message.level](message.fields, message.message);
        break;
    }
  }

  #take(id: number): Pending | undefined {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    return pending;
  }

  /** The thread is about to end; the first reason counts. */
  #fail(error: unknown): void {
    if (this.#settleReady && this.#wakeFd < 0) {
      this.#failure ??= toNetbeError(error);
      return;
    }
    const reason = error instanceof Error ? error.message : String(error);
    this.#failure ??= crashError(reason, error);
  }

  #exited(): void {
    // what it said last may not have been delivered yet
    for (let m = receiveMessageOnPort(this.#port); m; m = receiveMessageOnPort(this.#port))
      this.#receive(m.message as ThreadMessage);
    this.#gone = true;
    this.#forgetExit();
    this.#port.close();
    if (!this.#closing) this.#failure ??= crashError('it ended without a reason');
    const error = this.#failure ?? closedError();
    for (const { reject } of this.#pending.values()) reject(error);
    this.#pending.clear();
    this.#settleReady?.reject(error);
    if (this.#wakeFd >= 0) this.#onExit(this.#failure);
  }
}

export function closedError(): NetbeError {
  return new NetbeError('the fabric is closed', { code: 'ESHUTDOWN', kind: 'usage' });
}

function crashError(reason: string, cause?: unknown): NetbeError {
  return new NetbeError(`the fabric thread has ended unexpectedly: ${reason}`, {
    code: 'EIO',
    cause,
    remedy: 'All NICs of this fabric are gone. Start it again: guests that reconnect go on.',
  });
}
