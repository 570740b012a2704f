/**
 * eventfd(2): a counter that wakes whoever waits for it.
 *
 * An eventfd that somebody else gave us is not ours alone: its O_NONBLOCK can be switched off behind
 * our back. Never read one (wait for it edge-triggered instead, see Mevent), and let `isEventfd`
 * look before trusting a descriptor to be one.
 */
import { readlinkSync } from 'node:fs';
import { type Fd, ownFd, readAt, writeAt } from './fd.js';
import { libc } from './libc.js';
import { NativeBuffer } from './native-buffer.js';

const eventfdC = libc.func('int eventfd(unsigned int initval, int flags)') as (
  initval: number,
  flags: number,
) => number;

// sys/eventfd.h
const EFD_CLOEXEC = 0o2000000;
const EFD_NONBLOCK = 0o4000;

const one = new NativeBuffer(8);
one.setU64(0, 1);
const count = new NativeBuffer(8);

/** A non-blocking eventfd with counter 0. */
export function createEventfd(): Fd {
  return ownFd(eventfdC(0, EFD_CLOEXEC | EFD_NONBLOCK), 'eventfd');
}

/** Adds 1. Returns 0, or -errno; -EAGAIN means that the counter is full, so a wake-up is pending anyway. */
export function eventfdWrite(fd: number): number {
  return Math.min(0, writeAt(fd, one.addr, 8));
}

/** Takes the counter: what was added since the last read; 0 when nothing was, or on an error. */
export function eventfdRead(fd: number): number {
  return readAt(fd, count.addr, 8) === 8 ? count.getU64(0) : 0;
}

/** Whether a descriptor is an eventfd, as /proc tells. */
export function isEventfd(fd: number): boolean {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`) === 'anon_inode:[eventfd]';
  } catch {
    return false;
  }
}
