/**
 * Opening an interface in the best way that works: AF_XDP in the driver, AF_XDP behind it (generic), then
 * AF_PACKET. Why a better way did not work is kept, for the log and for `status`.
 */
import { NetbeError, usageError } from '../../errors.js';
import type { WindowPool } from '../../memory/window.js';
import { ARPHRD_ETHER, type NetdevInfo } from '../../sys/netdev.js';
import { getLink } from '../../sys/netlink.js';
import { XDP_PACKET_HEADROOM } from '../../sys/xsk.js';
import { Closer, cutHostOff } from './attach.js';
import { type HostMode, type HostPort, hostModes } from './host-port.js';
import { PacketPort } from './packet-port.js';
import { hostTapName } from './stack-port.js';
import { XskPort, type XskPortOptions } from './xsk-port.js';

/** an Ethernet header with two tags */
const MAX_L2_LEN = 22;
const SMALL_CHUNK = 2048;
const LARGE_CHUNK = 4096;

export interface HostPortOptions {
  mode: HostMode | 'auto';
  /** receive queues to take; 0: all */
  queues: number;
  slots: number;
  zeroCopy: 'auto' | 'on' | 'off';
}

export interface OpenedHostPort {
  port: HostPort;
  /** why each better mode is not used */
  passedOver: { mode: HostMode; why: string }[];
  /** what is not as it should be, and goes on all the same */
  warnings: string[];
  /** everything besides the port that keeps the interface taken */
  closer: Closer;
}

export function openHostPort(pool: WindowPool, info: NetdevInfo, options: HostPortOptions): OpenedHostPort {
  if (info.hardwareType !== ARPHRD_ETHER)
    throw usageError(
      `${info.name} is no Ethernet interface (hardware type ${info.hardwareType}): netmap:${info.name} cannot be opened`,
      info.name,
    );
  if (options.queues > info.rxQueues)
    throw usageError(
      `queues=${options.queues}: ${info.name} has ${info.rxQueues}`,
      `queues=${options.queues}`,
      `Give a number up to ${info.rxQueues}, or queues=all.`,
    );
  const modes = options.mode === 'auto' ? hostModes : [options.mode];
  const passedOver: OpenedHostPort['passedOver'] = [];
  const errors: unknown[] = [];
  for (const mode of modes) {
    const closer = new Closer();
    const warnings: string[] = [];
    try {
      const port = closer.add(openMode(pool, info, options, mode, warnings));
      if (mode !== 'packet') cut(info, closer, warnings);
      return { port, passedOver, warnings, closer };
    } catch (error) {
      closer.close();
      const explained = explain(error, info, mode);
      // somebody else has it: a mode that can be opened all the same would see nothing
      if (explained.code === 'EBUSY' || explained.code === 'EEXIST') throw explained;
      errors.push(explained);
      passedOver.push({ mode, why: explained.message });
    }
  }
  throw errors.length === 1 ? errors[0] : noneWorks(info, passedOver, errors);
}

function openMode(
  pool: WindowPool,
  info: NetdevInfo,
  options: HostPortOptions,
  mode: HostMode,
  warnings: string[],
): HostPort {
  if (mode === 'packet')
    return new PacketPort(pool, {
      ifindex: info.index,
      slots: options.slots,
      onHostNotCut: (error) => warnings.push(`the host goes on seeing its frames: ${messageOf(error)}`),
    });
  if (mode === 'xdp-generic' && getLink(hostTapName(info.index)) !== undefined)
    throw new NetbeError(`the host rings of ${info.name} are open: what they give to the host would be taken again`, {
      code: 'EOPNOTSUPP',
      kind: 'usage',
      subject: info.name,
      remedy: 'Use mode=xdp-native or mode=packet.',
    });
  let last: unknown;
  for (const attempt of attempts(info, options, mode)) {
    try {
      return new XskPort(pool, attempt);
    } catch (error) {
      last = error;
      // only what another attempt would do differently
      if (!(error instanceof NetbeError) || !['EINVAL', 'EOPNOTSUPP', 'ERANGE'].includes(error.code)) throw error;
    }
  }
  throw last;
}

