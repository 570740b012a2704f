import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import fc from 'fast-check';
import type { NetBackend } from '../../../src/net-backends/net-backend.js';
import { SOFTWARE_OFFLOADS } from '../../../src/net-backends/offload-features.js';
import { openBackend } from '../../../src/net-backends/registry.js';
import { NS_MOREFRAG } from '../../../src/netmap/abi.js';
import { type Netmap, netmapOf } from '../../../src/netmap/netmap.js';
import type { NetmapPort } from '../../../src/netmap/port.js';
import * as F from '../../../src/wire/virtio-features.js';
import { FrameBuffer } from '../../conformance/backend-peers.js';
import { buildFrame, type FrameSpec, l4Offset, pattern } from '../../support/frames.js';
import { naiveSegments } from '../../support/naive-segmentation.js';
import { type TestRuntime, testRuntime } from '../../support/runtime.js';
import { etherFrame } from '../../support/test-guest.js';

let runtime: TestRuntime;
let netmap: Netmap;
let frames: FrameBuffer;
let closers: { close(): void }[];

beforeEach(() => {
  runtime = testRuntime();
  netmap = netmapOf(runtime);
  frames = new FrameBuffer(runtime);
  closers = [frames];
});
afterEach(() => {
  for (const closer of closers.reverse()) closer.close();
  for (const { name, kind, switchName } of netmap.list()) {
    if (kind !== 'persistent') continue;
    if (switchName !== '') netmap.detach(switchName, name);
    netmap.delif(name);
  }
  assert.deepEqual(netmap.list(), []);
  assert.deepEqual(runtime.counters.directory(), []);
  runtime.close();
});

function open(device: string, onReceive: () => void = () => {}): NetBackend {
  const backend = openBackend(runtime, device, onReceive, 'test');
  closers.push(backend);
  return backend;
}

/** The other end, seen by its rings. */
function port(name: string): NetmapPort {
  const opened = netmap.open(name);
  closers.push(opened);
  return opened;
}

function send(backend: NetBackend, frame: Uint8Array, flush = true): number {
  const iov = frames.iovec(frame.length, [6, 70]);
  frames.write(iov, frame);
  const sent = backend.send(iov);
  if (flush) backend.flush();
  return sent;
}

function take(backend: NetBackend): Uint8Array[] {
  const out: Uint8Array[] = [];
  for (let len = backend.peekRecvLen(); len > 0; len = backend.peekRecvLen()) {
    const iov = frames.iovec(len, [3, 11]);
    assert.equal(backend.recv(iov), len);
    out.push(frames.read(iov, len));
  }
  return out;
}

/** Puts slots with these lengths and flags into a transmit ring, and syncs. */
function put(from: NetmapPort, slots: [len: number, flags: number][], ring = 0): void {
  const tx = from.txRings[ring]!;
  for (const [len, flags] of slots) {
    tx.window.u8.fill(0x20 + len, tx.slotOff(tx.head), tx.slotOff(tx.head) + len);
    tx.setLenAndFlags(tx.head, len, flags);
    tx.advance(1);
  }
  from.txsync();
}

const count = (device: string, name: string): number => runtime.count(device, name);

