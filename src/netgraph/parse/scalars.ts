/** The parse types of single values: integers, strings, addresses. */
import { NG_CMDSTRSIZ, NG_HOOKSIZ, NG_NODESIZ, NG_PATHSIZ, NG_TYPESIZ } from '../abi.js';
import {
  type AsciiReader,
  type ByteReader,
  type ByteWriter,
  encodeString,
  ParseError,
  type ParseType,
} from './parse-type.js';

type Format = 'signed' | 'unsigned' | 'hex';

function formatInteger(value: bigint | number, format: Format): string {
  return format === 'hex' ? `0x${value.toString(16)}` : value.toString();
}

/** As the original takes them: -1 is fine for an unsigned one, 255 for a signed one. */
function parseInteger(text: AsciiReader, bits: number): bigint {
  return text.integer(-(2n ** BigInt(bits - 1)), 2n ** BigInt(bits) - 1n);
}

function integer(bytes: 1 | 2 | 4, format: Format): ParseType<number> {
  const bits = 8 * bytes;
  const write = (out: ByteWriter, value: number) => {
    const at = out.extend(bytes);
    if (bytes === 1) out.view.setUint8(at, value);
    else if (bytes === 2) out.view.setUint16(at, value, true);
    else out.view.setUint32(at, value, true);
  };
  const read = (data: ByteReader): number => {
    const at = data.take(bytes);
    const { view } = data;
    if (format === 'signed')
      return bytes === 1 ? view.getInt8(at) : bytes === 2 ? view.getInt16(at, true) : view.getInt32(at, true);
    return bytes === 1 ? view.getUint8(at) : bytes === 2 ? view.getUint16(at, true) : view.getUint32(at, true);
  };
  return {
    align: bytes,
    parse: (text, out) => write(out, Number(parseInteger(text, bits))),
    unparse: (data) => formatInteger(read(data), format),
    writeDefault: (out) => out.extend(bytes) >= 0,
    pack: (value, out) => write(out, value),
    unpack: read,
  };
}

function integer64(format: Format): ParseType<bigint | number> {
  const write = (out: ByteWriter, value: bigint) =>
    out.view.setBigUint64(out.extend(8), BigInt.asUintN(64, value), true);
  const read = (data: ByteReader): bigint => {
    const at = data.take(8);
    return format === 'signed' ? data.view.getBigInt64(at, true) : data.view.getBigUint64(at, true);
  };
  return {
    align: 8,
    parse: (text, out) => {
      const value = parseInteger(text, 64);
      const at = out.extend(8);
      out.view.setBigUint64(at, BigInt.asUintN(64, value), true);
    },
    unparse: (data) => formatInteger(read(data), format),
    writeDefault: (out) => out.extend(8) >= 0,
    pack: (value, out) => write(out, BigInt(value)),
    unpack: read,
  };
}

export const int8 = integer(1, 'signed');
export const uint8 = integer(1, 'unsigned');
export const hint8 = integer(1, 'hex');
export const int16 = integer(2, 'signed');
export const uint16 = integer(2, 'unsigned');
export const hint16 = integer(2, 'hex');
export const int32 = integer(4, 'signed');
export const uint32 = integer(4, 'unsigned');
export const hint32 = integer(4, 'hex');
export const int64 = integer64('signed');
export const uint64 = integer64('unsigned');
export const hint64 = integer64('hex');

/** A string with its NUL, as long as it is. */
export const string: ParseType<string> = {
  align: 1,
  parse: (text, out) => putCString(out, text.string()),
  unparse: (data) => encodeString(takeCString(data)),
  writeDefault: (out) => out.extend(1) >= 0,
  pack: (value, out) => putCString(out, Buffer.from(value, 'latin1')),
  unpack: (data) => takeCString(data).toString('latin1'),
};

function putCString(out: ByteWriter, bytes: Uint8Array): void {
  out.put(bytes);
  out.extend(1);
}

function takeCString(data: ByteReader): Buffer {
  const end = data.bytes.indexOf(0, data.off);
  if (end < 0) throw new ParseError('EINVAL', 'a string has no end');
  const at = data.take(end + 1 - data.off);
  return Buffer.from(data.bytes.subarray(at, end));
}

