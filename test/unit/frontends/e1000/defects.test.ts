/** What a guest can do to other implementations of this controller, and not to this one. */
import assert from 'node:assert/strict';
import { describe } from 'node:test';
import fc from 'fast-check';
import * as R from '../../../../src/frontends/e1000/registers.js';
import * as D from '../../../../src/frontends/e1000/tx-descriptor.js';
import type { E1000Guest } from '../../../support/e1000-driver.js';
import { e1000Rig, withoutHeader } from '../../../support/e1000-rig.js';
import { buildFrame, pattern } from '../../../support/frames.js';
import { etherFrame, type TestGuest } from '../../../support/test-guest.js';

const rig = e1000Rig();
const { test } = rig;

/** Frames still go both ways after the driver has set up its rings anew. */
function checkWorks(a: E1000Guest, v: TestGuest): void {
  a.start(20);
  v.receive();
  a.send(etherFrame(0xff, 1, 77));
  assert.deepEqual(
    v.receive().map((got) => got.frame.length),
    [77],
  );
  v.send(etherFrame(0xff, 9, 88));
  assert.deepEqual(
    a.receive().map((got) => got.frame.length),
    [88],
  );
}

describe('registers of the rings', () => {
  test('may be written while receive is on: the ring is looked at anew, or not served', () => {
    const a = rig.e1000('a');
    const v = rig.virtio('v');
    for (const [offset, value] of [
      [R.RDLEN, 0x80],
      [R.RDLEN, 0xffffffff],
      [R.RDBAL + 4, 0xffffffff],
      [R.RDBAL + 4, 0],
      [R.RDBAL, 0xfffffff0],
      [R.RDH, 0xffff],
      [R.RDT, 0xffff],
    ] as const) {
      a.write(offset, value);
      v.send(etherFrame(0xff, 1));
    }
    assert.ok(rig.count('a', 'fault_rx_ring') > 0);
    checkWorks(a, v);
  });

  test('a ring of length 0 is not served, neither for receive nor for transmit', () => {
    const a = rig.e1000('a');
    const v = rig.virtio('v');
    a.write(R.RDLEN, 0);
    a.write(R.RDT, 3);
    v.send(etherFrame(0xff, 1));
    assert.equal(rig.count('a', 'fault_rx_ring'), 1);
    a.write(R.TDLEN, 0);
    a.send(etherFrame(0xff, 1));
    assert.equal(rig.count('a', 'fault_tx_ring'), 1);
    assert.equal(v.receive().length, 0);
    checkWorks(a, v);
  });

  test('head and tail beyond the ring: it is not served until they are right again', () => {
    const a = rig.e1000('a');
    const v = rig.virtio('v');
    a.queueFrame(etherFrame(0xff, 1));
    a.write(R.TDT, 64);
    a.device.poll();
    a.device.poll();
    assert.equal(rig.count('a', 'fault_tx_ring'), 1, 'counted once, however often it is polled');
    a.kick();
    assert.equal(v.receive().length, 1);
    checkWorks(a, v);
  });

  test('the last receive address, 15, is one like the others', () => {
    const a = rig.e1000('a');
    const v = rig.virtio('v');
    a.write(R.RA + 8 * 15, 0x44332202);
    a.write(R.RA + 8 * 15 + 4, 0x80006655);
    assert.deepEqual([a.read(R.RA + 8 * 15), a.read(R.RA + 8 * 15 + 4)], [0x44332202, 0x80006655]);
    const frame = etherFrame(1, 9);
    frame.set([2, 0x22, 0x33, 0x44, 0x55, 0x66], 0);
    v.send(frame);
    assert.equal(a.receive().length, 1);
  });
});

