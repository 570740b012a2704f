/** Linux as the judge of wire/: its sockets take what we segment and complete, and we what they send. */
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6, TUN_F_USO4, TUN_F_USO6 } from '../../src/sys/tun.js';
import {
  buildFrame,
  defaultAddress,
  type FrameSpec,
  l4Offset,
  naiveSum,
  pattern,
  pseudoHeader,
  u16,
  u32,
} from '../support/frames.js';
import {
  collect,
  destinationOptions,
  fieldsOf,
  finish,
  GSO_NONE,
  GSO_TCPV4,
  GSO_TCPV6,
  GSO_UDP,
  GSO_UDP_L4,
  hopByHop,
  noOffload,
  PEER_MAC,
  vnetHeader,
} from '../support/software-nic.js';
import { enterOwnNetwork, ip, snmpCounters, Tap, tapsUnavailable } from '../support/tap.js';

/** Checks the lengths and the checksums of a TCP segment that answers `client`. */
function verifyTcp(client: FrameSpec, segment: Uint8Array): { at: number; payload: Uint8Array } {
  const bytes = Buffer.from(segment);
  const l4Off = l4Offset(client);
  const l4 = [...bytes.subarray(l4Off)];
  if (client.ip === 4) {
    const ipOff = l4Off - 20;
    assert.equal(bytes.readUInt16BE(ipOff + 2), bytes.length - ipOff, 'total length');
    assert.equal(naiveSum([...bytes.subarray(ipOff, l4Off)]), 0xffff, 'IPv4 checksum');
  } else assert.equal(bytes.readUInt16BE(l4Off - 36), l4.length, 'payload length');
  const sourceIp = client.destinationIp ?? defaultAddress(client.ip, 2);
  const destinationIp = client.sourceIp ?? defaultAddress(client.ip, 1);
  const pseudo = pseudoHeader({ ip: client.ip, protocol: 'tcp', payload: [], sourceIp, destinationIp }, l4.length);
  assert.equal(naiveSum([...pseudo, ...l4]), 0xffff, 'TCP checksum');
  return {
    at: bytes.readUInt32BE(l4Off + 4),
    payload: segment.subarray(l4Off + ((bytes[l4Off + 12] as number) >> 4) * 4),
  };
}

