/** flock(2): a lock on a file that ends with the process that holds it. */
import { E, errno, libc, sysError } from './libc.js';

const LOCK_EX = 2;
const LOCK_NB = 4;

const flockC = libc.func('int flock(int fd, int operation)') as (fd: number, operation: number) => number;

/** Takes the exclusive lock of an open file without waiting. False: another process has it. */
export function tryLockFile(fd: number): boolean {
  if (flockC(fd, LOCK_EX | LOCK_NB) === 0) return true;
  if (errno() === E.EWOULDBLOCK) return false;
  throw sysError('flock', `descriptor ${fd}`);
}
