/**
 * Getting hold of a tap: an interface that is there, or a new one; and what stands in the way, in words.
 *
 * A persistent tap that belongs to this user (ip tuntap add NAME mode tap user USER) is attached
 * without any privilege. To make one, or to change one, needs CAP_NET_ADMIN.
 */

import type { Log } from '../../engine/runtime.js';
import { NetbeError, type NetbeErrorKind } from '../../errors.js';
import type { Fd } from '../../sys/fd.js';
import { getLink, type LinkChange, type LinkInfo, setLink } from '../../sys/netlink.js';
import { getuid } from '../../sys/process.js';
import {
  IFF_MULTI_QUEUE,
  IFF_NO_PI,
  IFF_TAP,
  IFF_VNET_HDR,
  openTun,
  tunAttach,
  tunFeatures,
  tunSetPersist,
} from '../../sys/tun.js';
import { formatMac } from '../../wire/ethernet.js';
import type { TapOptions } from './options.js';

export interface AttachedTap {
  /** one descriptor a queue */
  readonly fds: readonly Fd[];
  /** whether frames carry a virtio-net header */
  readonly vnetHdr: boolean;
  /** the interface, once it is set up */
  readonly link: LinkInfo;
}

export interface AttachRequest {
  device: string;
  options: TapOptions;
  /** the interface stays when it is closed (vmnet) */
  persistent: boolean;
  log: Log;
}

/** Attaches to the interface, and sets it up. Throws NetbeError with nothing left open. */
export function attachTap(request: AttachRequest): AttachedTap {
  const { options, persistent } = request;
  const { interfaceName: name, queues } = options;
  const fds: Fd[] = [];
  try {
    fds.push(openTun());
    const features = tunFeatures(fds[0]!.number);
    const vnetHdr = (features & IFF_VNET_HDR) !== 0;
    const flags = IFF_TAP | IFF_NO_PI | (vnetHdr ? IFF_VNET_HDR : 0) | (queues > 1 ? IFF_MULTI_QUEUE : 0);
    const before = getLink(name);
    for (let i = 0; i < queues; i++) {
      if (i > 0) fds.push(openTun());
      try {
        tunAttach(fds[i]!.number, name, flags);
      } catch (error) {
        throw explain(error, request, before);
      }
    }
    const link = setUp(request);
    if (persistent && !link.tun?.persistent) tunSetPersist(fds[0]!.number, true);
    return { fds, vnetHdr, link };
  } catch (error) {
    for (const fd of fds) fd.close();
    throw error;
  }
}

/** Brings the interface into the state asked for. Whatever is so already is left alone: that needs no privilege. */
function setUp({ device, options, log }: AttachRequest): LinkInfo {
  const { interfaceName: name, mtu, mac, bridge } = options;
  const link = existing(name, device);
  if (mtu !== undefined && mtu !== link.mtu) change(device, link, { mtu }, `mtu=${mtu}`);
  if (mac !== undefined && formatMac(mac) !== link.mac) change(device, link, { mac }, `mac=${formatMac(mac)}`);
  if (bridge !== undefined) {
    const master = findBridge(device, bridge);
    if (master !== link.master) change(device, link, { master }, `bridge=${bridge}`);
  }
  if (!link.up) bringUp(device, link, log);
  return existing(name, device);
}

function existing(name: string, device: string): LinkInfo {
  const link = getLink(name);
  if (link !== undefined) return link;
  throw new NetbeError(`${device}: interface ${name} went away while it was set up`, {
    code: 'ENODEV',
    kind: 'runtime',
    subject: name,
    remedy: 'Something else deletes it: stop that, and try again.',
  });
}

function change(device: string, { index, name }: LinkInfo, what: LinkChange, words: string): void {
  try {
    setLink(index, what, `${device}: ${words} could not be set on interface ${name}`);
  } catch (error) {
    if (!(error instanceof NetbeError) || error.code !== 'EPERM') throw error;
    throw new NetbeError(error.message, {
      ...fieldsOf(error),
      remedy: `That needs CAP_NET_ADMIN: run as root, or let root do it beforehand (ip link set ${name} …) and leave the option out.`,
    });
  }
}

