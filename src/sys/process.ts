/** Facts about this process and thread. */
import { arch } from 'node:process';
import { libc, sysError } from './libc.js';
import { NativeBuffer } from './native-buffer.js';
import { syscall } from './syscall.js';

const sysconfC = libc.func('int64_t sysconf(int name)') as (name: number) => number;
const prctlC = libc.func('int prctl(int option, const char *name)') as (option: number, name: string) => number;

// bits/confname.h, linux/prctl.h
const SC_PAGESIZE = 30;
const PR_SET_NAME = 15;

/** bytes of a base page: 4096, or up to 65536 on arm64 */
export const pageSize = sysconfC(SC_PAGESIZE);

/** Real user ID of this process */
export function getuid(): number {
  return process.getuid?.() ?? 0;
}

/** Names the calling thread (15 bytes at most), as top -H and ps -L show it. */
export function setThreadName(name: string): void {
  prctlC(PR_SET_NAME, name);
}

const cpuSet = new NativeBuffer(128);

/** Lets the calling thread run on one processor only. */
export function setThreadCpu(cpu: number): void {
  cpuSet.u8.fill(0);
  cpuSet.u8[cpu >> 3] = 1 << (cpu & 7);
  if (syscall('sched_setaffinity', 0, 128, cpuSet.addr) !== 0) throw sysError('sched_setaffinity', `processor ${cpu}`);
}

/** struct epoll_event is packed on x86-64 only (linux/eventpoll.h) */
export const packedEpollEvent = arch === 'x64';

const pauseWord = new Int32Array(new SharedArrayBuffer(4));

/** Blocks the calling thread, and nothing else of the process. */
export function pause(ms: number): void {
  Atomics.wait(pauseWord, 0, 0, ms);
}
