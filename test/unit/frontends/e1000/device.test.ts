import assert from 'node:assert/strict';
import { describe } from 'node:test';
import { crc32 } from 'node:zlib';
import * as R from '../../../../src/frontends/e1000/registers.js';
import { e1000Rig } from '../../../support/e1000-rig.js';
import { etherFrame } from '../../../support/test-guest.js';

const rig = e1000Rig();
const { test } = rig;

describe('two drivers on a VALE switch', () => {
  test('a broadcast reaches the other one whole, and its frame check sequence is right', () => {
    const a = rig.e1000('a');
    const b = rig.e1000('b');
    const frame = etherFrame(0xff, 1, 100, 7);
    assert.equal(a.send(frame), 1);
    const [got, ...more] = b.receive();
    assert.equal(more.length, 0);
    assert.deepEqual(Buffer.from(got!.frame), Buffer.from(frame));
    assert.equal(Buffer.from(got!.bytes).readUInt32LE(100), crc32(frame));
    assert.equal(a.receive().length, 0);
    assert.equal(rig.count('a', 'tx_frames'), 1);
    assert.equal(rig.count('b', 'rx_bytes'), 100);
  });

  test('a virtio guest and an e1000 guest talk to each other', () => {
    const a = rig.e1000('a');
    const v = rig.virtio('v');
    for (const length of [60, 61, 128, 191, 192, 193, 500, 1514]) {
      const there = etherFrame(0xff, 1, length, length);
      a.send(there);
      assert.deepEqual(Buffer.from(v.receive()[0]!.frame), Buffer.from(there));
      const back = etherFrame(1, 9, length, length + 1);
      v.send(back);
      assert.deepEqual(Buffer.from(a.receive()[0]!.frame), Buffer.from(back));
    }
  });

  test('interrupts: the pin rises for a frame, falls when ICR is read, and the cause is told once', () => {
    const a = rig.e1000('a');
    const b = rig.e1000('b');
    a.send(etherFrame(0xff, 1));
    assert.equal(b.pin, true);
    assert.equal(b.read(R.ICR), R.ICR_RXT0);
    assert.equal(b.pin, false);
    assert.equal(b.read(R.ICR), 0);
    assert.equal(a.read(R.ICR), R.ICR_TXDW | R.ICR_TXQE);
  });
});
