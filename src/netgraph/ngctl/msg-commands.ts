/** Commands of ngctl that carry messages and frames: msg, write; and how what comes in is shown. */
import { NGM_BINARY2ASCII, NGM_GENERIC_COOKIE } from '../abi.js';
import { decodeMessage, encodeMessage, isResponse } from '../message.js';
import type { Received } from '../nodes/socket.js';
import type { NgctlCommand, NgctlContext } from './command.js';
import { warnErrno } from './query.js';

const BYTES_PER_LINE = 16;
/** bytes of a frame that `write` sends at most */
export const WRITE_MAX_BYTES = 8192;

/** Bytes in hexadecimal and as characters, 16 a line. */
export function dumpLines(bytes: Uint8Array): string[] {
  const lines: string[] = [];
  for (let at = 0; at < bytes.length; at += BYTES_PER_LINE) {
    const row = [...bytes.subarray(at, at + BYTES_PER_LINE)];
    const hex = row.map((b) => `${b.toString(16).padStart(2, '0')} `).join('');
    const text = row.map((b) => (b >= 0x20 && b <= 0x7e ? String.fromCharCode(b) : '.')).join('');
    lines.push(
      `${at.toString(16).padStart(4, '0')}:  ${hex.padEnd(3 * BYTES_PER_LINE)} ${text.padEnd(BYTES_PER_LINE)}`,
    );
  }
  return lines;
}

/** Shows a message that came in; its sender is asked for its ASCII form. */
export function printMessage(context: NgctlContext, { message, path }: Received): void {
  const { socket } = context;
  const kind = isResponse(message) ? 'response' : 'command';
  const error = socket.send(path, NGM_GENERIC_COOKIE, NGM_BINARY2ASCII, encodeMessage(message));
  const reply = error === undefined ? socket.takeReply(NGM_BINARY2ASCII) : undefined;
  const ascii = reply === undefined ? undefined : decodeMessage(reply.message.data);
  if (ascii === undefined) {
    context.print(`Rec'd ${kind} ${message.cmd} from "${path}":`);
    if (message.data.length === 0) context.print('No arguments');
    for (const line of dumpLines(message.data)) context.print(line);
    return;
  }
  const args = Buffer.from(ascii.data).toString('latin1').split('\0', 1)[0];
  context.print(`Rec'd ${kind} "${ascii.cmdstr}" (${ascii.cmd | 0}) from "${path}":`);
  context.print(args === '' ? 'No arguments' : `Args:\t${args}`);
}

export const msgCommand: NgctlCommand = {
  usage: 'msg path command [args ... ]',
  summary: 'Send the node at "path" a message',
  help:
    'The node first turns command and arguments into a binary message, which is then sent to it. ' +
    'A reply is shown in the same notation.',
  aliases: ['cmd'],
  run(context, argv) {
    if (argv.length < 3) return 'usage';
    const [, path, command, ...args] = argv as [string, string, string, ...string[]];
    const error = context.socket.sendAscii(path, command, args.map((arg) => ` ${arg}`).join(''));
    if (error !== undefined) return warnErrno(context, 'send msg', error);
    const received = context.socket.recv();
    if (received !== undefined) printMessage(context, received);
    return 'ok';
  },
};

/** A byte as of scanf's %i: decimal, hexadecimal or octal, -128 to 255. */
function parseByte(word: string): number | undefined {
  const match = /^([+-]?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)$/.exec(word);
  if (match === null) return undefined;
  const digits = match[2] as string;
  const value = (match[1] === '-' ? -1 : 1) * (/^0[0-7]+$/.test(digits) ? Number.parseInt(digits, 8) : Number(digits));
  return value >= -128 && value <= 255 ? value & 255 : undefined;
}

export const writeCommand: NgctlCommand = {
  usage: 'write hook < -f file | byte ... >',
  summary: 'Send a frame out of hook "hook" of this program\'s node',
  help: 'The frame is what is in the file, or the bytes that follow.',
  aliases: ['w'],
  run(context, argv) {
    // -f FILE is the caller's business: see files.ts
    if (argv.length < 3 || argv[2] === '-f') return 'usage';
    const bytes: number[] = [];
    for (const word of argv.slice(2, 2 + WRITE_MAX_BYTES)) {
      const byte = parseByte(word);
      if (byte === undefined) {
        context.warn(`invalid byte "${word}"`);
        return 'error';
      }
      bytes.push(byte);
    }
    const error = context.socket.writeFrame(argv[1] as string, Uint8Array.from(bytes));
    return error === undefined ? 'ok' : warnErrno(context, `writing to hook "${argv[1]}"`, error);
  },
};
