import assert from 'node:assert/strict';
import { describe } from 'node:test';
import fc from 'fast-check';
import * as R from '../../../../src/frontends/e1000/registers.js';
import * as D from '../../../../src/frontends/e1000/tx-descriptor.js';
import {
  VIRTIO_F_VERSION_1,
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F_GUEST_TSO6,
  VIRTIO_NET_F_MRG_RXBUF,
} from '../../../../src/wire/virtio-features.js';
import type { E1000Guest } from '../../../support/e1000-driver.js';
import { e1000Rig, withoutHeader } from '../../../support/e1000-rig.js';
import { buildFrame, type FrameSpec, l4Offset, pattern } from '../../../support/frames.js';
import { naiveSegments } from '../../../support/naive-segmentation.js';
import { etherFrame } from '../../../support/test-guest.js';

const rig = e1000Rig();
const { test } = rig;
const BROADCAST = [255, 255, 255, 255, 255, 255];
const POPTS_BOTH = D.TXD_POPTS_IXSM | D.TXD_POPTS_TXSM;

const specs = fc.record({
  ip: fc.constantFrom<4 | 6>(4, 6),
  protocol: fc.constantFrom<'tcp' | 'udp'>('tcp', 'udp'),
  payload: fc.integer({ min: 0, max: 1400 }).map((n) => pattern(n, n)),
  tcpOptions: fc.constantFrom<number[]>([], [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]),
  vlans: fc.constantFrom<[number, number][]>([], [[0x8100, 5]]),
  id: fc.integer({ min: 0, max: 65535 }),
  seq: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
});

function l3Offset(spec: FrameSpec): number {
  return 14 + 4 * (spec.vlans?.length ?? 0);
}

/** The checksum offsets of a frame as a driver writes them into a context. */
function context(spec: FrameSpec) {
  const l4 = l4Offset(spec);
  const l3 = l3Offset(spec);
  const at = l4 + (spec.protocol === 'tcp' ? 16 : 6);
  return { ipcss: l3, ipcso: l3 + 10, ipcse: l4 - 1, tucss: l4, tucso: at, ipv4: spec.ip === 4 };
}

/** The frame as Linux leaves it to the controller: the pseudo header's sum in the checksum, that of IP zero. */
function unfinished(spec: FrameSpec): Uint8Array {
  const frame = Uint8Array.from(buildFrame({ ...spec, partialChecksum: true }));
  if (spec.ip === 4) frame.fill(0, l3Offset(spec) + 10, l3Offset(spec) + 12);
  return frame;
}

/** As for segmentation: no lengths either, in IP, UDP and the pseudo header (manual §3.5.8). */
function unsegmented(spec: FrameSpec): Uint8Array {
  const frame = unfinished(spec);
  const l3 = l3Offset(spec);
  const l4 = l4Offset(spec);
  const at = context(spec).tucso;
  if (spec.ip === 4) frame.fill(0, l3 + 2, l3 + 4);
  else frame.fill(0, l3 + 4, l3 + 6);
  let sum = ((frame[at]! << 8) | frame[at + 1]!) - (frame.length - l4);
  while (sum < 0) sum += 65535;
  frame.set([sum >> 8, sum & 255], at);
  return frame;
}

function hdrLen(spec: FrameSpec): number {
  return buildFrame({ ...spec, payload: [] }).length;
}

const ways = [
  ['told the backend in a header', undefined],
  ['done in software, for a backend without headers', withoutHeader],
] as const;

