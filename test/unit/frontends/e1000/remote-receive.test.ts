/** Receive into memory that is not shared: what is stored, in which order, and what the driver sees meanwhile. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as R from '../../../../src/frontends/e1000/registers.js';
import { BURST_BYTES, FETCH_DESCRIPTORS } from '../../../../src/frontends/e1000/remote-receive.js';
import type { DmaTransfer } from '../../../../src/memory/remote-memory.js';
import type { E1000Guest } from '../../../support/e1000-driver.js';
import { heldPair, hex } from '../../../support/e1000-held.js';
import { e1000Rig } from '../../../support/e1000-rig.js';
import { pattern } from '../../../support/frames.js';
import { transferText } from '../../../support/test-dma-channel.js';
import { etherFrame, type TestGuest } from '../../../support/test-guest.js';

const rig = e1000Rig();
const PAGE = 4096;

function lengths(b: E1000Guest): number[] {
  return b.receive().map((got) => got.frame.length);
}

/** What a driver sees of its ring: status of the first descriptor, RDH, causes, the pin. */
function seen(b: E1000Guest): [number, number, number, boolean] {
  const { pin } = b;
  return [b.word(b.rxRing + 12) & 0xff, b.read(R.RDH), b.read(R.ICR), pin];
}

/** Frames still reach the driver after it has set up its rings anew. */
function checkWorks(b: E1000Guest, v: TestGuest): void {
  b.held = false;
  b.refuses = () => false;
  b.start(20);
  v.send(etherFrame(0xff, 9, 88));
  assert.deepEqual(lengths(b), [88]);
}

describe('order', () => {
  test('the bytes are stored, then the descriptor; then RDH moves and causes appear', () => {
    const [b, v] = heldPair(rig, 'b');
    const from = b.channel.log.length;
    v.send(etherFrame(0xff, 9, 100, 7));
    const nothing = [0, 0, 0, false];
    assert.deepEqual(seen(b), nothing);
    assert.equal(b.channel.deliver(), true);
    assert.deepEqual(seen(b), nothing);
    assert.equal(b.channel.deliver(), true);
    assert.equal(b.channel.pending, 0);
    assert.deepEqual(seen(b), [0x07, 1, R.ICR_RXT0, true]);
    assert.deepEqual(b.channel.log.slice(from).map(transferText), [
      `write ${hex(b.rxBuffers)} 104`,
      `write ${hex(b.rxRing + 8)} 8`,
    ]);
    assert.deepEqual(lengths(b), [100]);
  });

  test('free descriptors are fetched when RDT is written, so many at a time; a frame that comes earlier waits, and nothing is counted', () => {
    const [b, v] = heldPair(rig, 'b', { ringSize: 1024, rxBufLen: 256, rxBuffers: 0 });
    const from = b.channel.log.length;
    for (let i = 0; i < 1000; i++) b.post();
    b.write(R.RDT, b.rxTail);
    assert.equal(b.channel.pending, 1);
    v.send(etherFrame(0xff, 9, 70), etherFrame(0xff, 9, 71));
    assert.deepEqual(seen(b), [0, 0, 0, false]);
    assert.equal(b.device.status().starved, false);
    b.channel.deliverAll();
    assert.deepEqual(lengths(b), [70, 71]);
    assert.deepEqual([b.read(R.RNBC), rig.count('b', 'rx_starved')], [0, 0]);
    const reads = b.channel.log.slice(from).filter((t) => t.kind === 'read');
    assert.ok(reads.every((t) => t.length <= 16 * FETCH_DESCRIPTORS));
    assert.equal(
      reads.reduce((sum, t) => sum + t.length, 0),
      16 * 1000,
    );
  });

  test('frames wait while a burst is stored, and come after it, in order', () => {
    const [b, v] = heldPair(rig, 'b', { ringSize: 128 });
    v.send(etherFrame(0xff, 9, 61));
    for (let n = 62; n < 100; n++) v.send(etherFrame(0xff, 9, n));
    assert.equal(b.channel.pending, 1);
    b.channel.deliver();
    b.channel.deliver();
    assert.deepEqual(seen(b).slice(1, 3), [1, R.ICR_RXT0]);
    assert.equal(b.channel.pending, 1);
    b.channel.deliverAll();
    assert.deepEqual(
      lengths(b),
      Array.from({ length: 39 }, (_, i) => 61 + i),
    );
    assert.deepEqual([b.read(R.RNBC), rig.count('b', 'rx_starved')], [0, 0]);
    assert.equal(b.read(R.ICR) & R.ICR_RXO, 0);
  });

  test('RXO tells once of a ring without descriptors, RXT0 when what came before is there', () => {
    const [b, v] = heldPair(rig, 'b', { rxBuffers: 2 });
    v.send(...[61, 62, 63].map((n) => etherFrame(0xff, 9, n)));
    assert.equal(b.read(R.ICR), 0);
    b.channel.deliverAll();
    assert.equal(b.read(R.ICR), R.ICR_RXT0 | R.ICR_RXO | R.ICR_RXDMT0);
    assert.equal(b.read(R.RNBC), 1);
    assert.equal(b.device.status().starved, true);
    assert.deepEqual(lengths(b), [61, 62]);
    b.channel.deliverAll();
    assert.equal(b.device.status().starved, false);
    assert.deepEqual(lengths(b), [63]);
  });

  test('what one burst uses is bounded, however much waits', () => {
    const [b, v] = heldPair(rig, 'b', { ringSize: 512, rctl: R.RCTL_LPE });
    for (let i = 0; i < 250; i++) v.send(etherFrame(0xff, 9, 1500 + i));
    const bursts: number[] = [];
    while (b.channel.pending > 0) {
      const from = b.channel.log.length;
      b.channel.deliver();
      const bytes = b.channel.log.slice(from).reduce((sum, t) => sum + (t.kind === 'write' ? t.bytes.length : 0), 0);
      bursts.push(bytes);
    }
    assert.equal(bursts.length, 2 * 3, 'one frame, as many as a burst holds, the rest');
    assert.ok(bursts.every((bytes) => bytes <= BURST_BYTES));
    assert.deepEqual(
      lengths(b),
      Array.from({ length: 250 }, (_, i) => 1500 + i),
    );
  });
});

