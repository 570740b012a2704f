import assert from 'node:assert/strict';
import { describe } from 'node:test';
import * as R from '../../../../src/frontends/e1000/registers.js';
import { e1000Rig } from '../../../support/e1000-rig.js';
import { etherFrame } from '../../../support/test-guest.js';

const rig = e1000Rig();
const { test } = rig;

describe('the register map', () => {
  test('no two registers, and no alias, share an address, and all lie within the BAR', () => {
    const taken = new Map<number, string>();
    for (const { name, offset, count = 1, stride = 4, alias } of R.registerMap)
      for (let i = 0; i < count; i++)
        for (const at of alias === undefined ? [offset] : [offset, alias]) {
          const place = at + i * stride;
          assert.ok(place % 4 === 0 && place < R.REGISTER_BYTES, `${name} at ${place}`);
          assert.equal(taken.get(place), undefined, `${name} lies on ${taken.get(place)}`);
          taken.set(place, name);
        }
  });

  test('after a reset each register reads its reset value; a write changes the bits that it may, and no others', () => {
    const a = rig.e1000('a', { start: false });
    const dynamic = new Set(['EECD', 'STATUS', 'RAL', 'RAH']);
    for (const { name, offset, reset, writable, onRead, onWrite } of R.registerMap) {
      if (dynamic.has(name)) continue;
      if (onRead === undefined) assert.equal(a.read(offset), reset >>> 0, name);
      // what a hook does is tested by itself
      if (onWrite !== undefined && onWrite !== 'ring' && onWrite !== 'ra') continue;
      a.write(offset, 0xffffffff);
      const expected = ((reset & ~writable) | writable) >>> 0;
      assert.equal(a.read(offset), onRead === undefined ? expected : 0, `${name} after ones`);
      a.write(offset, 0);
      if (onRead === undefined) assert.equal(a.read(offset), (reset & ~writable) >>> 0, `${name} after zeros`);
    }
  });

  test('the addresses of the 82542 lead to the same registers', () => {
    const a = rig.e1000('a', { start: false });
    for (const { name, offset, writable, alias, onWrite } of R.registerMap) {
      if (alias === undefined || onWrite !== undefined) continue;
      a.write(alias, 0xa5a5a5a5);
      assert.equal(a.read(offset), (0xa5a5a5a5 & writable) >>> 0, name);
      assert.equal(a.read(alias), a.read(offset), name);
    }
    a.write(0x00128, 7);
    assert.equal(a.read(R.RDT), 7);
  });

  test('what is not a register reads 0, is not written, and is counted', () => {
    const a = rig.e1000('a');
    const before = rig.count('a', 'fault_register');
    assert.equal(a.read(0x0c), 0);
    a.write(0x1fffc - 0x10000 + 4 * 3, 1);
    a.write(0x0c, 5);
    assert.equal(a.read(0x0c), 0);
    assert.ok(rig.count('a', 'fault_register') >= before + 3);
  });

  test('narrow reads give part of a register, narrow writes and odd places nothing', () => {
    const a = rig.e1000('a');
    const { device } = a;
    assert.equal(device.readBar(0, R.FCAL, 2), 0x8001);
    assert.equal(device.readBar(0, R.FCAL + 2, 1), 0xc2);
    assert.equal(device.readBar(0, R.FCAL + 3, 2), 0xffff);
    assert.equal(device.readBar(0, R.FCAL + 2, 4), 0xffffffff);
    device.writeBar(0, R.FCAL, 1, 7);
    device.writeBar(0, R.FCAL + 1, 4, 7);
    assert.equal(a.read(R.FCAL), 0x00c28001);
  });

  test('the I/O window reaches registers by IOADDR and IODATA, and nothing beyond them', () => {
    const a = rig.e1000('a');
    const { device } = a;
    device.writeBar(2, 0, 4, R.VET);
    assert.equal(device.readBar(2, 0, 4), R.VET);
    assert.equal(device.readBar(2, 4, 4), 0x8100);
    device.writeBar(2, 4, 4, 0x88a8);
    assert.equal(a.read(R.VET), 0x88a8);
    for (const address of [R.REGISTER_BYTES, 0x80000, 0xfffffffc, R.VET + 1]) {
      device.writeBar(2, 0, 4, address);
      device.writeBar(2, 4, 4, 0x1234);
      assert.equal(device.readBar(2, 4, 4), 0xffffffff);
    }
    assert.equal(device.readBar(2, 4, 2), 0xffff);
    assert.equal(a.read(R.VET), 0x88a8);
  });

  test('the flash is erased, and stays so', () => {
    const { device } = rig.e1000('a');
    device.writeBar(1, 0x100, 4, 0);
    assert.equal(device.readBar(1, 0x100, 4), 0xffffffff);
    assert.equal(device.readBar(1, 0xffff, 1), 0xff);
  });
});

