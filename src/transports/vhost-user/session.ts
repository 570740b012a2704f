/**
 * One connection of one front-end: reads its requests, has each served, sends the answers.
 *
 * A request that is wrong is answered with failure where the front-end asked to be told (REPLY_ACK
 * and need_reply); otherwise the connection is closed, since the front-end would go on as if it had
 * worked. Broken framing always closes. Requests of features that were not offered are refused, or
 * ignored where nobody asked. Either way the log says which request, which value and which rule.
 */
import { EVF_READ, type MeventHandle } from '../../engine/mevent.js';
import { NetbeError } from '../../errors.js';
import type { Fd } from '../../sys/fd.js';
import { E, errnoText } from '../../sys/libc.js';
import { sendMsg } from '../../sys/socket.js';
import { protocolError } from '../frame-reader.js';
import { faultText } from '../socket-port.js';
import { Backend, type BackendOptions } from './backend.js';
import { encodeMessage, type Message, MessageReader } from './codec.js';
import {
  type RequestRule,
  requestName,
  requestRules,
  VHOST_USER_PROTOCOL_F_REPLY_ACK,
  VHOST_USER_REPLY_MASK,
} from './messages.js';
import { handlers, u64Payload } from './requests.js';

/** messages served before other connections get their turn */
const MESSAGES_PER_WAKE = 32;

export interface SessionOptions extends BackendOptions {
  /** owned by the session */
  socket: Fd;
  /** called once, after everything is released; `fault` is what the front-end did wrong, if anything */
  onClose: (fault: string | undefined) => void;
}

export class Session {
  readonly backend: Backend;
  readonly #socket: Fd;
  readonly #reader: MessageReader;
  readonly #handle: MeventHandle;
  readonly #onClose: (fault: string | undefined) => void;
  readonly #warn: (message: string) => void;
  #closed = false;

  constructor(options: SessionOptions) {
    this.#socket = options.socket;
    this.#onClose = options.onClose;
    this.#warn = options.warn;
    this.#reader = new MessageReader(options.socket.number);
    this.#handle = options.runtime.mevent.add(options.socket.number, EVF_READ, () => this.#onReadable());
    this.backend = new Backend(options);
  }

  /** Stops the rings, lets go of the guest's memory and of every descriptor. Idempotent. */
  close(fault?: string): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#handle.delete();
    this.backend.close();
    this.#reader.close();
    this.#socket.close();
    this.#onClose(fault);
  }

  #onReadable(): void {
    try {
      for (let i = 0; i < MESSAGES_PER_WAKE && !this.#closed; i++) {
        const message = this.#reader.read();
        if (message === 'wait') return;
        if (message === 'closed') {
          const pending = this.#reader.pendingBytes;
          this.close(pending > 0 ? `closed in the middle of a message, after ${pending} bytes` : undefined);
          return;
        }
        this.#serve(message);
      }
    } catch (error) {
      this.close(faultText(error));
    }
  }

  #serve(message: Message): void {
    try {
      if (message.isReply) throw protocolError('the reply flag is set in a request');
      const rule = requestRules.get(message.request);
      if (!rule) this.#refuseUnsupported(message);
      else this.#answer(message, rule);
    } catch (error) {
      this.#fail(message, error);
    } finally {
      message.close();
    }
  }

  #answer(message: Message, rule: RequestRule): void {
    checkShape(message, rule, this.backend);
    const handler = handlers.get(message.request);
    const reply = handler?.(this.backend, message);
    if (reply) {
      try {
        this.#reply(message.request, reply.payload, reply.fd);
      } finally {
        reply.fd?.close();
      }
    } else if (this.#wantsAck(message)) this.#reply(message.request, u64Payload(0n));
  }

  #refuseUnsupported(message: Message): void {
    this.#warn(`${requestName(message.request)} is not supported: ${this.#wantsAck(message) ? 'refused' : 'ignored'}`);
    if (this.#wantsAck(message)) this.#reply(message.request, u64Payload(1n));
  }

  #fail(message: Message, error: unknown): void {
    const text = `${describe(message)}: ${faultText(error)}`;
    const broken = error instanceof NetbeError && error.code === 'EPROTO';
    if (broken || requestRules.get(message.request)?.replies || !this.#wantsAck(message)) {
      this.close(text);
      return;
    }
    this.#warn(`${text}; refused`);
    this.#reply(message.request, u64Payload(1n));
  }

  #wantsAck(message: Message): boolean {
    return message.needReply && this.backend.has(VHOST_USER_PROTOCOL_F_REPLY_ACK);
  }

  #reply(request: number, payload: Uint8Array, fd?: Fd): void {
    if (this.#closed) return;
    const bytes = encodeMessage(request, VHOST_USER_REPLY_MASK, payload);
    const n = sendMsg(this.#socket.number, bytes, fd ? [fd.number] : []);
    if (n === bytes.length) return;
    if (n === -E.EPIPE || n === -E.ECONNRESET) this.close();
    else if (n === -E.EAGAIN || n >= 0) this.close(`${requestName(request)}: the front-end does not read its replies`);
    else this.close(`${requestName(request)}: sendmsg: ${errnoText(-n)}`);
  }
}

/** The request, and the queue where it is about one, for people. */
function describe(message: Message): string {
  const name = requestName(message.request);
  if (!/VRING/.test(name) || message.payload.length < 8) return name;
  // KICK, CALL and ERR keep flags above the index
  return `${name} queue ${/^SET_VRING_(KICK|CALL|ERR)$/.test(name) ? message.u32(0) & 0xff : message.u32(0)}`;
}

function checkShape(message: Message, rule: RequestRule, backend: Backend): void {
  const refuse = (why: string): never => {
    throw new NetbeError(why, { code: 'EINVAL' });
  };
  if (rule.needs !== undefined && !backend.has(rule.needs))
    refuse(`needs protocol feature bit ${rule.needs}, which was not negotiated`);
  const [least, most] = rule.payload;
  const { length } = message.payload;
  if (length < least || length > most)
    refuse(`payload of ${length} bytes, it has ${least === most ? least : `${least} to ${most}`}`);
  const [fewest, limit] = rule.fds;
  const count = message.fdCount;
  if (count < fewest || count > limit)
    refuse(`${count} descriptors came with it, it has ${fewest === limit ? fewest : `${fewest} to ${limit}`}`);
}