describe('a netmap port by its rings, as a backend', () => {
  test('spreads a frame over as many slots as it needs, and gathers it again', () => {
    const [a, b] = [open('netmap:x{1'), open('netmap:x}1')];
    fc.assert(
      fc.property(fc.integer({ min: 14, max: 65600 }), fc.nat(255), (len, seed) => {
        const frame = Uint8Array.from(pattern(len, seed));
        assert.equal(send(a, frame), len);
        assert.deepEqual(take(b), [frame]);
      }),
      { numRuns: 60 },
    );
  });

  test('hands over a burst with one txsync, in flush', () => {
    const [a, b] = [open('netmap:x{1'), open('netmap:x}1')];
    for (let i = 0; i < 20; i++) send(a, etherFrame(2, 1, 60 + i), false);
    assert.equal(b.peekRecvLen(), 0);
    a.flush();
    assert.equal(take(b).length, 20);
  });

  test('drops and counts what the ring has no room for, and goes on when it has', () => {
    const [a, b] = [open('netmap:x{1,ring=64'), open('netmap:x}1')];
    for (let i = 0; i < 70; i++) assert.equal(send(a, etherFrame(2, 1, 60)), 60);
    assert.equal(count('netmap:x{1', 'tx_drop_full'), 7);
    assert.equal(count('netmap:x{1', 'tx_frames'), 63);
    assert.equal(take(b).length, 63);
    send(a, etherFrame(2, 1, 60));
    assert.equal(take(b).length, 1);
    // a frame of several slots is dropped whole
    for (let i = 0; i < 61; i++) send(a, etherFrame(2, 1, 60));
    send(a, etherFrame(2, 1, 9000));
    send(a, etherFrame(2, 1, 61));
    assert.deepEqual(
      take(b).map((f) => f.length),
      [...Array(61).fill(60), 61],
    );
  });

  test('a full ring whose slots somebody else made one chain without end is emptied, and goes on', () => {
    const b = open('netmap:x{1,ring=64');
    const a = port('netmap:x}1');
    const { rxRings } = port('netmap:x{1');
    put(a, Array(63).fill([60, 0]));
    for (let i = 0; i < 64; i++) rxRings[0]!.setSlotFlags(i, NS_MOREFRAG);
    assert.deepEqual(take(b), []);
    assert.equal(count('netmap:x{1', 'rx_drop_bad_slot'), 1);
    a.txsync();
    put(a, [[61, 0]]);
    assert.deepEqual(
      take(b).map((f) => f.length),
      [61],
    );
  });

  test('a chain without its end is no frame yet', () => {
    const b = open('netmap:x{1');
    const a = port('netmap:x}1');
    put(a, [[100, NS_MOREFRAG]]);
    assert.equal(b.peekRecvLen(), 0);
    put(a, [[50, NS_MOREFRAG]]);
    assert.equal(b.peekRecvLen(), 0);
    put(a, [[25, 0]]);
    assert.equal(b.peekRecvLen(), 175);
    assert.deepEqual(
      take(b).map((f) => [f[0], f[100], f[150], f.length]),
      [[0x84, 0x52, 0x39, 175]],
    );
  });

  test('slots that another process has spoiled are dropped and counted, and nothing outside is read', () => {
    const b = open('netmap:x{1');
    const a = port('netmap:x}1');
    put(a, [
      [60, NS_MOREFRAG],
      [61, 0],
      [62, 0],
    ]);
    assert.equal(b.peekRecvLen(), 121);
    // the second opening sees the same receive ring
    const spy = port('netmap:x{1');
    assert.equal(b.rxDiscard(), 121);
    const rx = spy.rxRings[0]!;
    const at = rx.head;
    const own = rx.bufIdx(at);
    for (const idx of [0, 1, 0xffffffff, spy.memory.bufTotal]) {
      rx.setBufIdx(at, idx);
      assert.equal(b.peekRecvLen(), 0);
      assert.ok(count('netmap:x{1', 'rx_drop_bad_slot') > 0);
      rx.setBufIdx(at, own);
    }
    put(a, [[63, 0]]);
    assert.equal(take(b).length, 1);
  });

  test('frames of all rings come; those between two addresses keep to one', () => {
    const [a, b] = [open('netmap:x{1,rings=4'), open('netmap:x}1')];
    assert.equal(b.status?.().rxRings, 4);
    for (let i = 0; i < 400; i++) {
      const frame = etherFrame(2, i % 8, 64);
      frame[20] = i >> 3;
      send(a, frame);
    }
    const got = take(b);
    assert.equal(got.length, 400);
    for (let source = 0; source < 8; source++)
      assert.deepEqual(
        got.filter((f) => f[11] === source).map((f) => f[20]),
        Array.from({ length: 50 }, (_, i) => i),
      );
    assert.ok(
      netmap.find('x{1')!.txKrings.filter(({ hwcur }) => hwcur > 0).length > 1,
      'more rings than one were used',
    );
  });

  test('one ring of several', () => {
    const all = port('netmap:x}1@conf=3');
    const one = open('netmap:x{1-2');
    assert.deepEqual([one.status?.().rxRings, one.status?.().txRings], [1, 1]);
    put(all, [[60, 0]], 0);
    put(all, [[61, 0]], 2);
    assert.deepEqual(
      take(one).map((f) => f.length),
      [61],
    );
    send(one, etherFrame(2, 1, 70));
    all.rxsync();
    assert.deepEqual(
      all.rxRings.map((ring) => ring.space()),
      [0, 0, 1],
    );
  });

  test('calls back in bounded bursts: a peer that goes on and on does not keep the fabric', () => {
    const a = port('netmap:x}1');
    const bursts: number[] = [];
    const b = open('netmap:x{1', () => {
      let n = 0;
      while (b.rxDiscard() > 0) n++;
      bursts.push(n);
    });
    put(a, Array(1000).fill([60, 0]));
    b.recvEnable();
    for (let i = 0; i < 20; i++) runtime.loop.step(0);
    assert.ok(Math.max(...bursts) <= 256, bursts.join(' '));
    assert.equal(
      bursts.reduce((sum, n) => sum + n, 0),
      1000,
    );
  });

  test('a ring for one direction only receives, or only sends: the rest is dropped and counted', () => {
    const peer = open('netmap:x}1');
    const receives = open('netmap:x{1/R');
    send(receives, etherFrame(2, 1));
    assert.equal(count('netmap:x{1/R', 'tx_drop_no_ring'), 1);
    send(peer, etherFrame(1, 2));
    assert.equal(take(receives).length, 1);
    const sends = open('netmap:x{1/T');
    assert.equal(sends.peekRecvLen(), 0);
    send(sends, etherFrame(2, 1));
    assert.equal(take(peer).length, 1);
  });

  test('runts and frames that are too long are dropped and counted', () => {
    const a = open('netmap:x{1');
    send(a, new Uint8Array(13));
    send(a, new Uint8Array(65536 + 65));
    assert.equal(count('netmap:x{1', 'tx_drop_runt'), 1);
    assert.equal(count('netmap:x{1', 'tx_drop_too_long'), 1);
  });
});

