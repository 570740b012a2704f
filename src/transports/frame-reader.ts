/**
 * Messages with a header that tells their length, from a stream socket that carries descriptors too.
 *
 * A stream has no boundaries, and descriptors arrive with the bytes they were sent with. So the
 * header is read first, then exactly its payload, never beyond: descriptors that arrive belong to
 * the message in hand, wherever in it the sender attached them.
 *
 * What breaks the framing itself (a length out of range, descriptors cut off) throws a NetbeError with
 * code EPROTO; after that nothing on the connection can be trusted.
 */
import { NetbeError } from '../errors.js';
import type { Fd } from '../sys/fd.js';
import { E, errnoText } from '../sys/libc.js';
import { NativeBuffer } from '../sys/native-buffer.js';
import { type ReceivedMessage, recvMsg } from '../sys/socket.js';

export function protocolError(message: string): NetbeError {
  return new NetbeError(message, { code: 'EPROTO' });
}

export interface FrameFormat {
  headerBytes: number;
  /** longest message, header included */
  maxBytes: number;
  /** most descriptors that a message may bring */
  maxFds: number;
  /** Bytes of the message, header included, whose header is in `view`: at most maxBytes. Throws EPROTO. */
  lengthOf(view: DataView): number;
  /** What the message is, for people, when its first `have` bytes are in `view`. */
  nameOf(view: DataView, have: number): string;
}

/** What a read came to: a message, no more bytes now, or the peer has closed. */
export type FrameResult = 'message' | 'wait' | 'closed';

/** Assembles the messages of one connection. */
export class FrameReader {
  /** what has been read of the message in hand; its contents are valid until the next read */
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView<ArrayBuffer>;
  /** bytes of the message that read() returned, header included */
  length = 0;
  readonly #format: FrameFormat;
  readonly #header: Uint8Array;
  readonly #received: ReceivedMessage = { length: 0, fds: [], truncated: false };
  #have = 0;
  #want: number;
  #fds: Fd[] = [];

  constructor(
    readonly socket: number,
    format: FrameFormat,
  ) {
    this.#format = format;
    this.bytes = new NativeBuffer(format.maxBytes).u8;
    this.view = new DataView(this.bytes.buffer);
    this.#header = this.bytes.subarray(0, format.headerBytes);
    this.#want = format.headerBytes;
  }

  /** The next message, if all of it is there. Throws EPROTO. Nothing is allocated unless descriptors come. */
  read(): FrameResult {
    const { headerBytes } = this.#format;
    for (;;) {
      const got = this.#receive();
      if (got !== 'message') return got;
      if (this.#have < this.#want) continue;
      if (this.#have === headerBytes) {
        this.#want = this.#format.lengthOf(this.view);
        if (this.#want > headerBytes) continue;
      }
      this.length = this.#have;
      this.#have = 0;
      this.#want = headerBytes;
      return 'message';
    }
  }

  /** The descriptors that came with the message, which are the caller's from now on. */
  takeFds(): readonly Fd[] {
    const fds = this.#fds;
    if (fds.length > 0) this.#fds = [];
    return fds;
  }

  /** Descriptors that came with the message and that nobody has taken. */
  get fdCount(): number {
    return this.#fds.length;
  }

  /** Closes descriptors that nobody took, or of a message that never became whole. */
  close(): void {
    if (this.#fds.length === 0) return;
    for (const fd of this.#fds) fd.close();
    this.#fds = [];
  }

  /** Bytes of a message that is not whole yet. */
  get pendingBytes(): number {
    return this.#have;
  }

  #receive(): FrameResult {
    const room = this.#have === 0 ? this.#header : this.bytes.subarray(this.#have, this.#want);
    const { maxFds } = this.#format;
    const { length, fds, truncated } = recvMsg(this.socket, room, maxFds - this.#fds.length, this.#received);
    if (fds.length > 0) this.#fds.push(...fds);
    if (truncated)
      throw protocolError(
        `${this.#format.nameOf(this.view, this.#have)}: descriptors were cut off: more than ${maxFds} came, or this process may open no more`,
      );
    if (length > 0) {
      this.#have += length;
      return 'message';
    }
    if (length === -E.EAGAIN || length === -E.EINTR) return 'wait';
    if (length === 0 || length === -E.ECONNRESET) return 'closed';
    throw protocolError(`recvmsg: ${errnoText(-length)}`);
  }
}
