/**
 * Parse types (ng_parse.c): how the data of a message looks as C structure and as ASCII, both ways.
 *
 * ASCII: integers as of strtol with base 0, strings in double quotes with C escapes, structures as
 * `{ name=value ... }`, arrays as `[ value index=value ... ]`. What is left out, and is left out when written,
 * is the default: zero, the empty string. Nothing may be left out of a type that has no default.
 *
 * `pack` and `unpack` are the third form: plain JavaScript values, for node types. All is control
 * path: errors are thrown as ParseError.
 */
import type { Errno } from '../errno.js';

export class ParseError extends Error {
  constructor(
    readonly errno: Errno,
    message: string,
  ) {
    super(message);
  }
}

export interface ParseType<T = unknown> {
  /** alignment in C, in bytes; 1: none */
  readonly align: number;
  /** ASCII to binary */
  parse(text: AsciiReader, out: ByteWriter): void;
  /** binary to ASCII */
  unparse(data: ByteReader): string;
  /** Writes the default; false when there is none. */
  writeDefault(out: ByteWriter): boolean;
  pack(value: T, out: ByteWriter): void;
  unpack(data: ByteReader): T;
}

/** The JavaScript value that a type packs and unpacks. */
export type Packed<P> = P extends ParseType<infer T> ? T : never;

/** Binary under construction. Offsets count from the beginning of the message's data. */
export class ByteWriter {
  bytes: Uint8Array;
  view: DataView;
  length = 0;

  constructor(readonly limit: number) {
    this.bytes = new Uint8Array(Math.min(limit, 256));
    this.view = new DataView(this.bytes.buffer);
  }

  /** Makes room for `n` bytes more and returns the offset where they begin; they are zero. */
  extend(n: number): number {
    const at = this.length;
    const end = at + n;
    if (end > this.limit) throw new ParseError('ERANGE', `the message would have more than ${this.limit} bytes`);
    if (end > this.bytes.length) this.#grow(end);
    this.bytes.fill(0, at, end);
    this.length = end;
    return at;
  }

  put(bytes: Uint8Array): void {
    const at = this.extend(bytes.length);
    this.bytes.set(bytes, at);
  }

  /** Zeros up to a multiple of `align` from `start`. */
  pad(start: number, align: number): void {
    this.extend(padding(this.length - start, align));
  }

  finish(): Uint8Array {
    return this.bytes.slice(0, this.length);
  }

  #grow(need: number): void {
    const bytes = new Uint8Array(Math.min(this.limit, Math.max(need, 2 * this.bytes.length)));
    bytes.set(this.bytes.subarray(0, this.length));
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer);
  }
}

/** Binary that is read. What it says of lengths is not believed: a read beyond the end is EINVAL. */
export class ByteReader {
  readonly view: DataView;
  off = 0;
  /** the same bytes, in which defaults are tried out */
  #scratch: ByteWriter | undefined;

  constructor(readonly bytes: Uint8Array) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  /** The offset of the next `n` bytes, which are consumed. */
  take(n: number): number {
    const at = this.off;
    if (n > this.bytes.length - at)
      throw new ParseError('EINVAL', `the data ends after ${this.bytes.length} bytes, where ${at + n} are needed`);
    this.off = at + n;
    return at;
  }

  pad(start: number, align: number): void {
    this.take(padding(this.off - start, align));
  }

  /** Skips a value of this type if it is the default; false, and nothing skipped, if it is not. */
  skipDefault(type: ParseType): boolean {
    const scratch = this.#scratchCopy();
    scratch.length = this.off;
    let same = false;
    try {
      same = type.writeDefault(scratch) && this.#same(scratch);
    } catch (error) {
      if (!(error instanceof ParseError)) throw error;
    }
    const end = scratch.length;
    scratch.bytes.set(this.bytes.subarray(this.off, end), this.off);
    if (same) this.off = end;
    return same;
  }

  #same(scratch: ByteWriter): boolean {
    if (scratch.length > this.bytes.length) return false;
    return (
      Buffer.compare(
        scratch.bytes.subarray(this.off, scratch.length),
        this.bytes.subarray(this.off, scratch.length),
      ) === 0
    );
  }

  #scratchCopy(): ByteWriter {
    if (this.#scratch === undefined) {
      this.#scratch = new ByteWriter(this.bytes.length + 65536);
      this.#scratch.put(this.bytes);
    }
    return this.#scratch;
  }
}

function padding(position: number, align: number): number {
  return align > 1 ? (align - (position % align)) % align : 0;
}

export type Token = 'eof' | '{' | '}' | '[' | ']' | '=' | 'string' | 'word';

/** ASCII that is read, token by token. */
export class AsciiReader {
  off = 0;

  constructor(readonly text: string) {}

  skipSpace(): void {
    while (this.off < this.text.length && /\s/.test(this.text[this.off]!)) this.off++;
  }

