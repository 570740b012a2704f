import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { FrameKernel } from '../../../src/wire/checksum.js';
import { MAX_SEGMENTS, SEG_NO_SPACE, Segmenter, segmentFaultNames } from '../../../src/wire/segmentation.js';
import { bytesKernel } from '../../support/bytes-kernel.js';
import { buildFrame, type FrameSpec, l4Offset, pattern } from '../../support/frames.js';
import { naiveFragments4, naiveFragments6, naiveSegments } from '../../support/naive-segmentation.js';

const TCPV4 = 1;
const UDP = 3;
const TCPV6 = 4;
const UDP_L4 = 5;

const FRAME_OFF = 1000;
const OUT_OFF = 80000;

interface Harness {
  u8: Uint8Array;
  segmenter: Segmenter;
}

/** Kernel that refuses to read input outside the frame or to write outside the room given. */
function strictHarness(frame: number[], around = 0x5a): Harness {
  const u8 = new Uint8Array(160000).fill(around);
  u8.set(frame, FRAME_OFF);
  const inner = bytesKernel(u8);
  const inside = (off: number, len: number) =>
    assert.ok(len >= 0 && (off >= OUT_OFF || (off >= FRAME_OFF && off + len <= FRAME_OFF + frame.length)));
  const kernel: FrameKernel = {
    copy(dst, src, len) {
      inside(src, len);
      assert.ok(dst >= OUT_OFF);
      inner.copy(dst, src, len);
    },
    sum16(off, len) {
      inside(off, len);
      return inner.sum16(off, len);
    },
  };
  return { u8, segmenter: new Segmenter(u8, kernel) };
}

function begin(h: Harness, spec: FrameSpec, frameLen: number, gsoType: number, gsoSize: number): string | undefined {
  const csumOffset = spec.protocol === 'tcp' ? 16 : 6;
  return segmentFaultNames[h.segmenter.begin(FRAME_OFF, frameLen, gsoType, gsoSize, l4Offset(spec), csumOffset)];
}

/** Every segment, each checked against the length and count that were announced. */
function drain({ u8, segmenter }: Harness): number[][] {
  const { count, maxLen } = segmenter;
  const out: number[][] = [];
  for (;;) {
    const len = segmenter.next(OUT_OFF, maxLen);
    if (len === 0) break;
    assert.ok(len > 0 && len <= maxLen);
    out.push([...u8.subarray(OUT_OFF, OUT_OFF + len)]);
    u8.fill(0x5a, OUT_OFF, OUT_OFF + len);
  }
  assert.equal(out.length, count);
  return out;
}

function segments(spec: FrameSpec, gsoType: number, gsoSize: number): number[][] {
  const frame = buildFrame({ ...spec, partialChecksum: true });
  const h = strictHarness(frame);
  assert.equal(begin(h, spec, frame.length, gsoType, gsoSize), 'ok');
  return drain(h);
}

function fault(
  spec: FrameSpec,
  gsoType: number,
  gsoSize: number,
  edit?: (frame: number[]) => number[],
): string | undefined {
  const built = buildFrame({ ...spec, partialChecksum: true });
  const frame = edit ? edit(built) : built;
  return begin(strictHarness(frame), spec, frame.length, gsoType, gsoSize);
}

const tags = fc.array(fc.tuple(fc.constantFrom<number[]>(0x8100, 0x88a8, 0x9100), fc.nat(0xffff)), { maxLength: 4 });
const words = (max: number) => fc.nat(max).map((n) => Array<number>(n * 4).fill(1));
const extensions = fc.array(
  fc.constantFrom<{ type: number; rest: number[] }[]>(
    { type: 0, rest: [0, 1, 4, 0, 0, 0, 0] },
    { type: 60, rest: [1, ...Array<number>(14).fill(0)] },
  ),
  { maxLength: 3 },
);
const payloads = fc.integer({ min: 0, max: 3000 }).map((n) => pattern(n, n));

function specs(protocol: 'tcp' | 'udp', ip: 4 | 6): fc.Arbitrary<FrameSpec> {
  return fc.record({
    ip: fc.constant(ip),
    protocol: fc.constant(protocol),
    vlans: tags,
    options: words(10),
    extensions,
    tcpOptions: words(10),
    tcpFlags: fc.nat(255),
    id: fc.nat(0xffff),
    seq: fc.nat(0xffffffff),
    payload: payloads,
  });
}

