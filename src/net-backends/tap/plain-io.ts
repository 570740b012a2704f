/** Frames by read(2) and writev(2), a call for each. */
import { readAt } from '../../sys/fd.js';
import { IOVEC_BYTES, writevAt } from '../../sys/iovec-io.js';
import { E, EBADFD } from '../../sys/libc.js';
import { BATCH, type ReadBuffers, type TapReader, type TapWriter, type WriteBatch } from './io.js';

const { EAGAIN, EINTR } = E;

export class PlainWriter implements TapWriter {
  readonly way = 'readv';
  readonly result = new Int32Array(BATCH);

  constructor(readonly fd: number) {}

  write({ iovecs, first, pieces, count }: WriteBatch): void {
    const { fd, result } = this;
    for (let i = 0; i < count; i++) result[i] = writevAt(fd, iovecs.addr + first[i]! * IOVEC_BYTES, pieces[i]!);
  }

  close(): void {}
}

export class PlainReader implements TapReader {
  readonly way = 'readv';
  readonly buffer = new Uint8Array(BATCH);
  readonly got = new Int32Array(BATCH);
  gone = false;
  errors = 0;
  readonly #buffers: ReadBuffers;
  /** free buffers, the first freeCount: the last returned is the next used, it is still in the cache */
  readonly #free = Uint8Array.from({ length: BATCH }, (_, i) => BATCH - 1 - i);
  #freeCount = BATCH;

  constructor(
    readonly wakeFds: readonly number[],
    buffers: ReadBuffers,
  ) {
    this.#buffers = buffers;
  }

  read(): number {
    let n = 0;
    for (let q = 0; q < this.wakeFds.length; q++) n = this.#readFrom(this.wakeFds[q]!, n);
    return n;
  }

  #readFrom(fd: number, from: number): number {
    const { addr, stride, length } = this.#buffers;
    let n = from;
    while (this.#freeCount > 0) {
      const k = this.#free[this.#freeCount - 1]!;
      const got = readAt(fd, addr + k * stride, length);
      if (got > 0) {
        this.#freeCount--;
        this.buffer[n] = k;
        this.got[n++] = got;
        continue;
      }
      if (got === -EINTR) continue;
      if (got === -EBADFD) this.gone = true;
      else if (got !== -EAGAIN) this.errors++;
      break;
    }
    return n;
  }

  recycle(buffer: number): void {
    this.#free[this.#freeCount++] = buffer;
  }

  close(): void {}
}
