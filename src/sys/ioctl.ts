/** ioctl(2) with an integer or a structure that the caller has laid out in a buffer. */
import { libc, sysError } from './libc.js';
import { addressOf } from './mman.js';

const ioctlC = libc.func('int ioctl(int fd, uint64_t request, uint64_t arg)') as (
  fd: number,
  request: number,
  arg: number,
) => number;

/** Returns what ioctl(2) returns; throws NetbeError for -1. `name` is the request's, for the message. */
export function ioctl(fd: number, request: number, arg: number | Uint8Array, name: string, subject?: string): number {
  const result = ioctlC(fd, request, typeof arg === 'number' ? arg : addressOf(arg));
  if (result < 0) throw sysError(`ioctl ${name}`, subject);
  return result;
}
