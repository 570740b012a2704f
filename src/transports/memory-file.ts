/**
 * Files of guest memory that a stranger shares.
 *
 * Touching a mapped page that its file does not have is SIGBUS, which ends a process; and whoever
 * holds the descriptor can shorten the file. So what is mapped must lie inside its file, and the file is
 * sealed against shrinking (F_SEAL_SHRINK, memfds only) where it allows that. Huge pages can be taken
 * away all the same: by a hole punched into the file while nobody has pages left to fill it.
 */
import { NetbeError } from '../errors.js';
import { type Fd, filePageSize, fstat } from '../sys/fd.js';
import { addSeals, F_SEAL_SHRINK, getSeals } from '../sys/memfd.js';
import { pageSize as basePageSize } from '../sys/process.js';

/** A file that [0, bytes) may be mapped of. */
export interface CheckedFile {
  pageSize: number;
  /** nobody can take its pages away any more */
  sealed: boolean;
}

/** Checks that `bytes` of a file can be mapped, and seals it against shrinking if it allows that. */
export function checkFile(fd: Fd, bytes: number, what: string): CheckedFile {
  const refuse = (why: string): never => {
    throw new NetbeError(`${what}: ${why}`, { code: 'EINVAL' });
  };
  if (!fstat(fd.number).isFile) refuse('its descriptor is not a file of memory');
  const seals = getSeals(fd.number);
  const sealed = seals !== null && ((seals & F_SEAL_SHRINK) !== 0 || addSeals(fd.number, F_SEAL_SHRINK));
  // its size is asked for only now: sealed, it does not shrink any more
  const { size } = fstat(fd.number);
  if (bytes > size) refuse(`reaches to byte ${bytes} of a file of ${size}`);
  const filePages = filePageSize(fd.number);
  return { pageSize: filePages, sealed: sealed && filePages === basePageSize };
}

/** Why strict memory refuses a file that is not sealed. */
export function unsealedError(what: string, pageSize: number): NetbeError {
  const why =
    pageSize === basePageSize
      ? 'its file cannot be sealed against shrinking'
      : 'its file is of huge pages, which can be taken away';
  return new NetbeError(`${what}: ${why}, and strict memory is asked for`, {
    code: 'EPERM',
    remedy: 'Let the hypervisor use memfds that allow sealing (QEMU: -object memory-backend-memfd,share=on).',
  });
}

/** Told to people once for a connection whose memory is not sealed, and not strictly so. */
export const UNSEALED_NOTE =
  'its memory is a file that the hypervisor could take away, which would end this process; strict memory refuses it';