/** A string in a field of `size` bytes, NUL included. */
export function fixedString(size: number): ParseType<string> {
  const write = (out: ByteWriter, bytes: Uint8Array) => {
    if (bytes.length >= size) throw new ParseError('E2BIG', `a string of ${bytes.length} bytes, where ${size - 1} fit`);
    const at = out.extend(size);
    out.bytes.set(bytes, at);
  };
  const read = (data: ByteReader): Buffer => {
    const at = data.take(size);
    const end = data.bytes.subarray(at, at + size - 1).indexOf(0);
    return Buffer.from(data.bytes.subarray(at, end < 0 ? at + size - 1 : at + end));
  };
  return {
    align: 1,
    parse: (text, out) => write(out, text.string()),
    unparse: (data) => encodeString(read(data)),
    writeDefault: (out) => out.extend(size) >= 0,
    pack: (value, out) => write(out, Buffer.from(value, 'latin1')),
    unpack: (data) => read(data).toString('latin1'),
  };
}

export const typebuf = fixedString(NG_TYPESIZ);
export const hookbuf = fixedString(NG_HOOKSIZ);
export const nodebuf = fixedString(NG_NODESIZ);
export const pathbuf = fixedString(NG_PATHSIZ);
export const cmdbuf = fixedString(NG_CMDSTRSIZ);

/** 16 bits of length, then a string without NUL. */
export const sizedString: ParseType<string> = {
  align: 1,
  parse: (text, out) => putSized(out, text.string()),
  unparse: (data) => encodeString(takeSized(data)),
  writeDefault: (out) => out.extend(2) >= 0,
  pack: (value, out) => putSized(out, Buffer.from(value, 'latin1')),
  unpack: (data) => takeSized(data).toString('latin1'),
};

function putSized(out: ByteWriter, bytes: Uint8Array): void {
  if (bytes.length > 0xffff) throw new ParseError('EINVAL', `a string of ${bytes.length} bytes, where 65535 fit`);
  const at = out.extend(2);
  out.view.setUint16(at, bytes.length, true);
  out.put(bytes);
}

function takeSized(data: ByteReader): Buffer {
  const length = data.view.getUint16(data.take(2), true);
  const at = data.take(length);
  return Buffer.from(data.bytes.subarray(at, at + length));
}

/** An IPv4 address in network byte order: 192.0.2.1 */
export const ipaddr: ParseType<string> = {
  align: 4,
  parse: (text, out) => putIp(out, text.expect('word')),
  unparse: takeIp,
  writeDefault: (out) => out.extend(4) >= 0,
  pack: (value, out) => putIp(out, value),
  unpack: takeIp,
};

function putIp(out: ByteWriter, word: string): void {
  const bytes = word.split('.').map((part) => (/^\d{1,3}$/.test(part) ? Number(part) : 256));
  if (bytes.length !== 4 || bytes.some((b) => b > 255)) throw new ParseError('EINVAL', `"${word}" is no IPv4 address`);
  out.put(Uint8Array.from(bytes));
}

function takeIp(data: ByteReader): string {
  const at = data.take(4);
  return data.bytes.subarray(at, at + 4).join('.');
}

/** An Ethernet address: 02:00:00:00:00:01. It has no default. */
export const enaddr: ParseType<string> = {
  align: 1,
  parse: (text, out) => putEnaddr(out, text.expect('word')),
  unparse: takeEnaddr,
  writeDefault: () => false,
  pack: (value, out) => putEnaddr(out, value),
  unpack: takeEnaddr,
};

function putEnaddr(out: ByteWriter, word: string): void {
  const parts = word.split(':');
  if (parts.length !== 6 || parts.some((part) => !/^[0-9a-fA-F]{1,2}$/.test(part)))
    throw new ParseError('EINVAL', `"${word}" is no Ethernet address`);
  out.put(Uint8Array.from(parts, (part) => Number.parseInt(part, 16)));
}

function takeEnaddr(data: ByteReader): string {
  const at = data.take(6);
  return Array.from(data.bytes.subarray(at, at + 6), (b) => b.toString(16).padStart(2, '0')).join(':');
}
