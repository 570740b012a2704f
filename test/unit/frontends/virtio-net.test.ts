import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { TX_QUEUE } from '../../../src/frontends/virtio-net/device.js';
import {
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_VERSION_1,
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_MRG_RXBUF,
} from '../../../src/wire/virtio-features.js';
import { inBothMemories } from '../../support/both-memories.js';
import { type TestRuntime, testRuntime } from '../../support/runtime.js';
import { etherFrame, TestGuest, type TestGuestOptions } from '../../support/test-guest.js';

let runtime: TestRuntime;
let guests: TestGuest[];
let unshared: TestGuestOptions['unshared'];

beforeEach(() => {
  runtime = testRuntime();
  guests = [];
});
afterEach(() => {
  for (const g of guests) g.close();
  assert.deepEqual(runtime.counters.directory(), [], 'counters were left behind');
  runtime.close();
});

function guest(options: Partial<TestGuestOptions> & { name: string }): TestGuest {
  const g = new TestGuest(runtime, { backend: `vale0:${options.name}`, unshared, ...options });
  guests.push(g);
  g.settle();
  return g;
}

/** What holds wherever the guests' memory is. */
function rules(title: string, tests: () => void): void {
  const choose = (is: typeof unshared): void => {
    unshared = is;
  };
  inBothMemories(title, choose, tests);
}

function count(subject: string, name: string): number {
  return runtime.count(subject, name);
}

