/**
 * The one error type of netbe. Set-up paths throw it; the data path never throws.
 *
 * `code` is an errno name ("EINVAL", "EACCES") where the kernel or a contract of ours speaks
 * errno. `kind` says whose fault it is and decides the exit status of the command line.
 */

/** usage: the request is wrong. environment: the machine lacks something. runtime: it broke while running. */
export type NetbeErrorKind = 'usage' | 'environment' | 'runtime';

export interface NetbeErrorFields {
  /** errno name, for instance "EINVAL" */
  code: string;
  kind?: NetbeErrorKind;
  /** positive errno number as the kernel returned it */
  errno?: number;
  /** name of the system call that failed */
  syscall?: string;
  /** what it was about: a path, a port name, an option with its value */
  subject?: string;
  /** what the person can do about it; a full sentence */
  remedy?: string;
  cause?: unknown;
}

export class NetbeError extends Error {
  readonly code: string;
  readonly kind: NetbeErrorKind;
  readonly errno: number | undefined;
  readonly syscall: string | undefined;
  readonly subject: string | undefined;
  readonly remedy: string | undefined;

  constructor(message: string, fields: NetbeErrorFields) {
    super(message, fields.cause === undefined ? undefined : { cause: fields.cause });
    this.name = 'NetbeError';
    this.code = fields.code;
    this.kind = fields.kind ?? 'runtime';
    this.errno = fields.errno;
    this.syscall = fields.syscall;
    this.subject = fields.subject;
    this.remedy = fields.remedy;
  }

  /** Plain data that survives a thread boundary or a JSON reply. */
  toJSON(): NetbeErrorJson {
    const { message, code, kind, errno, syscall, subject, remedy } = this;
    return { message, code, kind, errno, syscall, subject, remedy };
  }

  static fromJSON(json: NetbeErrorJson): NetbeError {
    return new NetbeError(json.message, json);
  }
}

export type NetbeErrorJson = { message: string } & Omit<NetbeErrorFields, 'cause'>;

/** A request that can be seen to be wrong before anything is tried: exit status 2. */
export function usageError(message: string, subject?: string, remedy?: string): NetbeError {
  return new NetbeError(message, { code: 'EINVAL', kind: 'usage', subject, remedy });
}

/** Exit status of the command line for an error of this kind. */
export function exitStatus(kind: NetbeErrorKind): number {
  return kind === 'usage' ? 2 : kind === 'environment' ? 3 : 1;
}