describe('what is stored', () => {
  test('is exactly what was received: nothing beyond it, whatever the buffers, tags and check sequences are', () => {
    for (const [i, rxBufLen] of [256, 2048].entries()) {
      const b = rig.e1000('bc'[i]!, { shared: false, rxBufLen, rctl: R.RCTL_LPE, ringSize: 128 });
      const v = rig.virtio(`v${i}`);
      b.write(R.CTRL, b.read(R.CTRL) | R.CTRL_VME);
      for (const secrc of [0, R.RCTL_SECRC])
        for (const length of [14, 60, 191, 192, 193, 252, 253, 256, 1000, 3000]) {
          b.write(R.RCTL, (b.read(R.RCTL) & ~R.RCTL_SECRC) | secrc);
          b.bytes(b.rxBuffers, b.txBuffers - b.rxBuffers).fill(0xee);
          const from = b.channel.log.length;
          const frame = etherFrame(0xff, 9, length);
          if (length >= 192) frame.set([0x81, 0, 0, 5], 12);
          v.send(frame);
          b.settle();
          const log = b.channel.log.slice(from);
          const data = log.filter((t) => t.kind === 'write' && t.gpa >= b.rxBuffers);
          const bytes = data.reduce((sum, t) => sum + (t.kind === 'write' ? t.bytes.length : 0), 0);
          const [got] = b.receive();
          assert.equal(got!.frame.length, Math.max(60, length) - (length >= 192 ? 4 : 0));
          assert.equal(bytes, got!.bytes.length);
          const count = got!.lengths.length;
          const written = log.filter((t) => t.kind === 'write' && t.gpa < b.rxBuffers).map(transferText);
          const first = (b.rxNext - count + b.ringSize) % b.ringSize;
          if (first + count <= b.ringSize)
            assert.deepEqual(written, [`write ${hex(b.rxRing + 16 * first + 8)} ${16 * count - 8}`]);
          else assert.equal(written.length, 2);
        }
    }
  });

  test('of a frame that a filter rejects, nothing', () => {
    const [b, v] = heldPair(rig, 'b');
    const from = b.channel.log.length;
    v.send(etherFrame(3, 9, 1500));
    assert.equal(rig.count('b', 'rx_drop_address'), 1);
    b.channel.deliverAll();
    assert.deepEqual(b.channel.log.slice(from), []);
  });

  test('goes across regions; what is shared is written at once, and not asked for', () => {
    const [b, v] = heldPair(rig, 'b', {
      rxBuffers: 0,
      unshared: (guest) => {
        const cut = Math.ceil((guest.rxBuffers + PAGE) / PAGE) * PAGE;
        return [
          [0, cut],
          [cut + PAGE, guest.size],
        ];
      },
    });
    const cut = Math.ceil((b.rxBuffers + PAGE) / PAGE) * PAGE;
    b.post(cut - 1000);
    b.post(cut + PAGE - 500);
    b.post(cut + 1000);
    b.write(R.RDT, b.rxTail);
    b.channel.deliverAll();
    const frames = [1, 2, 3].map((n) => {
      const frame = etherFrame(0xff, 9, 1200);
      frame.set(pattern(1186, n), 14);
      return frame;
    });
    const from = b.channel.log.length;
    v.send(...frames);
    b.channel.deliverAll();
    assert.deepEqual(b.channel.log.slice(from, -1).map(transferText), [
      `write ${hex(cut - 1000)} 1000`,
      `write ${hex(cut + PAGE)} 704`,
    ]);
    assert.deepEqual(
      b.receive(false).map((got) => Buffer.from(got.frame)),
      frames.map((frame) => Buffer.from(frame)),
    );
  });

  test('buffers outside guest memory are returned with an error, and the frame goes to the next ones', () => {
    const [b, v] = heldPair(rig, 'b', { rxBuffers: 0 });
    for (const gpa of [0, 2 ** 40, b.size - 50, b.size, 2 ** 63]) b.post(gpa);
    b.post();
    b.write(R.RDT, b.rxTail);
    v.send(etherFrame(0xff, 9, 70));
    b.channel.deliverAll();
    assert.deepEqual(
      b.receive(false).map((got) => [got.frame.length, got.errors]),
      [...Array.from({ length: 5 }, () => [0, 0x80]), [70, 0]],
    );
    assert.equal(rig.count('b', 'fault_rx_address'), 5);
  });

  test('wraps with the ring, in two runs of descriptors', () => {
    const [b, v] = heldPair(rig, 'b', { ringSize: 16, rxBufLen: 256 });
    b.held = false;
    for (let i = 0; i < 14; i++) {
      v.send(etherFrame(0xff, 9, 60));
      lengths(b);
    }
    b.held = true;
    b.channel.deliverAll();
    const from = b.channel.log.length;
    v.send(etherFrame(0xff, 9, 900));
    b.channel.deliverAll();
    assert.deepEqual(b.channel.log.slice(from + 4).map(transferText), [
      `write ${hex(b.rxRing + 16 * 14 + 8)} 24`,
      `write ${hex(b.rxRing + 8)} 24`,
    ]);
    assert.deepEqual(lengths(b), [900]);
  });
});

