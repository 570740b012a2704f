/** mmap(2), munmap(2) and the native address of an ArrayBuffer. Addresses are numbers. */
import { libc, sysError } from './libc.js';

export const PROT_NONE = 0;
export const PROT_READ = 1;
export const PROT_WRITE = 2;
export const MAP_SHARED = 0x01;
export const MAP_PRIVATE = 0x02;
export const MAP_FIXED = 0x10;
export const MAP_ANONYMOUS = 0x20;
export const MAP_NORESERVE = 0x4000;

const mmapC = libc.func('uint64_t mmap(uint64_t addr, size_t length, int prot, int flags, int fd, int64_t offset)') as (
  addr: number,
  length: number,
  prot: number,
  flags: number,
  fd: number,
  offset: number,
) => number | bigint;
const munmapC = libc.func('int munmap(uint64_t addr, size_t length)') as (addr: number, length: number) => number;
const memcpyC = libc.func('uint64_t memcpy(void *dst, const void *src, size_t n)') as (
  dst: Uint8Array,
  src: Uint8Array,
  n: number,
) => number | bigint;

/** Address of the new mapping. Throws NetbeError with the errno of mmap(2). */
export function mmap(
  addr: number,
  length: number,
  prot: number,
  flags: number,
  fd: number,
  offset: number,
  subject?: string,
): number {
  const got = mmapC(addr, length, prot, flags, fd, offset);
  // MAP_FAILED is (void *)-1, which does not fit a number: it comes as a bigint
  if (typeof got === 'bigint') throw sysError('mmap', subject ?? `${length} bytes`);
  return got;
}

export function munmap(addr: number, length: number): void {
  if (munmapC(addr, length) !== 0) throw sysError('munmap', `${length} bytes`);
}

/** Where the bytes of `view` are. Valid for as long as its ArrayBuffer lives and is not detached. */
export function addressOf(view: Uint8Array): number {
  return Number(memcpyC(view, view, 0));
}
