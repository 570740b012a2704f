/**
 * Messages to and from bytes on a stream socket. Framing is in ../frame-reader.ts; what breaks it here
 * (version, size) throws a NetbeError with code EPROTO: nothing on the connection can be trusted then.
 */
import { NetbeError } from '../../errors.js';
import type { Fd } from '../../sys/fd.js';
import { type FrameFormat, FrameReader, protocolError } from '../frame-reader.js';
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

function nameOf(view: DataView, have: number): string {
  return have < 4 ? 'header' : requestName(view.getUint32(0, true));
}

function lengthOf(view: DataView): number {
  const flags = view.getUint32(4, true);
  const size = view.getUint32(8, true);
  const version = flags & VHOST_USER_VERSION_MASK;
  const name = requestName(view.getUint32(0, true));
  if (version !== VHOST_USER_VERSION)
    throw protocolError(`${name}: version ${version} in its flags, only ${VHOST_USER_VERSION} exists`);
  if (size > MAX_PAYLOAD_BYTES)
    throw protocolError(`${name}: payload of ${size} bytes: more than ${MAX_PAYLOAD_BYTES} is not read`);
  return HEADER_BYTES + size;
}

const format: FrameFormat = {
  headerBytes: HEADER_BYTES,
  maxBytes: HEADER_BYTES + MAX_PAYLOAD_BYTES,
  maxFds: MAX_FDS,
  lengthOf,
  nameOf,
};

/** What a read came to, where it is not a message: no more bytes now, or the peer has closed. */
export type NoMessage = 'wait' | 'closed';

/** Assembles the messages of one connection. */
export class MessageReader {
  readonly #frames: FrameReader;

  /** `maxFds`: most descriptors that a message may bring */
  constructor(socket: number, maxFds = MAX_FDS) {
    this.#frames = new FrameReader(socket, { ...format, maxFds });
  }

  /** The next message, if all of it is there. Its payload is valid until the next read. Throws EPROTO. */
  read(): Message | NoMessage {
    const frames = this.#frames;
    const got = frames.read();
    if (got !== 'message') return got;
    const { bytes, view, length } = frames;
    const payload = bytes.subarray(HEADER_BYTES, length);
    const payloadView = new DataView(bytes.buffer, HEADER_BYTES, length - HEADER_BYTES);
    return new Message(view.getUint32(0, true), view.getUint32(4, true), payload, payloadView, frames.takeFds());
  }

  /** Closes descriptors of a message that never became whole. */
  close(): void {
    this.#frames.close();
  }

  /** Bytes of a message that is not whole yet. */
  get pendingBytes(): number {
    return this.#frames.pendingBytes;
  }
}
