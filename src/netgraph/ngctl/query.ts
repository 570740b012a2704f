/** Sending messages for commands: errors told as ngctl tells them, replies as JavaScript values. */
import { NGM_GENERIC_COOKIE } from '../abi.js';
import { type Errno, strerror } from '../errno.js';
import type { ParseType } from '../parse/parse-type.js';
import { unpack } from '../parse/parse-type.js';
import type { CommandResult, NgctlContext } from './command.js';

/** Tells an errno; where the graph knows more, that is a line of its own. */
export function warnErrno(context: NgctlContext, what: string, errno: Errno): 'error' {
  context.warn(`${what}: ${strerror(errno)}`);
  const { lastErrorText } = context.socket;
  if (lastErrorText !== '') context.warn(`(${lastErrorText})`);
  return 'error';
}

/** Sends a generic message that has no reply. */
export function send(context: NgctlContext, path: string, cmd: number, data?: Uint8Array): CommandResult {
  const error = context.socket.send(path, NGM_GENERIC_COOKIE, cmd, data);
  return error === undefined ? 'ok' : warnErrno(context, 'send msg', error);
}

/** Sends a generic message and returns its reply; undefined has been told. */
export function ask<T>(context: NgctlContext, path: string, cmd: number, type: ParseType<T>): T | undefined {
  const error = context.socket.send(path, NGM_GENERIC_COOKIE, cmd);
  if (error !== undefined) {
    warnErrno(context, 'send msg', error);
    return undefined;
  }
  const reply = context.socket.takeReply(cmd);
  const value = reply === undefined ? undefined : unpack(type, reply.message.data);
  if (value === undefined) warnErrno(context, 'recv msg', 'EAGAIN');
  return value;
}
