/**
 * Options at the end of a port's name (libnetmap.h): `@share=PORT`, `@conf:rings=2,slots=512`,
 * `@extmem=FILE`, `@offset=64`. A key left out is 0 or undefined: netmap chooses. In a key a hyphen is as
 * good as an underscore. What has two keys for one thing (rings, tx-rings) takes the more specific one.
 */
import type { NetbeError } from '../errors.js';

export interface PortConf {
  readonly txRings: number;
  readonly rxRings: number;
  readonly hostTxRings: number;
  readonly hostRxRings: number;
  readonly txSlots: number;
  readonly rxSlots: number;
}

/** A file as memory, and how its pools are cut. */
export interface PortExtmem {
  readonly file: string;
  readonly ifNum: number;
  readonly ifSize: number;
  readonly ringNum: number;
  readonly ringSize: number;
  readonly bufNum: number;
  readonly bufSize: number;
}

/** Where frames begin in their buffers, kept in the `ptr` field of slots. */
export interface PortOffset {
  readonly initial: number;
  readonly bits: number;
}

export interface PortOptions {
  /** name of the port whose memory is to be shared */
  readonly share?: string;
  readonly conf?: PortConf;
  readonly extmem?: PortExtmem;
  readonly offset?: PortOffset;
}

type Fail = (at: number, why: string) => NetbeError;

interface OptionForm {
  /** what `@option=VALUE` sets; it must be set, unless the option is conf */
  readonly main: string;
  readonly mustSet: boolean;
  readonly keys: readonly string[];
}

const forms: Readonly<Record<keyof PortOptions, OptionForm>> = {
  share: { main: 'port', mustSet: true, keys: ['port'] },
  conf: {
    main: 'rings',
    mustSet: false,
    keys: [
      ...['rings', 'host-rings', 'slots', 'tx-rings', 'rx-rings'],
      ...['host-tx-rings', 'host-rx-rings', 'tx-slots', 'rx-slots'],
    ],
  },
  extmem: {
    main: 'file',
    mustSet: true,
    keys: ['file', 'if-num', 'if-size', 'ring-num', 'ring-size', 'buf-num', 'buf-size'],
  },
  offset: { main: 'initial', mustSet: true, keys: ['initial', 'bits'] },
};

/** keys whose values are not numbers */
const textKeys: ReadonlySet<string> = new Set(['port', 'file']);

interface Value {
  readonly text: string;
  readonly at: number;
}

/** Reads `text` from `off` on, where it ends or an option begins. */
export function readPortOptions(text: string, off: number, fail: Fail): PortOptions {
  const options: { -readonly [P in keyof PortOptions]: PortOptions[P] } = {};
  for (let at = off; at < text.length; ) {
    const next = text.indexOf('@', at + 1);
    const end = next < 0 ? text.length : next;
    const body = text.slice(at + 1, end);
    const name = /^[^:=]*/.exec(body)?.[0] ?? '';
    if (name === '') throw fail(at + 1, 'the name of an option is missing');
    if (!isOption(name)) throw fail(at + 1, `the options are ${Object.keys(forms).join(', ')}`);
    if (options[name] !== undefined) throw fail(at + 1, `the option ${name} is there twice`);
    const values = readValues(name, body, at + 1, fail);
    if (name === 'share') options.share = shared(values, fail);
    else if (name === 'conf') options.conf = conf(values, fail);
    else if (name === 'extmem') options.extmem = extmem(values, fail);
    else options.offset = { initial: number(values, 'initial', fail), bits: number(values, 'bits', fail) };
    at = end;
  }
  return options;
}

function isOption(name: string): name is keyof PortOptions {
  return Object.hasOwn(forms, name);
}

/** The values by key of one option, `body`, which begins at `off`. */
function readValues(name: keyof PortOptions, body: string, off: number, fail: Fail): Map<string, Value> {
  const { main, mustSet, keys } = forms[name];
  const values = new Map<string, Value>();
  let at = name.length + 1;
  if (body.length < at) throw fail(off + body.length, `${name} needs a value: @${name}=… or @${name}:key=…`);
  if (body[name.length] === '=') {
    if (body.length === at) throw fail(off + at, `the value of ${name} is missing`);
    return values.set(main, { text: body.slice(at), at: off + at });
  }
  for (const field of body.slice(at).split(',')) {
    const split = field.indexOf('=');
    const key = (split < 0 ? field : field.slice(0, split)).replaceAll('_', '-');
    if (!keys.includes(key)) throw fail(off + at, `the keys of ${name} are ${keys.join(', ')}`);
    if (split < 0 || split === field.length - 1) throw fail(off + at + field.length, `the value of ${key} is missing`);
    if (values.has(key)) throw fail(off + at, `the key ${key} is there twice`);
    values.set(key, { text: field.slice(split + 1), at: off + at + split + 1 });
    at += field.length + 1;
  }
  if (mustSet && !values.has(main)) throw fail(off, `the option ${name} needs the key ${main}`);
  for (const key of values.keys()) if (!textKeys.has(key)) number(values, key, fail);
  return values;
}

function number(values: ReadonlyMap<string, Value>, key: string, fail: Fail): number {
  const value = values.get(key);
  if (value === undefined) return 0;
  if (!/^\d{1,10}$/.test(value.text) || Number(value.text) > 0xffffffff)
    throw fail(value.at, `the value of ${key} must be a number below 2^32`);
  return Number(value.text);
}

/** The first key that is there and not 0. */
function either(values: ReadonlyMap<string, Value>, fail: Fail, ...keys: string[]): number {
  for (const key of keys) if (number(values, key, fail) !== 0) return number(values, key, fail);
  return 0;
}

function shared(values: ReadonlyMap<string, Value>, fail: Fail): string {
  const port = values.get('port') as Value;
  if (!/^(?:netmap|vale\w*):[^\s/*^]+$/.test(port.text))
    throw fail(port.at, 'the port to share with is written netmap:NAME or valeN:PORT, without flags');
  return port.text;
}

function conf(values: ReadonlyMap<string, Value>, fail: Fail): PortConf {
  return {
    txRings: either(values, fail, 'tx-rings', 'rings'),
    rxRings: either(values, fail, 'rx-rings', 'rings'),
    hostTxRings: either(values, fail, 'host-tx-rings', 'host-rings'),
    hostRxRings: either(values, fail, 'host-rx-rings', 'host-rings'),
    txSlots: either(values, fail, 'tx-slots', 'slots'),
    rxSlots: either(values, fail, 'rx-slots', 'slots'),
  };
}

function extmem(values: ReadonlyMap<string, Value>, fail: Fail): PortExtmem {
  return {
    file: (values.get('file') as Value).text,
    ifNum: number(values, 'if-num', fail),
    ifSize: number(values, 'if-size', fail),
    ringNum: number(values, 'ring-num', fail),
    ringSize: number(values, 'ring-size', fail),
    bufNum: number(values, 'buf-num', fail),
    bufSize: number(values, 'buf-size', fail),
  };
}