for (const [name, protocol, ip, gsoType] of [
  ['TCP over IPv4', 'tcp', 4, TCPV4],
  ['TCP over IPv6', 'tcp', 6, TCPV6],
  ['UDP over IPv4', 'udp', 4, UDP_L4],
  ['UDP over IPv6', 'udp', 6, UDP_L4],
] as const)
  test(`${name}: segments are those that the sender would have made itself`, () => {
    fc.assert(
      fc.property(specs(protocol, ip), fc.integer({ min: 2, max: 3100 }), (spec, gsoSize) => {
        assert.deepEqual(segments(spec, gsoType, gsoSize), naiveSegments(spec, gsoSize));
      }),
    );
  });

test('UDP over IPv4, one datagram: fragments are those of RFC 791', () => {
  fc.assert(
    fc.property(specs('udp', 4), fc.integer({ min: 8, max: 3100 }), (spec, gsoSize) => {
      assert.deepEqual(segments(spec, UDP, gsoSize), naiveFragments4(spec, gsoSize));
    }),
  );
});

test('UDP over IPv6, one datagram: fragments are those of RFC 8200', () => {
  const sizes = fc.integer({ min: 64, max: 3100 });
  fc.assert(
    fc.property(specs('udp', 6), sizes, (spec, gsoSize) => {
      const got = segments(spec, UDP, gsoSize);
      if (got.length === 1) return assert.deepEqual(got, [buildFrame(spec)]);
      const unfragmentable = spec.extensions?.[0]?.type === 0 ? 1 : 0;
      const at = 14 + 4 * (spec.vlans?.length ?? 0) + 40 + 8 * unfragmentable;
      const id = (got[0] as number[]).slice(at + 4, at + 8).reduce((n, byte) => n * 256 + byte, 0);
      assert.deepEqual(got, naiveFragments6(spec, gsoSize, unfragmentable, id));
    }),
  );
});

test('checksums cover the final destination where a Routing header leads elsewhere', () => {
  const finalIp = [0x20, 1, 0xd, 0xb8, ...Array<number>(11).fill(0), 9];
  const waypoint = [0x20, 1, 0xd, 0xb8, ...Array<number>(11).fill(0), 7];
  const sourceRoute = { type: 43, rest: [4, 0, 2, 0, 0, 0, 0, ...waypoint, ...finalIp] };
  const segmentRoute = { type: 43, rest: [4, 4, 1, 1, 0, 0, 0, ...finalIp, ...waypoint] };
  for (const routing of [sourceRoute, segmentRoute])
    for (const [protocol, gsoType] of [
      ['tcp', TCPV6],
      ['udp', UDP_L4],
    ] as const) {
      const spec: FrameSpec = { ip: 6, protocol, extensions: [routing], finalIp, payload: pattern(3000) };
      assert.deepEqual(segments(spec, gsoType, 1000), naiveSegments(spec, 1000));
    }
});

test('two IPv6 datagrams get different fragment identifications', () => {
  const spec: FrameSpec = { ip: 6, protocol: 'udp', payload: pattern(2000) };
  const frame = buildFrame({ ...spec, partialChecksum: true });
  const h = strictHarness(frame);
  const ids = [0, 1].map(() => {
    begin(h, spec, frame.length, UDP, 1448);
    return (drain(h)[0] as number[]).slice(58, 62);
  });
  assert.notDeepEqual(ids[0], ids[1]);
});

test('options of the first fragment only become no-operations in the others', () => {
  // record route (7) is not copied, loose source route (131) is
  const options = [7, 7, 4, 0, 0, 0, 0, 131, 3, 4, 0, 0];
  const spec: FrameSpec = { ip: 4, protocol: 'udp', options, payload: pattern(100) };
  const later = [1, 1, 1, 1, 1, 1, 1, 131, 3, 4, 0, 0];
  assert.deepEqual(segments(spec, UDP, 48), naiveFragments4(spec, 48, later));
});

test('options that are malformed are carried as they are', () => {
  for (const options of [
    [7, 0, 0, 0],
    [7, 1, 0, 0],
    [7, 5, 4, 0],
    [1, 1, 1, 7],
  ]) {
    const spec: FrameSpec = { ip: 4, protocol: 'udp', options, payload: pattern(100) };
    const later = options[3] === 7 ? [1, 1, 1, 7] : options;
    assert.deepEqual(segments(spec, UDP, 48), naiveFragments4(spec, 48, later));
  }
});

test('sequence numbers and identifications wrap', () => {
  const spec: FrameSpec = { ip: 4, protocol: 'tcp', seq: 0xffffffff, id: 0xffff, payload: pattern(10) };
  assert.deepEqual(segments(spec, TCPV4, 4), naiveSegments(spec, 4));
});

