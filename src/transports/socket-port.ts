/**
 * A unix socket at which hypervisors join a device, one after the other.
 *
 * Server mode listens on a path; one peer at a time is served, the next one waits in the
 * socket's queue until the present one goes. Client mode connects to a path where the peer
 * listens, and tries again whenever nobody does. Either side may go and come back at any time: the
 * device then starts anew, its own settings stay. Everything runs on the fabric's thread.
 *
 * Waiting costs nothing: a listening socket is a descriptor in the event queue, a connecting one a timer.
 */
import { EVF_READ, type MeventHandle } from '../engine/mevent.js';
import type { Runtime } from '../engine/runtime.js';
import { NetbeError } from '../errors.js';
import type { Fd } from '../sys/fd.js';
import { accept, connectUnix, listenUnix, peerCredentials, type UnixListener } from '../sys/socket.js';

/** One connection, which closes itself, or is closed. */
export interface Connection {
  close(): void;
}

/** What a connection tells its port. */
export interface ConnectionEvents {
  /** something went wrong, and the connection goes on */
  warn: (message: string) => void;
  /** nothing went wrong, but somebody should know */
  note: (message: string) => void;
  /** called once, after everything is released; `fault` is what the peer did wrong, if anything */
  onClose: (fault: string | undefined) => void;
}

export interface SocketPortOptions<C extends Connection> {
  runtime: Runtime;
  /** of the NIC, for the log */
  name: string;
  /** of the socket */
  path: string;
  mode: 'server' | 'client';
  /** between two attempts to connect, or to accept after an error, in milliseconds */
  reconnectMs?: number;
  /** "vhost-user", for the log */
  protocol: string;
  /** what the protocol calls the other side: "front-end" */
  peer: string;
  /** Serves a peer on `socket`, which becomes the connection's; when this throws it stays the port's. */
  begin: (socket: Fd, events: ConnectionEvents) => C;
}

export type SocketPortState = 'listening' | 'connecting' | 'connected' | 'closed';

/** What every transport says of itself. */
export interface TransportStatus {
  state: SocketPortState;
  path: string;
  mode: 'server' | 'client';
  /** process ID of the other side */
  peerPid?: number;
  /** negotiated with it, by name */
  protocolFeatures: string[];
  /** bytes, and how many of them are reached by messages; sealed: nobody can take it away */
  memory: { regions: number; bytes: number; unshared: number; sealed: boolean };
  /** what went wrong last, in this connection or an earlier one */
  lastError?: string;
}

/** What the fabric needs of a transport. */
export interface Transport {
  /** Listens, or begins to connect. Throws NetbeError when the path cannot be listened on. */
  start(): void;
  status(): TransportStatus;
  /** Ends the connection, and removes the socket's path. Idempotent; the device stays the caller's. */
  close(): void;
}

/** log lines in one period; more are only counted */
const MAX_LOG_LINES = 20;
const LOG_PERIOD_MS = 10_000;

export class SocketPort<C extends Connection> {
  readonly #options: SocketPortOptions<C>;
  readonly #reconnectMs: number;
  #listener: UnixListener | undefined;
  #listenHandle: MeventHandle | undefined;
  #retry: MeventHandle | undefined;
  #connection: C | undefined;
  #peerPid: number | undefined;
  #lastError: string | undefined;
  #lastConnectError: string | undefined;
  #started = false;
  #closed = false;
  #logLines = 0;
  #logPeriodMs = 0;

  constructor(options: SocketPortOptions<C>) {
    this.#options = options;
    this.#reconnectMs = options.reconnectMs ?? 500;
  }

  /** The present one. */
  get connection(): C | undefined {
    return this.#connection;
  }

