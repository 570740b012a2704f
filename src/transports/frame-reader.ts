/**
 * Messages with a header that tells their length, from a stream socket that carries descriptors too.
 *
 * Short messages are read several at a time. A stream has no boundaries, but a read that brings descriptors ends with
 * the bytes they were sent with (unix(7)): so they belong to the message that the last byte of the read is of,
 * wherever in it the sender attached them.
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

/** Bytes asked for at once: some two dozen register accesses */
const READ_AHEAD = 1024;

/** Assembles the messages of one connection. */
export class FrameReader {
  /** what has been read of the message in hand; its contents are valid until the next read */
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView<ArrayBuffer>;
  /** bytes of the message that read() returned, header included; what lies behind it is of the next */
  length = 0;
  readonly #format: FrameFormat;
  readonly #ahead: Uint8Array;
  readonly #received: ReceivedMessage = { length: 0, fds: [], truncated: false };
  /** bytes that are there, the message that was returned last among them */
  #have = 0;
  /** the last read found all there was: the socket is asked again at the next poll, not in this one */
  #drained = false;
  /** of the message that was returned */
  #fds: Fd[] = [];
  /** of a message that was not yet, and where the read ended that brought them */
  #nextFds: Fd[] = [];
  #nextFdsEnd = 0;

  constructor(
    readonly socket: number,
    format: FrameFormat,
  ) {
    this.#format = format;
    this.bytes = new NativeBuffer(Math.max(format.maxBytes, READ_AHEAD)).u8;
    this.view = new DataView(this.bytes.buffer);
    this.#ahead = this.bytes.subarray(0, READ_AHEAD);
  }

  /** The next message, if all of it is there. Throws EPROTO. Nothing is allocated unless descriptors come. */
  read(): FrameResult {
    this.#shift();
    const { headerBytes } = this.#format;
    for (;;) {
      const want = this.#have < headerBytes ? headerBytes : this.#format.lengthOf(this.view);
      if (this.#have >= want && this.#have >= headerBytes) {
        this.length = want;
        this.#handOver();
        return 'message';
      }
      if (this.#drained) {
        this.#drained = false;
        return 'wait';
      }
      const got = this.#receive(want);
      if (got !== 'message') return got;
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

  /** Closes descriptors of the message that nobody took. */
  release(): void {
    if (this.#fds.length === 0) return;
    for (const fd of this.#fds) fd.close();
    this.#fds = [];
  }

  /** Closes all descriptors that nobody took, those of messages that never became whole among them. */
  close(): void {
    this.release();
    for (const fd of this.#nextFds) fd.close();
    this.#nextFds = [];
  }

  /** Bytes of a message that is not whole yet. */
  get pendingBytes(): number {
    return this.#have - this.length;
  }

  /** The message in hand is done with: what follows it moves to its place. */
  #shift(): void {
    const { length } = this;
    if (length === 0) return;
    if (this.#have > length) this.bytes.copyWithin(0, length, this.#have);
    this.#have -= length;
    this.#nextFdsEnd -= length;
    this.length = 0;
  }

  /** Descriptors become those of the message in hand if the read that brought them ended in it. */
  #handOver(): void {
    if (this.#nextFds.length === 0 || this.#nextFdsEnd > this.length) return;
    this.#fds.push(...this.#nextFds);
    this.#nextFds = [];
  }

  #receive(want: number): FrameResult {
    const have = this.#have;
    // not beyond a message that has descriptors already: the next one may bring its own
    const end = this.#nextFds.length > 0 ? want : Math.max(want, READ_AHEAD);
    const room = have === 0 && end === READ_AHEAD ? this.#ahead : this.bytes.subarray(have, end);
    const { maxFds } = this.#format;
    const { length, fds, truncated } = recvMsg(this.socket, room, maxFds - this.#nextFds.length, this.#received);
    if (fds.length > 0) {
      this.#nextFds.push(...fds);
      this.#nextFdsEnd = have + length;
    }
    if (truncated)
      throw protocolError(
        `${this.#format.nameOf(this.view, have)}: descriptors were cut off: more than ${maxFds} came, or this process may open no more`,
      );
    if (length > 0) {
      this.#have += length;
      // a read ends with descriptors, whatever waits behind them
      this.#drained = length < room.length && fds.length === 0;
      return 'message';
    }
    if (length === -E.EAGAIN || length === -E.EINTR) return 'wait';
    if (length === 0 || length === -E.ECONNRESET) return 'closed';
    throw protocolError(`recvmsg: ${errnoText(-length)}`);
  }
}
