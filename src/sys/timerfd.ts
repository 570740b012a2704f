/** timerfd_create(2): a timer that is a descriptor. Times are milliseconds of CLOCK_MONOTONIC. */
import { type Fd, ownFd, readAt } from './fd.js';
import { libc, sysError } from './libc.js';
import { NativeBuffer } from './native-buffer.js';

const createC = libc.func('int timerfd_create(int clockid, int flags)') as (clockid: number, flags: number) => number;
const settimeC = libc.func('int timerfd_settime(int fd, int flags, uint64_t value, uint64_t old)') as (
  fd: number,
  flags: number,
  value: number,
  old: number,
) => number;

// linux/time.h, sys/timerfd.h
const CLOCK_MONOTONIC = 1;
const TFD_CLOEXEC = 0o2000000;
const TFD_NONBLOCK = 0o4000;

// struct itimerspec { struct timespec it_interval, it_value; }, each { int64 seconds, int64 nanoseconds }
const itimerspec = new NativeBuffer(32);
const expirations = new NativeBuffer(8);

export function createTimerfd(): Fd {
  return ownFd(createC(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), 'timerfd_create');
}

function setTimespec(off: number, ms: number): void {
  const seconds = Math.floor(ms / 1000);
  itimerspec.setU64(off, seconds);
  itimerspec.setU64(off + 8, Math.round((ms - seconds * 1000) * 1e6));
}

/** Expires after `firstMs` (more than 0; 0 stops the timer), then every `intervalMs` (0: once). */
export function timerfdSet(fd: number, firstMs: number, intervalMs: number): void {
  setTimespec(0, intervalMs);
  setTimespec(16, firstMs);
  if (settimeC(fd, 0, itimerspec.addr, 0) !== 0) throw sysError('timerfd_settime', `${firstMs} ms, ${intervalMs} ms`);
}

/** Expirations since the last read; 0 when there was none. */
export function timerfdRead(fd: number): number {
  return readAt(fd, expirations.addr, 8) === 8 ? expirations.getU64(0) : 0;
}
