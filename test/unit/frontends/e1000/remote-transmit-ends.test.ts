/** Transmit from memory that is not shared, when it is refused, ended or interrupted at any point. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as R from '../../../../src/frontends/e1000/registers.js';
import type { DmaTransfer } from '../../../../src/memory/remote-memory.js';
import type { E1000Guest } from '../../../support/e1000-driver.js';
import { deliver, heldPair, kick, received, seen } from '../../../support/e1000-held.js';
import { e1000Rig } from '../../../support/e1000-rig.js';
import { transferText } from '../../../support/test-dma-channel.js';
import { etherFrame, type TestGuest } from '../../../support/test-guest.js';

const rig = e1000Rig();
const PAGE = 4096;

/** Frames still go from the driver to the switch after it has set up its rings anew. */
function checkWorks(a: E1000Guest, v: TestGuest): void {
  a.held = false;
  a.refuses = () => false;
  a.start(20);
  v.receive();
  assert.equal(a.send(etherFrame(0xff, 1, 77)), 1);
  assert.deepEqual(
    v.receive().map((got) => got.frame.length),
    [77],
  );
}

describe('a hypervisor that refuses', () => {
  const kinds: readonly [string, (a: E1000Guest, t: DmaTransfer) => boolean, number][] = [
    ['descriptors', (a, t) => t.kind === 'read' && t.gpa === a.txRing, 0],
    ['a buffer', (a, t) => t.kind === 'read' && t.gpa >= a.txBuffers, 0],
    ['a status', (a, t) => t.kind === 'write' && t.gpa === a.txRing + 12, 1],
  ];
  for (const [what, refuses, sent] of kinds)
    test(`${what}: the ring is given up, counted once, until the driver sets it up anew`, () => {
      const [a, v] = heldPair(rig, 'a');
      a.refuses = (t) => refuses(a, t);
      a.held = false;
      assert.equal(a.send(etherFrame(0xff, 1)), 0);
      assert.equal(rig.count('a', 'fault_tx_dma'), 1);
      assert.equal(v.receive().length, sent);
      assert.deepEqual(seen(a), [[0], 0, 0]);
      assert.equal(a.device.status().queues[1]!.broken, true);
      a.refuses = () => false;
      const from = a.channel.log.length;
      a.send(etherFrame(0xff, 1));
      a.device.memoryChanged();
      a.device.poll();
      assert.equal(a.device.arm(), false);
      assert.equal(a.channel.pending, 0);
      const ofTransmit = a.channel.log.slice(from).filter((t) => t.gpa >= a.txRing && t.gpa < a.txRing + PAGE);
      assert.deepEqual(ofTransmit.map(transferText), []);
      assert.equal(rig.count('a', 'fault_tx_dma'), 1);
      checkWorks(a, v);
      assert.equal(a.device.status().queues[1]!.broken, false);
    });
});

/** Each takes the guest away from under what is under way. */
const ends: readonly [string, 'reset' | 'off' | 'memory', (a: E1000Guest) => void][] = [
  ['CTRL.RST', 'reset', (a) => a.write(R.CTRL, R.CTRL_RST)],
  ['a reset of the function', 'reset', (a) => a.device.reset()],
  [
    'detach',
    'reset',
    (a) => {
      a.channel.close();
      a.device.detach();
    },
  ],
  ['TDLEN of 0', 'reset', (a) => a.write(R.TDLEN, 0)],
  ['TCTL.EN off', 'off', (a) => a.write(R.TCTL, 0)],
  ['bus mastering off', 'off', (a) => a.configWrite(4, 0)],
  ['D3', 'off', (a) => a.configWrite(0xdc + 4, 3)],
  [
    'memory that goes',
    'memory',
    (a) => {
      a.memory.close();
      a.device.memoryChanged();
    },
  ],
];

for (const [what, kind, end] of ends)
  describe(`${what} with transfers under way`, () => {
    for (const [stage, name] of ['descriptors', 'buffers', 'buffers that have come', 'the status'].entries())
      test(`${name}: nothing follows that should not, and the ring can be set up anew`, () => {
        const [a, v] = heldPair(rig, 'a');
        a.queueFrame(etherFrame(0xff, 1, 60));
        kick(a);
        if (stage >= 1) deliver(a);
        if (stage >= 2) a.channel.deliver();
        if (stage >= 3) a.device.poll();
        assert.deepEqual(received(v), stage >= 3 ? [60] : []);
        const from = a.channel.log.length;
        end(a);
        a.device.poll();
        const left = a.channel.pending;
        assert.ok(left <= 1);
        const before = a.channel.log.length;
        a.channel.deliverAll();
        a.device.poll();
        a.channel.deliverAll();
        const log = a.channel.log.slice(before);
        assert.equal(log.length, left, 'nothing new was asked for');
        assert.deepEqual(received(v), []);
        assert.deepEqual(
          a.channel.log.slice(from).filter((t) => t.kind === 'write').length,
          stage === 3 && what !== 'detach' ? 1 : 0,
        );
        const counts = stage === 3 && kind !== 'reset';
        assert.equal(a.read(R.TDH), counts ? 1 : 0);
        if (what !== 'detach') assert.equal(a.read(R.ICR), counts ? R.ICR_TXDW | R.ICR_TXQE : 0);
        assert.equal(rig.count('a', 'fault_tx_dma'), 0);
        if (kind === 'memory') return;
        if (what === 'detach') a.attach();
        else {
          a.configWrite(0xdc + 4, 0);
          a.configWrite(4, 7);
        }
        checkWorks(a, v);
      });
  });