describe('RDT that jumps back', () => {
  test('what was taken back is fetched again when it comes again', () => {
    for (const steps of [0, 1]) {
      const b = rig.e1000('bc'[steps]!, { shared: false, rxBuffers: 0 });
      const v = rig.virtio(`v${steps}`);
      b.settle();
      b.held = true;
      b.post();
      b.post();
      b.channel.readsEarly = true;
      b.write(R.RDT, 2);
      for (let i = 0; i < steps; i++) b.channel.deliver();
      b.write(R.RDT, 1);
      b.rxTail = 1;
      b.post(b.txBuffers);
      b.write(R.RDT, 2);
      assert.equal(b.channel.pending, 1);
      v.send(etherFrame(0xff, 9, 70), etherFrame(0xff, 9, 71));
      // the last first
      while (b.channel.pending > 0) b.channel.deliver(b.channel.pending - 1);
      assert.deepEqual(lengths(b), [70, 71]);
      assert.equal(Buffer.compare(b.bytes(b.txBuffers, 71), etherFrame(0xff, 9, 71)), 0);
    }
  });
});

describe('a hypervisor that refuses', () => {
  const kinds: readonly [string, (b: E1000Guest, t: DmaTransfer) => boolean][] = [
    ['descriptors', (b, t) => t.kind === 'read' && t.gpa >= b.rxRing && t.gpa < b.txRing],
    ['a buffer', (b, t) => t.kind === 'write' && t.gpa >= b.rxBuffers],
    ['to be told of a frame', (b, t) => t.kind === 'write' && t.gpa < b.rxBuffers],
  ];
  for (const [what, refuses] of kinds)
    test(`${what}: the ring is given up, counted once, until the driver sets it up anew`, () => {
      const [b, v] = heldPair(rig, 'b', { rxBuffers: 5 });
      b.refuses = (t) => refuses(b, t);
      b.held = false;
      b.post();
      b.write(R.RDT, b.rxTail);
      v.send(etherFrame(0xff, 9));
      assert.deepEqual(lengths(b), []);
      assert.equal(rig.count('b', 'fault_rx_dma'), 1);
      assert.deepEqual([b.read(R.RDH), b.read(R.ICR)], [0, 0]);
      assert.equal(b.device.status().queues[0]!.broken, true);
      b.refuses = () => false;
      const from = b.channel.log.length;
      b.post();
      b.write(R.RDT, b.rxTail);
      b.device.memoryChanged();
      v.send(etherFrame(0xff, 9), etherFrame(0xff, 9));
      assert.deepEqual(lengths(b), []);
      assert.deepEqual(b.channel.log.slice(from).map(transferText), []);
      // every frame is accounted for
      assert.equal(rig.count('b', 'fault_rx_ring'), 3);
      assert.equal(rig.count('b', 'rx_frames'), 0);
      assert.equal(rig.count('b', 'fault_rx_dma'), 1);
      checkWorks(b, v);
    });
});