rules('two guests on a VALE switch', () => {
  test('a broadcast reaches the other guest whole, behind a zero header with num_buffers 1', () => {
    const a = guest({ name: 'a' });
    const b = guest({ name: 'b' });
    const frame = etherFrame(0xff, 1, 100, 7);
    assert.equal(a.send(frame), 1);
    const [got, ...more] = b.receive();
    assert.equal(more.length, 0);
    assert.deepEqual([...got!.header], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    assert.deepEqual(Buffer.from(got!.frame), Buffer.from(frame));
    assert.equal(a.receive().length, 0);
    assert.equal(count('a', 'tx_frames'), 1);
    assert.equal(count('b', 'rx_bytes'), 100);
  });

  test('a frame to a learned address is seen by nobody else', () => {
    const [a, b, c] = [guest({ name: 'a' }), guest({ name: 'b' }), guest({ name: 'c' })];
    b.send(etherFrame(0xff, 2));
    a.receive();
    c.receive();
    a.send(etherFrame(2, 1));
    assert.equal(b.receive().length, 1);
    assert.equal(c.receive().length, 0);
  });

  test('legacy and modern header lengths talk to each other', () => {
    const legacy = guest({ name: 'a', features: 0n });
    const modern = guest({ name: 'b' });
    assert.equal(legacy.hdrLen, 10);
    legacy.send(etherFrame(0xff, 1, 64, 3));
    modern.send(etherFrame(0xff, 2, 65, 4));
    assert.equal(modern.receive()[0]!.frame.length, 64);
    assert.equal(legacy.receive()[0]!.frame.length, 65);
  });

  test('a frame longer than a receive buffer is spread over several when MRG_RXBUF was negotiated', () => {
    const a = guest({ name: 'a' });
    const b = guest({ name: 'b', rxBufLen: 512 });
    const frame = etherFrame(0xff, 1, 3000, 9);
    a.send(frame);
    const [got] = b.receive();
    assert.equal(got!.header[10], 6);
    assert.deepEqual(Buffer.from(got!.frame), Buffer.from(frame));
  });

  test('without MRG_RXBUF such a frame is dropped and counted, and its buffer used for the next', () => {
    const a = guest({ name: 'a' });
    const b = guest({ name: 'b', rxBufLen: 512, features: VIRTIO_F_VERSION_1 });
    a.send(etherFrame(0xff, 1, 3000), etherFrame(0xff, 1, 100));
    assert.equal(b.receive()[0]!.frame.length, 100);
    assert.equal(count('b', 'rx_drop_too_long'), 1);
  });

  test('a queue that was reset is polled without a look at what its last driver left', () => {
    const a = guest({ name: 'a' });
    a.send(etherFrame(0xff, 1), etherFrame(0xff, 1));
    a.queueFrame(etherFrame(0xff, 1));
    a.tx.publish();
    a.device.reset();
    assert.equal(a.device.poll(), 0);
    a.device.setQueueBase(TX_QUEUE, 1);
    assert.equal(a.device.poll(), 0);
  });

  test('frames that find no buffer wait in the port, in order, until the driver kicks', () => {
    const a = guest({ name: 'a' });
    const b = guest({ name: 'b', rxBuffers: 2 });
    a.send(...[1, 2, 3, 4, 5].map((n) => etherFrame(0xff, 1, 60 + n)));
    assert.deepEqual(
      b.receive().map((r) => r.frame.length),
      [61, 62],
    );
    b.device.kick(0);
    assert.deepEqual(
      b.receive().map((r) => r.frame.length),
      [63, 64],
    );
    b.device.kick(0);
    assert.deepEqual(
      b.receive().map((r) => r.frame.length),
      [65],
    );
    assert.equal(count('vale0:b', 'rx_queued'), 3);
  });

  test('a driver whose buffers ran out is asked to kick when it adds the next, with and without event index', () => {
    for (const eventIdx of [0n, VIRTIO_F_EVENT_IDX]) {
      const a = guest({ name: `a${eventIdx}` });
      const b = guest({ name: `b${eventIdx}`, rxBuffers: 2, features: VIRTIO_F_VERSION_1 | eventIdx });
      a.send(...[1, 2, 3, 4].map(() => etherFrame(0xff, 1)));
      assert.equal(b.receive(false).length, 2);
      b.postRx(b.txSlot());
      assert.equal(b.rx.publish(), true);
      b.device.kick(0);
      assert.equal(b.receive(false).length, 1);
    }
  });

  test('a receiver that never takes anything drops what its ring does not hold, and the sender goes on', () => {
    const a = guest({ name: 'a' });
    guest({ name: 'b', backend: 'vale0:b,slots=64', rxBuffers: 1 });
    for (let i = 0; i < 10; i++) a.send(...Array.from({ length: 16 }, () => etherFrame(0xff, 1)));
    assert.equal(count('a', 'tx_frames'), 160);
    assert.equal(count('vale0:b', 'rx_queued'), 64);
    assert.equal(count('vale0:b', 'rx_drop_full'), 160 - 64 - 1);
  });
});

rules('link and readiness', () => {
  test('while the link is down frames are dropped both ways and counted', () => {
    const a = guest({ name: 'a' });
    const b = guest({ name: 'b' });
    let told = 0;
    b.device.setConfigNotifier(() => told++);
    b.device.setLink(false);
    assert.equal(told, 1);
    const status = new Uint8Array(2);
    b.device.readConfig(6, status);
    assert.equal(status[0], 0);
    a.send(etherFrame(0xff, 1));
    assert.equal(b.send(etherFrame(0xff, 2)), 1);
    assert.equal(count('b', 'rx_drop_link_down'), 1);
    assert.equal(count('b', 'tx_drop_link_down'), 1);
    b.device.setLink(true);
    a.send(etherFrame(0xff, 1));
    assert.equal(b.receive().length, 1);
    assert.equal(a.receive().length, 0);
  });

  test('a guest whose transmit ring is disabled has its frames dropped, not sent', () => {
    const a = guest({ name: 'a' });
    const b = guest({ name: 'b' });
    a.device.enableQueue(TX_QUEUE, false);
    assert.equal(a.send(etherFrame(0xff, 1)), 1);
    assert.equal(b.receive().length, 0);
    assert.equal(count('a', 'tx_drop_disabled'), 1);
  });

  test('frames for a guest without a driver are dropped, so that it never meets stale ones', () => {
    const a = guest({ name: 'a' });
    const b = guest({ name: 'b' });
    b.device.stopQueue(0);
    a.send(etherFrame(0xff, 1));
    assert.equal(count('b', 'rx_drop_not_ready'), 1);
  });

  test('a stopped queue says the next available index, and goes on from there', () => {
    const a = guest({ name: 'a' });
    const b = guest({ name: 'b' });
    a.send(etherFrame(0xff, 1));
    b.receive();
    const base = a.device.stopQueue(TX_QUEUE);
    assert.equal(base, 1);
    a.device.setQueueBase(TX_QUEUE, base);
    a.device.startQueue(TX_QUEUE);
    a.send(etherFrame(0xff, 1));
    assert.equal(b.receive().length, 1);
  });
});

rules('set-up from the driver', () => {
  test('features that were not offered are refused by name', () => {
    const a = guest({ name: 'a' });
    assert.throws(() => a.device.setDriverFeatures(1n << 17n), { code: 'EINVAL', message: /bit 17/ });
  });

  test('rings outside guest memory are refused with the address', () => {
    const a = guest({ name: 'a' });
    a.device.stopQueue(0);
    a.device.setQueueAddresses(0, { descUser: 0x1234, availUser: 0, usedUser: 0 });
    assert.throws(() => a.device.startQueue(0), { code: 'EINVAL', message: /0x1234/ });
  });

  test('queue sizes that are no power of two are refused', () => {
    const a = guest({ name: 'a' });
    a.device.stopQueue(0);
    for (const size of [0, 3, 100, 65536]) {
      a.device.setQueueSize(0, size);
      assert.throws(() => a.device.startQueue(0), { code: 'EINVAL' });
    }
  });

  test('the MTU is offered and told when it was given', () => {
    const a = guest({ name: 'a', mtu: 9000 });
    assert.equal(a.device.deviceFeatures & 8n, 8n);
    const mtu = new Uint8Array(2);
    a.device.readConfig(10, mtu);
    assert.equal(mtu[0]! | (mtu[1]! << 8), 9000);
  });

  test('config space reads zero beyond its end', () => {
    const a = guest({ name: 'a' });
    const out = new Uint8Array(20).fill(9);
    a.device.readConfig(4, out);
    assert.deepEqual([...out.subarray(0, 2)], [0, 1]);
    assert.ok(out.subarray(8).every((b) => b === 0));
  });
});

rules('checksum offload', () => {
  /** a UDP frame of 14 + 20 + 8 + 4 bytes whose checksum field holds the pseudo header's sum */
  function partialUdp(): Uint8Array {
    const frame = etherFrame(0xff, 1, 46);
    frame.set([0x08, 0, 0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2], 12);
    frame.set([0, 1, 0, 2, 0, 12, 0, 0, 1, 2, 3, 4], 34);
    const pseudo = 0x0a00 + 1 + 0x0a00 + 2 + 17 + 12;
    frame.set([pseudo >> 8, pseudo & 255], 40);
    return frame;
  }
  const header = Uint8Array.of(1, 0, 0, 0, 0, 0, 34, 0, 6, 0, 0, 0);
  const features = VIRTIO_F_VERSION_1 | VIRTIO_NET_F_MRG_RXBUF | VIRTIO_NET_F_CSUM;

  test('goes untouched to a guest that took GUEST_CSUM, completed to one that did not', () => {
    const a = guest({ name: 'a', features });
    const b = guest({ name: 'b', features: features | 2n });
    const c = guest({ name: 'c' });
    a.queueFrame(partialUdp(), header);
    a.send();
    const [toB] = b.receive();
    assert.deepEqual([...toB!.header.subarray(0, 10)], [...header.subarray(0, 10)]);
    assert.deepEqual(Buffer.from(toB!.frame), Buffer.from(partialUdp()));
    const [toC] = c.receive();
    assert.ok(toC!.header.subarray(0, 10).every((x) => x === 0));
    let sum = 0x0a00 + 1 + 0x0a00 + 2 + 17 + 12;
    for (let i = 34; i < 46; i += 2) sum += (toC!.frame[i]! << 8) | toC!.frame[i + 1]!;
    while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
    assert.equal(sum, 0xffff);
    assert.equal(count('vale0:a', 'tx_checksums_completed'), 1);
  });

  test('asked for by a guest that did not negotiate it is dropped and counted', () => {
    const a = guest({ name: 'a' });
    const b = guest({ name: 'b' });
    a.queueFrame(partialUdp(), header);
    a.send();
    assert.equal(b.receive().length, 0);
    assert.equal(count('vale0:a', 'tx_drop_vnet_not_negotiated'), 1);
  });
});
