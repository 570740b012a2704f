/**
 * A control message (struct ng_mesg): what it asks for, and bytes laid out as the original's C
 * structures, little-endian. `encode` and `decode` are its form on a socket and inside
 * BINARY2ASCII and ASCII2BINARY.
 */
import { NG_CMDSTRSIZ, NG_MESG_HDR_LEN, NG_VERSION, NGF_ORIG, NGF_RESP } from './abi.js';

export interface NgMessage {
  readonly version: number;
  readonly cmd: number;
  readonly flags: number;
  /** what pairs a reply with its request */
  readonly token: number;
  readonly typecookie: number;
  /** the command's name, for people */
  readonly cmdstr: string;
  readonly data: Uint8Array;
  /** ID of the node that sent it, to which a reply goes; 0: nobody waits for one */
  readonly from: number;
}

const EMPTY = new Uint8Array(0);

export function newMessage(
  typecookie: number,
  cmd: number,
  data: Uint8Array = EMPTY,
  fields: Partial<Pick<NgMessage, 'token' | 'cmdstr' | 'from' | 'flags'>> = {},
): NgMessage {
  const { token = 0, cmdstr = '', from = 0, flags = NGF_ORIG } = fields;
  return { version: NG_VERSION, cmd, flags, token, typecookie, cmdstr, data, from };
}

/** The response to `msg`: same command, cookie and token. */
export function newResponse(msg: NgMessage, data: Uint8Array, from: number): NgMessage {
  return { ...msg, flags: msg.flags | NGF_RESP, data, from };
}

export function isResponse(msg: NgMessage): boolean {
  return (msg.flags & NGF_RESP) !== 0;
}

export function encodeMessage(msg: NgMessage): Uint8Array {
  const bytes = new Uint8Array(NG_MESG_HDR_LEN + msg.data.length);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, msg.version);
  view.setUint32(4, msg.data.length, true);
  view.setUint32(8, msg.cmd, true);
  view.setUint32(12, msg.flags, true);
  view.setUint32(16, msg.token, true);
  view.setUint32(20, msg.typecookie, true);
  putString(bytes, 24, NG_CMDSTRSIZ, msg.cmdstr);
  bytes.set(msg.data, NG_MESG_HDR_LEN);
  return bytes;
}

/** The message in `bytes`, or undefined if it is cut short or of another version. */
export function decodeMessage(bytes: Uint8Array, from = 0): NgMessage | undefined {
  if (bytes.length < NG_MESG_HDR_LEN || bytes[0] !== NG_VERSION) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const arglen = view.getUint32(4, true);
  if (arglen > bytes.length - NG_MESG_HDR_LEN) return undefined;
  return {
    version: NG_VERSION,
    cmd: view.getUint32(8, true),
    flags: view.getUint32(12, true),
    token: view.getUint32(16, true),
    typecookie: view.getUint32(20, true),
    cmdstr: getString(bytes, 24, NG_CMDSTRSIZ),
    data: bytes.slice(NG_MESG_HDR_LEN, NG_MESG_HDR_LEN + arglen),
    from,
  };
}

/** Stores a string of at most `size` - 1 bytes and NULs up to `size`; what does not fit is cut off. */
export function putString(bytes: Uint8Array, off: number, size: number, text: string): void {
  bytes.fill(0, off, off + size);
  bytes.set(Buffer.from(text, 'latin1').subarray(0, size - 1), off);
}

/** The string in a field of `size` bytes; the last byte counts as NUL whatever it is. */
export function getString(bytes: Uint8Array, off: number, size: number): string {
  const end = bytes.subarray(off, off + size - 1).indexOf(0);
  return Buffer.from(bytes.subarray(off, end < 0 ? off + size - 1 : off + end)).toString('latin1');
}
