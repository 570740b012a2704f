/** Transmit from memory that is not shared: what is asked for, in which order, and what the driver sees meanwhile. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as R from '../../../../src/frontends/e1000/registers.js';
import { STAGE_BYTES, STAGE_DESCRIPTORS } from '../../../../src/frontends/e1000/remote-transmit.js';
import * as D from '../../../../src/frontends/e1000/tx-descriptor.js';
import type { E1000Guest } from '../../../support/e1000-driver.js';
import { deliver, heldPair, hex, kick, received, seen } from '../../../support/e1000-held.js';
import { e1000Rig } from '../../../support/e1000-rig.js';
import { pattern } from '../../../support/frames.js';
import { transferText } from '../../../support/test-dma-channel.js';
import { etherFrame } from '../../../support/test-guest.js';

const rig = e1000Rig();
const PAGE = 4096;
const EOP_RS = D.TXD_CMD_EOP | D.TXD_CMD_RS;
const DATA = D.TXD_CMD_DEXT | (1 << D.TXD_DTYP_SHIFT);

/** What was carried out since `from`. */
function carriedOut(a: E1000Guest, from = 0): string[] {
  return a.channel.log.slice(from).map(transferText);
}

describe('order', () => {
  test('descriptors are fetched, then their buffers, the frame is sent, its status stored; then TDH moves and causes appear', () => {
    const [a, v] = heldPair(rig, 'a');
    const frame = etherFrame(0xff, 1, 100, 7);
    const from = a.channel.log.length;
    a.queueFrame(frame);
    kick(a);
    const nothing = [[0], 0, 0];
    assert.deepEqual([seen(a), received(v)], [nothing, []]);
    deliver(a);
    assert.deepEqual([seen(a), received(v)], [nothing, []]);
    assert.equal(a.channel.deliver(), true);
    assert.deepEqual([seen(a), received(v)], [nothing, []]);
    a.device.poll();
    assert.deepEqual([seen(a), received(v)], [nothing, [100]]);
    assert.equal(a.pin, false);
    assert.equal(a.channel.pending, 1);
    assert.equal(a.device.arm(), false, 'nothing to poll for');
    deliver(a);
    assert.equal(a.pin, true);
    assert.deepEqual(seen(a), [[1], 1, R.ICR_TXDW | R.ICR_TXQE]);
    assert.equal(a.channel.pending, 0);
    assert.deepEqual(carriedOut(a, from), [
      `read ${hex(a.txRing)} 16`,
      `read ${hex(a.txBuffers)} 100`,
      `write ${hex(a.txRing + 12)} 1`,
    ]);
  });

  test('the controller is woken by what arrives, though nobody polls it', () => {
    const [a, v] = heldPair(rig, 'a');
    a.queueFrame(etherFrame(0xff, 1));
    a.write(R.TDT, a.txNext);
    for (let i = 0; i < 10; i++) {
      rig.runtime.loop.step(0);
      a.channel.deliver();
    }
    assert.equal(v.receive().length, 1);
    assert.deepEqual(seen(a), [[1], 1, R.ICR_TXDW | R.ICR_TXQE]);
    for (let i = 0; i < 1000 && rig.runtime.loop.activeCount > 0; i++) rig.runtime.loop.step(0);
    assert.equal(rig.runtime.loop.activeCount, 0, 'and sleeps when there is no more');
  });

  test('a burst without a report needs no store: TDH moves when it is sent', () => {
    const [a] = heldPair(rig, 'a');
    a.queue({ gpa: a.txBuffer(etherFrame(0xff, 1)), len: 60, cmd: D.TXD_CMD_EOP });
    kick(a);
    deliver(a);
    deliver(a);
    assert.equal(a.channel.pending, 0);
    assert.deepEqual(seen(a), [[0], 1, R.ICR_TXQE]);
  });

  test('nothing of the ring is written but status bytes that were asked for, those of neighbours as one run', () => {
    const [a, v] = heldPair(rig, 'a', { ringSize: 16 });
    // the ring wraps between the third and the fourth
    a.held = false;
    for (let i = 0; i < 13; i++) a.send(etherFrame(0xff, 1));
    a.held = true;
    v.receive();
    const gpa = a.txBuffer(etherFrame(0xff, 1, 60));
    const one = (rs: boolean) => ({ gpa, len: 60, cmd: D.TXD_CMD_EOP | (rs ? D.TXD_CMD_RS : 0), opts: 0x7700 });
    a.queue(one(false), one(true), one(true), one(true), one(true), one(false), one(true), one(false));
    kick(a);
    deliver(a);
    deliver(a);
    assert.equal(v.receive().length, 8);
    const from = a.channel.log.length;
    // what the driver was promised no report for is not read or written again
    a.setWords(a.txRing + 16 * 13, 1, 2, 3, 4);
    const before = a.bytes(a.txRing, 256).slice();
    deliver(a);
    assert.deepEqual(carriedOut(a, from), [
      `write ${hex(a.txRing + 14 * 16 + 12)} 17`,
      `write ${hex(a.txRing + 12)} 17`,
      `write ${hex(a.txRing + 3 * 16 + 12)} 1`,
    ]);
    const after = a.bytes(a.txRing, 256);
    const changed = [...after].flatMap((byte, i) => (byte === before[i] ? [] : [i]));
    assert.deepEqual(
      changed,
      [0, 1, 3, 14, 15].map((i) => 16 * i + 12),
    );
  });

  test('the next stage is fetched while the status of one is stored, and served when that is there', () => {
    const [a, v] = heldPair(rig, 'a');
    a.queueFrame(etherFrame(0xff, 1, 61));
    kick(a);
    a.queueFrame(etherFrame(0xff, 1, 62));
    kick(a);
    assert.equal(a.channel.pending, 1, 'one stage at a time');
    deliver(a);
    deliver(a);
    assert.deepEqual(received(v), [61]);
    assert.equal(a.channel.pending, 2);
    // the second stage arrives first
    a.channel.deliver(1);
    a.device.poll();
    a.channel.deliver(1);
    a.device.poll();
    assert.deepEqual([received(v), seen(a, 2)], [[], [[0, 0], 0, 0]]);
    deliver(a);
    assert.deepEqual([received(v), seen(a, 2)], [[62], [[1, 0], 1, R.ICR_TXDW]]);
    deliver(a);
    assert.deepEqual(seen(a, 2), [[1, 1], 2, R.ICR_TXDW | R.ICR_TXQE]);
  });

  test('a frame whose last descriptor is not there yet is fetched, and sent when the rest has come', () => {
    const [a, v] = heldPair(rig, 'a');
    const frame = etherFrame(0xff, 1, 100, 5);
    const gpa = a.txBuffer(frame);
    a.queueFrame(etherFrame(0xff, 1, 70));
    a.queue({ gpa, len: 40 });
    kick(a);
    while (a.channel.pending > 0) deliver(a);
    assert.deepEqual(received(v), [70]);
    assert.equal(a.device.arm(), false);
    kick(a);
    assert.equal(a.channel.pending, 0, 'TDT as it was');
    a.queue({ gpa: gpa + 40, len: 60, cmd: EOP_RS });
    a.held = false;
    kick(a);
    a.settle();
    assert.deepEqual([...v.receive()[0]!.frame], [...frame]);
  });
});