/** Each takes the guest away from under what is under way. */
const ends: readonly [string, 'reset' | 'off', (b: E1000Guest) => void][] = [
  ['CTRL.RST', 'reset', (b) => b.write(R.CTRL, R.CTRL_RST)],
  ['a reset of the function', 'reset', (b) => b.device.reset()],
  [
    'detach',
    'reset',
    (b) => {
      b.channel.close();
      b.device.detach();
    },
  ],
  ['RDLEN of 0', 'reset', (b) => b.write(R.RDLEN, 0)],
  ['RCTL.EN off', 'off', (b) => b.write(R.RCTL, 0)],
  ['bus mastering off', 'off', (b) => b.configWrite(4, 0)],
  ['D3', 'off', (b) => b.configWrite(0xdc + 4, 3)],
];

for (const [what, kind, end] of ends)
  describe(`${what} with transfers under way`, () => {
    for (const [stage, name] of ['free descriptors', 'what was received', 'its descriptors'].entries())
      test(`${name}: nothing follows that should not, and the ring can be set up anew`, () => {
        const [b, v] = heldPair(rig, 'b', { rxBuffers: stage === 0 ? 0 : 10 });
        if (stage === 0) {
          b.post();
          b.write(R.RDT, b.rxTail);
        }
        v.send(etherFrame(0xff, 9, 70));
        if (stage === 2) b.channel.deliver();
        assert.equal(b.channel.pending, 1);
        end(b);
        const left = b.channel.pending;
        const before = b.channel.log.length;
        b.channel.deliverAll();
        b.device.poll();
        b.channel.deliverAll();
        assert.equal(b.channel.log.length - before, left, 'nothing new was asked for');
        const counts = stage === 2 && kind === 'off';
        assert.equal(b.read(R.RDH), counts ? 1 : 0);
        if (what !== 'detach') assert.equal(b.read(R.ICR), counts ? R.ICR_RXT0 : 0);
        assert.deepEqual([rig.count('b', 'rx_frames'), rig.count('b', 'fault_rx_dma')], [counts ? 1 : 0, 0]);
        const lost = rig.count('b', 'rx_drop_disabled') + rig.count('b', 'fault_rx_ring');
        assert.equal(lost, counts ? 0 : 1, 'the frame is accounted for');
        if (what === 'detach') b.attach();
        else {
          b.configWrite(0xdc + 4, 0);
          b.configWrite(4, 7);
        }
        checkWorks(b, v);
      });
  });