  /** Listens, or begins to connect. Throws NetbeError when the path cannot be listened on. */
  start(): void {
    if (this.#started || this.#closed) return;
    // made now: when it is needed there may be no descriptor left to make it of
    const timer = this.#options.runtime.mevent.addTimer(this.#reconnectMs, () => this.#tryAgain());
    timer.disable();
    this.#retry = timer;
    try {
      if (this.#options.mode === 'server') this.#listen();
      else this.#connect();
    } catch (error) {
      timer.delete();
      throw error;
    }
    this.#started = true;
  }

  status(): Pick<TransportStatus, 'state' | 'path' | 'mode' | 'peerPid' | 'lastError'> {
    const { path, mode } = this.#options;
    const idle = mode === 'server' ? 'listening' : 'connecting';
    const state = this.#closed || !this.#started ? 'closed' : this.#connection ? 'connected' : idle;
    return { state, path, mode, peerPid: this.#peerPid, lastError: this.#lastError };
  }

  /** Ends the connection, and removes the socket's path. Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#retry?.delete();
    this.#connection?.close();
    this.#listenHandle?.delete();
    this.#listener?.close();
  }

  #listen(): void {
    const { runtime, path } = this.#options;
    const listener = listenUnix(path, { backlog: 1 });
    try {
      this.#listenHandle = runtime.mevent.add(listener.number, EVF_READ, () => this.#accept());
    } catch (error) {
      listener.close();
      throw error;
    }
    this.#listener = listener;
  }

  #accept(): void {
    if (!this.#listener || this.#connection) return;
    let socket: Fd | null;
    try {
      socket = accept(this.#listener.number);
    } catch (error) {
      // out of descriptors, for instance: the connection waits, and so do we
      this.#fault(`accept: ${(error as Error).message}`);
      this.#listenHandle?.disable();
      this.#retry?.enable();
      return;
    }
    if (socket) this.#begin(socket);
  }

  #connect(): void {
    const { path } = this.#options;
    try {
      this.#begin(connectUnix(path));
      this.#lastConnectError = undefined;
    } catch (error) {
      if (!(error instanceof NetbeError)) throw error;
      // said once, not with every attempt
      if (this.#lastConnectError !== error.code) this.#log('info', `waiting for ${path}: ${error.message}`);
      this.#lastConnectError = error.code;
      this.#lastError = error.message;
      this.#retry?.enable();
    }
  }

  #begin(socket: Fd): void {
    this.#listenHandle?.disable();
    try {
      this.#peerPid = peerCredentials(socket.number).pid;
      this.#connection = this.#options.begin(socket, {
        warn: (message) => this.#fault(message),
        note: (message) => this.#log('warn', message),
        onClose: (fault) => this.#ended(fault),
      });
    } catch (error) {
      socket.close();
      this.#ended((error as Error).message);
      return;
    }
    this.#log('info', `${this.#options.peer} ${this.#peerPid} connected`);
  }

  #ended(fault: string | undefined): void {
    if (fault !== undefined) this.#fault(`${fault}; connection closed`);
    this.#log('info', `${this.#options.peer} ${this.#peerPid ?? ''} disconnected`);
    this.#connection = undefined;
    this.#peerPid = undefined;
    if (this.#closed) return;
    if (this.#options.mode === 'server') this.#listenHandle?.enable();
    else this.#retry?.enable();
  }

  #tryAgain(): void {
    this.#retry?.disable();
    if (this.#options.mode === 'server') this.#listenHandle?.enable();
    else this.#connect();
  }

  #fault(message: string): void {
    this.#lastError = message;
    this.#log('warn', message);
  }

  /** A peer that comes and goes, or does wrong, all the time must not fill the log. */
  #log(level: 'info' | 'warn', message: string): void {
    const { runtime, name, protocol } = this.#options;
    const nowMs = performance.now();
    if (nowMs - this.#logPeriodMs > LOG_PERIOD_MS) {
      if (this.#logLines > MAX_LOG_LINES)
        runtime.log.warn(
          { nic: name },
          `${protocol} ${name}: ${this.#logLines - MAX_LOG_LINES} more lines were not logged`,
        );
      this.#logPeriodMs = nowMs;
      this.#logLines = 0;
    }
    if (this.#logLines++ < MAX_LOG_LINES)
      runtime.log[level]({ nic: name, pid: this.#peerPid }, `${protocol} ${name}: ${message}`);
  }
}

/** What the peer did wrong and what helps; where the fault is our own, where it is. */
export function faultText(error: unknown): string {
  if (!(error instanceof NetbeError)) return String((error as Error).stack ?? error);
  return error.remedy === undefined ? error.message : `${error.message}. ${error.remedy}`;
}
