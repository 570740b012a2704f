/** The client's end of a port socket, byte by byte, beside a server that runs in the same thread. */

import { encodeMessage, MessageReader, PORT_PROTOCOL_VERSION } from '../../src/netmap/port-socket/messages.js';
import { PortSocketServer } from '../../src/netmap/port-socket/server.js';
import { NetmapService } from '../../src/netmap/port-socket/service.js';
import type { Fd } from '../../src/sys/fd.js';
import { E } from '../../src/sys/libc.js';
import { connectUnix, recvMsg, sendMsg } from '../../src/sys/socket.js';
import { type TestRuntime, testRuntime } from './runtime.js';

export interface RawReply {
  ok: boolean;
  body: Record<string, unknown>;
  error: { code: string; message: string };
  fds: Fd[];
}

export class PortServerRig {
  readonly runtime: TestRuntime;
  readonly server: PortSocketServer;

  constructor(path: string) {
    const runtime = testRuntime();
    this.runtime = runtime;
    this.server = new PortSocketServer({ runtime, path, makeService: () => new NetmapService(runtime) });
  }

  connect(): RawPortClient {
    return new RawPortClient(this);
  }

  /** Serves what there is to do. */
  step(): void {
    for (let i = 0; i < 8; i++) this.runtime.loop.step(0);
  }

  close(): void {
    this.server.close();
    this.runtime.close();
  }
}

export class RawPortClient {
  readonly #rig: PortServerRig;
  readonly #socket: Fd;
  readonly #reader = new MessageReader();
  readonly #fds: Fd[] = [];
  /** the server has ended the connection */
  ended = false;

  constructor(rig: PortServerRig) {
    this.#rig = rig;
    this.#socket = connectUnix(rig.server.path);
    rig.step();
  }

  /** Sends bytes as they are; descriptors with the first. */
  send(bytes: Uint8Array, fds: readonly number[] = []): number {
    const sent = sendMsg(this.#socket.number, bytes, fds);
    this.#rig.step();
    return sent;
  }

  /** The next answer; undefined when there is none, or the connection has ended. */
  receive(): RawReply | undefined {
    for (;;) {
      const message = this.#reader.next();
      if (message !== undefined) return { ...(message as RawReply), fds: this.#fds.splice(0) };
      const got = recvMsg(this.#socket.number, this.#reader.space, 16);
      this.#fds.push(...got.fds);
      if (got.length > 0) this.#reader.received(got.length);
      else {
        this.ended ||= got.length !== -E.EAGAIN;
        return undefined;
      }
    }
  }

  ask(type: string, name = '', body: object = {}): RawReply {
    this.send(encodeMessage({ version: PORT_PROTOCOL_VERSION, type, name, body }));
    const reply = this.receive();
    if (reply === undefined) throw new Error(`no answer to ${type}${this.ended ? ': the connection has ended' : ''}`);
    return reply;
  }

  close(): void {
    for (const fd of this.#fds) fd.close();
    this.#socket.close();
    this.#rig.step();
  }
}