describe('headers of a netmap port', () => {
  test('capabilities are probed by setting a header length, which is restored', () => {
    netmap.newif('v0');
    netmap.attach('vale0', 'v0');
    netmap.find('v0')!.vnetHdrLen = 10;
    const backend = open('netmap:v0');
    assert.equal(backend.getCap(), SOFTWARE_OFFLOADS);
    assert.equal(netmap.find('v0')!.vnetHdrLen, 10);
    backend.setCap(0n, 12);
    assert.equal(netmap.find('v0')!.vnetHdrLen, 12);
    backend.close();
    assert.equal(netmap.find('v0')!.vnetHdrLen, 10, 'as it was before');
  });

  test('a pipe has no headers: nothing is offered, and the frontend strips its own', () => {
    const a = open('netmap:x{1');
    assert.equal(a.getCap(), 0n);
    assert.equal(a.setCap(0n, 12), false);
    assert.equal(a.vnetHdrLen, 0);
    assert.equal(a.setCap(0n, 0), true);
  });

  test('what was not negotiated is completed by the switch, what was is passed on', () => {
    netmap.newif('v0');
    netmap.attach('vale0', 'v0');
    const ring = open('netmap:v0');
    const vale = open('vale0:peer');
    vale.setCap(SOFTWARE_OFFLOADS, 12);
    vale.recvEnable();
    const spec: FrameSpec = { ip: 4, protocol: 'tcp', payload: pattern(6000) };
    const start = l4Offset(spec);
    const header = [1, 1, start + 20, 0, 1000 & 255, 1000 >> 8, start, 0, 16, 0, 0, 0];
    const big = Uint8Array.from([...header, ...buildFrame({ ...spec, partialChecksum: true })]);
    ring.setCap(F.VIRTIO_NET_F_GUEST_CSUM | F.VIRTIO_NET_F_GUEST_TSO4, 12);
    send(vale, big);
    assert.deepEqual(take(ring), [big]);
    ring.setCap(0n, 12);
    send(vale, big);
    const zeros = Array<number>(12).fill(0);
    assert.deepEqual(
      take(ring).map((f) => [...f]),
      naiveSegments(spec, 1000).map((f) => [...zeros, ...f]),
    );
    // not negotiated for sending either
    send(ring, big);
    assert.equal(count('vale0:v0', 'tx_drop_vnet_not_negotiated'), 1);
  });

  test('frames that wait when the length of headers changes are discarded: theirs is another', () => {
    netmap.newif('v0');
    netmap.attach('vale0', 'v0');
    const ring = open('netmap:v0');
    const vale = open('vale0:peer');
    send(vale, etherFrame(0xff, 2));
    ring.setCap(0n, 12);
    assert.equal(ring.peekRecvLen(), 0);
    assert.equal(count('netmap:v0', 'rx_discarded'), 1);
  });
});

describe('names of the netmap backend that cannot be opened', () => {
  test('say what there is instead', () => {
    const refuse = (device: string, expected: object): void =>
      assert.throws(() => openBackend(runtime, device, () => {}, 'x'), expected, device);
    refuse('netmap:nowhere', { code: 'ENODEV', remedy: /lo/ });
    refuse('netmap:x{1,mode=packet', { code: 'EINVAL', message: /mode is for interfaces/ });
    refuse('netmap:x{1,ring=63', { code: 'EINVAL' });
    refuse('netmap:x{1-9', { code: 'EINVAL', message: /character 11/ });
    refuse('netmap:lo/r', { code: 'EINVAL', message: /character 10.*monitor/ });
    refuse('netmap:lo-0', { code: 'EINVAL', message: /character 10.*together/ });
    refuse('netmap:lo@2', { code: 'EINVAL', message: /character 10/ });
    refuse('netmap:lo,rings=2', { code: 'EINVAL', message: /rings says/ });
    refuse('vale0:p{1,table=64', { code: 'EINVAL', message: /table is for a whole port/ });
    open('netmap:x{1');
    refuse('netmap:x{1', { code: 'EBUSY' });
  });
});