  /** The next token and where it ends; nothing is consumed but space. */
  peek(): { token: Token; end: number } {
    this.skipSpace();
    const c = this.text[this.off];
    if (c === undefined) return { token: 'eof', end: this.off };
    if (c === '{' || c === '}' || c === '[' || c === ']' || c === '=') return { token: c, end: this.off + 1 };
    if (c === '"') return { token: 'string', end: this.#stringEnd() };
    const word = /[^\s{}[\]="]+/y;
    word.lastIndex = this.off;
    word.test(this.text);
    return { token: 'word', end: word.lastIndex };
  }

  /** Consumes a token of that kind. Throws EINVAL for another. */
  expect(token: Token): string {
    const next = this.peek();
    if (next.token !== token)
      throw new ParseError('EINVAL', `${this.#near()}: expected ${token === 'word' ? 'a word' : `"${token}"`}`);
    const text = this.text.slice(this.off, next.end);
    this.off = next.end;
    return text;
  }

  /** A number by strtol's rules with base 0, as the whole word. */
  integer(min: bigint, max: bigint): bigint {
    const start = this.off;
    const word = this.expect('word');
    const match = /^([+-]?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)$/.exec(word);
    if (match === null) throw this.#bad(start, `"${word}" is no number`);
    const digits = match[2] as string;
    const octal = /^0[0-7]+$/.test(digits);
    const magnitude = BigInt(octal ? `0o${digits}` : digits);
    const value = match[1] === '-' ? -magnitude : magnitude;
    if (value < min || value > max) throw this.#bad(start, `${word} is not in ${min} to ${max}`);
    return value;
  }

  /** A string in double quotes, with C's escapes. */
  string(): Buffer {
    const raw = this.expect('string').slice(1, -1);
    const text = raw.replace(/\\(x[0-9a-fA-F]{1,2}|[0-7]{1,3}|[\s\S])/g, (_, code: string) => unescapeCode(code));
    return Buffer.from(text, 'latin1');
  }

  /** Skips a value, whatever it is, with balanced brackets. */
  skipValue(): void {
    const open: Token[] = [];
    do {
      const { token, end } = this.peek();
      if (token === 'eof') throw this.#bad(this.off, 'a value is missing');
      if (token === '{' || token === '[') open.push(token);
      else if ((token === '}' || token === ']') && open.pop() !== (token === '}' ? '{' : '['))
        throw this.#bad(this.off, `"${token}" without its opening`);
      this.off = end;
    } while (open.length > 0);
  }

  #stringEnd(): number {
    const string = /"(?:[^"\\]|\\[\s\S])*"/y;
    string.lastIndex = this.off;
    if (!string.test(this.text)) throw this.#bad(this.off, 'a string has no closing quote');
    return string.lastIndex;
  }

  #bad(off: number, message: string): ParseError {
    this.off = off;
    return new ParseError('EINVAL', `${this.#near()}: ${message}`);
  }

  #near(): string {
    const rest = this.text.slice(this.off, this.off + 20).trim();
    return rest === '' ? 'at the end' : `at "${rest}"`;
  }
}

const CONTROLS: Record<string, string> = { t: '\t', n: '\n', r: '\r', v: '\v', f: '\f' };

function unescapeCode(code: string): string {
  if (/^x./.test(code)) return String.fromCharCode(Number.parseInt(code.slice(1), 16));
  if (/^[0-7]/.test(code)) return String.fromCharCode(Number.parseInt(code, 8) & 255);
  return CONTROLS[code] ?? code;
}

const ESCAPES: Record<string, string> = Object.fromEntries(
  Object.entries(CONTROLS).map(([c, code]) => [code, `\\${c}`]),
);

/** Bytes as a string in double quotes. */
export function encodeString(bytes: Uint8Array): string {
  const text = Buffer.from(bytes).toString('latin1');
  const escaped = text.replace(/[^ !#-[\]-~]/g, (c) => {
    if (c === '"' || c === '\\') return `\\${c}`;
    return ESCAPES[c] ?? `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`;
  });
  return `"${escaped}"`;
}

// ---- whole messages ----

/** bytes of a message that is made of ASCII at most */
const MAX_PARSED = 65536;

/** ASCII to the data of a message. Throws ParseError. */
export function parseAscii(type: ParseType, text: string): Uint8Array {
  const reader = new AsciiReader(text);
  const out = new ByteWriter(MAX_PARSED);
  type.parse(reader, out);
  reader.expect('eof');
  return out.finish();
}

/** The data of a message to ASCII. Throws ParseError. */
export function unparseAscii(type: ParseType, data: Uint8Array): string {
  return type.unparse(new ByteReader(data));
}

/** A JavaScript value to the data of a message. */
export function pack<T>(type: ParseType<T>, value: T): Uint8Array {
  const out = new ByteWriter(2 ** 24);
  type.pack(value, out);
  return out.finish();
}

/** The data of a message to a JavaScript value; undefined if it is not exactly one of this type. */
export function unpack<T>(type: ParseType<T>, data: Uint8Array): T | undefined {
  const reader = new ByteReader(data);
  try {
    const value = type.unpack(reader);
    return reader.off === data.length ? value : undefined;
  } catch (error) {
    if (error instanceof ParseError) return undefined;
    throw error;
  }
}