describe('statistics', () => {
  test('are cleared when read; of a pair the upper half clears both', () => {
    const v = rig.virtio('v');
    const b = rig.e1000('b', { rctl: R.RCTL_MPE });
    const multicast = etherFrame(0xff, 1, 300);
    multicast[0] = 1;
    v.send(etherFrame(0xff, 1, 60), multicast, etherFrame(2, 1, 1514));
    const read = (...offsets: number[]) => offsets.map((offset) => b.read(offset));
    assert.deepEqual(read(R.GPRC, R.TPR, R.BPRC, R.MPRC), [3, 3, 1, 1]);
    assert.deepEqual(read(R.PRC64, R.PRC64 + 12, R.PRC64 + 20), [1, 1, 1]);
    assert.deepEqual(read(R.GPRC, R.TPR, R.BPRC, R.MPRC, R.PRC64), [0, 0, 0, 0, 0]);
    const octets = 60 + 300 + 1514 + 12;
    assert.deepEqual(read(R.GORCL, R.GORCL, R.GORCL + 4, R.GORCL), [octets, octets, 0, 0]);
    assert.deepEqual(read(R.TORL, R.TORL + 4), [octets, 0]);
  });

  test('of what is sent', () => {
    const a = rig.e1000('a');
    const multicast = etherFrame(0xff, 1, 600);
    multicast[0] = 1;
    a.send(etherFrame(0xff, 1, 60), multicast, etherFrame(2, 1, 1000), etherFrame(2, 1, 100));
    const read = (...offsets: number[]) => offsets.map((offset) => a.read(offset));
    assert.deepEqual(read(R.GPTC, R.TPT, R.BPTC, R.MPTC), [4, 4, 1, 1]);
    assert.deepEqual(read(R.PTC64, R.PTC64 + 4, R.PTC64 + 16), [1, 1, 2]);
    assert.deepEqual(read(R.TOTL, R.TOTL + 4, R.TOTL), [1760 + 16, 0, 0]);
  });
});

describe('reset', () => {
  test('CTRL.RST in any state: rings, masks and causes are gone, the address is back, nothing is served', () => {
    const v = rig.virtio('v');
    const b = rig.e1000('b', { rctl: R.RCTL_UPE });
    v.send(etherFrame(0xff, 1));
    b.write(R.RA, 0x12345678);
    b.queueFrame(etherFrame(0xff, 2));
    b.write(R.TDT, b.txNext);
    assert.equal(b.pin, true);
    b.write(R.CTRL, b.read(R.CTRL) | R.CTRL_RST);
    b.device.poll();
    assert.equal(b.pin, false);
    assert.deepEqual([b.read(R.RCTL), b.read(R.TDT), b.read(R.IMS), b.read(R.RDLEN), b.read(R.ICR)], [0, 0, 0, 0, 0]);
    assert.deepEqual([b.read(R.RA), b.read(R.RA + 4)], [0x00000002, 0x80000200]);
    assert.equal(b.read(R.CTRL) & R.CTRL_RST, 0);
    assert.equal(v.receive().length, 0);
    v.send(etherFrame(0xff, 1));
    b.start(20);
    v.send(etherFrame(0xff, 1, 70));
    assert.deepEqual(
      b.receive().map((got) => got.frame.length),
      [70],
    );
  });

  test('a driver that is starved and resets lets the frames that waited go', () => {
    const v = rig.virtio('v');
    const b = rig.e1000('b', { rxBuffers: 1 });
    v.send(etherFrame(0xff, 1), etherFrame(0xff, 1), etherFrame(0xff, 1));
    assert.equal(b.device.status().starved, true);
    b.write(R.CTRL, R.CTRL_RST);
    assert.equal(b.device.status().starved, false);
    assert.equal(rig.count('b', 'rx_drop_disabled'), 2);
  });

  test('of the function: configuration space and PHY too; after detach no memory is touched', () => {
    const v = rig.virtio('v');
    const b = rig.e1000('b');
    b.phyWrite(16, 0x1111);
    b.device.reset();
    assert.equal(b.device.config.busMaster, false);
    assert.equal(b.phyRead(16) & 0xffff, 0x0360);
    b.configWrite(4, 7);
    b.start(10);
    b.device.detach();
    b.write(R.RCTL, R.RCTL_EN);
    v.send(etherFrame(0xff, 1));
    b.write(R.TDT, 3);
    b.device.poll();
    b.attach();
    b.start(10);
    v.send(etherFrame(0xff, 1));
    assert.equal(b.receive().length, 1);
  });

  test('memory that goes while rings are in it is not touched, and served again when it is back', () => {
    const v = rig.virtio('v');
    const b = rig.e1000('b');
    b.device.memoryChanged();
    v.send(etherFrame(0xff, 1));
    assert.equal(b.receive().length, 1);
    b.memory.close();
    b.device.memoryChanged();
    v.send(etherFrame(0xff, 1));
    assert.equal(rig.count('b', 'fault_rx_ring'), 1);
    b.write(R.TDT, 5);
    b.device.poll();
    assert.equal(rig.count('b', 'fault_tx_ring'), 1);
    assert.equal(b.device.arm(), false, 'a ring that cannot be served is nothing to poll for');
    assert.equal(b.device.status().queues[0]!.broken, true);
  });
});
