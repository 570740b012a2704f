/** Linux as the judge of wire/: its own segmentation beside ours, byte by byte. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { buildFrame, type FrameSpec, pattern } from '../support/frames.js';
import {
  collect,
  destinationOptions,
  FINAL_IP,
  fieldsOf,
  finish,
  GSO_TCPV4,
  GSO_TCPV6,
  GSO_UDP,
  GSO_UDP_L4,
  hopByHop,
  PEER_MAC,
  segmentRoute,
  stacked,
  vnetHeader,
} from '../support/software-nic.js';
import { enterOwnNetwork, ip, Tap, tapsUnavailable } from '../support/tap.js';

function hex(frames: Uint8Array[]): string[] {
  return frames.map((f) => Buffer.from(f).toString('hex'));
}

describe('Linux segments as we do', { skip: tapsUnavailable, timeout: 30_000 }, () => {
  let sender: Tap;
  let receiver: Tap;

  before(() => {
    enterOwnNetwork();
    sender = new Tap('sender');
    receiver = new Tap('receiver');
    ip('link add br0 type bridge mcast_snooping 0');
    for (const name of ['sender', 'receiver']) ip(`link set ${name} mtu 9000 master br0 up`);
    ip('link set br0 up');
  });
  after(() => {
    sender.close();
    receiver.close();
  });

  const tcp: FrameSpec = {
    ip: 4,
    protocol: 'tcp',
    tcpFlags: 0x99,
    seq: 0xfffffff0,
    id: 0xfffe,
    payload: pattern(4000),
  };
  const udp: FrameSpec = { ip: 4, protocol: 'udp', id: 7, payload: pattern(4000) };
  const timestamps = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
  const cases: [string, FrameSpec, gsoType: number, gsoSize: number][] = [
    ['TCP over IPv4', tcp, GSO_TCPV4, 1460],
    [
      'TCP over IPv4, options in both headers',
      { ...tcp, options: [1, 1, 1, 0], tcpOptions: timestamps },
      GSO_TCPV4,
      1448,
    ],
    ['TCP over IPv4, ECN', tcp, GSO_TCPV4 | 0x80, 1460],
    ['TCP over IPv4, 64 KiB', { ...tcp, payload: pattern(65400) }, GSO_TCPV4, 8948],
    ['TCP over IPv4, one VLAN tag', { ...tcp, vlans: [[0x8100, 5]] }, GSO_TCPV4, 1460],
    ['TCP over IPv4, two VLAN tags', { ...tcp, vlans: stacked }, GSO_TCPV4, 1460],
    ['TCP over IPv6', { ...tcp, ip: 6, tcpOptions: timestamps }, GSO_TCPV6, 1428],
    [
      'TCP over IPv6, two extension headers',
      {
        ...tcp,
        ip: 6,
        extensions: [hopByHop, destinationOptions],
      },
      GSO_TCPV6,
      1420,
    ],
    [
      'TCP over IPv6, a route of segments',
      { ...tcp, ip: 6, extensions: [segmentRoute], finalIp: FINAL_IP },
      GSO_TCPV6,
      1400,
    ],
    ['TCP over IPv4, the smallest segments of all', { ...tcp, payload: pattern(900) }, GSO_TCPV4, 48],
    ['UDP over IPv4, datagrams', udp, GSO_UDP_L4, 1472],
    ['UDP over IPv4, datagrams behind three VLAN tags', { ...udp, vlans: [...stacked, [0x8100, 7]] }, GSO_UDP_L4, 1472],
    ['UDP over IPv6, datagrams', { ...udp, ip: 6 }, GSO_UDP_L4, 1452],
    ['UDP over IPv4, one datagram in fragments', udp, GSO_UDP, 1480],
  ];

  for (const [name, spec, gsoType, gsoSize] of cases)
    test(name, async () => {
      const frame = Uint8Array.from(buildFrame({ ...spec, source: PEER_MAC, partialChecksum: true }));
      const header = vnetHeader(fieldsOf(spec, gsoType, gsoSize));
      const ours = finish(frame, header);
      sender.write(header, frame);
      const theirs = await collect(receiver, PEER_MAC, ours.length);
      // Linux leaves a last segment's checksum to the device unless that device cannot
      const finished = theirs.flatMap((t) => finish(t.frame, t.header));
      assert.deepEqual(hex(ours), hex(finished));
    });
});
