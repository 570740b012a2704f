/**
 * What goes out of one socket, message by message, in order.
 *
 * A message is sent at once if nothing waits. What a full socket does not take waits here, with all that follows, until
 * the socket can be written again. Each message is a call of its own, never two in one: a socket takes the beginning of a
 * call whole, and QEMU, which reads a header in one piece or gives up, must not find half of one.
 */
import { EVF_WRITE, type Mevent, type MeventHandle } from '../../engine/mevent.js';
import type { Fd } from '../../sys/fd.js';
import { E, errnoText } from '../../sys/libc.js';
import { NativeBuffer } from '../../sys/native-buffer.js';
import { sendMsg } from '../../sys/socket.js';
import { commandName, HEADER_COMMAND, MAX_MESSAGE_BYTES } from './messages.js';

/** Bytes that may wait, beyond the 200 KiB or so that the socket holds: two of the longest replies, or thousands of registers. */
const MAX_WAITING_BYTES = 2 * MAX_MESSAGE_BYTES;

export interface MessageWriterOptions {
  mevent: Mevent;
  socket: number;
  /** all that waited has been taken */
  onDrained: () => void;
  /** nothing more can be sent; `fault` says why, unless the client has gone */
  onBroken: (fault?: string) => void;
}

export class MessageWriter {
  readonly #socket: number;
  readonly #options: MessageWriterOptions;
  readonly #handle: MeventHandle;
  /** not taken yet; of the first one perhaps the end only */
  #waiting: Uint8Array[] = [];
  #waitingBytes = 0;

  constructor(options: MessageWriterOptions) {
    this.#options = options;
    this.#socket = options.socket;
    this.#handle = options.mevent.addDisabled(options.socket, EVF_WRITE, () => this.flush());
  }

  /** Something waits for the socket: what is sent now follows it. */
  get busy(): boolean {
    return this.#waitingBytes > 0;
  }

  /** Sends a whole message, which is the caller's again on return. Data path. */
  send(message: Uint8Array): void {
    const taken = this.#waitingBytes === 0 ? sendMsg(this.#socket, message) : 0;
    if (taken === message.length) return;
    if (taken >= 0) this.#wait(message, taken);
    else if (taken === -E.EAGAIN || taken === -E.EINTR) this.#wait(message, 0);
    else this.#break(taken);
  }

  /** Sends a short message with a descriptor, which stays the caller's. Nothing waits: it is an early one. */
  sendWithFd(message: Uint8Array, fd: Fd): void {
    const taken = sendMsg(this.#socket, message, [fd.number]);
    if (taken !== message.length) this.#break(taken);
  }

  /** Sends what waits, as far as the socket takes it. */
  flush(): void {
    if (!this.busy) return;
    while (this.#waitingBytes > 0) {
      const rest = this.#waiting[0]!;
      const taken = sendMsg(this.#socket, rest);
      if (taken === -E.EAGAIN || taken === -E.EINTR) return;
      if (taken < 0) {
        this.#break(taken);
        return;
      }
      this.#waitingBytes -= taken;
      if (taken === rest.length) this.#waiting.shift();
      else this.#waiting[0] = rest.subarray(taken);
    }
    this.#handle.disable();
    this.#options.onDrained();
  }

  /** Nothing is called afterwards, and nothing may be sent. */
  close(): void {
    this.#handle.delete();
    this.#waiting = [];
    this.#waitingBytes = 0;
  }

  #wait(message: Uint8Array, taken: number): void {
    const left = message.length - taken;
    if (this.#waitingBytes + left > MAX_WAITING_BYTES) {
      const command = message[HEADER_COMMAND]! | (message[HEADER_COMMAND + 1]! << 8);
      this.#options.onBroken(`${commandName(command)}: the client does not read its replies`);
      return;
    }
    const copy = new NativeBuffer(left).u8.subarray(0, left);
    copy.set(message.subarray(taken));
    this.#waiting.push(copy);
    this.#waitingBytes += left;
    this.#handle.enable();
  }

  #break(no: number): void {
    const gone = no === -E.EPIPE || no === -E.ECONNRESET;
    this.#options.onBroken(gone ? undefined : `sendmsg: ${errnoText(-no)}`);
  }
}
