/**
 * The one place that loads the C library through the FFI, and the one that turns errno into an error.
 *
 * 64-bit values travel as JavaScript numbers: every address, length and offset that Linux hands to
 * user space on the machines netbe runs on fits in 53 bits. Structures are laid out by hand in
 * buffers that are made once; a call on the data path passes their addresses and allocates nothing.
 */
import { constants } from 'node:os';
import koffi from 'koffi';
import { NetbeError, type NetbeErrorKind } from '../errors.js';

export const libc = koffi.load('libc.so.6');

export const E = constants.errno;

// two names have a twin of the same number; these are the ones that Linux prints
const nameOfErrno = new Map<number, string>(Object.entries(E).map(([name, n]) => [n, name]));
nameOfErrno.set(E.EAGAIN, 'EAGAIN');
nameOfErrno.set(E.EOPNOTSUPP, 'EOPNOTSUPP');

/** "File descriptor in bad state" (asm-generic/errno.h); Node does not list it */
export const EBADFD = 77;
nameOfErrno.set(EBADFD, 'EBADFD');

/** errno of the last call of this thread that failed */
export function errno(): number {
  return koffi.errno();
}

export function errnoName(n: number): string {
  return nameOfErrno.get(n) ?? `errno ${n}`;
}

const strerrorC = libc.func('const char *strerror(int n)') as (n: number) => string;

/** What the C library says about it, for people: "No such file or directory (ENOENT)". */
export function errnoText(n: number): string {
  return `${strerrorC(n)} (${errnoName(n)})`;
}

const environmental = new Set(['EACCES', 'EPERM', 'ENODEV', 'ENOSYS', 'ENOMEM', 'EMFILE', 'ENFILE', 'EOPNOTSUPP']);

const remedies = new Map<string, string>([
  ['EMFILE', 'Raise the limit of open files of this process (ulimit -n).'],
  ['ENFILE', 'Raise the limit of open files of the machine (sysctl fs.file-max).'],
]);

/** The error for a system call that just returned -1. Read errno at once: any other call may change it. */
export function sysError(syscall: string, subject?: string, remedy?: string, no: number = errno()): NetbeError {
  const code = errnoName(no);
  const kind: NetbeErrorKind = environmental.has(code) ? 'environment' : 'runtime';
  const about = subject === undefined ? '' : ` ${subject}`;
  return new NetbeError(`${syscall}${about}: ${errnoText(no)}`, {
    code,
    kind,
    errno: no,
    syscall,
    subject,
    remedy: remedy ?? remedies.get(code),
  });
}
