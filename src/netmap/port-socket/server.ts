/**
 * The port socket of a fabric, in the fabric's thread: takes connections, and gives each a session.
 *
 * Clients are not trusted. One that sends what is no message, or stops in the middle of one, loses its connection;
 * one too many is told so; none can make the fabric wait. What a client holds (its port) goes with the
 * connection, and nothing else does.
 */
import { EVF_READ, type MeventHandle } from '../../engine/mevent.js';
import type { Runtime } from '../../engine/runtime.js';
import { NetbeError } from '../../errors.js';
import type { Fd } from '../../sys/fd.js';
import { accept, listenUnix, sendMsg, type UnixListener } from '../../sys/socket.js';
import { encodeMessage } from './messages.js';
import { type PortService, PortSession } from './session.js';

/** as many as a VALE switch has ports, and some that only ask */
export const MAX_CONNECTIONS = 288;
/** between two looks for slow clients, and before another attempt to accept */
const TICK_MS = 1000;
/** ticks that a message may take, and a connection without a port may be silent */
const MESSAGE_TICKS = 5;
const IDLE_TICKS = 60;

export interface PortSocketOptions {
  runtime: Runtime;
  path: string;
  /** what a session does with its requests */
  makeService: () => PortService;
}

export class PortSocketServer {
  readonly #runtime: Runtime;
  readonly #makeService: () => PortService;
  readonly #listener: UnixListener;
  readonly #readable: MeventHandle;
  readonly #tick: MeventHandle;
  readonly #sessions = new Set<PortSession>();
  #closed = false;

  /** Listens. Throws NetbeError. */
  constructor({ runtime, path, makeService }: PortSocketOptions) {
    this.#runtime = runtime;
    this.#makeService = makeService;
    this.#listener = listenUnix(path, { backlog: 64 });
    this.#tick = runtime.mevent.addTimer(TICK_MS, () => this.#look());
    this.#tick.disable();
    try {
      this.#readable = runtime.mevent.add(this.#listener.number, EVF_READ, () => this.#accept());
    } catch (error) {
      this.#tick.delete();
      this.#listener.close();
      throw error;
    }
  }

  get path(): string {
    return this.#listener.path;
  }

  get connections(): number {
    return this.#sessions.size;
  }

  /** Ends all connections, and with them their ports; removes the path. Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#tick.delete();
    this.#readable.delete();
    this.#listener.close();
    for (const session of this.#sessions) session.close();
  }

  #accept(): void {
    let socket: Fd | null;
    try {
      socket = accept(this.#listener.number);
    } catch (error) {
      // out of descriptors: who wants to connect waits for a tick
      this.#runtime.log.warn({ socket: this.path }, `port socket: ${(error as Error).message}`);
      this.#readable.disable();
      this.#tick.enable();
      return;
    }
    if (socket === null) return;
    if (this.#sessions.size >= MAX_CONNECTIONS) refuse(socket);
    else this.#begin(socket);
  }

  #begin(socket: Fd): void {
    try {
      const session = new PortSession({
        runtime: this.#runtime,
        socket,
        service: this.#makeService(),
        onClose: () => this.#sessions.delete(session),
      });
      this.#sessions.add(session);
      this.#tick.enable();
    } catch (error) {
      socket.close();
      this.#runtime.log.warn({ socket: this.path }, `port socket: ${(error as Error).message}`);
    }
  }

  #look(): void {
    this.#readable.enable();
    let waiting = false;
    for (const session of this.#sessions) {
      session.tick(MESSAGE_TICKS, IDLE_TICKS);
      waiting ||= session.watched;
    }
    if (!waiting) this.#tick.disable();
  }
}

function refuse(socket: Fd): void {
  const error = new NetbeError(`the fabric has ${MAX_CONNECTIONS} clients, and takes no more`, {
    code: 'EMFILE',
    kind: 'environment',
    remedy: 'Close some ports first.',
  });
  // as it is new its buffer has room
  sendMsg(socket.number, encodeMessage({ ok: false, error: error.toJSON() }));
  socket.close();
}
