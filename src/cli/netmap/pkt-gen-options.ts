/** What pkt-gen is asked to do: its options checked, and made plain data that a thread can be given. */
import { cpus } from 'node:os';
import { usageError } from '../../errors.js';
import type { VnetHdrLen } from '../../wire/vnet-header.js';
import { type AddressFamily, type IpRange, isRange, parseIpRange, parseMac } from './address-range.js';
import { parseRingConfig, type RingConfig } from './ring-config.js';

export const pktGenFunctions = ['tx', 'rx', 'ping', 'pong', 'txseq', 'rxseq'] as const;
export type PktGenFunction = (typeof pktGenFunctions)[number];

/** The bits of -o. */
export const OPT_PREFETCH = 1;
export const OPT_ACCESS = 2;
export const OPT_COPY = 4;
export const OPT_MEMCPY = 8;
export const OPT_TS = 16;
export const OPT_INDIRECT = 32;
export const OPT_DUMP = 64;
export const OPT_RUBBISH = 256;
export const OPT_RANDOM_SRC = 512;
export const OPT_RANDOM_DST = 1024;
export const OPT_PPS_STATS = 2048;
export const OPT_UPDATE_CSUM = 4096;

export const MAX_PKT_SIZE = 65536;
const MIN_PKT_SIZE = 16;
const MAX_FRAGS = 63;
/** bits of preamble, gap and frame check sequence that -B adds */
const FRAMING_BITS = 24 * 8;

/** As the command line gives them: text, by the option's long name. */
export interface PktGenArgs {
  interface?: string;
  function?: string;
  count?: string;
  length?: string[];
  burst?: string;
  ipv6?: boolean;
  dst?: string;
  src?: string;
  dstMac?: string;
  srcMac?: string;
  affinity?: string;
  cpus?: string;
  threads?: string;
  reportMs?: string;
  waitLink?: string;
  rate?: string;
  dump?: boolean;
  vnetHdr?: string;
  packetFile?: string;
  randomSrc?: boolean;
  randomDst?: boolean;
  normalize?: boolean;
  frags?: string;
  fragSize?: string;
  indirect?: boolean;
  noWait?: boolean;
  verbose?: number;
  rubbish?: boolean;
  average?: boolean;
  framing?: boolean;
  config?: string;
  options?: string;
}

export interface PktGenOptions {
  /** as it was given */
  interface: string;
  function: PktGenFunction;
  /** 0: for ever */
  packets: number;
  size: number;
  /** sizes are random, from this up to `size`; 0: all are of `size` */
  minSize: number;
  burst: number;
  family: AddressFamily;
  src: IpRange;
  dst: IpRange;
  /** undefined: that of the interface */
  srcMac: number[] | undefined;
  dstMac: number[];
  /** first processor, -1: any */
  affinity: number;
  cpus: number;
  threads: number;
  reportMs: number;
  waitLinkSec: number;
  /** frames a second, 0: as many as possible */
  rate: number;
  /** between two bursts where there is a rate */
  periodNs: number;
  /** OPT_* */
  options: number;
  vnetHdrLen: VnetHdrLen;
  packetFile: string | undefined;
  normalize: boolean;
  frags: number;
  /** Infinity: whole buffers */
  fragSize: number;
  /** wait for traffic for ever */
  forever: boolean;
  verbose: number;
  framingBits: number;
  config: RingConfig;
}

export function isSender(fn: PktGenFunction): boolean {
  return fn === 'tx' || fn === 'txseq';
}

export function isReceiver(fn: PktGenFunction): boolean {
  return fn === 'rx' || fn === 'rxseq';
}

