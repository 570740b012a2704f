import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { eventfdRead } from '../../../../src/sys/eventfd.js';
import { etherFrame } from '../../../support/test-guest.js';
import { stepUntil } from '../../../support/vhost-user-client.js';
import type { Style, VhostUserGuest } from '../../../support/vhost-user-guest.js';
import { TestFabric } from '../../../support/vhost-user-port.js';

const styles: readonly Style[] = ['qemu', 'uml', 'uml-inband', 'dpdk', 'plain'];

/** Sends `count` frames from one guest and checks that all of them come, in order, at the other. */
function checkTraffic(fabric: TestFabric, from: VhostUserGuest, to: VhostUserGuest, count = 10): void {
  const sent = Array.from({ length: count }, (_, i) => etherFrame(0xff, 9, 60 + i, i));
  const got: Uint8Array[] = [];
  for (const frame of sent) from.transmit(frame);
  stepUntil(
    fabric.step,
    () => {
      got.push(...to.receive());
      return got.length >= count;
    },
    'all frames arrive',
  );
  assert.deepEqual(
    got.map((f) => Buffer.from(f).toString('hex')),
    sent.map((f) => Buffer.from(f).toString('hex')),
  );
}

function twoGuests(t: TestContext, a: Style, b: Style): [TestFabric, VhostUserGuest, VhostUserGuest] {
  const fabric = new TestFabric(t);
  const first = fabric.nic('vm1', { inbandNotifications: a === 'uml-inband' });
  const second = fabric.nic('vm2', { inbandNotifications: b === 'uml-inband' });
  return [fabric, fabric.guest(first, { style: a }), fabric.guest(second, { style: b })];
}

for (const style of styles)
  test(`a guest with the handshake of ${style} sends and receives`, (t) => {
    const [fabric, a, b] = twoGuests(t, style, 'qemu');
    checkTraffic(fabric, a, b);
    checkTraffic(fabric, b, a);
    assert.deepEqual(fabric.warnings(), []);
  });

test('frames go on through a memory table that changes under them', (t) => {
  const [fabric, a, b] = twoGuests(t, 'dpdk', 'uml');
  for (let i = 0; i < 5; i++) {
    checkTraffic(fabric, a, b, 20);
    a.shareMemory();
    checkTraffic(fabric, b, a, 20);
    b.shareMemory();
  }
});

test('a disabled transmit ring drops, a disabled receive ring gets nothing; enabled, both go on', (t) => {
  const [fabric, a, b] = twoGuests(t, 'qemu', 'qemu');
  a.enable(1, false);
  a.transmit(etherFrame(0xff, 1));
  fabric.steps(5);
  assert.deepEqual(b.receive(), []);
  assert.ok(a.tx.reclaim(), 'the driver gets its buffer back');
  a.enable(1, true);
  b.enable(0, false);
  a.transmit(etherFrame(0xff, 1));
  fabric.steps(5);
  assert.deepEqual(b.receive(), []);
  b.enable(0, true);
  checkTraffic(fabric, a, b);
});

test('a guest that breaks its ring is told through its error descriptor, and may set the ring up anew', (t) => {
  const [fabric, a, b] = twoGuests(t, 'qemu', 'qemu');
  a.tx.offerRaw(a.options.queueSize + 5);
  a.tx.publish();
  a.kick(1);
  stepUntil(fabric.step, () => eventfdRead(a.errs[1]!.number) > 0, 'the error descriptor is signalled');
  checkTraffic(fabric, b, a);
  const base = a.stopRing(1);
  // what a driver does at reset: an empty ring
  a.tx.availIdx = base;
  a.tx.write16(a.tx.avail + 2, base);
  a.tx.usedIdx = a.tx.read16(a.tx.used + 2);
  a.startRing(1, base);
  checkTraffic(fabric, a, b);
});

test('a stopped ring is not touched, and goes on where it stopped', (t) => {
  const [fabric, a, b] = twoGuests(t, 'qemu', 'dpdk');
  checkTraffic(fabric, a, b, 30);
  const base = a.stopRing(1);
  assert.equal(base, 30);
  a.transmit(etherFrame(0xff, 1));
  const ring = a.bytes(a.tx.desc, 4096).slice();
  fabric.steps(20);
  assert.deepEqual(b.receive(), []);
  assert.deepEqual(a.bytes(a.tx.desc, 4096).slice(), ring);
  a.startRing(1, base);
  stepUntil(fabric.step, () => b.receive().length === 1, 'the frame that waited arrives');
});

test('interrupts come by eventfd, by socket message, or not at all, as the front-end wants them', (t) => {
  for (const style of ['qemu', 'uml-inband'] as const) {
    const [fabric, a, b] = twoGuests(t, style, 'qemu');
    b.interrupts(0);
    a.interrupts(0);
    b.transmit(etherFrame(0xff, 9));
    stepUntil(fabric.step, () => a.interrupts(0) > 0, `${style} is interrupted`);
    fabric.close();
  }
});
