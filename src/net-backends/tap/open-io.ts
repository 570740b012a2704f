/**
 * How frames cross the border to the kernel: by io_uring, a system call for a whole batch, or by read
 * and writev, one for each frame. Which one runs is chosen when the tap is opened, because
 * containers often forbid io_uring, and kernels before 6.7 have no reads that stay posted.
 */
import { NetbeError } from '../../errors.js';
import type { WindowPool } from '../../memory/window.js';
import type { IoWay, ReadBuffers, TapIo } from './io.js';
import { PlainReader, PlainWriter } from './plain-io.js';
import { UringReader, UringWriter } from './uring-io.js';

/** Throws when io_uring was asked for by name and is not to be had. The descriptors do not block. */
export function openTapIo(
  wanted: 'auto' | IoWay,
  fds: readonly number[],
  buffers: ReadBuffers,
  pool: WindowPool,
): TapIo {
  let fallback: string | undefined;
  if (wanted !== 'readv') {
    let writer: UringWriter | undefined;
    try {
      writer = new UringWriter(fds[0]!);
      return { writer, reader: new UringReader(fds, buffers, pool), fallback };
    } catch (error) {
      if (!(error instanceof NetbeError)) throw error;
      if (wanted === 'io_uring') {
        writer?.close();
        throw error;
      }
      fallback = error.message;
      // an older kernel: it may still write in batches
      if (writer !== undefined) return { writer, reader: new PlainReader(fds, buffers), fallback };
    }
  }
  return { writer: new PlainWriter(fds[0]!), reader: new PlainReader(fds, buffers), fallback };
}
