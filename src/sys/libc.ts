/**
 * The one place that loads the C library through the FFI, and the one that turns errno into an error.
 *
 * 64-bit values travel as JavaScript numbers: every address, length and offset that Linux hands to
 * user space on the machines netbe runs on fits in 53 bits.
 */
import { constants } from 'node:os';
import koffi from 'koffi';
import { NetbeError, type NetbeErrorKind } from '../errors.js';

export const libc = koffi.load('libc.so.6');

const nameOfErrno = new Map<number, string>(Object.entries(constants.errno).map(([k, v]) => [v, k]));

/** errno of the last call of this thread that failed */
export function errno(): number {
  return koffi.errno();
}

export function errnoName(n: number): string {
  return nameOfErrno.get(n) ?? `errno ${n}`;
}

export const E = constants.errno;

const environmental = new Set(['EACCES', 'EPERM', 'ENODEV', 'ENOSYS', 'ENOMEM', 'EMFILE', 'ENFILE', 'EOPNOTSUPP']);

/** The error for a system call that just returned -1. Read errno at once: any other call may change it. */
export function sysError(syscall: string, subject?: string, remedy?: string, no: number = errno()): NetbeError {
  const code = errnoName(no);
  const kind: NetbeErrorKind = environmental.has(code) ? 'environment' : 'runtime';
  const about = subject === undefined ? '' : ` ${subject}`;
  return new NetbeError(`${syscall}${about}: ${code}`, { code, kind, errno: no, syscall, subject, remedy });
}
