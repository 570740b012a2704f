/**
 * The front-end's side of a vhost-user connection, for tests and fuzzing: sends any message or any
 * bytes, and waits for answers while somebody steps the back-end (the same process) or sleeps a
 * little (another process).
 */
import assert from 'node:assert/strict';
import type { Fd } from '../../src/sys/fd.js';
import { connectUnix, recvMsg, sendMsg } from '../../src/sys/socket.js';
import { encodeMessage, type Message, MessageReader } from '../../src/transports/vhost-user/codec.js';
import * as M from '../../src/transports/vhost-user/messages.js';

/** Gives the other side a chance to run. */
export type Step = () => void;

const sleeper = new Int32Array(new SharedArrayBuffer(4));

/** For a back-end in another process. */
export function sleepStep(): void {
  Atomics.wait(sleeper, 0, 0, 1);
}

const MAX_STEPS = 5000;

/** Steps until `done`; fails the test with `what` if that never happens. */
export function stepUntil(step: Step, done: () => boolean, what: string): void {
  for (let i = 0; i < MAX_STEPS; i++) {
    if (done()) return;
    step();
  }
  assert.fail(`never happened: ${what}`);
}

export interface SendOptions {
  fds?: readonly Fd[];
  needReply?: boolean;
  /** instead of version and need_reply */
  flags?: number;
}

export class VhostUserClient {
  readonly socket: Fd;
  readonly step: Step;
  readonly #reader: MessageReader;
  #closed = false;

  constructor(socket: Fd, step: Step) {
    this.socket = socket;
    this.step = step;
    this.#reader = new MessageReader(socket.number);
  }

  static connect(path: string, step: Step): VhostUserClient {
    return new VhostUserClient(connectUnix(path), step);
  }

  /** Any bytes at all. Returns what sendmsg took, or -errno. */
  sendBytes(bytes: Uint8Array, fds: readonly Fd[] = []): number {
    return sendMsg(
      this.socket.number,
      new Uint8Array(Uint8Array.from(bytes).buffer),
      fds.map((fd) => fd.number),
    );
  }

  send(request: number, payload: Uint8Array = new Uint8Array(0), options: SendOptions = {}): void {
    const { fds = [], needReply = false } = options;
    const bytes = encodeMessage(request, needReply ? M.VHOST_USER_NEED_REPLY_MASK : 0, payload);
    if (options.flags !== undefined) new DataView(bytes.buffer).setUint32(4, options.flags, true);
    assert.equal(this.sendBytes(bytes, fds), bytes.length, 'the socket takes the message');
  }

  /** The next message of the other side; undefined when it has closed. */
  receive(): Message | undefined {
    let got: Message | 'wait' | 'closed' = 'wait';
    stepUntil(
      this.step,
      () => {
        got = this.#read();
        return got !== 'wait';
      },
      'an answer, or the end of the connection',
    );
    return (got as Message | 'closed') === 'closed' ? undefined : (got as unknown as Message);
  }

  #read(): Message | 'wait' | 'closed' {
    if (this.#closed) return 'closed';
    const got = this.#reader.read();
    if (got === 'closed') this.#closed = true;
    return got;
  }

  /** Sends a request that is answered, and checks the answer's header. */
  ask(request: number, payload?: Uint8Array, options: SendOptions = {}): Message {
    this.send(request, payload, options);
    const reply = this.receive();
    assert.ok(reply, `the connection ended instead of an answer to ${M.requestName(request)}`);
    assert.equal(reply.request, request);
    assert.equal(reply.flags, M.VHOST_USER_VERSION | M.VHOST_USER_REPLY_MASK);
    return reply;
  }

  askU64(request: number, payload?: Uint8Array): bigint {
    const reply = this.ask(request, payload);
    assert.equal(reply.payload.length, 8);
    return reply.u64(0);
  }

  /** Sends with need_reply; true if the back-end says that it worked. */
  acked(request: number, payload?: Uint8Array, fds: readonly Fd[] = []): boolean {
    const reply = this.ask(request, payload, { fds, needReply: true });
    assert.equal(reply.payload.length, 8);
    return reply.u64(0) === 0n;
  }

  /** Whether the other side ends the connection without a further message. */
  endsHere(): boolean {
    return this.receive() === undefined;
  }

  /** Everything sent so far has been served, and the connection stands. */
  sync(): void {
    this.askU64(M.VHOST_USER_GET_FEATURES);
  }

  close(): void {
    this.#reader.close();
    this.socket.close();
  }
}

// ---- payloads ----

export function u64(value: bigint | number): Uint8Array {
  const view = new DataView(new ArrayBuffer(8));
  view.setBigUint64(0, BigInt(value), true);
  return new Uint8Array(view.buffer);
}

export function vringState(index: number, num: number): Uint8Array {
  const view = new DataView(new ArrayBuffer(8));
  view.setUint32(0, index, true);
  view.setUint32(4, num, true);
  return new Uint8Array(view.buffer);
}

function u64s(...values: (bigint | number)[]): Uint8Array {
  return Buffer.concat(values.map(u64));
}

export interface Region {
  gpa: bigint | number;
  size: bigint | number;
  userAddr: bigint | number;
  mmapOffset: bigint | number;
}

/** `room`: regions that the payload has room for; user-mode-linux sends one more than it fills. */
export function memoryTable(regions: readonly Region[], room = regions.length): Uint8Array {
  const bytes = new Uint8Array(8 + 32 * room);
  new DataView(bytes.buffer).setUint32(0, regions.length, true);
  regions.forEach((r, i) => {
    bytes.set(u64s(r.gpa, r.size, r.userAddr, r.mmapOffset), 8 + 32 * i);
  });
  return bytes;
}

export function singleRegion(r: Region): Uint8Array {
  return u64s(0, r.gpa, r.size, r.userAddr, r.mmapOffset);
}

export interface RingAddresses {
  desc: bigint | number;
  used: bigint | number;
  avail: bigint | number;
}

export function vringAddr(index: number, a: RingAddresses, flags = 0): Uint8Array {
  return Buffer.concat([vringState(index, flags), u64s(a.desc, a.used, a.avail, 0)]);
}

export function configMessage(offset: number, size: number, flags = 0, bytes = new Uint8Array(size)): Uint8Array {
  const view = new DataView(new ArrayBuffer(12));
  view.setUint32(0, offset, true);
  view.setUint32(4, size, true);
  view.setUint32(8, flags, true);
  return Buffer.concat([new Uint8Array(view.buffer), bytes]);
}

export function inflightMessage(
  mmapSize: number,
  mmapOffset: number,
  queues: number,
  size: number,
  length = 24,
): Uint8Array {
  const view = new DataView(new ArrayBuffer(24));
  view.setBigUint64(0, BigInt(mmapSize), true);
  view.setBigUint64(8, BigInt(mmapOffset), true);
  view.setUint16(16, queues, true);
  view.setUint16(18, size, true);
  return new Uint8Array(view.buffer).subarray(0, length);
}

/** What waits on a plain socket, such as the back-end channel; empty when nothing does. */
export function drainSocket(socket: Fd): Uint8Array {
  const buffer = new Uint8Array(new ArrayBuffer(4096));
  const { length } = recvMsg(socket.number, buffer, 0);
  return length > 0 ? buffer.slice(0, length) : new Uint8Array(0);
}