describe('stages', () => {
  /** Serves all, and gives the size of each batch of reads. */
  function batches(a: E1000Guest): { transfers: number; bytes: number }[] {
    const sizes: { transfers: number; bytes: number }[] = [];
    a.device.poll();
    for (let idle = 0; idle < 3; idle++) {
      const from = a.channel.log.length;
      if (a.channel.deliver()) idle = 0;
      a.device.poll();
      const reads = a.channel.log.slice(from).filter((t) => t.kind === 'read');
      const bytes = reads.reduce((sum, t) => sum + t.length, 0);
      if (reads.length > 0) sizes.push({ transfers: reads.length, bytes });
    }
    return sizes;
  }

  test('hold so many descriptors and bytes, and no more', () => {
    const [a, v] = heldPair(rig, 'a', { ringSize: 256 });
    for (let i = 0; i < 200; i++) a.queueFrame(etherFrame(0xff, 1, 60));
    kick(a);
    for (const { transfers } of batches(a)) assert.ok(transfers <= STAGE_DESCRIPTORS);
    assert.equal(v.receive().length, 200);
    for (let i = 0; i < 12; i++) a.queueFrame(etherFrame(0xff, 1, 60_000, i));
    kick(a);
    const sizes = batches(a);
    for (const { bytes } of sizes) assert.ok(bytes <= STAGE_BYTES);
    assert.ok(sizes.some(({ bytes }) => bytes > STAGE_BYTES / 2));
    assert.equal(a.read(R.TDH), a.read(R.TDT));
    assert.equal(rig.count('a', 'tx_frames'), 212);
  });

  test('a frame of more descriptors than a stage holds goes on in the next', () => {
    const [a, v] = heldPair(rig, 'a', { ringSize: 512 });
    const frame = etherFrame(0xff, 1, 400, 3);
    frame.set(pattern(386), 14);
    for (let round = 0; round < 3; round++) {
      a.queueFrame(etherFrame(0xff, 1, 60));
      a.queueData(frame, { pieces: Array.from({ length: 400 }, () => 1) });
      kick(a);
      batches(a);
      const got = v.receive();
      assert.deepEqual(
        got.map((g) => g.frame.length),
        [60, 400],
      );
      assert.deepEqual([...got[1]!.frame], [...frame]);
    }
  });

  test('what is not sent is not fetched: a frame that is too long, lengths without an address, contexts', () => {
    const [a, v] = heldPair(rig, 'a', { ringSize: 256 });
    const from = a.channel.log.length;
    const big = { gpa: a.txBuffers, len: 0xfffff, cmd: DATA };
    a.queue(...Array.from({ length: 70 }, () => big), { ...big, cmd: DATA | EOP_RS });
    a.queue(
      { gpa: a.txBuffers, len: 65000 },
      { gpa: a.txBuffers, len: 65000 },
      { gpa: a.txBuffers, len: 9, cmd: EOP_RS },
    );
    a.queue({ gpa: 0, len: 500, cmd: EOP_RS });
    a.queueContext({ mss: 7, payLen: 0xfffff });
    kick(a);
    batches(a);
    const buffers = a.channel.log.slice(from).filter((t) => t.kind === 'read' && t.gpa >= a.txBuffers);
    assert.deepEqual(buffers.map(transferText), [`read ${hex(a.txBuffers)} 65000`]);
    assert.equal(rig.count('a', 'tx_drop_too_long'), 2);
    assert.equal(rig.count('a', 'tx_drop_runt'), 1);
    assert.equal(a.read(R.TDH), a.txNext);
    assert.equal(v.receive().length, 0);
  });

  test('a whole ring without an end of packet is dropped, and does not wedge the ring', () => {
    const [a, v] = heldPair(rig, 'a', { ringSize: 128 });
    a.queue(...Array.from({ length: 127 }, () => ({ gpa: a.txBuffers, len: 10, cmd: D.TXD_CMD_RS })));
    kick(a);
    batches(a);
    assert.equal(rig.count('a', 'fault_tx_unfinished'), 1);
    assert.equal(a.read(R.TDH), 127);
    a.queueFrame(etherFrame(0xff, 1, 66));
    kick(a);
    batches(a);
    assert.deepEqual(received(v), [66]);
  });
});