describe('Linux takes what we finish', { skip: tapsUnavailable, timeout: 30_000 }, () => {
  let tap: Tap;
  let hostMac: number[];

  before(() => {
    enterOwnNetwork();
    tap = new Tap('host', TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_USO4 | TUN_F_USO6);
    ip('link set host address 02:00:00:00:00:02 mtu 9000');
    ip('addr add 10.0.0.2/24 dev host');
    ip('addr add fd00::2/64 dev host nodad');
    ip('link set host up');
    ip('neigh add 10.0.0.1 lladdr 02:00:00:00:00:01 dev host');
    ip('neigh add fd00::1 lladdr 02:00:00:00:00:01 dev host');
    hostMac = [2, 0, 0, 0, 0, 2];
  });
  after(() => tap.close());

  function inject(spec: FrameSpec, gsoType = GSO_NONE, gsoSize = 0): void {
    const described: FrameSpec = { ...spec, source: PEER_MAC, destination: hostMac };
    const frame = Uint8Array.from(buildFrame({ ...described, partialChecksum: true }));
    for (const segment of finish(frame, vnetHeader(fieldsOf(described, gsoType, gsoSize))))
      tap.write(noOffload, segment);
  }

  type Where = { address: string; ip: 4 | 6 } & Partial<FrameSpec>;
  const four: Where = { ip: 4, address: '10.0.0.2' };
  const six: Where = { ip: 6, address: 'fd00::2' };
  const headers = { ...six, extensions: [hopByHop, destinationOptions] };
  type Case = [
    name: string,
    where: { address: string } & Partial<FrameSpec> & { ip: 4 | 6 },
    gsoType: number,
    gsoSize: number,
    size: number,
    datagrams: number,
  ];
  const cases: Case[] = [
    ['a datagram whose checksum we complete', four, GSO_NONE, 0, 1000, 1],
    ['a datagram of odd length over IPv6', six, GSO_NONE, 0, 1001, 1],
    ['a datagram behind extension headers', headers, GSO_NONE, 0, 1001, 1],
    ['datagrams that we divide', four, GSO_UDP_L4, 1400, 5000, 4],
    ['datagrams that we divide, IPv6', six, GSO_UDP_L4, 1400, 5000, 4],
    ['datagrams that we divide, behind extension headers', headers, GSO_UDP_L4, 1400, 5000, 4],
    ['jumbo datagrams that we divide', four, GSO_UDP_L4, 8900, 60000, 7],
    ['a datagram that we send in fragments', four, GSO_UDP, 1480, 30000, 1],
    ['a datagram that we send in fragments, IPv6', six, GSO_UDP, 1448, 30000, 1],
    ['a datagram that we send in fragments with extension headers', headers, GSO_UDP, 1448, 30000, 1],
  ];
  for (const [name, { address, ...where }, gsoType, gsoSize, size, datagrams] of cases)
    test(`a UDP socket receives ${name}`, async () => {
      const socket = createSocket(where.ip === 4 ? 'udp4' : 'udp6');
      try {
        socket.bind(0, address);
        await once(socket, 'listening');
        const received: Buffer[] = [];
        const payload = pattern(size);
        const all = new Promise<void>((resolve) =>
          socket.on('message', (message) => {
            if (received.push(message) === datagrams) resolve();
          }),
        );
        const destinationPort = socket.address().port;
        inject({ ...where, protocol: 'udp', id: 9, destinationPort, payload }, gsoType, gsoSize);
        await Promise.race([all, sleep(5000, undefined, { ref: false })]);
        assert.equal(received.length, datagrams);
        assert.deepEqual(Buffer.concat(received), Buffer.from(payload));
      } finally {
        socket.close();
      }
    });

  for (const [name, where, mtu, gsoType] of [
    ['over IPv4', four, 1500, GSO_TCPV4],
    ['over IPv6', six, 1500, GSO_TCPV6],
    ['over IPv4 in jumbo frames', four, 9000, GSO_TCPV4],
    ['over IPv6 in small frames', six, 1280, GSO_TCPV6],
  ] as const)
    test(`a TCP connection carries what we segment, both ways, ${name}`, async () => {
      const server = createServer();
      const sockets: Socket[] = [];
      server.on('connection', (socket) => sockets.push(socket.on('error', () => {})));
      try {
        server.listen(0, where.address);
        await once(server, 'listening');
        const { port } = server.address() as AddressInfo;
        const { address: _, ...spec } = where;
        const mss = mtu - (where.ip === 4 ? 40 : 60);
        await converse(server, { ...spec, protocol: 'tcp', destinationPort: port, payload: [] }, mss, gsoType);
      } finally {
        for (const socket of sockets) socket.destroy();
        server.close();
      }
    });

  /** A TCP client of the fewest segments: it sends one big frame, and takes the big frames of Linux's answer. */
  async function converse(server: Server, client: FrameSpec, mss: number, gsoType: number): Promise<void> {
    const accepted = once(server, 'connection') as Promise<[Socket]>;
    injectTcp({ ...client, seq: 1000, tcpFlags: 0x02, tcpOptions: [2, 4, ...u16(mss)] }, 0);
    const serverSeq = (await nextTcp(client)).frame.readUInt32BE(l4Offset(client) + 4) + 1;
    injectTcp({ ...client, seq: 1001 }, serverSeq);
    const [socket] = await accepted;
    const received: Buffer[] = [];
    socket.on('data', (bytes) => received.push(bytes));

    const question = pattern(30000);
    injectTcp({ ...client, seq: 1001, tcpFlags: 0x18, payload: question }, serverSeq, gsoType, mss);
    for (let tries = 0; Buffer.concat(received).length < question.length && tries < 1000; tries++) await sleep(5);
    assert.deepEqual(Buffer.concat(received), Buffer.from(question));

    const answer = Buffer.from(pattern(12000, 5));
    socket.write(answer);
    assert.deepEqual(await takeAnswer(client, serverSeq, answer.length, mss), answer);
  }

  /** The next frame of this connection. Linux also speaks of its own accord: neighbour and router discovery. */
  async function nextTcp(client: FrameSpec): Promise<{ header: Buffer; frame: Buffer }> {
    const l4Off = l4Offset(client);
    for (;;) {
      const [got] = await collect(tap, hostMac, 1);
      const { frame } = got!;
      if (frame.length < l4Off + 20 || frame.readUInt16BE(l4Off) !== client.destinationPort) continue;
      const protocolAt = client.ip === 4 ? l4Off - 11 : l4Off - 34;
      if (frame[protocolAt] === 6 && frame.readUInt16BE(l4Off + 2) === 1000) return got!;
    }
  }

  /** What Linux sends from sequence number `seq` on, at first in big frames: each segment verified, in order. */
  async function takeAnswer(client: FrameSpec, seq: number, length: number, mss: number): Promise<Buffer> {
    const answer = Buffer.alloc(length);
    let have = 0;
    let big = 0;
    while (have < length) {
      const { header, frame } = await nextTcp(client);
      if (header[1] !== GSO_NONE) big++;
      for (const segment of finish(frame, header)) {
        const { at, payload } = verifyTcp(client, segment);
        assert.ok(payload.length <= mss);
        if (at - seq < have || payload.length === 0) continue;
        assert.equal(at - seq, have, 'segments are in order');
        answer.set(payload, have);
        have += payload.length;
      }
    }
    assert.ok(big > 0 || mss > 4000, 'Linux left segmentation to us');
    return answer;
  }

  /** As `inject`, with an acknowledgement number, which the frame builder leaves alone. */
  function injectTcp(spec: FrameSpec, ack: number, gsoType = GSO_NONE, gsoSize = 0): void {
    const described: FrameSpec = { ...spec, source: PEER_MAC, destination: hostMac };
    const bytes = buildFrame({ ...described, partialChecksum: true });
    const l4Off = l4Offset(described);
    bytes.splice(l4Off + 8, 4, ...u32(ack));
    const header = vnetHeader(fieldsOf(described, gsoType, gsoSize));
    for (const segment of finish(Uint8Array.from(bytes), header)) tap.write(noOffload, segment);
  }

  test('Linux counted no bad checksum, header or fragment', () => {
    assert.equal(snmpCounters('Udp').InCsumErrors, 0);
    assert.equal(snmpCounters('Udp').InErrors, 0);
    assert.equal(snmpCounters('Tcp').InErrs, 0);
    assert.equal(snmpCounters('Tcp').InCsumErrors, 0);
    assert.equal(snmpCounters('Ip').InHdrErrors, 0);
    assert.equal(snmpCounters('Ip').ReasmFails, 0);
  });
});
