/**
 * Port names as nm_open(3) and nmport_prepare(3) of netmap read them:
 *
 *   netmap:IF  valeS:P        an interface, or a port that netmap makes; a port of the VALE switch S
 *     {ID  }ID                master and slave end of pipe ID of that port
 *     ^  ^N  *  -N            the host's rings, one of them; all rings and the host's; one ring
 *     /FLAGS                  x exclusive, t r z monitor of what is sent, received, both without copies,
 *                             R T rings of one direction
 *     @N                      in the memory region N
 *     @share=PORT @conf:… @extmem:… @offset:…     options, after all else (port-options.ts)
 *
 * A hyphen begins a ring only where digits end the name: Linux, unlike netmap, has interfaces named
 * "br-lan". Where both readings are possible the port that exists wins. Names that cannot be read are
 * usage errors that point at the character; so do those who cannot open what a name asks for, with
 * `portNameError`.
 */
import { NetbeError, usageError } from '../errors.js';
import {
  NETMAP_REQ_IFNAMSIZ,
  NETMAP_RING_MASK,
  NR_EXCLUSIVE,
  NR_MONITOR_RX,
  NR_MONITOR_TX,
  NR_REG_ALL_NIC,
  NR_REG_NIC_SW,
  NR_REG_ONE_NIC,
  NR_REG_ONE_SW,
  NR_REG_SW,
  NR_RX_RINGS_ONLY,
  NR_TX_RINGS_ONLY,
  NR_ZCOPY_MON,
} from './abi-register.js';
import { type PortOptions, readPortOptions } from './port-options.js';

export interface PipeEnd {
  readonly role: 'master' | 'slave';
  readonly id: string;
}

/** Which part of a name an error is about. */
export type PortNamePart = 'name' | 'pipe' | 'mode' | 'flags' | 'memId' | 'options';

export interface NetmapPortName {
  /** as it was written */
  readonly text: string;
  readonly kind: 'netmap' | 'vale';
  /** "vale0" of vale0:p, else "" */
  readonly switchName: string;
  /** the interface, or the port within its switch: "eth0", "p" */
  readonly portName: string;
  /** nr_name of the port, and of the port whose pipe it is: "eth0", "vale0:p" */
  readonly baseName: string;
  /** nr_name: "eth0", "vale0:p{1" */
  readonly name: string;
  readonly pipe: PipeEnd | undefined;
  /** NR_REG_ALL_NIC, NR_REG_SW, NR_REG_NIC_SW, NR_REG_ONE_NIC or NR_REG_ONE_SW */
  readonly mode: number;
  /** which ring, where the mode is of one */
  readonly ringId: number;
  /** NR_EXCLUSIVE, NR_MONITOR_TX, NR_MONITOR_RX, NR_ZCOPY_MON, NR_RX_RINGS_ONLY, NR_TX_RINGS_ONLY */
  readonly flags: number;
  /** memory region, 0 where it is left open */
  readonly memId: number;
  readonly options: PortOptions;
  /** offset in `text` of each part that is there */
  readonly at: Readonly<Partial<Record<PortNamePart, number>>> & { readonly name: number };
}

/** longest name with its options: more than a path in one of them */
const MAX_TEXT = 4608;
/** longest name of an interface: IFNAMSIZ and its NUL */
const MAX_IFNAME = 15;

const FLAGS: Readonly<Record<string, number>> = {
  x: NR_EXCLUSIVE,
  z: NR_ZCOPY_MON,
  t: NR_MONITOR_TX,
  r: NR_MONITOR_RX,
  R: NR_RX_RINGS_ONLY,
  T: NR_TX_RINGS_ONLY,
};

const PIPE_ROLES: Readonly<Record<string, PipeEnd['role']>> = { '{': 'master', '}': 'slave' };

/**
 * Parses `text`. `exists` tells whether there is a port of that nr_name ("br-1", "vale0:vm-1"), which then
 * is the port's name although its end could be a ring. Throws a usage error that points at the character.
 */
export function parsePortName(text: string, exists: (nrName: string) => boolean = () => false): NetmapPortName {
  return new PortNameReader(text, exists).read();
}

/** Is `text` meant as a port's name (netmap:… or vale…:…), well-formed or not? */
export function isPortName(text: string): boolean {
  return /^(?:netmap|vale\w*):/.test(text);
}

