/** The driver's self-test: what is sent comes back, and the network takes no part. */
import assert from 'node:assert/strict';
import { describe } from 'node:test';
import * as R from '../../../../src/frontends/e1000/registers.js';
import type { E1000Guest } from '../../../support/e1000-driver.js';
import { e1000Rig } from '../../../support/e1000-rig.js';
import { etherFrame } from '../../../support/test-guest.js';

const rig = e1000Rig();
const { test } = rig;

const loopbacks: readonly [string, (a: E1000Guest, on: boolean) => void][] = [
  // as Linux sets it for an M88 PHY: reset, autonegotiation off, 1000 Mbit/s, loopback
  [
    'of the PHY',
    (a, on) => {
      for (const value of on ? [0x9140, 0x8140, 0x4140] : [0x8140]) a.phyWrite(0, value);
    },
  ],
  ['of the MAC (RCTL.LBM)', (a, on) => a.write(R.RCTL, (a.read(R.RCTL) & ~R.RCTL_LBM) | (on ? R.RCTL_LBM_MAC : 0))],
];

for (const [which, set] of loopbacks)
  describe(`loopback ${which}`, () => {
    test('frames come back whole and in order, and nobody else sees them', () => {
      const a = rig.e1000('a');
      const v = rig.virtio('v');
      set(a, true);
      for (let round = 0; round < 5; round++) {
        const frames = Array.from({ length: 20 }, (_, i) => etherFrame(0xff, 1, 1024 - i, i));
        a.send(...frames);
        assert.deepEqual(
          a.receive().map((got) => Buffer.from(got.frame)),
          frames.map((frame) => Buffer.from(frame)),
        );
      }
      assert.equal(v.receive().length, 0);
    });

    test('what the network sends meanwhile is dropped and counted; afterwards everything is as before', () => {
      const a = rig.e1000('a');
      const v = rig.virtio('v');
      set(a, true);
      v.send(etherFrame(0xff, 9));
      assert.equal(a.receive().length, 0);
      assert.equal(rig.count('a', 'rx_drop_loopback'), 1);
      a.send(etherFrame(0xff, 1));
      set(a, false);
      a.receive();
      a.send(etherFrame(0xff, 1, 70));
      v.send(etherFrame(0xff, 9, 80));
      assert.deepEqual(
        [v.receive().map((got) => got.frame.length), a.receive().map((got) => got.frame.length)],
        [[70], [80]],
      );
    });

    test('ends with a reset of the function', () => {
      const a = rig.e1000('a');
      const v = rig.virtio('v');
      set(a, true);
      a.device.reset();
      a.configWrite(4, 7);
      a.start(20);
      a.send(etherFrame(0xff, 1));
      assert.equal(a.receive().length, 0);
      assert.equal(v.receive().length, 1);
    });

    test('a driver without descriptors loses what does not fit, and its ring goes on', () => {
      const a = rig.e1000('a', { rxBuffers: 1, ringSize: 256 });
      set(a, true);
      for (let i = 0; i < 4; i++) a.send(...Array.from({ length: 50 }, () => etherFrame(0xff, 1)));
      for (let i = 0; i < 4; i++) a.device.poll();
      a.reclaim();
      assert.equal(a.read(R.TDH), 200);
      assert.equal(a.device.status().starved, true);
      a.reset();
      assert.equal(a.device.status().starved, false);
    });
  });

test('the PHY’s loopback has a link without a cable', () => {
  const a = rig.e1000('a');
  a.device.setLink(false);
  a.phyWrite(0, 0x4140);
  assert.equal(a.read(R.STATUS) & R.STATUS_LU, R.STATUS_LU);
  a.send(etherFrame(0xff, 1));
  assert.equal(a.receive().length, 1);
  a.phyWrite(0, 0x0140);
  assert.equal(a.read(R.STATUS) & R.STATUS_LU, 0);
});
