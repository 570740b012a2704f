/**
 * The second socket of a connection (spec: "VFIO_USER_VERSION", twin_socket): the server's commands and their replies.
 * The other one then carries the client's commands alone.
 */
import { EVF_READ, type MeventHandle } from '../../engine/mevent.js';
import type { Fd } from '../../sys/fd.js';
import { FrameReader, protocolError } from '../frame-reader.js';
import { messageFormat } from './message-format.js';
import { MessageWriter, type MessageWriterOptions } from './message-writer.js';
import * as M from './messages.js';

export interface TwinSocketOptions extends Omit<MessageWriterOptions, 'socket'> {
  /** there is something to read, or the other end is closed */
  onReadable: () => void;
}

export class TwinSocket {
  readonly writer: MessageWriter;
  readonly #socket: Fd;
  readonly #reader: FrameReader;
  readonly #handle: MeventHandle;

  /** `socket` is this object's, and closed with it. */
  constructor(socket: Fd, options: TwinSocketOptions) {
    this.#socket = socket;
    this.#reader = new FrameReader(socket.number, messageFormat);
    this.#handle = options.mevent.addDisabled(socket.number, EVF_READ, options.onReadable);
    this.writer = new MessageWriter({ ...options, socket: socket.number });
  }

  /** Calls back when there is something to read. */
  enable(): void {
    this.#handle.enable();
  }

  disable(): void {
    this.#handle.disable();
  }

  /** The next reply, valid until the next call; or why there is none. Throws EPROTO. */
  read(): Uint8Array | 'wait' | 'closed' {
    const reader = this.#reader;
    const got = reader.read();
    if (got !== 'message') return got;
    const name = M.commandName(reader.view.getUint16(M.HEADER_COMMAND, true));
    if ((reader.view.getUint32(M.HEADER_FLAGS, true) & M.VFIO_USER_F_TYPE_MASK) !== M.VFIO_USER_F_TYPE_REPLY)
      throw protocolError(`${name}: a command on the second socket, which is for replies`);
    if (reader.fdCount > 0) throw protocolError(`${name}: descriptors came with a reply`);
    return reader.bytes.subarray(0, reader.length);
  }

  close(): void {
    this.#handle.delete();
    this.writer.close();
    this.#reader.close();
    this.#socket.close();
  }
}