/** `name` cannot be had because of one of its parts: a usage error that points there. */
export function portNameError(
  name: NetmapPortName,
  part: PortNamePart,
  why: string,
  remedy?: string,
  code = 'EINVAL',
): NetbeError {
  return pointAt(name.text, name.at[part] ?? name.at.name, why, remedy, code);
}

function pointAt(
  text: string,
  at: number,
  why: string,
  remedy = 'Write netmap:IF or valeN:PORT:',
  code = 'EINVAL',
): NetbeError {
  return new NetbeError(`port name "${text}", character ${at + 1}: ${why}`, {
    code,
    kind: 'usage',
    subject: text,
    remedy: `${remedy}\n  ${text}\n  ${' '.repeat(at)}^`,
  });
}

class PortNameReader {
  readonly #text: string;
  readonly #exists: (nrName: string) => boolean;
  readonly #at: { -readonly [P in PortNamePart]?: number } & { name: number } = { name: 0 };
  /** offset of the next character */
  #off = 0;
  #mode = NR_REG_ALL_NIC;
  #ringId = 0;
  #flags = 0;
  #memId = 0;

  constructor(text: string, exists: (nrName: string) => boolean) {
    this.#text = text;
    this.#exists = exists;
  }

  read(): NetmapPortName {
    const text = this.#text;
    if (text.length > MAX_TEXT)
      throw usageError(
        `a port name of ${text.length} characters: with its options it can have ${MAX_TEXT}`,
        text.slice(0, 64),
      );
    const { kind, switchName } = this.#readPrefix();
    this.#at.name = this.#off;
    const nameOff = kind === 'vale' ? 0 : this.#off;
    const portName = this.#readPort(kind, text.slice(nameOff, this.#off));
    const baseName = text.slice(nameOff, this.#off);
    const pipe = this.#readPipe();
    const name = text.slice(nameOff, this.#off);
    if (name.length >= NETMAP_REQ_IFNAMSIZ)
      throw this.#error(
        nameOff + NETMAP_REQ_IFNAMSIZ - 1,
        `names of ports have ${NETMAP_REQ_IFNAMSIZ - 1} characters at most`,
      );
    this.#readMode(pipe);
    this.#readFlagsAndMemory();
    const options = this.#readOptions();
    return {
      text,
      kind,
      switchName,
      portName,
      baseName,
      name,
      pipe,
      mode: this.#mode,
      ringId: this.#ringId,
      flags: this.#flags,
      memId: this.#memId,
      options,
      at: this.#at,
    };
  }

  #readPrefix(): { kind: NetmapPortName['kind']; switchName: string } {
    const text = this.#text;
    const prefix = /^(?:netmap|vale)/.exec(text)?.[0];
    if (prefix === undefined) throw this.#error(0, 'it must begin with "netmap:" or "vale"');
    const colon = text.indexOf(':');
    if (colon < 0) throw this.#error(text.length, 'the colon after the prefix is missing');
    const identifier = text.slice(prefix.length, colon);
    const bad = (prefix === 'netmap' ? /./ : /\W/).exec(identifier);
    if (bad !== null)
      throw this.#error(
        prefix.length + bad.index,
        prefix === 'netmap' ? 'a colon must follow "netmap"' : 'names of switches are letters, digits and underscores',
      );
    this.#off = colon + 1;
    return { kind: prefix as NetmapPortName['kind'], switchName: prefix === 'vale' ? text.slice(0, colon) : '' };
  }

  /** The port's name up to its pipe, mode, flags or options; `before` is what nr_name has before it. */
  #readPort(kind: NetmapPortName['kind'], before: string): string {
    const what = kind === 'vale' ? 'port' : 'interface';
    const rest = this.#text.slice(this.#off);
    if (rest === '') throw this.#error(this.#off, `the name of ${what === 'port' ? 'a' : 'an'} ${what} is missing`);
    // a pipe's end is one even where nr_name of an open one says the same
    const isWhole = !/[{}]/.test(rest) && this.#exists(before + rest);
    const length = isWhole ? rest.length : this.#nameLength(before, rest);
    if (length === 0)
      throw this.#error(this.#off, `the name of ${what === 'port' ? 'a' : 'an'} ${what} must come before "${rest[0]}"`);
    const name = rest.slice(0, length);
    // Linux allows nearly anything; of what there is none it cannot be known what is meant
    const exists = kind === 'netmap' && this.#exists(name);
    const bad = (exists ? /[\s:\0]/ : kind === 'vale' ? /[^\w.-]/ : /[^\w.+-]/).exec(name);
    if (bad !== null) throw this.#error(this.#off + bad.index, `no ${what} has this character in its name`);
    if (kind === 'netmap' && name.length > MAX_IFNAME)
      throw this.#error(this.#off + MAX_IFNAME, `names of interfaces have ${MAX_IFNAME} characters at most`);
    this.#off += length;
    return name;
  }

  #nameLength(before: string, rest: string): number {
    const end = /[*^{}/@]/.exec(rest)?.index ?? rest.length;
    const name = rest.slice(0, end);
    if (this.#exists(before + name)) return end;
    return /-\d+$/.exec(name)?.index ?? end;
  }

  #readPipe(): PipeEnd | undefined {
    const role = PIPE_ROLES[this.#next()];
    if (role === undefined) return undefined;
    this.#at.pipe = this.#off++;
    const id = this.#take(/^\w+/);
    if (id === '') throw this.#error(this.#off, 'the name of the pipe is missing: letters, digits and underscores');
    return { role, id };
  }

  #readMode(pipe: PipeEnd | undefined): void {
    const sign = this.#next();
    if (sign !== '^' && sign !== '*' && sign !== '-') return;
    if (pipe !== undefined && sign !== '-') throw this.#error(this.#off, 'a pipe has no rings of a host');
    this.#at.mode = this.#off++;
    if (sign === '*') this.#mode = NR_REG_NIC_SW;
    else if (sign === '^' && !/\d/.test(this.#next())) this.#mode = NR_REG_SW;
    else {
      this.#mode = sign === '^' ? NR_REG_ONE_SW : NR_REG_ONE_NIC;
      this.#ringId = this.#number('a ring', NETMAP_RING_MASK - 1, 0);
    }
  }

  /** /FLAGS and @N, in any order. */
  #readFlagsAndMemory(): void {
    for (;;) {
      if (this.#next() === '/') this.#readFlags();
      else if (/^@(?:\d|$)/.test(this.#text.slice(this.#off))) this.#readMemory();
      else break;
    }
    const oneDirection = NR_RX_RINGS_ONLY | NR_TX_RINGS_ONLY;
    if ((this.#flags & oneDirection) === oneDirection)
      throw this.#error(this.#at.flags ?? 0, 'R leaves the rings that receive and T those that send: together none');
    // as netmap does: monitors without copies watch both directions
    if ((this.#flags & NR_ZCOPY_MON) !== 0) this.#flags |= NR_MONITOR_TX | NR_MONITOR_RX;
  }

  #readFlags(): void {
    this.#at.flags ??= this.#off;
    this.#off++;
    while (this.#next() !== '' && this.#next() !== '@') {
      const flag = FLAGS[this.#next()];
      if (flag === undefined) throw this.#error(this.#off, 'the flags are x, z, t, r, R and T');
      this.#flags |= flag;
      this.#off++;
    }
  }

  #readMemory(): void {
    const at = this.#off++;
    const memId = this.#number('a memory region', 0xffff, 1);
    if (this.#memId !== 0 && this.#memId !== memId)
      throw this.#error(at, `two memory regions, ${this.#memId} and ${memId}`);
    this.#at.memId ??= at;
    this.#memId = memId;
  }

  #readOptions(): PortOptions {
    const next = this.#next();
    if (next === '@') this.#at.options = this.#off;
    else if (next !== '') {
      const { pipe, mode, memId } = this.#at;
      const expected = [pipe, mode, memId].some((at) => at !== undefined)
        ? 'is not expected here'
        : 'asks for nothing that netmap knows';
      throw this.#error(this.#off, `"${next}" ${expected}`);
    }
    return readPortOptions(this.#text, this.#off, (at, reason) => this.#error(at, reason));
  }

  #number(what: string, max: number, min: number): number {
    const at = this.#off;
    const digits = this.#take(/^\d+/);
    if (digits === '') throw this.#error(at, `the number of ${what} is missing`);
    const value = Number(digits);
    if (value < min || value > max) throw this.#error(at, `the number of ${what} is ${min} to ${max}`);
    return value;
  }

  /** The next character, "" at the end. */
  #next(): string {
    return this.#text.charAt(this.#off);
  }

  #take(pattern: RegExp): string {
    const taken = pattern.exec(this.#text.slice(this.#off))?.[0] ?? '';
    this.#off += taken.length;
    return taken;
  }

  #error(at: number, why: string): NetbeError {
    return pointAt(this.#text, at, why);
  }
}