for (const [how, wrap] of ways)
  describe(`offloads ${how}`, () => {
    const sender = (): E1000Guest => rig.e1000('a', wrap === undefined ? {} : { wrap });

    test('checksums of a context and data descriptors are inserted, whatever pieces the frame is in', () => {
      const a = sender();
      const v = rig.virtio('v');
      fc.assert(
        fc.property(specs, fc.array(fc.integer({ min: 1, max: 400 }), { maxLength: 4 }), (fields, cuts) => {
          const spec: FrameSpec = { ...fields, destination: BROADCAST };
          const frame = unfinished(spec);
          const pieces: number[] = [];
          let left = frame.length;
          for (const cut of cuts) {
            if (cut >= left) break;
            pieces.push(cut);
            left -= cut;
          }
          pieces.push(left);
          a.queueContext(context(spec));
          const popts = spec.ip === 4 ? POPTS_BOTH : D.TXD_POPTS_TXSM;
          a.queueData(frame, { popts, pieces });
          a.kick();
          assert.deepEqual([...v.receive()[0]!.frame], buildFrame(spec));
        }),
        { numRuns: 150 },
      );
    });

    test('the checksum of a legacy descriptor goes from CSS to the end', () => {
      const a = sender();
      const v = rig.virtio('v');
      const spec: FrameSpec = { ip: 4, protocol: 'udp', payload: pattern(33), destination: BROADCAST };
      const frame = Uint8Array.from(buildFrame({ ...spec, partialChecksum: true }));
      a.queueFrame(frame, D.TXD_CMD_IC | (40 << 16), 34 << 8);
      assert.equal(a.kick(), 1);
      assert.deepEqual([...v.receive()[0]!.frame], buildFrame(spec));
    });

    test('a context serves any number of frames, until the next one', () => {
      const a = sender();
      const v = rig.virtio('v');
      const spec: FrameSpec = { ip: 6, protocol: 'udp', payload: pattern(20), destination: BROADCAST };
      a.queueContext(context(spec));
      for (const n of [1, 2, 3])
        a.queueData(unfinished({ ...spec, payload: pattern(n * 10) }), { popts: D.TXD_POPTS_TXSM });
      a.kick();
      assert.deepEqual(
        v.receive().map((got) => [...got.frame]),
        [1, 2, 3].map((n) => buildFrame({ ...spec, payload: pattern(n * 10) })),
      );
    });

    test('TCP is segmented for a guest that takes no big frames, IPv4 and IPv6, with a tag or without', () => {
      const a = sender();
      const v = rig.virtio('v', { rxBufLen: 4096 });
      fc.assert(
        fc.property(
          specs,
          fc.integer({ min: 100, max: 9000 }),
          fc.integer({ min: 500, max: 1460 }),
          (fields, n, mss) => {
            const spec: FrameSpec = { ...fields, protocol: 'tcp', payload: pattern(n), destination: BROADCAST };
            const frame = unsegmented(spec);
            const head = hdrLen(spec);
            a.queueContext({ ...context(spec), hdrLen: head, mss, payLen: n, tse: true });
            const popts = spec.ip === 4 ? POPTS_BOTH : D.TXD_POPTS_TXSM;
            a.queueData(frame, { popts, cmd: D.TXD_CMD_TSE, pieces: [head, n] });
            a.kick();
            assert.deepEqual(
              v.receive().map((got) => [...got.frame]),
              naiveSegments(spec, mss),
            );
          },
        ),
        { numRuns: 60 },
      );
      assert.ok(a.read(R.TSCTC) > 0);
      assert.equal(a.read(R.TSCTFC), 0);
    });

    test('UDP is segmented into datagrams', () => {
      const a = sender();
      const v = rig.virtio('v');
      const spec: FrameSpec = { ip: 4, protocol: 'udp', payload: pattern(2500), destination: BROADCAST };
      a.queueContext({ ...context(spec), hdrLen: 42, mss: 1000, payLen: 2500, tcp: false, tse: true });
      a.queueData(unsegmented(spec), { popts: POPTS_BOTH, cmd: D.TXD_CMD_TSE });
      a.kick();
      assert.deepEqual(
        v.receive().map((got) => [...got.frame]),
        naiveSegments(spec, 1000),
      );
    });

    test('statistics count the segments, not the frame that they were made of', () => {
      const a = sender();
      rig.virtio('v');
      const spec: FrameSpec = { ip: 4, protocol: 'tcp', payload: pattern(3000) };
      a.queueContext({ ...context(spec), hdrLen: 54, mss: 1400, payLen: 3000, tse: true });
      a.queueData(unsegmented(spec), { popts: POPTS_BOTH, cmd: D.TXD_CMD_TSE });
      a.kick();
      assert.equal(a.read(R.GOTCL), 3 * (54 + 4) + 3000);
      assert.deepEqual([a.read(R.GPTC), a.read(R.TPT), a.read(R.PTC64 + 20), a.read(R.PTC64 + 12)], [3, 3, 2, 1]);
    });

    test('a tag is inserted behind the addresses where CTRL.VME and VLE say so, also into segments', () => {
      const a = sender();
      const v = rig.virtio('v');
      const spec: FrameSpec = { ip: 4, protocol: 'tcp', payload: pattern(2000), destination: BROADCAST };
      const tagged: FrameSpec = { ...spec, vlans: [[0x8100, 0x2007]] };
      const frame = etherFrame(0xff, 1, 100, 3);
      a.queueFrame(frame, D.TXD_CMD_VLE, 0x2007 << 16);
      a.kick();
      assert.deepEqual([...v.receive()[0]!.frame], [...frame], 'without CTRL.VME nothing is inserted');
      a.write(R.CTRL, a.read(R.CTRL) | R.CTRL_VME);
      a.queueFrame(frame, D.TXD_CMD_VLE, 0x2007 << 16);
      a.queueContext(context(spec));
      a.queueData(unfinished(spec), { popts: POPTS_BOTH, cmd: D.TXD_CMD_VLE, special: 0x2007, pieces: [5, 60, 1989] });
      a.queueContext({ ...context(spec), hdrLen: 54, mss: 900, payLen: 2000, tse: true });
      a.queueData(unsegmented(spec), { popts: POPTS_BOTH, cmd: D.TXD_CMD_TSE | D.TXD_CMD_VLE, special: 0x2007 });
      a.kick();
      const expected = [
        [...frame.subarray(0, 12), 0x81, 0, 0x20, 7, ...frame.subarray(12)],
        buildFrame(tagged),
        ...naiveSegments(tagged, 900),
      ];
      assert.deepEqual(
        v.receive().map((got) => [...got.frame]),
        expected,
      );
    });
  });