export function parsePktGen(args: PktGenArgs): PktGenOptions {
  const fn = parseFunction(args.function ?? 'rx');
  if (args.interface === undefined)
    throw usageError('no interface is given', '-i', 'Name a port with -i: vale0:a, netmap:p{1, netmap:eth0.');
  const family = args.ipv6 ? 6 : 4;
  const src = parseIpRange(args.src ?? (family === 4 ? '10.0.0.1' : 'fd00::1'), family, 's');
  const dst = parseIpRange(args.dst ?? (family === 4 ? '10.1.0.1' : 'fd00:1::1'), family, 'd');
  const [size, minSize] = parseSizes(args.length ?? []);
  const rate = number(args.rate, 'R', 0, 0, 1e9);
  const limit = Math.floor(rate / 300);
  const asked = number(args.burst, 'b', 0, 0, 65536) || (fn === 'ping' || fn === 'pong' ? 1 : 512);
  // at least something every second: bursts of a hundredth of a second's worth
  const burst = rate === 0 ? asked : Math.max(1, Math.min(asked, limit));
  const available = cpus().length;
  const vale = args.interface.startsWith('vale');
  return {
    interface: args.interface,
    function: fn,
    packets: number(args.count, 'n', 0, 0, Number.MAX_SAFE_INTEGER),
    size,
    minSize,
    burst,
    family,
    src,
    dst,
    srcMac: args.srcMac === undefined ? undefined : parseMac(args.srcMac, 'S'),
    dstMac: parseMac(args.dstMac ?? 'ff:ff:ff:ff:ff:ff', 'D'),
    affinity: number(args.affinity, 'a', -1, -1, available - 1),
    cpus: number(args.cpus, 'c', 1, 0, available) || available,
    threads: number(args.threads, 'p', 1, 1, 16),
    reportMs: number(args.reportMs, 'T', 1000, 1, 3_600_000),
    waitLinkSec: number(args.waitLink, 'w', vale ? 0 : 2, 0, 3600),
    rate,
    periodNs: rate === 0 ? 0 : Math.floor((1e9 * burst) / rate),
    options: parseOptionBits(args, src, dst),
    vnetHdrLen: parseVnetHdr(args.vnetHdr),
    packetFile: args.packetFile,
    normalize: args.normalize ?? true,
    frags: number(args.frags, 'F', 1, 1, MAX_FRAGS),
    fragSize: args.fragSize === undefined ? Number.POSITIVE_INFINITY : number(args.fragSize, 'M', 0, 1, 65536),
    forever: !args.noWait,
    verbose: args.verbose ?? 0,
    framingBits: args.framing ? FRAMING_BITS : 0,
    config: parseRingConfig(args.config ?? '', '-C'),
  };
}

function parseFunction(text: string): PktGenFunction {
  const found = pktGenFunctions.find((fn) => fn === text);
  if (found) return found;
  throw usageError(`unrecognised function ${text}`, text, `-f is one of ${pktGenFunctions.join(', ')}.`);
}

function parseSizes(texts: readonly string[]): [number, number] {
  const [first, second, third] = texts;
  if (third !== undefined)
    throw usageError('-l is given more than twice', third, 'Once for a size, twice for a range.');
  const size = number(first, 'l', 60, MIN_PKT_SIZE, MAX_PKT_SIZE);
  const minSize = second === undefined ? 0 : number(second, 'l', 0, MIN_PKT_SIZE, size);
  return [size, minSize];
}

function parseOptionBits(args: PktGenArgs, src: IpRange, dst: IpRange): number {
  const flag = (on: boolean | undefined, bit: number) => (on ? bit : 0);
  return (
    number(args.options, 'o', 0, 0, 8191) |
    flag(args.indirect, OPT_INDIRECT) |
    flag(args.dump, OPT_DUMP) |
    flag(args.rubbish, OPT_RUBBISH) |
    flag(args.randomSrc, OPT_RANDOM_SRC | OPT_COPY) |
    flag(args.randomDst, OPT_RANDOM_DST | OPT_COPY) |
    flag(args.average, OPT_PPS_STATS) |
    flag(isRange(src) || isRange(dst), OPT_COPY)
  );
}

function parseVnetHdr(text: string | undefined): VnetHdrLen {
  const value = number(text, 'H', 0, 0, 12);
  if (value === 0 || value === 10 || value === 12) return value;
  throw usageError('bad virtio-net-header length', text, '-H is 0, 10 or 12.');
}

function number(text: string | undefined, option: string, fallback: number, min: number, max: number): number {
  if (text === undefined) return fallback;
  const value = Number(text);
  if (/^-?\d{1,16}$/.test(text) && value >= min && value <= max) return value;
  const most = max === Number.MAX_SAFE_INTEGER ? 'on' : `to ${max}`;
  throw usageError(`-${option} ${text}: not a number from ${min} ${most}`, text);
}

/** The names of what -o and its kin ask for, as pkt-gen says them. */
export function specialOptions(options: number): string {
  const names: [number, string][] = [
    [OPT_PREFETCH, ' prefetch'],
    [OPT_ACCESS, ' access'],
    [OPT_MEMCPY, ' memcpy'],
    [OPT_INDIRECT, ' indirect'],
    [OPT_COPY, ' copy'],
    [OPT_RUBBISH, ' rubbish '],
  ];
  return names.map(([bit, name]) => ((options & bit) === 0 ? '' : name)).join('');
}
