/**
 * Errors of netgraph's methods and messages: errno names, `undefined` for success.
 *
 * A method of the control path may also throw a NetbeError, whose text then reaches the person who
 * sent the message; its `code` is the errno.
 */
import { NetbeError } from '../errors.js';

// the texts are FreeBSD's, because people know them from ngctl
const texts = {
  EPERM: 'Operation not permitted',
  ENOENT: 'No such file or directory',
  EIO: 'Input/output error',
  ENXIO: 'Device not configured',
  E2BIG: 'Argument list too long',
  EAGAIN: 'Resource temporarily unavailable',
  ENOMEM: 'Cannot allocate memory',
  EACCES: 'Permission denied',
  EBUSY: 'Device busy',
  EEXIST: 'File exists',
  ENODEV: 'Operation not supported by device',
  EINVAL: 'Invalid argument',
  ENOSPC: 'No space left on device',
  ERANGE: 'Result too large',
  EALREADY: 'Operation already in progress',
  EMSGSIZE: 'Message too long',
  EPROTONOSUPPORT: 'Protocol not supported',
  EOPNOTSUPP: 'Operation not supported',
  EAFNOSUPPORT: 'Address family not supported by protocol family',
  EADDRINUSE: 'Address already in use',
  EADDRNOTAVAIL: "Can't assign requested address",
  ENETDOWN: 'Network is down',
  ENETUNREACH: 'Network is unreachable',
  ECONNREFUSED: 'Connection refused',
  ENOBUFS: 'No buffer space available',
  EISCONN: 'Socket is already connected',
  ENOTCONN: 'Socket is not connected',
  EINPROGRESS: 'Operation now in progress',
  ETIMEDOUT: 'Operation timed out',
  ELOOP: 'Too many levels of symbolic links',
  EHOSTUNREACH: 'No route to host',
  ENOSYS: 'Function not implemented',
} as const;

export type Errno = keyof typeof texts;

export function strerror(errno: Errno): string {
  return texts[errno];
}

export function isErrno(code: string): code is Errno {
  return Object.hasOwn(texts, code);
}

/** The errno that stands for something thrown by a method of the control path. */
export function errnoOf(error: unknown): Errno {
  const code = error instanceof NetbeError ? error.code : '';
  return code in texts ? (code as Errno) : 'EIO';
}
