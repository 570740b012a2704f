/** readv(2) and writev(2) with lists of struct iovec { u64 base, length } that lie ready in native memory. */
import { errno, libc } from './libc.js';

type Call = (fd: number, iovecs: number, count: number) => number;
const writevC = libc.func('int64_t writev(int fd, uint64_t iov, int count)') as Call;

/** bytes of a struct iovec */
export const IOVEC_BYTES = 16;
/** most pieces that one call takes (linux/uio.h) */
export const UIO_MAXIOV = 1024;

/** Bytes written, or -errno. */
export function writevAt(fd: number, iovecs: number, count: number): number {
  const n = writevC(fd, iovecs, count);
  return n < 0 ? -errno() : n;
}
