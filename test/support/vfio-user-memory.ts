/**
 * The memory of a vfio-user client that shares none: it answers DMA_READ and DMA_WRITE, right or as wrong as a test wants.
 * Written from the specification, and not with the server's own codec.
 */
import assert from 'node:assert/strict';
import { bytes, CMD, F_ERROR, F_REPLY } from './vfio-user-client.js';

/** A DMA_READ or DMA_WRITE of the server. */
export interface DmaRequest {
  id: number;
  command: number;
  gpa: number;
  count: number;
  /** the whole message */
  message: Buffer;
}

/** A message of a client, each part as it should be unless given. */
export interface ReplyParts {
  id?: number;
  command?: number;
  flags?: number;
  errno?: number;
  /** instead of that of the message */
  size?: number;
  payload?: Uint8Array;
}

export class ClientMemory {
  /** the layout of older QEMU: a count of 4 bytes, right before the data, and 4 more at the end; writes get the header alone */
  shortCount = false;
  /** where guest-physical 0 is */
  readonly u8: Buffer;
  /** all that came, in order */
  readonly requests: DmaRequest[] = [];
  /** what is sent when a request comes: messages, or 'hang up' */
  onRequest: (request: DmaRequest) => readonly Uint8Array[] | 'hang up' = (request) => [this.right(request)];

  constructor(size: number) {
    this.u8 = Buffer.alloc(size);
  }

  /** Takes a message of the server that is no reply. */
  take(message: Buffer): readonly Uint8Array[] | 'hang up' {
    const request = {
      id: message.readUInt16LE(0),
      command: message.readUInt16LE(2),
      gpa: Number(message.readBigUInt64LE(16)),
      count: this.shortCount ? message.readUInt32LE(24) : Number(message.readBigUInt64LE(24)),
      message: Buffer.from(message),
    };
    this.requests.push(request);
    return this.onRequest(request);
  }

  /** Nothing is answered until the test does. */
  hold(): void {
    this.onRequest = () => [];
  }

  /** Carries a request out; the reply to it. */
  right(request: DmaRequest): Buffer {
    const { command, gpa, count, message } = request;
    assert.ok(gpa + count <= this.u8.length, `0x${gpa.toString(16)} of ${count} bytes is within the memory`);
    if (command === CMD.DMA_READ) {
      const data = this.u8.subarray(gpa, gpa + count);
      const old = () => bytes(BigInt(gpa), count, data, 0);
      return this.reply(request, { payload: this.shortCount ? old() : bytes(BigInt(gpa), BigInt(count), data) });
    }
    assert.equal(command, CMD.DMA_WRITE);
    assert.equal(message.length, 32 + count);
    this.u8.set(this.shortCount ? message.subarray(28, 28 + count) : message.subarray(32), gpa);
    return this.reply(request, this.shortCount ? {} : { payload: bytes(BigInt(gpa), count) });
  }

  /** "the reply message must only include the reply header" */
  refusal(request: DmaRequest, errno: number): Buffer {
    return this.reply(request, { flags: F_REPLY | F_ERROR, errno });
  }

  reply(request: DmaRequest, parts: ReplyParts = {}): Buffer {
    const {
      id = request.id,
      command = request.command,
      flags = F_REPLY,
      errno = 0,
      payload = new Uint8Array(0),
    } = parts;
    const size = parts.size ?? 16 + payload.length;
    const head = bytes(0, size, flags, errno);
    head.writeUInt16LE(id, 0);
    head.writeUInt16LE(command, 2);
    return Buffer.concat([head, payload]);
  }
}