describe('offloads of a guest that takes them unfinished', () => {
  const features =
    VIRTIO_F_VERSION_1 |
    VIRTIO_NET_F_MRG_RXBUF |
    VIRTIO_NET_F_GUEST_CSUM |
    VIRTIO_NET_F_GUEST_TSO4 |
    VIRTIO_NET_F_GUEST_TSO6;

  test('a big frame arrives as one, with right lengths and the header that says how to divide it', () => {
    for (const ip of [4, 6] as const) {
      const a = rig.e1000(ip === 4 ? 'a' : 'b');
      const v = rig.virtio(`v${ip}`, { features });
      const spec: FrameSpec = { ip, protocol: 'tcp', payload: pattern(30000), destination: BROADCAST };
      const head = hdrLen(spec);
      a.queueContext({ ...context(spec), hdrLen: head, mss: 1448, payLen: 30000, tse: true });
      const popts = ip === 4 ? POPTS_BOTH : D.TXD_POPTS_TXSM;
      a.queueData(unsegmented(spec), { popts, cmd: D.TXD_CMD_TSE });
      a.kick();
      const [got] = v.receive();
      assert.deepEqual([...got!.frame], buildFrame({ ...spec, partialChecksum: true }));
      const gso = ip === 4 ? 1 : 4;
      const l4 = l4Offset(spec);
      assert.deepEqual([...got!.header.subarray(0, 10)], [1, gso, head, 0, 1448 & 255, 1448 >> 8, l4, 0, 16, 0]);
    }
  });

  test('a checksum is left to whoever receives, and nothing is copied for it', () => {
    const a = rig.e1000('a');
    const v = rig.virtio('v', { features });
    const spec: FrameSpec = { ip: 4, protocol: 'udp', payload: pattern(700), destination: BROADCAST };
    a.queueContext(context(spec));
    a.queueData(Uint8Array.from(buildFrame({ ...spec, partialChecksum: true })), { popts: D.TXD_POPTS_TXSM });
    a.kick();
    const [got] = v.receive();
    assert.deepEqual([...got!.frame], buildFrame({ ...spec, partialChecksum: true }));
    assert.deepEqual([...got!.header.subarray(0, 10)], [1, 0, 0, 0, 0, 0, 34, 0, 6, 0]);
    assert.equal(rig.count('a', 'tx_offloaded'), 1);
  });
});

