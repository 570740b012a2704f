/** The parse types that are made of others: structures, arrays, bytes, a whole message. */
import { NG_MESG_HDR_LEN } from '../abi.js';
import { type AsciiReader, type ByteReader, type ByteWriter, ParseError, type ParseType } from './parse-type.js';
import { cmdbuf, hint8, hint32, uint8, uint16, uint32 } from './scalars.js';

type FieldValue<P> = P extends ParseType<infer T> ? T : never;
/** What a structure packs: fields that are left out are their defaults. */
export type StructValue<F> = { -readonly [K in keyof F]: FieldValue<F[K]> };

/** A structure with these fields, in this order, aligned as in C. */
export function struct<F extends Record<string, ParseType>>(fields: F): ParseType<StructValue<F>> {
  const names = Object.keys(fields);
  const types = names.map((name) => fields[name] as ParseType);
  const align = Math.max(1, ...types.map((type) => type.align));
  const composite: Composite = {
    open: '{',
    close: '}',
    align,
    indexOf: (text) => {
      const name = text.expect('word');
      const index = names.indexOf(name);
      if (index < 0) throw new ParseError('ENOENT', `there is no field "${name}", but ${names.join(', ')}`);
      text.expect('=');
      return index;
    },
    count: () => names.length,
    type: (index) => types[index] as ParseType,
    label: (index) => `${names[index]}=`,
  };
  return {
    align,
    parse: (text, out) => parseComposite(composite, text, out),
    unparse: (data) => unparseComposite(composite, data),
    writeDefault: (out) => defaultComposite(composite, out),
    pack: (value, out) => {
      const given = value as Record<string, unknown>;
      buildComposite(composite, out, (index, type) => {
        const field = given[names[index] as string];
        if (field === undefined) writeDefault(type, out, names[index] as string);
        else type.pack(field, out);
      });
    },
    unpack: (data) => {
      const values = readComposite(composite, data, (type) => type.unpack(data));
      return Object.fromEntries(names.map((name, i) => [name, values[i]])) as StructValue<F>;
    },
  };
}

/** How many elements an array has: from the bytes before it. `at` is where the array begins. */
export type ArrayLength = (bytes: ByteReader | ByteWriter, at: number) => number;

/** The length stands in the 32 bits before the array. */
export const lengthBefore: ArrayLength = ({ view }, at) => (at >= 4 ? view.getUint32(at - 4, true) : 0);

/** An array whose length is elsewhere in the message. `pack` takes it as many elements as the value has. */
export function array<T>(element: ParseType<T>, length: ArrayLength): ParseType<T[]> {
  return arrayType(element, length);
}

export function fixedArray<T>(element: ParseType<T>, length: number): ParseType<T[]> {
  return arrayType(element, () => length);
}

function arrayType<T>(element: ParseType<T>, length: ArrayLength): ParseType<T[]> {
  let next = 0;
  const composite: Composite = {
    open: '[',
    close: ']',
    align: element.align,
    begin: () => {
      next = 0;
    },
    indexOf: (text) => {
      const given = explicitIndex(text);
      const index = given ?? next;
      next = index + 1;
      return index;
    },
    count: length,
    type: () => element as ParseType,
    label: (index, expected) => (index === expected ? '' : `${index}=`),
  };
  return {
    align: element.align,
    parse: (text, out) => parseComposite(composite, text, out),
    unparse: (data) => unparseComposite(composite, data),
    writeDefault: (out) => defaultComposite(composite, out),
    pack: (value, out) => {
      const start = out.length;
      for (const one of value) {
        out.pad(start, element.align);
        element.pack(one, out);
      }
    },
    unpack: (data) => readComposite(composite, data, () => element.unpack(data)),
  };
}

/** `index=` before an element, or undefined when what follows is the element itself. */
function explicitIndex(text: AsciiReader): number | undefined {
  const { token } = text.peek();
  if (token !== 'word') return undefined;
  const start = text.off;
  const word = text.expect('word');
  if (text.peek().token !== '=') {
    text.off = start;
    return undefined;
  }
  if (!/^(0[xX][0-9a-fA-F]+|\d+)$/.test(word)) throw new ParseError('EINVAL', `"${word}" is no index`);
  text.expect('=');
  return Number(word);
}

interface Composite {
  open: '{' | '[';
  close: '}' | ']';
  align: number;
  begin?(): void;
  /** Consumes what stands before a value. */
  indexOf(text: AsciiReader): number;
  count: ArrayLength;
  type(index: number): ParseType;
  /** what is written before a value; `expected` is the index that would follow */
  label(index: number, expected: number): string;
}