test('a payload of an exact multiple has no empty segment at its end', () => {
  const spec: FrameSpec = { ip: 4, protocol: 'tcp', payload: pattern(2896) };
  assert.deepEqual(
    segments(spec, TCPV4, 1448).map((s) => s.length),
    [1502, 1502],
  );
});

test('the largest frame there is becomes 46 segments', () => {
  const spec: FrameSpec = { ip: 4, protocol: 'tcp', payload: pattern(65536 + 10) };
  assert.deepEqual(segments(spec, TCPV4, 1448), naiveSegments(spec, 1448));
});

test('length fields of the big frame are not believed', () => {
  const spec: FrameSpec = { ip: 4, protocol: 'udp', payload: pattern(3000) };
  const frame = buildFrame(spec);
  frame.splice(16, 2, 0, 0);
  frame.splice(38, 2, 0xff, 0xff);
  const h = strictHarness(frame);
  assert.equal(begin(h, spec, frame.length, UDP, 1400), 'ok');
  assert.deepEqual(drain(h), naiveFragments4(spec, 1400));
});

test('a segment that does not fit is offered again', () => {
  const spec: FrameSpec = { ip: 4, protocol: 'tcp', payload: pattern(3000) };
  const frame = buildFrame(spec);
  const h = strictHarness(frame);
  assert.equal(begin(h, spec, frame.length, TCPV4, 1448), 'ok');
  assert.equal(h.segmenter.next(OUT_OFF, h.segmenter.maxLen - 1), SEG_NO_SPACE);
  assert.ok(h.u8.subarray(OUT_OFF).every((byte) => byte === 0x5a));
  assert.deepEqual(drain(h), naiveSegments(spec, 1448));
  assert.equal(h.segmenter.next(OUT_OFF, 65536), 0);
});

test('after a frame that was refused there are no segments', () => {
  const spec: FrameSpec = { ip: 4, protocol: 'tcp', payload: pattern(3000) };
  const frame = buildFrame(spec);
  const h = strictHarness(frame);
  begin(h, spec, frame.length, TCPV4, 1448);
  assert.equal(begin(h, spec, 40, TCPV4, 1448), 'gso_l4_header');
  assert.equal(h.segmenter.next(OUT_OFF, 65536), 0);
});

const tcp4: FrameSpec = { ip: 4, protocol: 'tcp', payload: pattern(100) };
const tcp6: FrameSpec = { ip: 6, protocol: 'tcp', payload: pattern(100) };
const udp4: FrameSpec = { ip: 4, protocol: 'udp', payload: pattern(100) };
const udp6: FrameSpec = { ip: 6, protocol: 'udp', payload: pattern(100) };

test('each malformed frame is refused with its own verdict', () => {
  assert.equal(fault(tcp4, 0, 10), 'gso_type');
  assert.equal(fault(tcp4, 2, 10), 'gso_type');
  assert.equal(fault(tcp6, TCPV4, 10), 'gso_ether_type');
  assert.equal(fault(tcp4, TCPV6, 10), 'gso_ether_type');
  assert.equal(fault({ ...tcp4, vlans: Array(5).fill([0x8100, 1]) }, TCPV4, 10), 'gso_ether_type');
  assert.equal(
    fault(tcp4, TCPV4, 10, (f) => f.with(14, 0x44)),
    'gso_ip_header',
  );
  assert.equal(
    fault(tcp4, TCPV4, 10, (f) => f.with(14, 0x65)),
    'gso_ip_header',
  );
  assert.equal(
    fault(tcp6, TCPV6, 10, (f) => f.with(14, 0x45)),
    'gso_ip_header',
  );
  assert.equal(fault({ ...tcp4, frag: 0x2000 }, TCPV4, 10), 'gso_ip_fragment');
  assert.equal(fault({ ...udp4, frag: 5 }, UDP, 16), 'gso_ip_fragment');
  const fragmentHeader = { type: 44, rest: [0, 0, 0, 0, 0, 0, 1] };
  assert.equal(fault({ ...tcp6, extensions: [fragmentHeader] }, TCPV6, 10), 'gso_ip_fragment');
  const routing = { type: 43, rest: [0, 4, 1, 0, 0, 0, 0] };
  assert.equal(fault({ ...tcp6, extensions: [routing] }, TCPV6, 10), 'gso_ipv6_routed');
  assert.equal(fault(udp4, TCPV4, 10), 'gso_protocol');
  assert.equal(fault(tcp6, UDP_L4, 10), 'gso_protocol');
  assert.equal(
    fault(tcp4, TCPV4, 10, (f) => f.with(46, 0x40)),
    'gso_l4_header',
  );
  assert.equal(
    fault(udp4, UDP_L4, 10, (f) => f.slice(0, 41)),
    'gso_l4_header',
  );
  assert.equal(fault(tcp4, TCPV4, 0), 'gso_segment_size');
  assert.equal(fault(udp4, UDP, 7), 'gso_segment_size');
  assert.equal(
    fault({ ...udp6, extensions: [{ type: 60, rest: [0, 1, 4, 0, 0, 0, 0] }] }, UDP, 15),
    'gso_segment_size',
  );
  assert.equal(fault({ ...tcp4, payload: pattern(65500) }, TCPV4, 65500), 'gso_too_long');
  assert.equal(fault({ ...udp4, payload: pattern(65508) }, UDP, 1400), 'gso_too_long');
  assert.equal(fault({ ...udp4, payload: pattern(65507) }, UDP, 1400), 'ok');
  assert.equal(fault({ ...udp6, payload: pattern(65528) }, UDP, 1400), 'gso_too_long');
  assert.equal(fault({ ...udp6, payload: pattern(65527) }, UDP, 1400), 'ok');
  assert.equal(fault({ ...tcp4, payload: pattern(MAX_SEGMENTS) }, TCPV4, 1), 'ok');
  assert.equal(fault({ ...tcp4, payload: pattern(MAX_SEGMENTS + 1) }, TCPV4, 1), 'gso_too_many');
});