describe('a pause with transfers under way', () => {
  for (const [what, off, on] of [
    ['TCTL.EN', (a: E1000Guest) => a.write(R.TCTL, 0), (a: E1000Guest) => a.write(R.TCTL, R.TCTL_EN)],
    ['bus mastering', (a: E1000Guest) => a.configWrite(4, 0), (a: E1000Guest) => a.configWrite(4, 7)],
    ['memory that changes', () => {}, (a: E1000Guest) => a.device.memoryChanged()],
    ['the link', (a: E1000Guest) => a.device.setLink(false), (a: E1000Guest) => a.device.setLink(true)],
  ] as const)
    for (const steps of [0, 1, 2, 3, 4])
      test(`${what} off and on after ${steps} steps: every frame is sent once`, () => {
        const [a, v] = heldPair(rig, 'a');
        for (let n = 61; n < 64; n++) a.queueFrame(etherFrame(0xff, 1, n));
        kick(a);
        for (let i = 0; i < steps; i++) {
          a.channel.deliver();
          a.device.poll();
        }
        off(a);
        // what is taken up again is what the driver has there then
        on(a);
        rig.runtime.loop.step(0);
        for (let i = 0; i < 10; i++) {
          a.channel.deliverAll();
          rig.runtime.loop.step(0);
        }
        assert.deepEqual(received(v), [61, 62, 63]);
        assert.equal(a.reclaim(), 3);
        assert.equal(a.read(R.TDH), 3);
      });

  test('a head that is written while the status is stored is where the ring goes on: the status moves it no more', () => {
    const [a, v] = heldPair(rig, 'a');
    for (let n = 61; n < 64; n++) a.queueFrame(etherFrame(0xff, 1, n));
    kick(a);
    deliver(a);
    deliver(a);
    a.write(R.TDH, 1);
    a.device.poll();
    assert.deepEqual(received(v), [61, 62, 63]);
    a.channel.deliver();
    assert.deepEqual([a.read(R.TDH), a.read(R.ICR)], [1, 0]);
    a.held = false;
    a.device.poll();
    a.settle();
    assert.deepEqual(received(v), [62, 63]);
    assert.deepEqual([a.read(R.TDH), a.read(R.ICR)], [3, R.ICR_TXDW | R.ICR_TXQE]);
  });

  for (const steps of [0, 1, 2])
    test(`a ring set up anew after ${steps} steps begins only when what was asked for before is over`, () => {
      const [a, v] = heldPair(rig, 'a');
      a.channel.readsEarly = true;
      a.queueFrame(etherFrame(0xff, 1, 60, 1));
      kick(a);
      for (let i = 0; i < steps; i++) deliver(a);
      v.receive();
      a.start(0);
      // what the old transfers bring, last of all, would be taken for what the new ones bring
      const frame = etherFrame(0xff, 1, 60, 2);
      a.queueFrame(frame);
      kick(a);
      assert.equal(a.channel.pending, steps < 2 ? 1 : 2, 'a status is no fetch');
      while (a.channel.pending > 0) {
        a.channel.deliver(a.channel.pending - 1);
        a.device.poll();
      }
      assert.deepEqual(
        v.receive().map((got) => [...got.frame]),
        [[...frame]],
      );
      assert.equal(a.reclaim(), 1);
    });

  for (const steps of [0, 1])
    test(`a head that is written after ${steps} steps is where the ring begins: what was fetched before is not taken for what is there`, () => {
      const [a, v] = heldPair(rig, 'a');
      for (let n = 61; n < 64; n++) a.queueFrame(etherFrame(0xff, 1, n));
      kick(a);
      for (let i = 0; i < steps; i++) deliver(a);
      a.write(R.TDH, 1);
      a.device.poll();
      while (a.channel.pending > 0) deliver(a);
      assert.deepEqual(received(v), [62, 63]);
    });

  for (const steps of [0, 1, 2])
    test(`what a driver changes while TCTL.EN is off, after ${steps} transfers, is sent as it is when it is on again`, () => {
      const [a, v] = heldPair(rig, 'a');
      a.channel.readsEarly = true;
      for (let n = 61; n < 64; n++) a.queueFrame(etherFrame(0xff, 1, n));
      kick(a);
      if (steps > 0) deliver(a);
      if (steps > 1) a.channel.deliver();
      a.write(R.TCTL, 0);
      a.txNext = 0;
      for (let n = 71; n < 74; n++) a.queueFrame(etherFrame(0xff, 1, n));
      a.write(R.TCTL, R.TCTL_EN);
      a.device.poll();
      while (a.channel.pending > 0) deliver(a);
      assert.deepEqual(received(v), [71, 72, 73]);
    });

  test('memory that changes at every step, as behind an IOMMU: nothing is asked for twice, and what came is what is sent', () => {
    const [a, v] = heldPair(rig, 'a');
    const from = a.channel.log.length;
    const frames = [61, 62].map((n) => etherFrame(0xff, 1, n, n));
    for (const frame of frames) a.queueFrame(frame);
    a.write(R.TDT, a.txNext);
    for (let i = 0; i < 6; i++) {
      a.device.poll();
      a.channel.deliver();
      // all of it goes and comes back, and its copy is another
      a.ram.unmap(0, a.size);
      a.ram.mapUnshared(0, a.size);
      a.memory.settle();
      a.device.memoryChanged();
    }
    assert.deepEqual(
      v.receive().map((got) => [...got.frame]),
      frames.map((frame) => [...frame]),
    );
    assert.deepEqual(seen(a, 2), [[1, 1], 2, R.ICR_TXDW | R.ICR_TXQE]);
    assert.equal(a.channel.log.length - from, 4);
  });
});
