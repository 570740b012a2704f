/**
 * Socket addresses of ksocket nodes: the struct sockaddr of FreeBSD in messages, `inet/127.0.0.1:4789` and
 * `local/"/tmp/s"` in ASCII, and Linux's for the system calls.
 */
import { byteArray, struct } from '../parse/composites.js';
import { type AsciiReader, type ByteReader, encodeString, ParseError, type ParseType } from '../parse/parse-type.js';
import { uint8 } from '../parse/scalars.js';

// FreeBSD's sys/socket.h; Linux has the same two numbers
export const PF_LOCAL = 1;
export const PF_INET = 2;

const HEADER = 2;
const INET_LEN = 16;
const MAX_PATH = 107;

/** `{ len=… family=… data=[ … ] }`: any other address. */
const generic = struct({
  len: uint8,
  family: uint8,
  data: byteArray(({ view }, at) => (at >= HEADER ? Math.max(0, view.getUint8(at - HEADER) - HEADER) : 0)),
});

/** An address as the message has it, whole. */
export const sockaddr: ParseType<Uint8Array> = {
  align: 1,
  parse: (text, out) => {
    if (text.peek().token === '{') generic.parse(text, out);
    else out.put(parseAddress(text));
  },
  unparse,
  writeDefault: () => false,
  pack: (value, out) => out.put(value),
  unpack: (data) => {
    const length = data.bytes[data.off] ?? 0;
    const at = data.take(Math.max(HEADER, length));
    return data.bytes.slice(at, data.off);
  },
};

function parseAddress(text: AsciiReader): Uint8Array {
  const word = text.expect('word');
  if (word === 'local/') return localAddress(text.string());
  const match = /^inet\/(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})(?::(\d{1,5}))?$/.exec(word);
  const octets = match?.slice(1, 5).map(Number) ?? [];
  const port = Number(match?.[5] ?? 0);
  if (match === null || octets.some((o) => o > 255) || port > 65535)
    throw new ParseError('EINVAL', `"${word}" is no address: write inet/127.0.0.1:4789 or local/"/path"`);
  return inetAddress(octets, port);
}

export function inetAddress(octets: readonly number[], port: number): Uint8Array {
  return Uint8Array.from([INET_LEN, PF_INET, port >>> 8, port & 255, ...octets, 0, 0, 0, 0, 0, 0, 0, 0]);
}

function localAddress(path: Uint8Array): Uint8Array {
  if (path.length > MAX_PATH)
    throw new ParseError('E2BIG', `the path has ${path.length} bytes: at most ${MAX_PATH} are allowed`);
  return Uint8Array.from([HEADER + path.length, PF_LOCAL, ...path]);
}

function unparse(data: ByteReader): string {
  const { bytes, off } = data;
  const length = bytes[off] ?? 0;
  const family = bytes[off + 1];
  if (family === PF_INET && length === INET_LEN) {
    const at = data.take(INET_LEN);
    const port = (bytes[at + 2]! << 8) | bytes[at + 3]!;
    return `inet/${bytes.subarray(at + 4, at + 8).join('.')}${port === 0 ? '' : `:${port}`}`;
  }
  if (family === PF_LOCAL && length >= HEADER) {
    const at = data.take(length);
    const path = bytes.subarray(at + HEADER, at + length);
    const end = path.indexOf(0);
    return `local/${encodeString(end < 0 ? path : path.subarray(0, end))}`;
  }
  return generic.unparse(data);
}

/** struct sockaddr of Linux: the family in 16 bits, no length. Undefined for a family that is not carried. */
export function toLinux(address: Uint8Array): Uint8Array | undefined {
  const [length = 0, family] = address;
  if (length > address.length || length < HEADER) return undefined;
  if (family === PF_INET && length === INET_LEN) {
    const out = address.slice(0, INET_LEN);
    out[0] = PF_INET;
    out[1] = 0;
    return out;
  }
  if (family !== PF_LOCAL || length > HEADER + MAX_PATH) return undefined;
  const out = new Uint8Array(length + 1);
  out.set(address.subarray(0, length));
  out[0] = PF_LOCAL;
  out[1] = 0;
  return out;
}

export function fromLinux(address: Uint8Array): Uint8Array {
  const family = address[0] ?? 0;
  const body = address.subarray(HEADER);
  const end = family === PF_LOCAL ? body.indexOf(0) : -1;
  const data = end < 0 ? body : body.subarray(0, end);
  return Uint8Array.from([HEADER + data.length, family, ...data]);
}