describe('transmit descriptors', () => {
  test('of different types in one frame: it is dropped, its descriptors are returned, the next one is sent', () => {
    const a = rig.e1000('a');
    const v = rig.virtio('v');
    const gpa = a.txBuffer(etherFrame(0xff, 1, 100));
    const data = D.TXD_CMD_DEXT | (1 << D.TXD_DTYP_SHIFT);
    const context = D.TXD_CMD_DEXT | D.TXD_CMD_RS;
    for (const [first, second] of [
      [0, data],
      [data, 0],
      [data, context],
      [0, context],
      [data, D.TXD_CMD_DEXT | (7 << D.TXD_DTYP_SHIFT)],
    ] as const) {
      a.queue({ gpa, len: 50, cmd: first | D.TXD_CMD_RS }, { gpa, len: 50, cmd: second | D.TXD_CMD_RS });
      a.queue({ gpa, len: 50, cmd: first | D.TXD_CMD_RS | D.TXD_CMD_EOP });
    }
    assert.equal(a.kick(), 15);
    assert.equal(v.receive().length, 0);
    assert.ok(rig.count('a', 'fault_tx_mixed') >= 4);
    checkWorks(a, v);
  });

  test('of a type that does not exist: returned and counted', () => {
    const a = rig.e1000('a');
    const v = rig.virtio('v');
    a.queue({ cmd: D.TXD_CMD_DEXT | (5 << D.TXD_DTYP_SHIFT) | D.TXD_CMD_RS });
    a.queueFrame(etherFrame(0xff, 1));
    assert.equal(a.kick(), 2);
    assert.equal(v.receive().length, 1);
    assert.equal(rig.count('a', 'fault_tx_type'), 1);
  });

  test('a whole ring without an end of packet is dropped, and does not wedge the ring', () => {
    const a = rig.e1000('a', { ringSize: 8 });
    const v = rig.virtio('v');
    a.queue(...Array.from({ length: 7 }, () => ({ gpa: a.txBuffers, len: 10, cmd: D.TXD_CMD_RS })));
    assert.equal(a.kick(), 7);
    assert.equal(rig.count('a', 'fault_tx_unfinished'), 1);
    checkWorks(a, v);
  });

  test('buffers outside guest memory, and frames that are too long or too short, are dropped and counted', () => {
    const a = rig.e1000('a');
    const v = rig.virtio('v');
    const cmd = D.TXD_CMD_EOP | D.TXD_CMD_RS;
    a.queue({ gpa: a.size - 10, len: 60, cmd }, { gpa: 2 ** 52, len: 60, cmd }, { gpa: 2 ** 63, len: 60, cmd });
    a.queue({ gpa: a.txBuffers, len: 13, cmd }, { cmd });
    a.queue({ gpa: a.txBuffers, len: 65000 }, { gpa: a.txBuffers, len: 65000, cmd });
    a.kick();
    assert.equal(rig.count('a', 'fault_tx_address'), 3);
    assert.equal(rig.count('a', 'tx_drop_runt'), 2);
    assert.equal(rig.count('a', 'tx_drop_too_long'), 1);
    assert.equal(a.read(R.TDH), a.read(R.TDT));
    checkWorks(a, v);
  });

  for (const [how, wrap] of [
    ['with a header', undefined],
    ['in software', withoutHeader],
  ] as const)
    test(`checksum offsets and header lengths of any value write nowhere but in the frame (CVE-2022-23087), ${how}`, () => {
      const a = rig.e1000('a', wrap === undefined ? {} : { wrap });
      const v = rig.virtio('v', { rxBufLen: 4096 });
      const byte = fc.integer({ min: 0, max: 255 });
      const end = fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 200 }), fc.integer({ min: 0, max: 65535 }));
      const fields = fc.record({
        ipcss: byte,
        ipcso: byte,
        ipcse: end,
        tucss: byte,
        tucso: byte,
        tucse: end,
        hdrLen: byte,
        mss: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 65535 })),
        payLen: fc.integer({ min: 0, max: 0xfffff }),
        ipv4: fc.boolean(),
        tcp: fc.boolean(),
      });
      const spec = { ip: 4 as const, protocol: 'tcp' as const, payload: pattern(300) };
      fc.assert(
        fc.property(
          fields,
          fc.boolean(),
          fc.boolean(),
          fc.integer({ min: 1, max: 354 }),
          (context, tse, legacy, length) => {
            const frame = Uint8Array.from(buildFrame(spec)).subarray(0, length);
            frame.set([255, 255, 255, 255, 255, 255].slice(0, length), 0);
            if (legacy) a.queueFrame(frame, D.TXD_CMD_IC | (context.tucso << 16), context.tucss << 8);
            else {
              a.queueContext({ ...context, tse });
              a.queueData(frame, {
                popts: D.TXD_POPTS_IXSM | D.TXD_POPTS_TXSM,
                cmd: tse ? D.TXD_CMD_TSE : 0,
              });
            }
            a.kick();
            const got = v.receive();
            assert.equal(a.read(R.TDH), a.read(R.TDT));
            assert.ok(got.reduce((sum, { frame }) => sum + frame.length, 0) <= 500 * (length + 60));
            if (tse && !legacy) return;
            // at most four bytes differ from what was sent
            for (const { frame: arrived } of got) {
              assert.equal(arrived.length, length);
              assert.ok(arrived.filter((b, i) => b !== frame[i]).length <= 4);
            }
          },
        ),
        { numRuns: 300 },
      );
      checkWorks(a, v);
    });
});

