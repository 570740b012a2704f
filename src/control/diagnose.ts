/**
 * Why there are no packets: what state each thing on a frame's way is in, in words, in the order in
 * which they come up. `netbe show NIC` prints it.
 */
import { meaningOf, nicTotals } from './counter-names.js';
import type { Counters, Emulation, NicInfo, SwitchInfo } from './fabric-types.js';

export interface Finding {
  /** ok: as it should be; note: good to know; problem: frames do not pass because of it */
  level: 'ok' | 'note' | 'problem';
  text: string;
  remedy?: string;
}

export function diagnose(nic: NicInfo, counters: Counters, switches: readonly SwitchInfo[]): Finding[] {
  const findings = [connection(nic), ...lastTrouble(nic)];
  if (nic.transport.state === 'connected') findings.push(...memory(nic), driver(nic), ...rings(nic));
  findings.push(link(nic), ...network(nic, switches), ...traffic(nic, counters));
  return findings;
}

function connection({ name, socket, transport }: NicInfo): Finding {
  const why = transport.lastError === null ? '' : ` (the last time: ${transport.lastError})`;
  switch (transport.state) {
    case 'connected': {
      const who = transport.peerPid === null ? 'a hypervisor' : `process ${transport.peerPid}`;
      return { level: 'ok', text: `${who} is connected to ${socket}` };
    }
    case 'listening':
      return {
        level: 'problem',
        text: `no hypervisor is connected to ${socket}${why}`,
        remedy: `Start a guest with it: netbe qemu-args ${name}${transport.kind === 'vhost-user' ? `, or netbe uml-args ${name}` : ''}.`,
      };
    case 'connecting':
      return {
        level: 'problem',
        text: `nobody listens on ${socket}${why}; netbe goes on trying`,
        remedy: 'Start the guest: in client mode the hypervisor makes the socket.',
      };
    case 'closed':
      return { level: 'problem', text: `the socket ${socket} is closed${why}` };
  }
}

/** While nobody is connected, connection() says it. */
function lastTrouble({ transport }: NicInfo): Finding[] {
  if (transport.state !== 'connected' || transport.lastError === null) return [];
  return [{ level: 'note', text: `last trouble with a hypervisor: ${transport.lastError}` }];
}

function memory({ transport }: NicInfo): Finding[] {
  const { regions, bytes, unshared, sealed } = transport.memory;
  if (regions === 0)
    return [
      {
        level: 'problem',
        text: 'the hypervisor has shared no memory',
        remedy:
          'Give QEMU a memory-backend-memfd with share=on (netbe qemu-args prints one); else the guest is still starting.',
      },
    ];
  const mib = (n: number): number => Math.round(n / 1024 / 1024);
  const text = `${mib(bytes)} MiB of guest memory in ${regions} region${regions === 1 ? '' : 's'}`;
  // video memory is not shared even where all else is
  if (unshared > bytes / 2)
    return [
      {
        level: 'note',
        text: `${text}, ${mib(unshared)} MiB of it not shared: they are reached by messages, which is slower`,
        remedy: 'Give QEMU a memory-backend-memfd with share=on (netbe qemu-args prints one).',
      },
    ];
  if (sealed) return [{ level: 'ok', text: `${text}, which cannot be shrunk` }];
  return [
    {
      level: 'note',
      text: `${text}, which its owner could shrink`,
      remedy: 'Use strict-memory=on to refuse such memory.',
    },
  ];
}

/** The module of a Linux guest that drives it. */
const modules: Record<Emulation, string> = { 'virtio-net': 'virtio_net', e1000: 'e1000' };

function driver({ device, emulation }: NicInfo): Finding {
  if (device.features.length === 0)
    return {
      level: 'problem',
      text: "the guest's driver is not ready: it has not accepted features yet",
      remedy: `Wait for the guest to boot; is the ${modules[emulation]} module there (lsmod in the guest)?`,
    };
  const short = device.features.map((name) => name.replace(/^VIRTIO_(NET_)?F_/, ''));
  return { level: 'ok', text: `the driver accepted ${short.join(' ')}` };
}

