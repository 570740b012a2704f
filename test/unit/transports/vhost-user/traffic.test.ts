import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
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
