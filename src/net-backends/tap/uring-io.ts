/**
 * Frames by io_uring: a batch of writes for one system call, and one read a queue that stays posted and
 * takes a buffer for each frame, as long as there are any.
 *
 * A read of its own for each buffer would be woken, all of them, by each frame that comes; and a tap does
 * not promise io_uring never to block (FMODE_NOWAIT), so such reads cannot be made to say EAGAIN.
 */
import { NetbeError } from '../../errors.js';
import type { Mapping, WindowPool } from '../../memory/window.js';
import {
  IORING_CQE_BUFFER_SHIFT,
  IORING_CQE_F_BUFFER,
  IORING_CQE_F_MORE,
  IORING_OP_READ_MULTISHOT,
  IORING_OP_WRITEV,
  IoUring,
} from '../../sys/io-uring.js';
import { IOVEC_BYTES } from '../../sys/iovec-io.js';
import { E, EBADFD } from '../../sys/libc.js';
import { BATCH, type ReadBuffers, type TapReader, type TapWriter, type WriteBatch } from './io.js';

const { EIO, ECANCELED, ENOBUFS, EAGAIN, EINTR } = E;

/** tag of a request that takes another back */
const CANCEL_TAG = BATCH;

export class UringWriter implements TapWriter {
  readonly way = 'io_uring';
  readonly result = new Int32Array(BATCH);
  readonly #ring: IoUring;
  readonly #file: number;
  readonly #done = new Uint8Array(BATCH);

  constructor(fd: number) {
    this.#ring = new IoUring(BATCH, 'deferred');
    this.#file = this.#ring.registerFiles([fd]) ? 0 : fd;
  }

  write({ iovecs, first, pieces, count }: WriteBatch): void {
    const ring = this.#ring;
    const file = this.#file;
    for (let i = 0; i < count; i++) {
      const addr = iovecs.addr + first[i]! * IOVEC_BYTES;
      ring.stage(IORING_OP_WRITEV, file, addr, addr / 2 ** 32, pieces[i]!, i);
    }
    this.#done.fill(0, 0, count);
    const refused = ring.enter(0);
    let left = count - this.#reap();
    if (refused !== 0) left = this.#refuse(count, refused);
    if (left > 0) this.#takeBack(count, left);
  }

  /** Notes what is done. Returns how many writes that was. */
  #reap(): number {
    const ring = this.#ring;
    let n = 0;
    while (ring.next()) {
      if (ring.tag === CANCEL_TAG) continue;
      this.result[ring.tag] = ring.res === -ECANCELED ? -EIO : ring.res;
      this.#done[ring.tag] = 1;
      n++;
    }
    return n;
  }

  /** The kernel took only some of the batch, if any: the rest has failed. Returns 0: none is under way. */
  #refuse(count: number, error: number): number {
    for (let i = 0; i < count; i++) if (this.#done[i] === 0) this.result[i] = error;
    return 0;
  }

  /** An interface that is down is not writable: its writes would wait until it is up, with the guest's memory. */
  #takeBack(count: number, waiting: number): void {
    const ring = this.#ring;
    for (let i = 0; i < count; i++) if (this.#done[i] === 0) ring.stageCancel(i, CANCEL_TAG);
    let left = waiting;
    // each write completes, done or taken back, and each request to take back
    for (let completions = 2 * waiting; left > 0; completions = left) {
      if (ring.enter(completions) !== 0) break;
      left -= this.#reap();
    }
  }

  close(): void {
    this.#ring.close();
  }
}

// struct io_uring_buf { u64 addr; u32 len; u16 bid, resv; }; the ring's tail is the first one's resv
const BUF_WORDS = 4;
const TAIL_U16 = 7;
const BUFFER_RING_BYTES = 4096;

// what became of a queue's read
const NOT_POSTED = 0;
const POSTED = 1;
/** and it is not posted again */
const FAILED = 2;

export class UringReader implements TapReader {
  readonly way = 'io_uring';
  readonly buffer = new Uint8Array(BATCH);
  readonly got = new Int32Array(BATCH);
  gone = false;
  errors = 0;
  readonly wakeFds: readonly number[];
  readonly #ring: IoUring;
  readonly #files: readonly number[];
  readonly #buffers: ReadBuffers;
  readonly #bufferRing: Mapping;
  #tail = 0;
  #free = 0;
  /** state of each queue's read */
  readonly #posted: Uint8Array;
  #postedCount = 0;

