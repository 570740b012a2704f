/** Opening the host rings of an interface, and why it could not be done, in words. */
import { NetbeError, usageError } from '../../errors.js';
import type { WindowPool } from '../../memory/window.js';
import { ARPHRD_ETHER, type NetdevInfo } from '../../sys/netdev.js';
import { getLink } from '../../sys/netlink.js';
import { Closer } from './attach.js';
import type { OpenedHostPort } from './open.js';
import { hostTapName, StackPort } from './stack-port.js';

export function openHostRings(pool: WindowPool, info: NetdevInfo): OpenedHostPort {
  if (info.hardwareType !== ARPHRD_ETHER)
    throw usageError(
      `${info.name} is no Ethernet interface (hardware type ${info.hardwareType}): it has no host rings`,
      info.name,
    );
  if (getLink(info.index)?.genericXdp)
    throw new NetbeError(
      `the host rings of ${info.name} cannot be had while an XDP program is attached to it behind the driver: it would take what they give to the host for frames of the wire`,
      {
        code: 'EBUSY',
        kind: 'usage',
        subject: info.name,
        remedy: `If it is netmap:${info.name}, open that with mode=xdp-native or mode=packet.`,
      },
    );
  const closer = new Closer();
  try {
    return { port: closer.add(new StackPort(pool, info.index)), passedOver: [], warnings: [], closer };
  } catch (error) {
    closer.close();
    throw explain(error, info);
  }
}

function explain(error: unknown, { name, index }: NetdevInfo): unknown {
  if (!(error instanceof NetbeError)) return error;
  const say = (why: string, remedy: string | undefined): NetbeError =>
    new NetbeError(`the host rings of ${name}: ${why} (${error.message})`, {
      ...error,
      kind: 'environment',
      remedy: remedy ?? error.remedy,
      cause: error,
    });
  switch (error.code) {
    case 'EPERM':
    case 'EACCES':
      return say('not permitted', 'It takes CAP_NET_ADMIN and CAP_BPF, and /dev/net/tun: run as root.');
    case 'EBUSY':
      return new NetbeError(`the host rings of ${name} are open already, in another process`, {
        ...error,
        kind: 'usage',
        remedy: `Stop it (grep -lw ${hostTapName(index)} /proc/[0-9]*/fdinfo/* shows which).`,
        cause: error,
      });
    case 'EINVAL':
      return error.syscall === 'bpf'
        ? say('the kernel has no tcx programs', 'Linux 6.6 has them, built with CONFIG_NET_XGRESS.')
        : error;
    default:
      return error.kind === 'environment' ? say('this machine cannot have them', undefined) : error;
  }
}
