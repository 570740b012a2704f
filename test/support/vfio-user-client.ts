/**
 * The client's side of a vfio-user connection, for tests, fuzzing and benches: sends any message or any
 * bytes, and waits for replies while somebody steps the server. Written from the specification, and not
 * with the server's own codec.
 */
import assert from 'node:assert/strict';
import type { Fd } from '../../src/sys/fd.js';
import { connectUnix, recvMsg, sendMsg } from '../../src/sys/socket.js';
import type { ClientMemory } from './vfio-user-memory.js';
import { type Step, stepUntil } from './vhost-user-client.js';

export const CMD = {
  VERSION: 1,
  DMA_MAP: 2,
  DMA_UNMAP: 3,
  DEVICE_GET_INFO: 4,
  DEVICE_GET_REGION_INFO: 5,
  DEVICE_GET_REGION_IO_FDS: 6,
  DEVICE_GET_IRQ_INFO: 7,
  DEVICE_SET_IRQS: 8,
  REGION_READ: 9,
  REGION_WRITE: 10,
  DMA_READ: 11,
  DMA_WRITE: 12,
  DEVICE_RESET: 13,
  DIRTY_PAGES: 14,
  REGION_WRITE_MULTI: 15,
  DEVICE_FEATURE: 16,
  MIG_DATA_READ: 17,
  MIG_DATA_WRITE: 18,
} as const;

export const F_REPLY = 0x1;
export const F_NO_REPLY = 0x10;
export const F_ERROR = 0x20;

export const IRQ = { NONE: 1, BOOL: 2, EVENTFD: 4, MASK: 8, UNMASK: 16, TRIGGER: 32 } as const;

/** What QEMU 11 proposes. */
export const QEMU_CAPABILITIES = {
  capabilities: {
    max_msg_fds: 16,
    max_data_xfer_size: 1048576,
    max_dma_maps: 65535,
    pgsizes: 4096,
    migration: { pgsize: 4096, max_bitmap_size: 268435456 },
    write_multiple: true,
  },
};

export interface Reply {
  id: number;
  command: number;
  flags: number;
  errno: number;
  payload: Buffer;
  /** all of it */
  message: Buffer;
  fds: readonly Fd[];
}

export interface SendOptions {
  fds?: readonly Fd[];
  flags?: number;
  id?: number;
  /** instead of that of the message */
  size?: number;
}

/** Values one after the other: u32 as numbers, u64 as bigints, bytes as they are. */
export function bytes(...values: (number | bigint | Uint8Array | string)[]): Buffer {
  return Buffer.concat(
    values.map((value) => {
      if (typeof value === 'string') return Buffer.from(value);
      if (value instanceof Uint8Array) return Buffer.from(value);
      const out = Buffer.alloc(typeof value === 'bigint' ? 8 : 4);
      if (typeof value === 'bigint') out.writeBigUInt64LE(BigInt.asUintN(64, value));
      else out.writeUInt32LE(value >>> 0);
      return out;
    }),
  );
}

export function versionPayload(json: unknown = QEMU_CAPABILITIES, major = 0, minor = 0): Buffer {
  const version = Buffer.alloc(4);
  version.writeUInt16LE(major, 0);
  version.writeUInt16LE(minor, 2);
  const text = json === undefined ? '' : `${typeof json === 'string' ? json : JSON.stringify(json)}\0`;
  return Buffer.concat([version, Buffer.from(text)]);
}

export class VfioUserClient {
  /** answers DMA requests of the server; without it they are messages like any other */
  memory: ClientMemory | undefined;
  /** the second socket, once VERSION has brought one: `memory` answers there */
  twin: VfioUserClient | undefined;
  #id = 1;
  #received = Buffer.alloc(0);
  #fds: Fd[] = [];
  /** that nobody has asked for yet */
  readonly #inbox: Reply[] = [];
  #closed = false;
  readonly #buffer = new Uint8Array(new ArrayBuffer(1 << 18));

  constructor(
    readonly socket: Fd,
    readonly step: Step,
  ) {}

  static connect(path: string, step: Step): VfioUserClient {
    return new VfioUserClient(connectUnix(path), step);
  }

  /** Any bytes at all. Returns what sendmsg took, or -errno. */
  sendBytes(data: Uint8Array, fds: readonly Fd[] = []): number {
    const copy = new Uint8Array(new ArrayBuffer(data.length));
    copy.set(data);
    return sendMsg(
      this.socket.number,
      copy,
      fds.map((fd) => fd.number),
    );
  }

