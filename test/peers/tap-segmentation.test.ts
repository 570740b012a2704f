/**
 * Linux as the judge of wire/: its own segmentation beside ours, byte by byte, and its sockets at the
 * end of what we segment and complete.
 */
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { completeChecksum } from '../../src/wire/checksum.js';
import { formatMac } from '../../src/wire/ethernet.js';
import { Segmenter, segmentFaultNames } from '../../src/wire/segmentation.js';
import { checkVnetHeader, OFFLOAD_ALL, vnetFaultNames } from '../../src/wire/vnet-header.js';
import { bytesKernel } from '../support/bytes-kernel.js';
import { buildFrame, type FrameSpec, l4Offset, naiveSum, pattern, pseudoHeader, u32 } from '../support/frames.js';
import {
  enterOwnNetwork,
  ip,
  snmpCounters,
  Tap,
  TUN_F_CSUM,
  TUN_F_TSO4,
  TUN_F_TSO6,
  TUN_F_USO4,
  TUN_F_USO6,
  tapsUnavailable,
} from '../support/tap.js';

const GSO_NONE = 0;
const GSO_TCPV4 = 1;
const GSO_UDP = 3;
const GSO_TCPV6 = 4;
const GSO_UDP_L4 = 5;

const PEER_MAC = [2, 0, 0, 0, 0, 1];

interface VnetFields {
  gsoType: number;
  gsoSize: number;
  csumStart: number;
  csumOffset: number;
}

function vnetHeader(f: VnetFields): Buffer {
  const header = Buffer.alloc(10);
  header[0] = f.csumStart > 0 ? 1 : 0;
  header[1] = f.gsoType;
  header.writeUInt16LE(f.gsoType === GSO_NONE ? 0 : f.csumStart + 20, 2);
  header.writeUInt16LE(f.gsoSize, 4);
  header.writeUInt16LE(f.csumStart, 6);
  header.writeUInt16LE(f.csumOffset, 8);
  return header;
}

const noOffload = Buffer.alloc(10);

function fieldsOf(spec: FrameSpec, gsoType: number, gsoSize: number): VnetFields {
  return { gsoType, gsoSize, csumStart: l4Offset(spec), csumOffset: spec.protocol === 'tcp' ? 16 : 6 };
}

function readFields(header: Buffer): VnetFields {
  const at = (off: number) => header.readUInt16LE(off);
  return { gsoType: header[1] as number, gsoSize: at(4), csumStart: at(6), csumOffset: at(8) };
}

/** What netbe makes of a frame for a port that takes only finished ones. */
function finish(frame: Uint8Array, header: Buffer): Uint8Array[] {
  const u8 = new Uint8Array(200000);
  const outOff = 100000;
  const kernel = bytesKernel(u8);
  u8.set(frame);
  assert.equal(vnetFaultNames[checkVnetHeader(header, 0, frame.length, OFFLOAD_ALL)], 'ok');
  const { gsoType, gsoSize, csumStart, csumOffset } = readFields(header);
  if (gsoType === GSO_NONE) {
    if ((header[0] as number) & 1) completeChecksum(u8, kernel, 0, frame.length, csumStart, csumOffset);
    return [u8.slice(0, frame.length)];
  }
  const segmenter = new Segmenter(u8, kernel);
  const verdict = segmenter.begin(0, frame.length, gsoType, gsoSize, csumStart, csumOffset);
  assert.equal(segmentFaultNames[verdict], 'ok');
  const out: Uint8Array[] = [];
  for (let len = segmenter.next(outOff, 65600); len > 0; len = segmenter.next(outOff, 65600))
    out.push(u8.slice(outOff, outOff + len));
  return out;
}

/** Frames of `source` that arrive at `tap`, until there are `count`. Throws when they do not come. */
async function collect(tap: Tap, source: number[], count: number): Promise<{ header: Buffer; frame: Buffer }[]> {
  const wanted = formatMac(Uint8Array.from(source));
  const out: { header: Buffer; frame: Buffer }[] = [];
  for (let tries = 0; out.length < count; ) {
    const got = tap.read();
    if (got && formatMac(got.frame, 6) === wanted) out.push(got);
    if (got) continue;
    assert.ok(++tries < 1000, `${out.length} of ${count} frames came`);
    await sleep(5);
  }
  return out;
}

