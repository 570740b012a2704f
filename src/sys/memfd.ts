/** memfd_create(2) and file seals (fcntl(2), F_ADD_SEALS). */
import { ftruncateSync } from 'node:fs';
import { type Fd, fcntl, ownFd } from './fd.js';
import { E, errno, libc, sysError } from './libc.js';

const memfdCreateC = libc.func('int memfd_create(const char *name, unsigned int flags)') as (
  name: string,
  flags: number,
) => number;

// linux/memfd.h
const MFD_CLOEXEC = 1;
export const MFD_ALLOW_SEALING = 2;
export const MFD_HUGETLB = 4;
export const MFD_HUGE_2MB = 21 << 26;

// linux/fcntl.h
const F_ADD_SEALS = 1033;
const F_GET_SEALS = 1034;
/** no further seals */
export const F_SEAL_SEAL = 1;
export const F_SEAL_SHRINK = 2;
export const F_SEAL_GROW = 4;
export const F_SEAL_WRITE = 8;

/** Memory as a file without a name. `name` is for /proc only. */
export function memfdCreate(name: string, flags = 0): Fd {
  return ownFd(memfdCreateC(name, flags | MFD_CLOEXEC), 'memfd_create', name);
}

/** Sets the length of a file, in bytes. */
export function ftruncate(fd: number, length: number): void {
  try {
    ftruncateSync(fd, length);
  } catch (cause) {
    const no = -((cause as { errno?: number }).errno ?? -E.EINVAL);
    throw sysError('ftruncate', `descriptor ${fd} to ${length} bytes`, undefined, no);
  }
}

/** The seals of a file; null for a file that has none and never can (not a memfd, nor on tmpfs). */
export function getSeals(fd: number): number | null {
  const seals = fcntl(fd, F_GET_SEALS, 0);
  if (seals >= 0) return seals;
  if (errno() === E.EINVAL) return null;
  throw sysError('fcntl', `F_GET_SEALS of descriptor ${fd}`);
}

/** False where the file does not allow it: it takes no seals, or it is sealed against sealing. */
export function addSeals(fd: number, seals: number): boolean {
  if (fcntl(fd, F_ADD_SEALS, seals) === 0) return true;
  const no = errno();
  if (no === E.EINVAL || no === E.EPERM || no === E.EBUSY) return false;
  throw sysError('fcntl', `F_ADD_SEALS of descriptor ${fd}`, undefined, no);
}