const ringNames = [
  { name: 'receive', lost: 'the guest receives nothing' },
  { name: 'transmit', lost: 'the guest sends nothing' },
];

function rings({ device }: NicInfo): Finding[] {
  return device.queues.map((queue, i) => {
    const { name, lost } = ringNames[i] ?? { name: `${i}th`, lost: 'it carries nothing' };
    if (queue.broken)
      return {
        level: 'problem',
        text: `the driver broke the ${name} ring: ${lost}`,
        remedy:
          'The ring is served again after the driver has reset the device; netbe counters (fault_…) say what was wrong.',
      };
    if (!queue.started)
      return {
        level: 'problem',
        text: `the ${name} ring is stopped: ${lost}`,
        remedy: 'The driver starts it when the interface is brought up in the guest (ip link set dev eth0 up).',
      };
    if (!queue.enabled)
      return { level: 'problem', text: `the ${name} ring is started, but the hypervisor has not enabled it: ${lost}` };
    if (i === 0 && device.starved)
      return {
        level: 'problem',
        text: `the ${name} ring has no buffers: the guest does not take frames as fast as they come`,
      };
    return { level: 'ok', text: `the ${name} ring runs, ${queue.size} entries` };
  });
}

function link({ name, device }: NicInfo): Finding {
  if (device.link === 'up') return { level: 'ok', text: 'the link is up' };
  return {
    level: 'problem',
    text: 'the link is down: frames are dropped both ways',
    remedy: `netbe link ${name} up takes it up.`,
  };
}

function network({ backend }: NicInfo, switches: readonly SwitchInfo[]): Finding[] {
  const found = switches.find((s) => backend.startsWith(`${s.name}:`));
  if (!found) return [{ level: 'ok', text: `plugged into ${backend}` }];
  const others = found.ports.length - 1;
  if (others === 0)
    return [
      {
        level: 'problem',
        text: `${found.name} has no other port: there is nobody to talk to`,
        remedy: `Add a NIC with a backend ${found.name}:NAME.`,
      },
    ];
  const port = backend.slice(found.name.length + 1);
  const own = found.table.filter((entry) => entry.port === port).map((entry) => entry.mac);
  const learned = own.length === 0 ? 'no address learned from it yet' : `addresses learned from it: ${own.join(' ')}`;
  return [{ level: 'ok', text: `a port of ${found.name}, with ${others} other${others === 1 ? '' : 's'}; ${learned}` }];
}

/** What a person should know of the commonest ways to lose a frame. */
const dropWords: Record<string, string> = {
  rx_not_ready: 'frames for the guest came while its receive ring was not running',
  rx_link_down: 'frames for the guest came while the link was down',
  tx_link_down: 'frames from the guest came while the link was down',
  tx_disabled: 'frames from the guest came before the hypervisor had enabled the transmit ring',
  rx_full: 'frames for the guest found the port of the switch full: the guest is slower than its senders',
  rx_malformed: 'receive buffers of the guest were not usable',
  rx_too_long: 'frames for the guest did not fit its receive buffers',
  tx_malformed: 'frames from the guest had a broken descriptor chain',
  tx_runt: 'frames from the guest were shorter than an Ethernet header',
  tx_too_long: 'frames from the guest were too long',
  tx_self: 'frames from the guest were addressed to its own port',
  tx_loop: 'frames came back to the switch while it delivered them',
};

function traffic(nic: NicInfo, counters: Counters): Finding[] {
  const totals = nicTotals(counters, nic);
  const findings: Finding[] = [];
  if (totals.txFrames === 0) findings.push({ level: 'note', text: 'the guest has not sent a frame yet' });
  if (totals.rxFrames === 0) findings.push({ level: 'note', text: 'the guest has not received a frame yet' });
  for (const [name, n] of Object.entries(totals.dropsByName)) {
    const meaning = meaningOf(name);
    const words = meaning && dropWords[`${meaning.direction}_${meaning.reason}`];
    findings.push({ level: 'note', text: `${n} dropped as ${name}${words === undefined ? '' : `: ${words}`}` });
  }
  return findings;
}