/** Ways to open AF_XDP, best first. */
function attempts(info: NetdevInfo, options: HostPortOptions, mode: HostMode): XskPortOptions[] {
  const native = mode === 'xdp-native';
  const frameLen = info.mtu + MAX_L2_LEN;
  const fits = (chunk: number): boolean => frameLen <= chunk - XDP_PACKET_HEADROOM;
  const base = {
    ifindex: info.index,
    native,
    queues: options.queues === 0 ? info.rxQueues : options.queues,
    allQueues: info.rxQueues,
    slots: options.slots,
  };
  const zeroCopies = native ? { auto: [true, false], on: [true], off: [false] }[options.zeroCopy] : [false];
  const whole = { chunkSize: fits(SMALL_CHUNK) ? SMALL_CHUNK : LARGE_CHUNK, scatter: false };
  const scattered = { chunkSize: LARGE_CHUNK, scatter: true };
  // behind the driver frames may be many segments in one, whatever the MTU
  // in the driver the peer's MTU may forbid whole frames (veth)
  const shapes = !fits(LARGE_CHUNK) ? [scattered] : native ? [whole, scattered] : [scattered, whole];
  return zeroCopies.flatMap((zeroCopy) => shapes.map((shape) => ({ ...base, ...shape, zeroCopy })));
}

function cut(info: NetdevInfo, closer: Closer, warnings: string[]): void {
  try {
    cutHostOff(info.index, false, closer);
  } catch (error) {
    warnings.push(`the host can still send through ${info.name}: ${messageOf(error)}`);
  }
}

const capabilities: Record<HostMode, string> = {
  'xdp-native': 'CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF',
  'xdp-generic': 'CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF',
  packet: 'CAP_NET_RAW',
};

/** What errno means here: the value, the rule and what can be done. */
function explain(error: unknown, info: NetdevInfo, mode: HostMode): NetbeError {
  if (!(error instanceof NetbeError)) throw error;
  const { name } = info;
  const say = (why: string, remedy: string | undefined): NetbeError =>
    new NetbeError(`netmap:${name}, ${mode}: ${why} (${error.message})`, {
      ...error,
      remedy: remedy ?? error.remedy,
      cause: error,
    });
  switch (error.code) {
    case 'EPERM':
    case 'EACCES':
      return say('not permitted', `It takes ${capabilities[mode]}: run as root, or give netbe these capabilities.`);
    case 'EAFNOSUPPORT':
      return say(
        'the kernel has no such sockets',
        mode === 'packet' ? undefined : 'Use mode=packet, or a kernel with CONFIG_XDP_SOCKETS.',
      );
    case 'EBUSY':
    case 'EEXIST':
      if (error.syscall === 'bind')
        return say('the queue is taken by another AF_XDP socket', 'Stop the program that has it.');
      return say(
        'another XDP program is attached to it',
        `See "ip link show dev ${name}"; "ip link set dev ${name} xdp off" removes one that is attached without a link.`,
      );
    case 'ERANGE':
      return say(
        `the MTU is too large for XDP in this driver (that of a veth's peer counts, too)`,
        'Lower the MTU, or use mode=xdp-generic.',
      );
    case 'ENOSPC':
      return say(
        'too few queues for XDP in this driver',
        `A veth needs as many receive queues as its peer has transmit queues: ethtool -L ${name} rx N.`,
      );
    case 'EOPNOTSUPP':
      return error.syscall === undefined ? error : say('the driver cannot do this', undefined);
    case 'ENOBUFS':
    case 'ENOMEM':
      return say('no memory for the rings', 'Raise the limit of locked memory (ulimit -l), or give a smaller ring=.');
    default:
      return say('it cannot be opened so', undefined);
  }
}

function noneWorks(info: NetdevInfo, passedOver: OpenedHostPort['passedOver'], errors: readonly unknown[]): NetbeError {
  const last = errors[errors.length - 1] as NetbeError;
  return new NetbeError(
    `netmap:${info.name} can be opened in no way:\n${passedOver.map(({ why }) => `  ${why}`).join('\n')}`,
    { ...last, subject: info.name, remedy: last.remedy, cause: last },
  );
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
