/**
 * The channel on which the back-end asks the front-end ("Back-end communication"): a socket that the
 * front-end hands over with SET_BACKEND_REQ_FD.
 *
 * What netbe sends there are only events: config space changed, a ring was used, a ring is broken.
 * An event says nothing that the next one of its kind does not say, so that one which finds the
 * socket full is remembered as a bit and sent when there is room; nothing waits. No replies are
 * asked for, and nothing is read.
 */
import { EVF_WRITE, type MeventHandle } from '../../engine/mevent.js';
import type { Runtime } from '../../engine/runtime.js';
import { NetbeError } from '../../errors.js';
import { type Fd, fstat } from '../../sys/fd.js';
import { E } from '../../sys/libc.js';
import { sendMsg } from '../../sys/socket.js';
import { encodeMessage } from './codec.js';
import {
  VHOST_USER_BACKEND_CONFIG_CHANGE_MSG,
  VHOST_USER_BACKEND_VRING_CALL,
  VHOST_USER_BACKEND_VRING_ERR,
  VRING_STATE_BYTES,
} from './messages.js';

function vringMessage(request: number, index: number): Uint8Array {
  const state = new Uint8Array(VRING_STATE_BYTES);
  new DataView(state.buffer).setUint32(0, index, true);
  return encodeMessage(request, 0, state);
}

export class BackendChannel {
  readonly #socket: Fd;
  readonly #handle: MeventHandle;
  // every message that can be sent, made once: the calls of a ring are on the data path
  readonly #messages: readonly Uint8Array[];
  readonly #pending: boolean[];
  #pendingCount = 0;

  /** Owns `socket`. Throws EINVAL if it is none; then it stays the caller's. */
  constructor(
    runtime: Runtime,
    socket: Fd,
    readonly queueCount: number,
  ) {
    if (!fstat(socket.number).isSocket) throw new NetbeError('its descriptor is not a socket', { code: 'EINVAL' });
    const queues = Array.from({ length: queueCount }, (_, i) => i);
    this.#messages = [
      ...queues.map((i) => vringMessage(VHOST_USER_BACKEND_VRING_CALL, i)),
      ...queues.map((i) => vringMessage(VHOST_USER_BACKEND_VRING_ERR, i)),
      encodeMessage(VHOST_USER_BACKEND_CONFIG_CHANGE_MSG, 0, new Uint8Array(0)),
    ];
    this.#pending = this.#messages.map(() => false);
    this.#handle = runtime.mevent.addDisabled(socket.number, EVF_WRITE, () => this.#flush());
    this.#socket = socket;
  }

  /** Buffers of a ring were used. Data path. */
  vringCall(index: number): void {
    this.#send(index);
  }

  vringErr(index: number): void {
    this.#send(this.queueCount + index);
  }

  configChanged(): void {
    this.#send(2 * this.queueCount);
  }

  /** Idempotent. */
  close(): void {
    this.#handle.delete();
    this.#socket.close();
  }

  #send(which: number): void {
    if (this.#socket.closed || this.#pending[which]) return;
    if (this.#pendingCount === 0 && this.#write(which)) return;
    this.#pending[which] = true;
    if (this.#pendingCount++ === 0) this.#handle.enable();
  }

  /** False when the socket is full. */
  #write(which: number): boolean {
    const message = this.#messages[which]!;
    const n = sendMsg(this.#socket.number, message);
    if (n === -E.EAGAIN || n === -E.EINTR) return false;
    // A unix socket takes so short a message whole or not at all. Anything else that happens: nobody
    // listens any more, or it is no socket for messages; the connection itself will tell.
    if (n !== message.length) this.close();
    return true;
  }

  #flush(): void {
    for (let i = 0; i < this.#pending.length && this.#pendingCount > 0; i++) {
      if (!this.#pending[i]) continue;
      if (!this.#write(i)) return;
      this.#pending[i] = false;
      this.#pendingCount--;
    }
    this.#handle.disable();
  }
}
