/** One connection of the port socket: messages in, answers out, until either side ends it. */
import { EVF_READ, EVF_WRITE, type MeventHandle } from '../../engine/mevent.js';
import type { Runtime } from '../../engine/runtime.js';
import { NetbeError } from '../../errors.js';
import type { Fd } from '../../sys/fd.js';
import { E } from '../../sys/libc.js';
import { peerCredentials, type ReceivedMessage, recvMsg, sendMsg } from '../../sys/socket.js';
import { encodeMessage, MessageReader, type PortReply, type PortRequest, parseRequest } from './messages.js';

/** What a request is answered with. The descriptors stay the service's. */
export interface Answer {
  body: Record<string, unknown>;
  fds?: readonly number[];
}

/** What a session does for its client. */
export interface PortService {
  /** Throws NetbeError. `pid` is the client's process. */
  serve(request: PortRequest, pid: number): Answer;
  /** It holds a port: its client may be silent for ever. */
  readonly bound: boolean;
  /** The client has gone. */
  close(): void;
}

export interface SessionOptions {
  runtime: Runtime;
  socket: Fd;
  service: PortService;
  onClose: () => void;
}

/** Descriptors that clients send are not wanted; this many are taken, to be closed. */
const MAX_FDS = 8;
/** requests served before others get a turn */
const REQUESTS_PER_TURN = 16;

export class PortSession {
  readonly #runtime: Runtime;
  readonly #socket: Fd;
  readonly #service: PortService;
  readonly #onClose: () => void;
  readonly #pid: number;
  readonly #reader = new MessageReader();
  readonly #readable: MeventHandle;
  readonly #writable: MeventHandle;
  readonly #message: ReceivedMessage = { length: 0, fds: [], truncated: false };
  /** what of an answer the socket did not take */
  #unsent: Uint8Array | undefined;
  #ticks = 0;
  #closed = false;

  /** Takes the socket over if it does not throw. */
  constructor({ runtime, socket, service, onClose }: SessionOptions) {
    this.#runtime = runtime;
    this.#socket = socket;
    this.#service = service;
    this.#onClose = onClose;
    this.#pid = peerCredentials(socket.number).pid;
    this.#writable = runtime.mevent.addDisabled(socket.number, EVF_WRITE, () => this.#flush());
    try {
      this.#readable = runtime.mevent.add(socket.number, EVF_READ, () => this.#receive());
    } catch (error) {
      this.#writable.delete();
      throw error;
    }
  }

  /** Whether tick() must go on being called. */
  get watched(): boolean {
    return !this.#service.bound || this.#reader.partial || this.#unsent !== undefined;
  }

  /** Called now and then: ends a connection that is in the middle of a message, or silent, for too long. */
  tick(messageTicks: number, idleTicks: number): void {
    if (this.#closed || !this.watched) return;
    this.#ticks++;
    const stuck = this.#reader.partial || this.#unsent !== undefined;
    if (stuck && this.#ticks > messageTicks) this.#fault('it stopped in the middle of a message');
    else if (!stuck && this.#ticks > idleTicks) this.close();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#readable.delete();
    this.#writable.delete();
    this.#socket.close();
    try {
      this.#service.close();
    } finally {
      this.#onClose();
    }
  }

  #receive(): void {
    const got = recvMsg(this.#socket.number, this.#reader.space, MAX_FDS, this.#message);
    for (const fd of got.fds) fd.close();
    if (got.length === -E.EAGAIN || got.length === -E.EINTR) return;
    if (got.length <= 0) {
      this.close();
      return;
    }
    this.#ticks = 0;
    this.#reader.received(got.length);
    try {
      this.#serveAll();
    } catch (error) {
      const reason = this.#reasonOf(error, 'a message');
      this.#send({ ok: false, error: reason.toJSON() });
      this.#fault(reason.message);
    }
  }

  #serveAll(): void {
    for (let i = 0; i < REQUESTS_PER_TURN && !this.#closed; i++) {
      const message = this.#reader.next();
      if (message === undefined) return;
      this.#serve(message);
    }
    // it does not wait for answers: that is no way to use this socket
    if (!this.#closed && this.#reader.partial) this.#fault('it sends requests without waiting for the answers');
  }

  #serve(message: unknown): void {
    const request = parseRequest(message);
    let answer: Answer;
    try {
      answer = this.#service.serve(request, this.#pid);
    } catch (error) {
      this.#send({ ok: false, error: this.#reasonOf(error, request.type).toJSON() });
      return;
    }
    this.#send({ ok: true, body: answer.body }, answer.fds);
  }

  /** What the client is told; a mistake of ours is for the log. */
  #reasonOf(error: unknown, request: string): NetbeError {
    if (error instanceof NetbeError) return error;
    const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
    this.#runtime.log.error({ pid: this.#pid, request, error: stack }, 'a port request failed');
    return new NetbeError('internal error', { code: 'EIO' });
  }

  #send(reply: PortReply, fds: readonly number[] = []): void {
    if (this.#closed) return;
    if (this.#unsent !== undefined) {
      this.#fault('it does not read its answers');
      return;
    }
    const bytes = encodeMessage(reply);
    const sent = sendMsg(this.#socket.number, bytes, fds);
    if (sent === bytes.length) return;
    if (sent < 0 && (sent !== -E.EAGAIN || fds.length > 0)) {
      this.close();
      return;
    }
    this.#unsent = bytes.subarray(Math.max(0, sent));
    this.#writable.enable();
  }

  #flush(): void {
    const unsent = this.#unsent;
    if (unsent === undefined) return;
    const sent = sendMsg(this.#socket.number, unsent);
    if (sent === -E.EAGAIN) return;
    if (sent < 0) this.close();
    else if (sent < unsent.length) this.#unsent = unsent.subarray(sent);
    else {
      this.#unsent = undefined;
      this.#writable.disable();
    }
  }

  #fault(why: string): void {
    this.#runtime.log.warn({ pid: this.#pid }, `port socket: client ${this.#pid} is disconnected: ${why}`);
    this.close();
  }
}