/** Checks the lengths and both checksums of a TCP segment over IPv4 from 10.0.0.2 to 10.0.0.1. */
function verifyTcp(segment: Uint8Array): { at: number; payload: Uint8Array } {
  const bytes = Buffer.from(segment);
  const l4 = [...bytes.subarray(34)];
  assert.equal(bytes.readUInt16BE(16), bytes.length - 14, 'total length');
  assert.equal(naiveSum([...bytes.subarray(14, 34)]), 0xffff, 'IPv4 checksum');
  const pseudo = pseudoHeader({ ip: 4, protocol: 'tcp', payload: [] }, l4.length);
  assert.equal(naiveSum([...pseudo, ...l4]), 0xffff, 'TCP checksum');
  return { at: bytes.readUInt32BE(38), payload: segment.subarray(34 + ((bytes[46] as number) >> 4) * 4) };
}

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
    [
      'TCP over IPv4, two VLAN tags',
      {
        ...tcp,
        vlans: [
          [0x88a8, 5],
          [0x8100, 6],
        ],
      },
      GSO_TCPV4,
      1460,
    ],
    ['TCP over IPv6', { ...tcp, ip: 6, tcpOptions: timestamps }, GSO_TCPV6, 1428],
    [
      'TCP over IPv6, two extension headers',
      {
        ...tcp,
        ip: 6,
        extensions: [
          { type: 0, rest: [0, 1, 4, 0, 0, 0, 0] },
          { type: 60, rest: [0, 1, 4, 0, 0, 0, 0] },
        ],
      },
      GSO_TCPV6,
      1420,
    ],
    ['UDP over IPv4, datagrams', udp, GSO_UDP_L4, 1472],
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

  for (const [name, family, gsoType, gsoSize, size, datagrams] of [
    ['a datagram whose checksum we complete', 4, GSO_NONE, 0, 1000, 1],
    ['a datagram of odd length over IPv6', 6, GSO_NONE, 0, 1001, 1],
    ['datagrams that we divide', 4, GSO_UDP_L4, 1400, 5000, 4],
    ['datagrams that we divide, IPv6', 6, GSO_UDP_L4, 1400, 5000, 4],
    ['a datagram that we send in fragments', 4, GSO_UDP, 1480, 30000, 1],
    ['a datagram that we send in fragments, IPv6', 6, GSO_UDP, 1448, 30000, 1],
  ] as const)
    test(`a UDP socket receives ${name}`, async () => {
      const socket = createSocket(family === 4 ? 'udp4' : 'udp6');
      try {
        socket.bind(0, family === 4 ? '10.0.0.2' : 'fd00::2');
        await once(socket, 'listening');
        const received: Buffer[] = [];
        const payload = pattern(size);
        const all = new Promise<void>((resolve) =>
          socket.on('message', (message) => {
            if (received.push(message) === datagrams) resolve();
          }),
        );
        inject(
          { ip: family, protocol: 'udp', id: 9, destinationPort: socket.address().port, payload },
          gsoType,
          gsoSize,
        );
        await Promise.race([all, sleep(5000, undefined, { ref: false })]);
        assert.equal(received.length, datagrams);
        assert.deepEqual(Buffer.concat(received), Buffer.from(payload));
      } finally {
        socket.close();
      }
    });

  test('a TCP connection carries what we segment, both ways', async () => {
    const server = createServer();
    const sockets: Socket[] = [];
    server.on('connection', (socket) => sockets.push(socket.on('error', () => {})));
    try {
      server.listen(0, '10.0.0.2');
      await once(server, 'listening');
      await converse(server);
    } finally {
      for (const socket of sockets) socket.destroy();
      server.close();
    }
  });

  /** A TCP client of the fewest segments: it sends one big frame, and takes the big frames of Linux's answer. */
  async function converse(server: ReturnType<typeof createServer>): Promise<void> {
    const destinationPort = (server.address() as { port: number }).port;
    const accepted = once(server, 'connection') as Promise<[Socket]>;
    const client: FrameSpec = { ip: 4, protocol: 'tcp', destinationPort, payload: [] };
    injectTcp({ ...client, seq: 1000, tcpFlags: 0x02, tcpOptions: [2, 4, 0x05, 0xb4] }, 0);
    const serverSeq = (await nextTcp()).frame.readUInt32BE(38) + 1;
    injectTcp({ ...client, seq: 1001 }, serverSeq);
    const [socket] = await accepted;
    const received: Buffer[] = [];
    socket.on('data', (bytes) => received.push(bytes));

    const question = pattern(30000);
    injectTcp({ ...client, seq: 1001, tcpFlags: 0x18, payload: question }, serverSeq, GSO_TCPV4, 1460);
    for (let tries = 0; Buffer.concat(received).length < question.length && tries < 1000; tries++) await sleep(5);
    assert.deepEqual(Buffer.concat(received), Buffer.from(question));

    const answer = Buffer.from(pattern(12000, 5));
    socket.write(answer);
    assert.deepEqual(await takeAnswer(serverSeq, answer.length), answer);
  }

  /** Linux also speaks of its own accord: neighbour and router discovery. */
  async function nextTcp(): Promise<{ header: Buffer; frame: Buffer }> {
    for (;;) {
      const [got] = await collect(tap, hostMac, 1);
      if (got!.frame.readUInt16BE(12) === 0x0800 && got!.frame[23] === 6) return got!;
    }
  }

  /** What Linux sends from sequence number `seq` on, at first in big frames: each segment verified, in order. */
  async function takeAnswer(seq: number, length: number): Promise<Buffer> {
    const answer = Buffer.alloc(length);
    let have = 0;
    let big = 0;
    while (have < length) {
      const { header, frame } = await nextTcp();
      if (header[1] !== GSO_NONE) big++;
      for (const segment of finish(frame, header)) {
        const { at, payload } = verifyTcp(segment);
        if (at - seq < have || payload.length === 0) continue;
        assert.equal(at - seq, have, 'segments are in order');
        answer.set(payload, have);
        have += payload.length;
      }
    }
    assert.ok(big > 0, 'Linux left segmentation to us');
    return answer;
  }

  /** As `inject`, with an acknowledgement number, which the frame builder leaves alone. */
  function injectTcp(spec: FrameSpec, ack: number, gsoType = GSO_NONE, gsoSize = 0): void {
    const described: FrameSpec = { ...spec, source: PEER_MAC, destination: hostMac };
    const bytes = buildFrame({ ...described, partialChecksum: true });
    bytes.splice(l4Offset(described) + 8, 4, ...u32(ack));
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