describe('receive', () => {
  test('a frame that fills its buffers exactly has a last descriptor of a full buffer, not of none', () => {
    const a = rig.e1000('a', { rxBufLen: 512, rctl: R.RCTL_LPE });
    const v = rig.virtio('v');
    v.send(etherFrame(0xff, 1, 1020), etherFrame(0xff, 1, 508), etherFrame(0xff, 1, 1021));
    assert.deepEqual(
      a.receive().map((got) => got.lengths),
      [[512, 512], [512], [512, 512, 1]],
    );
  });

  test('the frame check sequence is all there, or not at all: four bytes, also across two buffers', () => {
    const a = rig.e1000('a', { rxBufLen: 256 });
    const v = rig.virtio('v');
    for (const n of [252, 253, 254, 255, 256, 257]) {
      v.send(etherFrame(0xff, 1, n));
      assert.equal(a.receive()[0]!.bytes.length, n + 4);
    }
    a.write(R.RCTL, a.read(R.RCTL) | R.RCTL_SECRC);
    v.send(etherFrame(0xff, 1, 255));
    assert.equal(a.receive()[0]!.bytes.length, 255);
  });

  test('a ring that overflows loses nothing that is still pending', () => {
    const a = rig.e1000('a', { rxBuffers: 3 });
    const v = rig.virtio('v');
    v.send(...Array.from({ length: 20 }, (_, i) => etherFrame(0xff, 1, 60 + i)));
    const lengths: number[] = [];
    for (let i = 0; i < 10; i++) lengths.push(...a.receive().map((got) => got.frame.length));
    assert.deepEqual(
      lengths,
      Array.from({ length: 20 }, (_, i) => 60 + i),
    );
  });

  test('buffers outside guest memory are returned with an error, and the frame goes to the next ones', () => {
    const a = rig.e1000('a', { rxBuffers: 0 });
    const v = rig.virtio('v');
    for (const gpa of [0, 2 ** 40, a.size - 50, 2 ** 63]) a.post(gpa);
    a.post();
    a.write(R.RDT, a.rxTail);
    v.send(etherFrame(0xff, 1, 70));
    assert.deepEqual(
      a.receive(false).map((got) => [got.frame.length, got.errors]),
      [
        [0, 0x80],
        [0, 0x80],
        [0, 0x80],
        [0, 0x80],
        [70, 0],
      ],
    );
    assert.equal(rig.count('a', 'fault_rx_address'), 4);
  });

  test('of a buffer that ends outside guest memory only what a frame needs is asked for', () => {
    const a = rig.e1000('a', { rxBuffers: 0 });
    const v = rig.virtio('v');
    const room = 64 + 4;
    a.post(a.size - room);
    a.post(a.size - room);
    a.post();
    a.write(R.RDT, a.rxTail);
    v.send(etherFrame(0xff, 1, 64));
    v.send(etherFrame(0xff, 1, 65));
    assert.deepEqual(
      a.receive(false).map((got) => [got.frame.length, got.errors]),
      [
        [64, 0],
        [0, 0x80],
        [65, 0],
      ],
    );
  });
});