describe('a pause with transfers under way', () => {
  for (const [what, off, on] of [
    ['RCTL.EN', (b: E1000Guest) => b.write(R.RCTL, 0), (b: E1000Guest) => b.write(R.RCTL, R.RCTL_EN | R.RCTL_BAM)],
    ['bus mastering', (b: E1000Guest) => b.configWrite(4, 0), (b: E1000Guest) => b.configWrite(4, 7)],
  ] as const)
    for (const steps of [0, 1])
      test(`${what} off and on after ${steps} steps: the descriptors of what was dropped are used again, those that were written are not`, () => {
        const [b, v] = heldPair(rig, 'b', { rxBuffers: 3 });
        v.send(etherFrame(0xff, 9, 70));
        for (let i = 0; i < steps; i++) b.channel.deliver();
        off(b);
        on(b);
        v.send(etherFrame(0xff, 9, 71));
        b.channel.deliverAll();
        assert.deepEqual(lengths(b), steps === 0 ? [71] : [70, 71]);
        assert.equal(b.read(R.RDH), steps === 0 ? 1 : 2);
      });

  test('memory that changes: nothing is lost, and what is fetched of the ring is fetched again', () => {
    for (const steps of [0, 1]) {
      const b = rig.e1000('bc'[steps]!, { shared: false });
      const v = rig.virtio(`v${steps}`);
      b.settle();
      b.held = true;
      v.send(etherFrame(0xff, 9, 70), etherFrame(0xff, 9, 71));
      for (let i = 0; i < steps; i++) b.channel.deliver();
      b.device.memoryChanged();
      v.send(etherFrame(0xff, 9, 72));
      b.channel.deliverAll();
      assert.deepEqual(lengths(b), [70, 71, 72]);
    }
  });

  test('memory that goes before a frame is reported: it is dropped, and what comes is a fault of the ring', () => {
    const [b, v] = heldPair(rig, 'b');
    v.send(etherFrame(0xff, 9, 70), etherFrame(0xff, 9, 71));
    b.memory.close();
    b.device.memoryChanged();
    b.channel.deliverAll();
    v.send(etherFrame(0xff, 9, 72));
    assert.deepEqual(
      ['rx_frames', 'rx_drop_disabled', 'fault_rx_ring', 'fault_rx_dma'].map((name) => rig.count('b', name)),
      [0, 2, 1, 0],
    );
    assert.deepEqual(seen(b), [0, 0, 0, false]);
  });

  test('a ring set up anew is used only when what was stored before is over', () => {
    const [b, v] = heldPair(rig, 'b');
    v.send(etherFrame(0xff, 9, 70, 1));
    b.start(20);
    v.send(etherFrame(0xff, 9, 80, 2));
    // the old frame is still on its way to the buffer that the new one is meant for, and would come last
    while (b.channel.pending > 0) b.channel.deliver(b.channel.pending - 1);
    const [got, ...more] = b.receive();
    assert.equal(more.length, 0);
    assert.deepEqual(Buffer.from(got!.frame), Buffer.from(etherFrame(0xff, 9, 80, 2)));
  });

  test('answers that come after the function has been attached anew are not taken for those that it waits for', () => {
    const [b, v] = heldPair(rig, 'b', { rxBuffers: 0 });
    b.post();
    b.write(R.RDT, b.rxTail);
    b.device.detach();
    b.attach();
    b.start(20);
    v.send(etherFrame(0xff, 9, 70));
    assert.equal(b.channel.pending, 2);
    b.channel.deliver();
    assert.equal(b.channel.pending, 1);
    b.channel.deliverAll();
    assert.deepEqual(lengths(b), [70]);
  });

  test('a head that is written while a frame is reported is where the ring goes on', () => {
    const [b, v] = heldPair(rig, 'b');
    v.send(etherFrame(0xff, 9, 70));
    b.channel.deliver();
    b.write(R.RDH, 5);
    b.channel.deliverAll();
    assert.deepEqual([b.read(R.RDH), b.read(R.ICR)], [5, 0]);
    v.send(etherFrame(0xff, 9, 71));
    b.channel.deliverAll();
    assert.deepEqual([b.read(R.RDH), b.read(R.ICR)], [6, R.ICR_RXT0]);
  });

  test('the link goes, or a self-test begins: what was received before is delivered', () => {
    for (const [i, change] of [
      (b: E1000Guest) => b.device.setLink(false),
      (b: E1000Guest) => b.write(R.RCTL, b.read(R.RCTL) | R.RCTL_LBM_MAC),
    ].entries()) {
      const b = rig.e1000('bc'[i]!, { shared: false });
      const v = rig.virtio(`v${i}`);
      b.settle();
      b.held = true;
      v.send(etherFrame(0xff, 9, 70));
      v.send(etherFrame(0xff, 9, 71));
      change(b);
      b.channel.deliverAll();
      assert.deepEqual(lengths(b), [70]);
      assert.equal(rig.count('bc'[i]!, 'rx_frames'), 1);
    }
  });
});
