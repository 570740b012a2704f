/**
 * Port names as nm_open(3) of netmap reads them:
 *
 *   netmap:IF[SUFFIX]
 *     {N  }N   master and slave end of pipe N          ^      the host's rings
 *     *        all rings, the host's too               -N ^N  one ring, one of the host's
 *     /FLAGS   x exclusive, z zero-copy monitor, t r monitor, R T rings of one direction
 *     @N       memory of identity N
 *
 * Only whole interfaces can be opened; every other form is recognised, and refused with the place of
 * the character that asks for it. A hyphen begins a ring only where digits end the name: Linux, unlike
 * netmap, has interfaces named "br-lan"; where both readings are possible the interface that exists wins.
 */
import { type NetbeError, usageError } from '../errors.js';

export interface NetmapPortName {
  readonly kind: 'netmap';
  readonly ifname: string;
}

const PREFIX = 'netmap:';

/** What each character that ends the interface's name asks for. */
const suffixes: Readonly<Record<string, string>> = {
  '{': 'the master end of a pipe',
  '}': 'the slave end of a pipe',
  '^': "the host's rings",
  '*': "all rings with the host's",
  '-': 'a single ring',
  '+': 'nothing that netmap knows',
  '/': 'flags',
  '@': 'a memory region',
};

/** Parses `text`. `exists` tells whether there is an interface of that name. Throws a usage error that points at the character. */
export function parsePortName(text: string, exists: (name: string) => boolean = () => false): NetmapPortName {
  if (!text.startsWith(PREFIX)) throw pointAt(text, 0, `it must begin with "${PREFIX}"`);
  const rest = text.slice(PREFIX.length);
  if (rest === '') throw pointAt(text, text.length, 'the name of an interface is missing');
  const end = exists(rest) ? rest.length : nameEnd(rest);
  const at = PREFIX.length + end;
  if (end === 0) throw pointAt(text, at, `the name of an interface must come before "${rest[0]}"`);
  const ifname = rest.slice(0, end);
  const bad = /[\s:]/.exec(ifname);
  if (bad !== null) throw pointAt(text, PREFIX.length + bad.index, 'no interface has this character in its name');
  if (end < rest.length) {
    const what = suffixes[rest[end] as string];
    throw pointAt(text, at, `"${rest.slice(end)}" asks for ${what}: only whole interfaces can be opened`);
  }
  return { kind: 'netmap', ifname };
}

/** Where the interface's name ends, and a suffix begins. */
function nameEnd(rest: string): number {
  const found = /[+*^{}/@]|-(?=\d+(?:[*^{}/@]|$))/.exec(rest);
  return found === null ? rest.length : found.index;
}

function pointAt(text: string, at: number, why: string): NetbeError {
  return usageError(
    `port name "${text}", character ${at + 1}: ${why}`,
    text,
    `Write netmap:IF with the name of an interface:\n  ${text}\n  ${' '.repeat(at)}^`,
  );
}
