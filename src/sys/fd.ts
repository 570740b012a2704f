/**
 * Ownership of file descriptors: whoever holds an Fd closes it, once.
 *
 * Every descriptor made here is close-on-exec. fcntl and ioctl are variadic in C; on the ABIs netbe
 * runs on (x86-64 and arm64 Linux) an integer argument travels the same way either way.
 */
import { fstatSync, readdirSync } from 'node:fs';
import { E, errno, libc, sysError } from './libc.js';
import { NativeBuffer } from './native-buffer.js';
import { pageSize } from './process.js';

const closeC = libc.func('int close(int fd)') as (fd: number) => number;
const fcntlC = libc.func('int fcntl(int fd, int cmd, int64_t arg)') as (fd: number, cmd: number, arg: number) => number;
const fstatfsC = libc.func('int fstatfs(int fd, uint64_t buf)') as (fd: number, buf: number) => number;

// linux/fcntl.h
const F_GETFL = 3;
const F_SETFL = 4;
const F_DUPFD_CLOEXEC = 1030;
const O_NONBLOCK = 0o4000;

/** linux/magic.h */
const HUGETLBFS_MAGIC = 0x958458f6;

export class Fd {
  #number: number;

  constructor(fd: number) {
    this.#number = fd;
  }

  /** The descriptor; -1 once closed, so that late use is EBADF and never somebody else's file. */
  get number(): number {
    return this.#number;
  }

  get closed(): boolean {
    return this.#number < 0;
  }

  /** Idempotent. Linux frees the descriptor whatever close(2) returns, so there is nothing to report. */
  close(): void {
    if (this.#number < 0) return;
    const fd = this.#number;
    this.#number = -1;
    closeC(fd);
  }

  /** Hands the descriptor over to the caller, who closes it. */
  release(): number {
    const fd = this.#number;
    this.#number = -1;
    return fd;
  }
}

/** The Fd for what a system call returned; throws for -1. */
export function ownFd(fd: number, syscall: string, subject?: string): Fd {
  if (fd < 0) throw sysError(syscall, subject);
  return new Fd(fd);
}

export function fcntl(fd: number, cmd: number, arg: number): number {
  return fcntlC(fd, cmd, arg);
}

/** A second descriptor for the same open file. */
export function dup(fd: number): Fd {
  return ownFd(fcntlC(fd, F_DUPFD_CLOEXEC, 0), 'fcntl', `F_DUPFD_CLOEXEC of descriptor ${fd}`);
}

/** Note that O_NONBLOCK belongs to the open file: whoever shares it can change it. */
export function setNonblock(fd: number, on = true): void {
  const flags = fcntlC(fd, F_GETFL, 0);
  if (flags < 0) throw sysError('fcntl', `F_GETFL of descriptor ${fd}`);
  const wanted = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
  if (wanted !== flags && fcntlC(fd, F_SETFL, wanted) < 0) throw sysError('fcntl', `F_SETFL of descriptor ${fd}`);
}

export interface FdStat {
  /** bytes */
  size: number;
  blksize: number;
  mode: number;
  dev: number;
  ino: number;
  isFile: boolean;
  isSocket: boolean;
}

export function fstat(fd: number): FdStat {
  try {
    const s = fstatSync(fd);
    const { size, blksize, mode, dev, ino } = s;
    return { size, blksize, mode, dev, ino, isFile: s.isFile(), isSocket: s.isSocket() };
  } catch (cause) {
    throw sysError('fstat', `descriptor ${fd}`, undefined, -((cause as { errno?: number }).errno ?? -E.EBADF));
  }
}

// struct statfs begins { long f_type; long f_bsize; … } on both ABIs and is 120 bytes long
const statfs = new NativeBuffer(120);

/** Size of the pages in which a file's memory is mapped: that of its huge pages on hugetlbfs. */
export function filePageSize(fd: number): number {
  if (fstatfsC(fd, statfs.addr) !== 0) throw sysError('fstatfs', `descriptor ${fd}`);
  return statfs.u32[0] === HUGETLBFS_MAGIC ? statfs.getU64(8) : pageSize;
}

const readC = libc.func('int64_t read(int fd, uint64_t buf, size_t length)') as Transfer;
const writeC = libc.func('int64_t write(int fd, uint64_t buf, size_t length)') as Transfer;
type Transfer = (fd: number, addr: number, length: number) => number;

/** read(2) into memory at a native address. Returns bytes or -errno. */
export function readAt(fd: number, addr: number, length: number): number {
  const n = readC(fd, addr, length);
  return n < 0 ? -errno() : n;
}

/** write(2) from memory at a native address. Returns bytes or -errno. */
export function writeAt(fd: number, addr: number, length: number): number {
  const n = writeC(fd, addr, length);
  return n < 0 ? -errno() : n;
}

/** Open descriptors of this process: what leak tests compare. */
export function openFdCount(): number {
  return readdirSync('/proc/self/fd').length - 1; // without the one that reads the directory
}
