/** Ports of a switch whose header lengths differ (netmap's table: 0, 10 and 12 in all pairs), with what their users negotiated. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import fc from 'fast-check';
import type { NetBackend } from '../../../src/net-backends/net-backend.js';
import { openBackend } from '../../../src/net-backends/registry.js';
import { netmapOf } from '../../../src/netmap/netmap.js';
import * as F from '../../../src/wire/virtio-features.js';
import { FrameBuffer } from '../../conformance/backend-peers.js';
import { buildFrame, type FrameSpec, l4Offset, pattern } from '../../support/frames.js';
import { naiveSegments } from '../../support/naive-segmentation.js';
import { type TestRuntime, testRuntime } from '../../support/runtime.js';

let runtime: TestRuntime;
let frames: FrameBuffer;

beforeEach(() => {
  runtime = testRuntime();
  frames = new FrameBuffer(runtime);
  for (const name of ['from', 'to']) {
    netmapOf(runtime).newif(name);
    netmapOf(runtime).attach('vale1', name);
  }
});
afterEach(() => {
  for (const name of ['from', 'to']) {
    netmapOf(runtime).detach('vale1', name);
    netmapOf(runtime).delif(name);
  }
  frames.close();
  runtime.close();
});

const LENGTHS = [0, 10, 12] as const;
const ALL_SENT =
  F.VIRTIO_NET_F_CSUM |
  F.VIRTIO_NET_F_HOST_TSO4 |
  F.VIRTIO_NET_F_HOST_TSO6 |
  F.VIRTIO_NET_F_HOST_ECN |
  F.VIRTIO_NET_F_HOST_UFO |
  F.VIRTIO_NET_F_HOST_USO;

/** What a sender asks for, and the receiver's features that let it be passed on. */
interface Request {
  gsoType: number;
  takenWith: bigint;
}
const CSUM = F.VIRTIO_NET_F_GUEST_CSUM;
const requests: Record<string, Request> = {
  csum: { gsoType: 0, takenWith: CSUM },
  tcp4: { gsoType: 1, takenWith: CSUM | F.VIRTIO_NET_F_GUEST_TSO4 },
  tcp6: { gsoType: 4, takenWith: CSUM | F.VIRTIO_NET_F_GUEST_TSO6 },
  udp: { gsoType: 5, takenWith: CSUM | F.VIRTIO_NET_F_GUEST_USO4 | F.VIRTIO_NET_F_GUEST_USO6 },
};

function header(spec: FrameSpec, gsoType: number, gsoSize: number): number[] {
  const start = l4Offset(spec);
  const hdrLen = gsoType === 0 ? 0 : start + (spec.protocol === 'tcp' ? 20 : 8);
  const word = (n: number) => [n & 255, n >> 8];
  return [
    1,
    gsoType,
    ...word(hdrLen),
    ...word(gsoType && gsoSize),
    ...word(start),
    spec.protocol === 'tcp' ? 16 : 6,
    0,
  ];
}

/** Ports of a switch: as the vale backend has them, and as rings in memory of their own. */
const kinds = { 'vale ports': ['vale0:from', 'vale0:to'], 'ports with rings': ['netmap:from', 'netmap:to'] } as const;
type Devices = (typeof kinds)[keyof typeof kinds];

/** Sends `bytes` from a port with headers of `fromLen` bytes to one of `toLen`. Returns what comes there. */
function through(devices: Devices, fromLen: number, toLen: number, takes: bigint, bytes: number[]): number[][] {
  const got: number[][] = [];
  const from = openBackend(runtime, devices[0], () => {}, 'from');
  const to: NetBackend = openBackend(
    runtime,
    devices[1],
    () => {
      for (let len = to.peekRecvLen(); len > 0; len = to.peekRecvLen()) {
        const buffer = new FrameBuffer(runtime);
        const iov = buffer.iovec(len, [3, 9]);
        assert.equal(to.recv(iov), len);
        got.push([...buffer.read(iov, len)]);
        buffer.close();
      }
    },
    'to',
  );
  try {
    from.setCap(ALL_SENT, fromLen);
    to.setCap(takes, toLen);
    to.recvEnable();
    const iov = frames.iovec(bytes.length, [6, 70]);
    frames.write(iov, Uint8Array.from(bytes));
    assert.equal(from.send(iov), bytes.length);
    from.flush();
    runtime.loop.step(0);
    return got;
  } finally {
    from.close();
    to.close();
  }
}

const zeros = (n: number) => Array<number>(n).fill(0);

for (const [kind, devices] of Object.entries(kinds))
  describe(`between ${kind} with headers of different length`, () => {
    const specs: fc.Arbitrary<FrameSpec> = fc.record({
      ip: fc.constantFrom(4 as const, 6 as const),
      protocol: fc.constantFrom('tcp' as const, 'udp' as const),
      vlans: fc.subarray<[number, number]>([
        [0x88a8, 100],
        [0x8100, 6],
      ]),
      extensions: fc.subarray([
        { type: 0, rest: [0, 1, 4, 0, 0, 0, 0] },
        { type: 60, rest: [0, 1, 4, 0, 0, 0, 0] },
      ]),
      id: fc.nat(0xffff),
      seq: fc.nat(0xffffffff),
      payload: fc.integer({ min: 1, max: 9000 }).map((n) => pattern(n, n)),
    });

    for (const fromLen of LENGTHS)
      for (const toLen of LENGTHS) {
        test(`${fromLen} to ${toLen}: a complete frame arrives as it is, behind an empty header`, () => {
          fc.assert(
            fc.property(specs, (spec) => {
              const frame = buildFrame(spec);
              assert.deepEqual(through(devices, fromLen, toLen, CSUM, [...zeros(fromLen), ...frame]), [
                [...zeros(toLen), ...frame],
              ]);
            }),
            { numRuns: 20 },
          );
        });
        if (fromLen === 0) continue;

        test(`${fromLen} to ${toLen}: what the receiver takes is passed on with its header, the rest is done here`, () => {
          fc.assert(
            fc.property(
              specs,
              fc.boolean(),
              fc.boolean(),
              fc.integer({ min: 48, max: 8000 }),
              (spec, big, takes, gsoSize) => {
                const what = !big ? 'csum' : spec.protocol === 'udp' ? 'udp' : spec.ip === 4 ? 'tcp4' : 'tcp6';
                const { gsoType, takenWith } = requests[what]!;
                const words = header(spec, gsoType, gsoSize);
                const open = buildFrame({ ...spec, partialChecksum: true });
                const sent = [...words, ...zeros(fromLen - 10), ...open];
                const done = (big ? naiveSegments(spec, gsoSize) : [buildFrame(spec)]).map((f) => [
                  ...zeros(toLen),
                  ...f,
                ]);
                const passed = [[...words, ...zeros(Math.max(0, toLen - 10)), ...open]];
                const got = through(devices, fromLen, toLen, takes ? takenWith : 0n, sent);
                assert.deepEqual(got, takes && toLen > 0 ? passed : done);
              },
            ),
            { numRuns: 25 },
          );
        });
      }
  });