describe('buffers', () => {
  test('outside guest memory, at its end, and of any length: a fault where they are translated, and nothing is asked for', () => {
    const [a, v] = heldPair(rig, 'a');
    const from = a.channel.log.length;
    for (const [gpa, len] of [
      [a.size - 10, 60],
      [a.size, 60],
      [a.size - 1, 2],
      [2 ** 40, 60],
      [2 ** 52, 60],
      [2 ** 63, 60],
      [2 ** 64 - 2 ** 11, 60],
    ] as const)
      a.queue({ gpa, len, cmd: EOP_RS });
    kick(a);
    while (a.channel.pending > 0 || a.device.arm()) {
      a.channel.deliver();
      a.device.poll();
    }
    assert.equal(rig.count('a', 'fault_tx_address'), 7);
    const reads = a.channel.log.slice(from).filter((t) => t.kind === 'read');
    assert.deepEqual(reads.map(transferText), [`read ${hex(a.txRing)} 112`]);
    const frame = etherFrame(0xff, 1, 60, 9);
    a.bytes(a.size - 60, 60).set(frame);
    a.queue({ gpa: a.size - 60, len: 60, cmd: EOP_RS });
    a.held = false;
    kick(a);
    assert.equal(a.reclaim(), 8);
    assert.deepEqual([...v.receive()[0]!.frame], [...frame]);
  });

  test('of a long frame, the first of them outside guest memory: it is a fault in the next stage as well', () => {
    const [a, v] = heldPair(rig, 'a', { ringSize: 128 });
    a.queueFrame(etherFrame(0xff, 1, 60));
    a.queue({ gpa: a.size, len: 60, cmd: DATA });
    a.queue(...Array.from({ length: 100 }, () => ({ gpa: a.txBuffers, len: 60, cmd: DATA })));
    a.queue({ gpa: a.txBuffers, len: 60, cmd: DATA | EOP_RS });
    a.held = false;
    kick(a);
    assert.equal(rig.count('a', 'fault_tx_address'), 1);
    assert.deepEqual(received(v), [60]);
    assert.equal(a.read(R.TDH), a.txNext);
  });

  test('of a frame that a context ends are not the next one’s', () => {
    const [a, v] = heldPair(rig, 'a');
    const frame = etherFrame(0xff, 1, 40_000, 3);
    a.queue({ gpa: a.txBuffer(new Uint8Array(40_000)), len: 40_000, cmd: DATA });
    a.queue({ cmd: D.TXD_CMD_DEXT | D.TXD_CMD_EOP });
    a.queueData(frame);
    a.held = false;
    kick(a);
    assert.equal(rig.count('a', 'fault_tx_mixed'), 1);
    assert.deepEqual(
      v.receive().map((got) => [...got.frame]),
      [[...frame]],
    );
  });

  test('half shared, half not: only what is not shared is asked for', () => {
    const [a, v] = heldPair(rig, 'a', {
      unshared: (guest) => {
        const cut = Math.ceil((guest.txBuffers + 100) / PAGE) * PAGE;
        return [
          [0, cut],
          [cut + PAGE, guest.size],
        ];
      },
    });
    const cut = Math.ceil((a.txBuffers + 100) / PAGE) * PAGE;
    const frame = etherFrame(0xff, 1, PAGE + 200);
    frame.set(pattern(PAGE + 186), 14);
    a.bytes(cut - 100, frame.length).set(frame);
    a.queue({ gpa: cut - 100, len: frame.length, cmd: EOP_RS });
    // and one in shared memory alone
    a.queue({ gpa: cut + 10, len: 100, cmd: EOP_RS });
    const from = a.channel.log.length;
    kick(a);
    deliver(a);
    deliver(a);
    assert.deepEqual(carriedOut(a, from).slice(1), [`read ${hex(cut - 100)} 100`, `read ${hex(cut + PAGE)} 100`]);
    assert.deepEqual([...v.receive()[0]!.frame], [...frame]);
  });

  test('that lie on the ring do not change what was fetched of it', () => {
    const [a, v] = heldPair(rig, 'a');
    // the first buffer is the ring itself, fetched after its descriptors
    const ring = Uint8Array.from(etherFrame(0xff, 1, 64, 0));
    a.queue(
      { gpa: a.txRing + 16 * 8, len: 64, cmd: EOP_RS },
      { gpa: a.txBuffer(etherFrame(0xff, 1, 61)), len: 61, cmd: EOP_RS },
    );
    a.bytes(a.txRing + 16 * 8, 64).set(ring);
    a.queue({ gpa: a.txRing, len: 32, cmd: EOP_RS });
    kick(a);
    deliver(a);
    // the driver overwrites them once they are fetched, and the fetch of the buffer brings that
    a.bytes(a.txRing, 32).set(etherFrame(0xff, 1, 32, 0xcc));
    deliver(a);
    assert.deepEqual(
      v.receive().map((got) => [...got.frame]),
      [[...ring], [...etherFrame(0xff, 1, 61)], [...etherFrame(0xff, 1, 32, 0xcc)]],
    );
  });
});