test('the checksum asked for must be that of the TCP or UDP header', () => {
  const frame = buildFrame(tcp4);
  const { segmenter } = strictHarness(frame);
  const verdict = (start: number, offset: number) =>
    segmentFaultNames[segmenter.begin(FRAME_OFF, frame.length, TCPV4, 50, start, offset)];
  assert.equal(verdict(34, 16), 'ok');
  assert.equal(verdict(33, 16), 'gso_csum_place');
  assert.equal(verdict(34, 6), 'gso_csum_place');
});

/** What becomes of the frame must not depend on the bytes around it. */
function assertReadsOnlyFrame(spec: FrameSpec, frame: number[], gsoType: number, gsoSize: number): void {
  const outcomes = [0x00, 0x06, 0x11, 0xff].map((around) => {
    const h = strictHarness(frame, around);
    const verdict = begin(h, spec, frame.length, gsoType, gsoSize);
    const made = verdict === 'ok' ? drain(h) : [];
    // the start of these is random
    return gsoType === UDP && spec.ip === 6 ? [verdict, made.length] : [verdict, made];
  });
  for (const outcome of outcomes) assert.deepEqual(outcome, outcomes[0]);
}

test('frames cut at any byte are refused or segmented, and nothing beyond their end is read', () => {
  const extension = { type: 60, rest: [0, 1, 4, 0, 0, 0, 0] };
  for (const [spec, gsoType] of [
    [{ ...tcp4, options: [1, 1, 1, 1], tcpOptions: [1, 1, 1, 1] }, TCPV4],
    [{ ...tcp6, extensions: [extension] }, TCPV6],
    [udp4, UDP],
    [{ ...udp6, extensions: [extension], vlans: [[0x8100, 1]] }, UDP],
    [udp6, UDP_L4],
  ] as [FrameSpec, number][]) {
    const whole = buildFrame(spec);
    for (let len = 0; len <= whole.length; len++) assertReadsOnlyFrame(spec, whole.slice(0, len), gsoType, 40);
  }
});

test('frames with bytes changed are refused or segmented, and nothing beyond their end is read', () => {
  const flips = fc.array(fc.tuple(fc.nat(80), fc.nat(255)), { maxLength: 6 });
  const kinds: [FrameSpec, number][] = [
    [tcp4, TCPV4],
    [tcp6, TCPV6],
    [udp4, UDP],
    [udp6, UDP],
    [udp6, UDP_L4],
  ];
  fc.assert(
    fc.property(
      fc.constantFrom(...kinds),
      flips,
      fc.integer({ min: 0, max: 200 }),
      ([spec, gsoType], edits, gsoSize) => {
        const frame = buildFrame(spec);
        for (const [at, byte] of edits) frame[at] = byte;
        assertReadsOnlyFrame(spec, frame, gsoType, gsoSize);
      },
    ),
    { numRuns: 300 },
  );
});
