/**
 * A descriptor that tells the front-end something: a ring was used (SET_VRING_CALL), or is broken
 * (SET_VRING_ERR). "Each file descriptor will be used for … sending events by … writing an 8-byte
 * value": an eventfd as a rule; a pipe where there is none; a socket with user-mode-linux.
 *
 * It is made non-blocking, which whoever shares an eventfd or a pipe can undo, and then make a write
 * to it wait by filling it. Where front-ends are not trusted that far (`strict`), an eventfd is
 * signalled in a way that never waits (see sys/aio.ts), and pipes are refused.
 */
import { NetbeError } from '../errors.js';
import { EventfdSignal } from '../sys/aio.js';
import { eventfdWrite, isEventfd } from '../sys/eventfd.js';
import { type Fd, fstat, setNonblock } from '../sys/fd.js';
import { NativeBuffer } from '../sys/native-buffer.js';
import { sendMsg } from '../sys/socket.js';

const S_IFMT = 0o170000;
const S_IFIFO = 0o010000;

const one = new NativeBuffer(8);
one.setU64(0, 1);

export class SignalFd {
  readonly #fd: Fd;
  readonly #isSocket: boolean;
  readonly #guarded: EventfdSignal | undefined;

  /** Owns `fd`, also when it throws: EINVAL for a descriptor of another kind. */
  constructor(fd: Fd, strict: boolean) {
    try {
      const { mode, isSocket } = fstat(fd.number);
      const isPipe = (mode & S_IFMT) === S_IFIFO;
      if (!isSocket && !isPipe && !isEventfd(fd.number))
        throw new NetbeError('its descriptor is neither an eventfd nor a pipe nor a socket', { code: 'EINVAL' });
      if (isPipe && strict)
        throw new NetbeError(
          'its descriptor is a pipe, which can make its writer wait, and strict memory is asked for',
          {
            code: 'EPERM',
          },
        );
      setNonblock(fd.number);
      this.#isSocket = isSocket;
      this.#guarded = strict && !isSocket ? new EventfdSignal(fd.number) : undefined;
      this.#fd = fd;
    } catch (error) {
      fd.close();
      throw error;
    }
  }

  /** Data path. One that is full has been signalled already; one whose reader has gone needs no signal. */
  signal(): void {
    if (this.#guarded) this.#guarded.signal();
    else if (this.#isSocket) sendMsg(this.#fd.number, one.u8);
    else eventfdWrite(this.#fd.number);
  }

  close(): void {
    this.#fd.close();
  }
}