describe('TDT that jumps back', () => {
  for (const stage of [0, 1, 2, 3])
    test(`after ${stage} steps: what was taken back is sent as it is when it comes again, and not before`, () => {
      const [a, v] = heldPair(rig, 'a');
      a.queueFrame(etherFrame(0xff, 1, 61));
      a.queueFrame(etherFrame(0xff, 1, 62));
      a.queueFrame(etherFrame(0xff, 1, 63));
      // the controller does not look while the transfers come
      kick(a);
      for (let i = 0; i < stage; i++) a.channel.deliver();
      a.write(R.TDT, 1);
      a.txNext = 1;
      a.queueFrame(etherFrame(0xff, 1, 72));
      a.queueFrame(etherFrame(0xff, 1, 73));
      a.held = false;
      a.device.poll();
      a.settle();
      assert.deepEqual(received(v), [61]);
      kick(a);
      a.settle();
      assert.deepEqual(received(v), [72, 73]);
    });

  test('behind the head: the whole ring is the controller’s, as in shared memory', () => {
    const sent = [true, false].map((shared) => {
      const a = rig.e1000(shared ? 'c' : 'd', { shared, ringSize: 16, backend: shared ? 'vale1:c' : 'vale2:d' });
      const v = rig.virtio(shared ? 'w' : 'x', { backend: shared ? 'vale1:w' : 'vale2:x' });
      a.send(etherFrame(0xff, 1, 61), etherFrame(0xff, 1, 62), etherFrame(0xff, 1, 63));
      v.receive();
      a.write(R.TDT, 1);
      a.device.poll();
      a.settle();
      const { length } = v.receive();
      return [length, a.read(R.TDH), a.read(R.TDT)];
    });
    assert.deepEqual(sent[0], sent[1]);
  });
});

test('rings in shared memory do not reach buffers that are not shared', () => {
  const a = rig.e1000('a', {
    unshared: (guest) => {
      const cut = Math.ceil(guest.txBuffers / PAGE) * PAGE;
      return [[cut, guest.size]];
    },
  });
  a.txBuffer();
  a.send(etherFrame(0xff, 1));
  assert.equal(rig.count('a', 'fault_tx_address'), 1);
  assert.deepEqual(carriedOut(a), []);
});