  /** Throws ENOSYS where the kernel has no reads that stay posted. */
  constructor(fds: readonly number[], buffers: ReadBuffers, pool: WindowPool) {
    this.#buffers = buffers;
    this.#posted = new Uint8Array(fds.length);
    this.#bufferRing = pool.mapAnonymous(BUFFER_RING_BYTES);
    let ring: IoUring | undefined;
    try {
      ring = new IoUring(BATCH, 'cooperative');
      if (!ring.supports([IORING_OP_READ_MULTISHOT]) || !ring.registerBufferRing(this.#bufferRing.addr, BATCH))
        throw new NetbeError('io_uring of this kernel has no reads that stay posted (before Linux 6.7)', {
          code: 'ENOSYS',
          kind: 'environment',
        });
    } catch (error) {
      ring?.close();
      this.#bufferRing.close();
      throw error;
    }
    this.#ring = ring;
    this.#files = ring.registerFiles(fds) ? fds.map((_, i) => i) : fds;
    this.wakeFds = [ring.fd];
    for (let i = 0; i < BATCH; i++) this.recycle(i);
    this.#post();
    ring.enter(0);
  }

  read(): number {
    const ring = this.#ring;
    if (this.#postedCount < this.#files.length && this.#free > 0) this.#post();
    ring.enter(0);
    let n = 0;
    while (n < BATCH && ring.next()) {
      const { res, flags, tag } = ring;
      if ((flags & IORING_CQE_F_MORE) === 0) this.#ended(tag, res);
      if ((flags & IORING_CQE_F_BUFFER) === 0) continue;
      const k = flags >>> IORING_CQE_BUFFER_SHIFT;
      this.#free--;
      if (res <= 0) {
        this.recycle(k);
        continue;
      }
      this.buffer[n] = k;
      this.got[n++] = res;
    }
    return n;
  }

  recycle(buffer: number): void {
    const { window, off } = this.#bufferRing;
    const { addr, stride, length } = this.#buffers;
    const at = addr + buffer * stride;
    const w = (off >>> 2) + (this.#tail & (BATCH - 1)) * BUF_WORDS;
    window.u32[w] = at;
    window.u32[w + 1] = at / 2 ** 32;
    window.u32[w + 2] = length;
    window.u16[w * 2 + 6] = buffer;
    this.#tail = (this.#tail + 1) & 0xffff;
    this.#free++;
    // the kernel looks at it only within a system call of ours: no fence is needed
    window.u16[(off >>> 1) + TAIL_U16] = this.#tail;
  }

  #post(): void {
    for (let q = 0; q < this.#files.length; q++) {
      if (this.#posted[q] !== NOT_POSTED) continue;
      this.#ring.stageMultishotRead(this.#files[q]!, q);
      this.#posted[q] = POSTED;
      this.#postedCount++;
    }
  }

  /** The read of queue `q` is over: it ran out of buffers, or it failed. */
  #ended(q: number, res: number): void {
    const again = res >= 0 || res === -ENOBUFS || res === -EAGAIN || res === -EINTR || res === -ECANCELED;
    this.#posted[q] = again ? NOT_POSTED : FAILED;
    if (again) this.#postedCount--;
    else if (res === -EBADFD) this.gone = true;
    else this.errors++;
  }

  /** A read that is still posted would keep the tap open until the kernel gets round to it. */
  #takeBack(): void {
    const ring = this.#ring;
    for (let q = 0; q < this.#files.length; q++) {
      if (this.#posted[q] !== POSTED) continue;
      ring.stageCancel(q, CANCEL_TAG);
      while (this.#posted[q] === POSTED && ring.enter(1) === 0)
        while (ring.next()) if (ring.tag === q && (ring.flags & IORING_CQE_F_MORE) === 0) this.#posted[q] = NOT_POSTED;
    }
  }

  close(): void {
    this.#takeBack();
    this.#ring.close();
    this.#bufferRing.close();
  }
}
