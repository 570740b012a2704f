/**
 * Messages to and from bytes on a stream socket.
 *
 * A stream has no boundaries, and descriptors arrive with the bytes they were sent with. So the
 * header is read first, then exactly its payload, never beyond: descriptors that arrive belong to
 * the message in hand, wherever in it the sender attached them.
 *
 * What breaks the framing itself (version, size, descriptors cut off) throws a NetbeError with code
 * EPROTO; after that nothing on the connection can be trusted.
 */
import { NetbeError } from '../../errors.js';
import type { Fd } from '../../sys/fd.js';
import { E, errnoText } from '../../sys/libc.js';
import { NativeBuffer } from '../../sys/native-buffer.js';
import { type ReceivedMessage, recvMsg } from '../../sys/socket.js';
import {
  HEADER_BYTES,
  MAX_FDS,
  MAX_PAYLOAD_BYTES,
  requestName,
  VHOST_USER_NEED_REPLY_MASK,
  VHOST_USER_REPLY_MASK,
  VHOST_USER_VERSION,
  VHOST_USER_VERSION_MASK,
} from './messages.js';

export function protocolError(message: string): NetbeError {
  return new NetbeError(message, { code: 'EPROTO' });
}

/** One message. It owns the descriptors that came with it until somebody takes them. */
export class Message {
  readonly #fds: (Fd | null)[];

  constructor(
    readonly request: number,
    readonly flags: number,
    readonly payload: Uint8Array,
    readonly view: DataView,
    fds: readonly Fd[],
  ) {
    this.#fds = [...fds];
  }

  get isReply(): boolean {
    return (this.flags & VHOST_USER_REPLY_MASK) !== 0;
  }

  get needReply(): boolean {
    return (this.flags & VHOST_USER_NEED_REPLY_MASK) !== 0;
  }

  get fdCount(): number {
    return this.#fds.length;
  }

  /** A descriptor that stays the message's: closed with it. */
  fd(i: number): Fd {
    const fd = this.#fds[i];
    if (!fd) throw new RangeError(`the message has no descriptor ${i}`);
    return fd;
  }

  /** Hands a descriptor over to the caller, who closes it. */
  takeFd(i: number): Fd {
    const fd = this.fd(i);
    this.#fds[i] = null;
    return fd;
  }

  /** Closes the descriptors that nobody took. */
  close(): void {
    for (const fd of this.#fds) fd?.close();
    this.#fds.length = 0;
  }

  u32(off: number): number {
    return this.view.getUint32(off, true);
  }

  u64(off: number): bigint {
    return this.view.getBigUint64(off, true);
  }

  /** A 64-bit address or length as a number. `what` names it in the EINVAL for one that no machine has. */
  address(off: number, what: string): number {
    const value = this.u32(off) + this.u32(off + 4) * 2 ** 32;
    if (Number.isSafeInteger(value)) return value;
    throw new NetbeError(`${what} 0x${this.u64(off).toString(16)} is beyond 2^53`, { code: 'EINVAL' });
  }
}

/** The bytes of a message. */
export function encodeMessage(request: number, flags: number, payload: Uint8Array): Uint8Array {
  // an ArrayBuffer of its own has a fixed address, which the FFI needs
  const bytes = new Uint8Array(new ArrayBuffer(HEADER_BYTES + payload.length));
  const view = new DataView(bytes.buffer);
  view.setUint32(0, request, true);
  view.setUint32(4, (flags & ~VHOST_USER_VERSION_MASK) | VHOST_USER_VERSION, true);
  view.setUint32(8, payload.length, true);
  bytes.set(payload, HEADER_BYTES);
  return bytes;
}

/** What a read came to, where it is not a message: no more bytes now, or the peer has closed. */
export type NoMessage = 'wait' | 'closed';

/** Assembles the messages of one connection. */
export class MessageReader {
  readonly #bytes = new NativeBuffer(HEADER_BYTES + MAX_PAYLOAD_BYTES).u8;
  readonly #view = new DataView(this.#bytes.buffer);
  readonly #received: ReceivedMessage = { length: 0, fds: [], truncated: false };
  #have = 0;
  #want = HEADER_BYTES;
  #fds: Fd[] = [];

  /** `maxFds`: most descriptors that a message may bring */
  constructor(
    readonly socket: number,
    readonly maxFds = MAX_FDS,
  ) {}

  /** The next message, if all of it is there. Its payload is valid until the next read. Throws EPROTO. */
  read(): Message | NoMessage {
    for (;;) {
      const got = this.#receive();
      if (got !== true) return got;
      if (this.#have < this.#want) continue;
      if (this.#want === HEADER_BYTES && this.#checkHeader() > 0) continue;
      return this.#takeMessage();
    }
  }

  /** Closes descriptors of a message that never became whole. */
  close(): void {
    for (const fd of this.#fds) fd.close();
    this.#fds = [];
  }

  /** Bytes of a message that is not whole yet. */
  get pendingBytes(): number {
    return this.#have;
  }

  #receive(): NoMessage | true {
    const room = this.#bytes.subarray(this.#have, this.#want);
    const { length, fds, truncated } = recvMsg(this.socket, room, this.maxFds - this.#fds.length, this.#received);
    if (fds.length > 0) this.#fds.push(...fds);
    if (truncated)
      throw protocolError(
        `${this.#where()}: descriptors were cut off: more than ${this.maxFds} came, or this process may open no more`,
      );
    if (length > 0) {
      this.#have += length;
      return true;
    }
    if (length === -E.EAGAIN || length === -E.EINTR) return 'wait';
    if (length === 0 || length === -E.ECONNRESET) return 'closed';
    throw protocolError(`recvmsg: ${errnoText(-length)}`);
  }

  #where(): string {
    return this.#have < 4 ? 'header' : requestName(this.#view.getUint32(0, true));
  }

  /** Sets what is to be read of the payload, and returns its size. */
  #checkHeader(): number {
    const flags = this.#view.getUint32(4, true);
    const size = this.#view.getUint32(8, true);
    const version = flags & VHOST_USER_VERSION_MASK;
    if (version !== VHOST_USER_VERSION)
      throw protocolError(`${this.#where()}: version ${version} in its flags, only ${VHOST_USER_VERSION} exists`);
    if (size > MAX_PAYLOAD_BYTES)
      throw protocolError(`${this.#where()}: payload of ${size} bytes: more than ${MAX_PAYLOAD_BYTES} is not read`);
    this.#want = HEADER_BYTES + size;
    return size;
  }

  #takeMessage(): Message {
    const length = this.#want - HEADER_BYTES;
    const payload = this.#bytes.subarray(HEADER_BYTES, this.#want);
    const payloadView = new DataView(this.#bytes.buffer, HEADER_BYTES, length);
    const request = this.#view.getUint32(0, true);
    const message = new Message(request, this.#view.getUint32(4, true), payload, payloadView, this.#fds);
    this.#fds = [];
    this.#have = 0;
    this.#want = HEADER_BYTES;
    return message;
  }
}
