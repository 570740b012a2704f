/**
 * Addresses as pkt-gen takes them: `ADDRESS[:PORT]`, a range as `LOW[:PORT]-HIGH[:PORT]`.
 *
 * An IPv6 address with a port stands in brackets, and `GROUP@` before it names the one of its eight 16-bit groups
 * that a range runs over (0 to 7, the last one by default).
 */
import { isIPv4, isIPv6 } from 'node:net';
import { macPattern } from '../../control/nic-spec.js';
import { usageError } from '../../errors.js';

export type AddressFamily = 4 | 6;

export interface IpRange {
  /** as it was given */
  text: string;
  /** first address, 4 or 16 bytes in network order */
  address: number[];
  /** bytes of the address that run from `low` to `high`: where they begin, and how many (4 or 2) */
  runOff: number;
  runLen: number;
  low: number;
  high: number;
  portLow: number;
  portHigh: number;
}

const DEFAULT_PORT = 1234;

interface End {
  address: number[];
  port: number;
  group: number | undefined;
}

export function parseIpRange(text: string, family: AddressFamily, option: string): IpRange {
  const dash = text.indexOf('-');
  const first = parseEnd(dash < 0 ? text : text.slice(0, dash), family, option, text);
  const last = dash < 0 ? first : parseEnd(text.slice(dash + 1), family, option, text, first.port);
  const group = first.group ?? last.group ?? 7;
  const [runOff, runLen] = family === 4 ? [0, 4] : [2 * group, 2];
  const runOf = ({ address }: End) => address.slice(runOff, runOff + runLen).reduce((sum, b) => sum * 256 + b, 0);
  const [low, high] = sorted(runOf(first), runOf(last));
  const [portLow, portHigh] = sorted(first.port, last.port);
  const start = runOf(first) <= runOf(last) ? first : last;
  return { text, address: start.address, runOff, runLen, low, high, portLow, portHigh };
}

/** Whether it is more than one address and port. */
export function isRange({ low, high, portLow, portHigh }: IpRange): boolean {
  return low !== high || portLow !== portHigh;
}

function sorted(a: number, b: number): [number, number] {
  return a <= b ? [a, b] : [b, a];
}

function parseEnd(end: string, family: AddressFamily, option: string, whole: string, port = DEFAULT_PORT): End {
  const wrong = (why: string) =>
    usageError(
      `-${option} ${whole}: ${why}`,
      whole,
      family === 4
        ? 'Write ADDRESS, ADDRESS:PORT or LOW:PORT-HIGH:PORT, for instance 10.0.0.1:1000-10.0.0.9:2000.'
        : 'Write ADDRESS, [ADDRESS]:PORT or GROUP@[LOW]:PORT-GROUP@[HIGH]:PORT, for instance 7@[fd00::1]:1000-[fd00::9]:2000.',
    );
  const pattern =
    family === 4
      ? /^(?<address>[\d.]+)(?::(?<port>\d+))?$/
      : /^(?:(?<group>\d+)@)?(?:\[(?<boxed>[^\]]*)\](?::(?<port>\d+))?|(?<address>[^[\]]+))$/;
  const groups = pattern.exec(end)?.groups;
  const address = groups?.address ?? groups?.boxed ?? end;
  if (groups === undefined || !(family === 4 ? isIPv4(address) : isIPv6(address)))
    throw wrong(`"${end}" is not an IPv${family} address with a port`);
  const number = groups.port === undefined ? port : Number(groups.port);
  if (number > 65535) throw wrong(`port ${groups.port} is above 65535`);
  const group = groups.group === undefined ? undefined : Number(groups.group);
  if (group !== undefined && group > 7) throw wrong(`an IPv6 address has groups 0 to 7, not ${group}`);
  return { address: family === 4 ? address.split('.').map(Number) : ipv6Bytes(address), port: number, group };
}

/** Of an address that isIPv6 has passed. */
function ipv6Bytes(text: string): number[] {
  const plain = text.replace(/%.*$/, '').replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_, a, b, c, d) => {
    const hex = (hi: string, lo: string) => (Number(hi) * 256 + Number(lo)).toString(16);
    return `${hex(a, b)}:${hex(c, d)}`;
  });
  const [head = '', tail] = plain.split('::');
  const words = (part: string) => (part === '' ? [] : part.split(':').map((word) => Number.parseInt(word, 16)));
  const before = words(head);
  const after = tail === undefined ? [] : words(tail);
  const zeros = new Array(tail === undefined ? 0 : 8 - before.length - after.length).fill(0);
  return [...before, ...zeros, ...after].flatMap((word) => [word >> 8, word & 0xff]);
}

/** Six bytes. */
export function parseMac(text: string, option: string): number[] {
  if (!macPattern.test(text))
    throw usageError(
      `-${option} ${text}: not a MAC address`,
      text,
      'Write six bytes in hexadecimal with colons, for instance 02:00:00:00:00:01.',
    );
  return text.split(':').map((byte) => Number.parseInt(byte, 16));
}