  /** Returns the message ID. */
  send(command: number, payload: Uint8Array = new Uint8Array(0), options: SendOptions = {}): number {
    const { id = this.#id++ & 0xffff, flags = 0, fds = [], size = 16 + payload.length } = options;
    const message = Buffer.alloc(16 + payload.length);
    message.writeUInt16LE(id, 0);
    message.writeUInt16LE(command, 2);
    message.writeUInt32LE(size, 4);
    message.writeUInt32LE(flags, 8);
    message.set(payload, 16);
    assert.equal(this.sendBytes(message, fds), message.length, 'the socket takes the message');
    return id;
  }

  /** The next message of the server; undefined when it has closed. */
  receive(): Reply | undefined {
    let reply: Reply | undefined;
    stepUntil(
      this.step,
      () => {
        this.serve();
        reply = this.#inbox.shift();
        return reply !== undefined || this.#closed;
      },
      'a reply, or the end of the connection',
    );
    return reply;
  }

  /** Reads what has come, and answers DMA requests. */
  serve(): void {
    if (this.#closed) return;
    if (this.twin !== undefined) {
      this.twin.memory = this.memory;
      this.twin.serve();
    }
    const { length, fds } = recvMsg(this.socket.number, this.#buffer, 16);
    this.#fds.push(...fds);
    if (length > 0) this.#received = Buffer.concat([this.#received, this.#buffer.subarray(0, length)]);
    else if (length === 0 || length === -104) this.#closed = true;
    for (let reply = this.#take(); reply !== undefined; reply = this.#take()) this.#sort(reply);
  }

  #sort(reply: Reply): void {
    const { memory } = this;
    if (reply.command === CMD.VERSION && reply.fds.length > 0) {
      const { twin_socket } = JSON.parse(reply.payload.subarray(4, -1).toString()).capabilities;
      this.twin = new VfioUserClient(reply.fds[twin_socket.fd_index]!, this.step);
    }
    if (memory === undefined || (reply.flags & 0xf) === F_REPLY) {
      this.#inbox.push(reply);
      return;
    }
    const answer = memory.take(reply.message);
    if (answer === 'hang up') {
      this.#closed = true;
      this.close();
    } else for (const message of answer) this.sendBytes(message);
  }

  /** Steps the server and answers its DMA requests until `done`. */
  serveUntil(done: () => boolean, what: string): void {
    stepUntil(
      this.step,
      () => {
        this.serve();
        return done();
      },
      what,
    );
  }

  #take(): Reply | undefined {
    const data = this.#received;
    if (data.length < 16) return undefined;
    const size = data.readUInt32LE(4);
    if (data.length < size) return undefined;
    this.#received = data.subarray(size);
    return {
      message: data.subarray(0, size),
      id: data.readUInt16LE(0),
      command: data.readUInt16LE(2),
      flags: data.readUInt32LE(8),
      errno: data.readUInt32LE(12),
      payload: data.subarray(16, size),
      fds: this.#fds.splice(0),
    };
  }

  /** Sends a command and checks the header of its reply. */
  ask(command: number, payload?: Uint8Array, options: SendOptions = {}): Reply {
    const id = this.send(command, payload, options);
    const reply = this.receive();
    assert.ok(reply, `the connection ended instead of a reply to command ${command}`);
    assert.equal(reply.id, id, 'the message ID is echoed');
    assert.equal(reply.command, command, 'the command is echoed');
    assert.equal(reply.flags & 0xf, F_REPLY);
    if ((reply.flags & F_ERROR) !== 0) assert.equal(reply.payload.length, 0, 'an error is a header only');
    else assert.equal(reply.errno, 0);
    return reply;
  }

  /** Sends a command that works; its payload. */
  get(command: number, payload?: Uint8Array, options?: SendOptions): Buffer {
    const reply = this.ask(command, payload, options);
    assert.equal(reply.flags, F_REPLY, `command ${command} works (errno ${reply.errno})`);
    return reply.payload;
  }

  /** Sends a command that is refused; its errno. */
  errno(command: number, payload?: Uint8Array, options?: SendOptions): number {
    const reply = this.ask(command, payload, options);
    assert.equal(reply.flags, F_REPLY | F_ERROR, `command ${command} is refused`);
    return reply.errno;
  }

  /** Whether the server ends the connection without a further message. */
  endsHere(): boolean {
    return this.receive() === undefined;
  }

  /** Everything sent so far has been served, and the connection stands. */
  sync(): void {
    this.get(CMD.DEVICE_GET_INFO, bytes(16, 0, 0, 0));
  }

  version(json: unknown = QEMU_CAPABILITIES): Buffer {
    return this.get(CMD.VERSION, versionPayload(json));
  }

  readRegion(region: number, off: number | bigint, count: number): Buffer {
    const payload = this.get(CMD.REGION_READ, bytes(BigInt(off), region, count));
    assert.deepEqual(payload.subarray(0, 16), bytes(BigInt(off), region, count));
    assert.equal(payload.length, 16 + count);
    return payload.subarray(16);
  }

  writeRegion(region: number, off: number | bigint, data: Uint8Array): void {
    const head = bytes(BigInt(off), region, data.length);
    assert.deepEqual(this.get(CMD.REGION_WRITE, Buffer.concat([head, data])), head);
  }

  /** Without a reply, as QEMU posts writes to memory BARs. */
  postRegion(region: number, off: number | bigint, data: Uint8Array): void {
    this.send(CMD.REGION_WRITE, Buffer.concat([bytes(BigInt(off), region, data.length), data]), { flags: F_NO_REPLY });
  }

  read32(region: number, off: number): number {
    return this.readRegion(region, off, 4).readUInt32LE(0);
  }

  write32(region: number, off: number, value: number): void {
    this.writeRegion(region, off, bytes(value));
  }

  close(): void {
    for (const fd of this.#fds.splice(0)) fd.close();
    this.twin?.close();
    this.socket.close();
  }
}

export function dmaMap(gpa: number | bigint, size: number | bigint, offset: number | bigint = 0, flags = 3): Buffer {
  return bytes(32, flags, BigInt(offset), BigInt(gpa), BigInt(size));
}

export function dmaUnmap(gpa: number | bigint, size: number | bigint, flags = 0): Buffer {
  return bytes(24, flags, BigInt(gpa), BigInt(size));
}

export function irqSet(
  flags: number,
  index: number,
  start: number,
  count: number,
  data: Uint8Array = new Uint8Array(0),
): Buffer {
  return bytes(20 + data.length, flags, index, start, count, data);
}