function findBridge(device: string, bridge: string): number {
  const link = getLink(bridge);
  const refuse = (why: string, remedy: string): NetbeError =>
    new NetbeError(`${device}: bridge=${bridge}: ${why}`, { code: 'EINVAL', kind: 'usage', subject: bridge, remedy });
  if (link === undefined) throw refuse('there is no such interface', `Make it: ip link add ${bridge} type bridge.`);
  if (link.kind !== 'bridge')
    throw refuse(`the interface is ${describeKind(link)}, not a bridge`, 'Name a bridge (ip link show type bridge).');
  return link.index;
}

/** An interface that is down carries nothing; who may not bring it up is told, for somebody else can. */
function bringUp(device: string, link: LinkInfo, log: Log): void {
  try {
    setLink(link.index, { up: true }, device);
  } catch (error) {
    if (!(error instanceof NetbeError) || error.code !== 'EPERM') throw error;
    log.warn(
      { device, interface: link.name },
      `interface ${link.name} is down, and bringing it up needs CAP_NET_ADMIN: nothing passes until root does (ip link set ${link.name} up)`,
    );
  }
}

// ---- why an attachment failed ----

function explain(error: unknown, { device, options }: AttachRequest, link: LinkInfo | undefined): unknown {
  if (!(error instanceof NetbeError)) return error;
  const { interfaceName: name, queues } = options;
  const say = (message: string, kind: NetbeErrorKind, remedy: string): NetbeError =>
    new NetbeError(`${device}: ${message}`, { ...fieldsOf(error), kind, subject: name, remedy, cause: error });
  const user = getuid();
  if (error.code === 'EPERM' && link === undefined)
    return say(
      `interface ${name} does not exist, and making it needs CAP_NET_ADMIN`,
      'environment',
      `Let root make it once: ip tuntap add ${name} mode tap user ${user}${queues > 1 ? ' multi_queue' : ''} && ip link set ${name} up; or run as root.`,
    );
  if (link !== undefined && link.kind !== 'tun')
    return say(`interface ${name} is ${describeKind(link)}, not a tap`, 'usage', 'Choose another name.');
  if (link?.tun?.type === 'tun')
    return say(
      `interface ${name} is a tun (IP packets), not a tap (Ethernet frames)`,
      'usage',
      `Choose another name, or make it anew: ip tuntap del ${name} mode tun; ip tuntap add ${name} mode tap user ${user}.`,
    );
  if (error.code === 'EPERM' || error.code === 'EACCES')
    return say(
      `interface ${name} belongs to ${ownerOf(link)}, and this process is user ${user} without CAP_NET_ADMIN`,
      'environment',
      `Make it this user's: ip tuntap add ${name} mode tap user ${user} (after ip tuntap del ${name} mode tap), or run as its owner.`,
    );
  if (error.code === 'EINVAL' && link?.tun !== undefined && link.tun.multiQueue !== queues > 1)
    return link.tun.multiQueue
      ? say(`interface ${name} is a multi-queue tap, but queues=${queues}`, 'usage', 'Give queues=2 or more.')
      : say(
          `interface ${name} is a tap with one queue, but queues=${queues}`,
          'usage',
          `Leave queues out, or make it anew: ip tuntap add ${name} mode tap multi_queue user ${user}.`,
        );
  if (error.code === 'EBUSY' || error.code === 'E2BIG')
    return say(
      `interface ${name} is in use by another process`,
      'usage',
      `Stop that process (grep -lw ${name} /proc/[0-9]*/fdinfo/* shows which), or choose another interface.`,
    );
  return say(error.message, error.kind, error.remedy ?? 'See ip -d link show.');
}

function describeKind({ kind }: LinkInfo): string {
  return kind === '' ? 'a network card' : `of kind ${kind}`;
}

function ownerOf(link: LinkInfo | undefined): string {
  const owner = link?.tun?.owner;
  return owner === undefined ? 'no user' : `user ${owner}`;
}

function fieldsOf({ code, kind, errno, syscall, subject }: NetbeError) {
  return {
    code,
    kind,
    ...(errno === undefined ? {} : { errno }),
    ...(syscall === undefined ? {} : { syscall }),
    ...(subject === undefined ? {} : { subject }),
  };
}