function parseComposite(composite: Composite, text: AsciiReader, out: ByteWriter): void {
  const count = composite.count(out, out.length);
  const offsets = new Map<number, number>();
  text.expect(composite.open);
  composite.begin?.();
  while (text.peek().token !== composite.close) {
    const index = composite.indexOf(text);
    if (index >= count) throw new ParseError('E2BIG', `there is no element ${index}: the array has ${count}`);
    if (offsets.has(index)) throw new ParseError('EALREADY', `${composite.label(index, -1)} is given twice`);
    text.skipSpace();
    offsets.set(index, text.off);
    text.skipValue();
  }
  text.expect(composite.close);
  const end = text.off;
  buildComposite(composite, out, (index, type) => {
    const at = offsets.get(index);
    if (at === undefined) writeDefault(type, out, composite.label(index, -1).slice(0, -1));
    else {
      text.off = at;
      type.parse(text, out);
    }
  });
  text.off = end;
}

function writeDefault(type: ParseType, out: ByteWriter, name: string): void {
  if (!type.writeDefault(out)) throw new ParseError('EOPNOTSUPP', `${name} must be given: it has no default`);
}

/** Lets `write` write each element, aligned, and pads the whole to its alignment. */
function buildComposite(composite: Composite, out: ByteWriter, write: (index: number, type: ParseType) => void): void {
  const start = out.length;
  const count = composite.count(out, start);
  for (let index = 0; index < count; index++) {
    const type = composite.type(index);
    out.pad(start, type.align);
    write(index, type);
  }
  out.pad(start, composite.align);
}

/** Ends at the first element that has no default: the message says how many there are, up to 2^32. */
function defaultComposite(composite: Composite, out: ByteWriter): boolean {
  const start = out.length;
  const count = composite.count(out, start);
  for (let index = 0; index < count; index++) {
    const type = composite.type(index);
    out.pad(start, type.align);
    if (!type.writeDefault(out)) return false;
  }
  out.pad(start, composite.align);
  return true;
}

function unparseComposite(composite: Composite, data: ByteReader): string {
  let text = '';
  let expected = 0;
  const start = data.off;
  const count = composite.count(data, start);
  for (let index = 0; index < count; index++) {
    const type = composite.type(index);
    data.pad(start, type.align);
    if (data.skipDefault(type)) continue;
    text += ` ${composite.label(index, expected)}${type.unparse(data)}`;
    expected = index + 1;
  }
  skipPadding(composite, data, start);
  return `${composite.open}${text}${text === '' ? '' : ' '}${composite.close}`;
}

function readComposite<T>(composite: Composite, data: ByteReader, read: (type: ParseType) => T): T[] {
  const values: T[] = [];
  const start = data.off;
  const count = composite.count(data, start);
  for (let index = 0; index < count; index++) {
    const type = composite.type(index);
    data.pad(start, type.align);
    values.push(read(type));
  }
  skipPadding(composite, data, start);
  return values;
}

/** A structure that ends the data is as good without its padding. */
function skipPadding(composite: Composite, data: ByteReader, start: number): void {
  if (data.off < data.bytes.length) data.pad(start, composite.align);
}

/** Bytes, written as an array of hexadecimal ones; a string in quotes is taken too. */
export function byteArray(length: ArrayLength): ParseType<Uint8Array> {
  const asArray = arrayType(hint8, length);
  return {
    align: 1,
    parse: (text, out) => {
      if (text.peek().token !== 'string') return asArray.parse(text, out);
      const bytes = text.string();
      const room = length(out, out.length);
      if (bytes.length > room) throw new ParseError('E2BIG', `a string of ${bytes.length} bytes, where ${room} fit`);
      const at = out.extend(room);
      out.bytes.set(bytes, at);
    },
    unparse: (data) => asArray.unparse(data),
    writeDefault: (out) => asArray.writeDefault(out),
    pack: (value, out) => out.put(value),
    unpack: (data) => {
      const n = length(data, data.off);
      const at = data.take(n);
      return data.bytes.slice(at, at + n);
    },
  };
}

/** arglen of the header that ends where the data begins */
const arglen: ArrayLength = ({ view }, at) =>
  at >= NG_MESG_HDR_LEN ? view.getUint32(at - NG_MESG_HDR_LEN + 4, true) : 0;

/** struct ng_mesg: a message within a message. */
export const ngMesg = struct({
  version: uint8,
  spare: uint8,
  spare2: uint16,
  arglen: uint32,
  cmd: uint32,
  flags: hint32,
  token: uint32,
  typecookie: uint32,
  cmdstr: cmdbuf,
  data: byteArray(arglen),
});
