/**
 * The client's end of a port socket: one request at a time, each with its answer. It blocks its thread while it
 * waits, as an ioctl would; so it must not be the thread that the fabric runs in.
 */
import { NetbeError } from '../../errors.js';
import { EPOLLIN, Epoll } from '../../sys/epoll.js';
import type { Fd } from '../../sys/fd.js';
import { E } from '../../sys/libc.js';
import { connectUnix, recvMsg, sendMsg } from '../../sys/socket.js';
import {
  encodeMessage,
  isObject,
  MessageReader,
  PORT_PROTOCOL_VERSION,
  protocolError,
  REGISTER_FDS,
  type RequestType,
} from './messages.js';

/** milliseconds that a fabric has for an answer */
const ANSWER_MS = 10_000;

export interface Reply {
  body: Record<string, unknown>;
  /** whoever takes them closes them */
  fds: Fd[];
}

export class PortConnection {
  readonly #socket: Fd;
  readonly #epoll: Epoll;
  readonly #reader = new MessageReader();

  /** Connects, or throws: ENOENT and ECONNREFUSED where no fabric serves `path`. */
  constructor(readonly path: string) {
    this.#socket = connectUnix(path);
    try {
      this.#epoll = new Epoll(1);
      this.#epoll.add(this.#socket.number, EPOLLIN, 0);
    } catch (error) {
      this.#socket.close();
      throw error;
    }
  }

  /** It becomes readable when the fabric has gone. */
  get fd(): number {
    return this.#socket.number;
  }

  /** Throws what the fabric answers, and EPIPE, ETIMEDOUT or EPROTO where it does not. */
  request(type: RequestType, name = '', body: object = {}): Reply {
    const bytes = encodeMessage({ version: PORT_PROTOCOL_VERSION, type, name, body });
    // one answer is awaited at a time: a request always fits the socket's buffer
    if (sendMsg(this.#socket.number, bytes) !== bytes.length) throw this.#gone();
    const fds: Fd[] = [];
    try {
      return { body: bodyOf(this.#answer(fds)), fds };
    } catch (error) {
      for (const fd of fds) fd.close();
      throw error;
    }
  }

  /** Idempotent. The port of this connection goes. */
  close(): void {
    this.#epoll.close();
    this.#socket.close();
  }

  #answer(fds: Fd[]): unknown {
    for (;;) {
      const message = this.#reader.next();
      if (message !== undefined) return message;
      const got = recvMsg(this.#socket.number, this.#reader.space, REGISTER_FDS);
      fds.push(...got.fds);
      if (got.length > 0) this.#reader.received(got.length);
      else if (got.length === -E.EAGAIN) this.#wait();
      else if (got.length !== -E.EINTR) throw this.#gone();
    }
  }

  #wait(): void {
    const until = performance.now() + ANSWER_MS;
    // a signal ends a wait early
    while (this.#epoll.wait(Math.max(0, Math.ceil(until - performance.now()))) === 0)
      if (performance.now() >= until)
        throw new NetbeError(`the fabric at ${this.path} did not answer within ${ANSWER_MS / 1000} s`, {
          code: 'ETIMEDOUT',
          subject: this.path,
          remedy: 'A fabric cannot answer the thread that it runs in: open the port in another thread.',
        });
  }

  #gone(): NetbeError {
    return new NetbeError(`the fabric at ${this.path} has closed the connection`, {
      code: 'EPIPE',
      subject: this.path,
    });
  }
}

function bodyOf(message: unknown): Record<string, unknown> {
  if (isObject(message) && message.ok === true && isObject(message.body)) return message.body;
  if (isObject(message) && message.ok === false && isObject(message.error)) {
    const { error } = message;
    if (typeof error.message === 'string' && typeof error.code === 'string')
      throw NetbeError.fromJSON({ ...error, message: error.message, code: error.code });
  }
  throw protocolError('the fabric answers with what is no answer');
}
