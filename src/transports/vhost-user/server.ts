/**
 * A virtio device reachable over vhost-user: the socket, and one front-end after the other.
 *
 * Server mode listens on a path; one front-end at a time is served, the next one waits in the
 * socket's queue until the present one goes. Client mode connects to a path where the front-end
 * listens, and tries again whenever nobody does. Either side may go and come back at any time: the
 * device then starts anew, its own settings stay. Everything runs on the fabric's thread.
 *
 * Waiting costs nothing: a listening socket is a descriptor in the event queue, a connecting one a timer.
 */
import { EVF_READ, type MeventHandle } from '../../engine/mevent.js';
import type { Runtime } from '../../engine/runtime.js';
import { NetbeError } from '../../errors.js';
import type { VirtioDevice } from '../../frontends/virtio-device.js';
import type { Fd } from '../../sys/fd.js';
import { accept, connectUnix, listenUnix, peerCredentials, type UnixListener } from '../../sys/socket.js';
import { protocolFeatureNames } from './messages.js';
import { Session } from './session.js';

export interface VhostUserOptions {
  runtime: Runtime;
  device: VirtioDevice;
  /** of the NIC, for the log */
  name: string;
  /** of the socket */
  path: string;
  mode: 'server' | 'client';
  /** trust no front-end: refuse guest memory that it could take away, and descriptors that could make us wait */
  strictMemory?: boolean;
  /** offer notifications through the socket instead of descriptors; slower, for front-ends that need them */
  inbandNotifications?: boolean;
  /** between two attempts to connect, or to accept after an error, in milliseconds */
  reconnectMs?: number;
}

export interface VhostUserStatus {
  state: 'listening' | 'connecting' | 'connected' | 'closed';
  path: string;
  mode: 'server' | 'client';
  /** process ID of the front-end */
  peerPid?: number;
  protocolFeatures: string[];
  /** bytes; sealed: nobody can take it away */
  memory: { regions: number; bytes: number; sealed: boolean };
  /** what went wrong last, in this connection or an earlier one */
  lastError?: string;
}

/** log lines in one period; more are only counted */
const MAX_LOG_LINES = 20;
const LOG_PERIOD_MS = 10_000;

export class VhostUserTransport {
  readonly #options: VhostUserOptions;
  readonly #reconnectMs: number;
  #listener: UnixListener | undefined;
  #listenHandle: MeventHandle | undefined;
  #retry: MeventHandle | undefined;
  #session: Session | undefined;
  #peerPid: number | undefined;
  #lastError: string | undefined;
  #lastConnectError: string | undefined;
  #started = false;
  #closed = false;
  #logLines = 0;
  #logPeriodMs = 0;

  constructor(options: VhostUserOptions) {
    this.#options = options;
    this.#reconnectMs = options.reconnectMs ?? 500;
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

  status(): VhostUserStatus {
    const backend = this.#session?.backend;
    const { path, mode } = this.#options;
    const idle = mode === 'server' ? 'listening' : 'connecting';
    return {
      state: this.#closed || !this.#started ? 'closed' : backend ? 'connected' : idle,
      path,
      mode,
      peerPid: this.#peerPid,
      protocolFeatures: protocolFeatureNames(backend?.protocolFeatures ?? 0),
      memory: {
        regions: backend?.memory.regionCount ?? 0,
        bytes: backend?.memory.byteLength ?? 0,
        sealed: backend?.table.sealed ?? true,
      },
      lastError: this.#lastError,
    };
  }

  /** Ends the connection, and removes the socket's path. Idempotent; the device stays the caller's. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#retry?.delete();
    this.#session?.close();
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
    if (!this.#listener || this.#session) return;
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
    const { runtime, device, strictMemory = false, inbandNotifications = false } = this.#options;
    this.#listenHandle?.disable();
    try {
      this.#peerPid = peerCredentials(socket.number).pid;
      this.#session = new Session({
        runtime,
        device,
        strictMemory,
        inbandNotifications,
        socket,
        warn: (message) => this.#fault(message),
        note: (message) => this.#log('warn', message),
        onClose: (fault) => this.#ended(fault),
      });
    } catch (error) {
      socket.close();
      this.#ended((error as Error).message);
      return;
    }
    this.#log('info', `front-end ${this.#peerPid} connected`);
  }

  #ended(fault: string | undefined): void {
    if (fault !== undefined) this.#fault(`${fault}; connection closed`);
    this.#log('info', `front-end ${this.#peerPid ?? ''} disconnected`);
    this.#session = undefined;
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

  /** A front-end that comes and goes, or does wrong, all the time must not fill the log. */
  #log(level: 'info' | 'warn', message: string): void {
    const { runtime, name } = this.#options;
    const nowMs = performance.now();
    if (nowMs - this.#logPeriodMs > LOG_PERIOD_MS) {
      if (this.#logLines > MAX_LOG_LINES)
        runtime.log.warn(
          { nic: name },
          `vhost-user ${name}: ${this.#logLines - MAX_LOG_LINES} more lines were not logged`,
        );
      this.#logPeriodMs = nowMs;
      this.#logLines = 0;
    }
    if (this.#logLines++ < MAX_LOG_LINES)
      runtime.log[level]({ nic: name, pid: this.#peerPid }, `vhost-user ${name}: ${message}`);
  }
}