describe('the transmit ring', () => {
  test('descriptors with RS are written back, others are not, and TDH tells in any case', () => {
    const a = rig.e1000('a');
    rig.virtio('v');
    const gpa = a.txBuffer(etherFrame(0xff, 1, 60));
    a.queue(
      { gpa, len: 60, cmd: D.TXD_CMD_EOP },
      { gpa, len: 60, cmd: D.TXD_CMD_EOP | D.TXD_CMD_RS },
      { gpa, len: 60, cmd: D.TXD_CMD_EOP | D.TXD_CMD_RPS },
    );
    a.kick();
    const status = [0, 1, 2].map((i) => a.word(a.txRing + 16 * i + 12) & 0xff);
    assert.deepEqual(status, [0, 1, 1]);
    assert.equal(a.read(R.TDH), 3);
  });

  test('a frame is sent once its last descriptor is there, and not before', () => {
    const a = rig.e1000('a');
    const v = rig.virtio('v');
    const frame = etherFrame(0xff, 1, 100, 5);
    const gpa = a.txBuffer(frame);
    a.queue({ gpa, len: 40 });
    a.kick();
    assert.equal(v.receive().length, 0);
    assert.equal(a.device.arm(), false, 'an unfinished frame is nothing to poll for');
    a.queue({ gpa: gpa + 40, len: 60, cmd: D.TXD_CMD_EOP });
    a.kick();
    assert.deepEqual([...v.receive()[0]!.frame], [...frame]);
  });

  test('it wraps: hundreds of frames of one to three descriptors arrive in order', () => {
    const a = rig.e1000('a', { ringSize: 16 });
    const v = rig.virtio('v', { queueSize: 256 });
    for (let i = 0; i < 300; i++) {
      const frame = etherFrame(0xff, 1, 60 + (i % 50), i);
      a.queueData(frame, {
        pieces: i % 3 === 0 ? [frame.length] : i % 3 === 1 ? [20, frame.length - 20] : [1, 19, frame.length - 20],
      });
      a.kick();
      assert.deepEqual([...v.receive()[0]!.frame], [...frame]);
    }
  });

  test('interrupts: TXDW for what is written back, TXQE when the ring is empty, TXD_LOW at the threshold', () => {
    const a = rig.e1000('a');
    rig.virtio('v');
    a.write(R.TXDCTL, 1 << 25);
    for (let i = 0; i < 10; i++) a.queueFrame(etherFrame(0xff, 1));
    a.kick();
    assert.equal(a.read(R.ICR), R.ICR_TXDW | R.ICR_TXQE | R.ICR_TXD_LOW);
    assert.equal(a.pinRises, 1);
  });

  test('descriptors of length 0 or without an address transfer nothing', () => {
    const a = rig.e1000('a');
    const v = rig.virtio('v');
    const frame = etherFrame(0xff, 1, 64, 9);
    a.queue(
      { gpa: 0, len: 500 },
      { gpa: a.txBuffer(), len: 0 },
      { gpa: a.txBuffer(frame), len: 64, cmd: D.TXD_CMD_EOP },
    );
    a.kick();
    assert.deepEqual([...v.receive()[0]!.frame], [...frame]);
  });

  test('with the link down frames are dropped and their descriptors returned', () => {
    const a = rig.e1000('a');
    const v = rig.virtio('v');
    a.device.setLink(false);
    assert.equal(a.send(etherFrame(0xff, 1)), 1);
    assert.equal(v.receive().length, 0);
    assert.equal(rig.count('a', 'tx_drop_link_down'), 1);
  });

  test('a backend that is full keeps frames in the ring until it takes them', () => {
    let full = true;
    const a = rig.e1000('a', {
      wrap: (backend) => {
        const send = backend.send.bind(backend);
        backend.send = (iov) => (full ? 0 : send(iov));
        return backend;
      },
    });
    const v = rig.virtio('v');
    assert.equal(a.send(etherFrame(0xff, 1), etherFrame(0xff, 1)), 0);
    assert.equal(a.read(R.TDH), 0);
    assert.equal(a.device.arm(), true);
    full = false;
    a.device.poll();
    assert.equal(a.reclaim(), 2);
    assert.equal(v.receive().length, 2);
  });
});
