/**
 * A descriptor that tells the front-end something: a ring was used (SET_VRING_CALL), or is broken
 * (SET_VRING_ERR). "Each file descriptor will be used for … sending events by … writing an 8-byte
 * value": an eventfd as a rule; a pipe where there is none; a socket with user-mode-linux.
 *
 * It is made non-blocking, which whoever shares an eventfd or a pipe can undo. A front-end that does
 * that, and fills it, makes the fabric wait: netbe trusts hypervisors that far, guests not at all.
 */
import { NetbeError } from '../../errors.js';
import { eventfdWrite, isEventfd } from '../../sys/eventfd.js';
import { type Fd, fstat, setNonblock } from '../../sys/fd.js';
import { NativeBuffer } from '../../sys/native-buffer.js';
import { sendMsg } from '../../sys/socket.js';

const S_IFMT = 0o170000;
const S_IFIFO = 0o010000;

const one = new NativeBuffer(8);
one.setU64(0, 1);

export class SignalFd {
  readonly #fd: Fd;
  readonly #isSocket: boolean;

  /** Owns `fd`, also when it throws: EINVAL for a descriptor of another kind. */
  constructor(fd: Fd) {
    try {
      const { mode, isSocket } = fstat(fd.number);
      if (!isSocket && (mode & S_IFMT) !== S_IFIFO && !isEventfd(fd.number))
        throw new NetbeError('its descriptor is neither an eventfd nor a pipe nor a socket', { code: 'EINVAL' });
      setNonblock(fd.number);
      this.#isSocket = isSocket;
      this.#fd = fd;
    } catch (error) {
      fd.close();
      throw error;
    }
  }

  /** Data path. One that is full has been signalled already; one whose reader has gone needs no signal. */
  signal(): void {
    if (this.#isSocket) sendMsg(this.#fd.number, one.u8);
    else eventfdWrite(this.#fd.number);
  }

  close(): void {
    this.#fd.close();
  }
}
