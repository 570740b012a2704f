/** EEPROM, PHY, link and interrupts of the 82545EM. */
import assert from 'node:assert/strict';
import { describe } from 'node:test';
import * as R from '../../../../src/frontends/e1000/registers.js';
import * as D from '../../../../src/frontends/e1000/tx-descriptor.js';
import type { E1000Guest } from '../../../support/e1000-driver.js';
import { e1000Rig } from '../../../support/e1000-rig.js';
import { etherFrame } from '../../../support/test-guest.js';

const rig = e1000Rig();
const { test } = rig;

describe('the EEPROM', () => {
  test('over Microwire: the MAC address, the identifiers, and words that add up to 0xBABA', () => {
    const a = rig.e1000('a', { mac: Uint8Array.of(0x02, 0x11, 0x22, 0x33, 0x44, 0x55) });
    const words = Array.from({ length: 64 }, (_, i) => a.eepromWord(i));
    assert.deepEqual(words.slice(0, 3), [0x1102, 0x3322, 0x5544]);
    assert.deepEqual(words.slice(0xb, 0xf), [0x1008, 0x8086, 0x100f, 0x8086]);
    assert.equal(words.reduce((sum, word) => sum + word, 0) & 0xffff, 0xbaba);
    assert.equal(a.read(R.EECD) & R.EECD_DO, R.EECD_DO, 'ready when not selected');
  });

  test('through EERD: the same words; beyond them ones', () => {
    const a = rig.e1000('a');
    for (let i = 0; i < 64; i++) {
      a.write(R.EERD, (i << 8) | R.EERD_START);
      const eerd = a.read(R.EERD);
      assert.equal(eerd & R.EERD_DONE, R.EERD_DONE);
      assert.equal(eerd >>> 16, a.eepromWord(i));
    }
    a.write(R.EERD, (64 << 8) | R.EERD_START);
    assert.equal(a.read(R.EERD) >>> 16, 0xffff);
  });

  /** Shifts bits in, with the chip selected. */
  function shift(a: E1000Guest, value: number, bits: number): void {
    for (let bit = bits - 1; bit >= 0; bit--) {
      const lines = R.EECD_REQ | R.EECD_CS | ((value >> bit) & 1 ? R.EECD_DI : 0);
      a.write(R.EECD, lines);
      a.write(R.EECD, lines | R.EECD_SK);
      a.write(R.EECD, lines);
    }
  }
  const deselect = (a: E1000Guest) => a.write(R.EECD, R.EECD_REQ);

  test('is written only after it was enabled, keeps it over a reset, and the address comes from it', () => {
    const a = rig.e1000('a');
    const write = (address: number, word: number) => {
      shift(a, (0b101 << 6) | address, 9);
      shift(a, word, 16);
      deselect(a);
    };
    write(5, 0x1234);
    assert.equal(a.eepromWord(5), 0);
    deselect(a);
    shift(a, (0b100 << 6) | 0b110000, 9);
    deselect(a);
    write(5, 0x1234);
    write(2, 0x7766);
    assert.equal(a.eepromWord(5), 0x1234);
    a.reset();
    assert.equal(a.eepromWord(5), 0x1234);
    assert.equal(a.read(R.RA + 4), 0x80007766);
    a.write(R.RA + 4, 0);
    a.write(R.CTRL_EXT, R.CTRL_EXT_EE_RST);
    assert.equal(a.read(R.RA + 4), 0x80007766);
    deselect(a);
    shift(a, (0b111 << 6) | 5, 9);
    deselect(a);
    assert.equal(a.eepromWord(5), 0xffff, 'erased');
    deselect(a);
    shift(a, 0b100 << 6, 9);
    deselect(a);
    write(5, 1);
    assert.equal(a.eepromWord(5), 0xffff, 'disabled again');
  });

  test('goes on with the next word as long as it is clocked, and ignores zeros before an instruction', () => {
    const a = rig.e1000('a');
    deselect(a);
    shift(a, 0b0000, 4);
    shift(a, (0b110 << 6) | 0, 9);
    let bits = 0n;
    for (let i = 0; i < 48; i++) {
      a.write(R.EECD, R.EECD_REQ | R.EECD_CS | R.EECD_SK);
      bits = (bits << 1n) | BigInt((a.read(R.EECD) & R.EECD_DO) >> 3);
      a.write(R.EECD, R.EECD_REQ | R.EECD_CS);
    }
    deselect(a);
    const words = [0, 1, 2].map((i) => BigInt(a.eepromWord(i)));
    assert.equal(bits, (words[0]! << 32n) | (words[1]! << 16n) | words[2]!);
  });

  test('access is granted when it is asked for', () => {
    const a = rig.e1000('a');
    a.write(R.EECD, R.EECD_REQ);
    assert.equal(a.read(R.EECD) & R.EECD_GNT, R.EECD_GNT);
    a.write(R.EECD, 0);
    assert.equal(a.read(R.EECD) & R.EECD_GNT, 0);
  });
});

describe('PHY and link', () => {
  test('is an M88E1000 at address 1, linked at 1000 Mbit/s full duplex; other addresses answer with an error', () => {
    const a = rig.e1000('a');
    assert.equal(a.phyRead(2) & 0xffff, 0x0141);
    assert.equal(a.phyRead(3) & 0xfff0, 0x0c20);
    a.phyRead(1);
    assert.equal(a.phyRead(1) & 0x24, 0x24);
    assert.equal(a.phyRead(17) & 0xffff, 0xac00);
    assert.equal(a.read(R.STATUS), 0x283);
    assert.equal(a.phyRead(2, 2) & R.MDIC_ERROR, R.MDIC_ERROR);
    assert.equal(a.phyRead(2) & (R.MDIC_ERROR | R.MDIC_READY), R.MDIC_READY);
  });

  test('link down and up: STATUS.LU, LSC, and a bit of the PHY that says down once more', () => {
    const a = rig.e1000('a');
    a.read(R.ICR);
    a.phyRead(1);
    a.device.setLink(false);
    assert.equal(a.pin, true);
    assert.equal(a.read(R.ICR), R.ICR_LSC);
    assert.equal(a.read(R.STATUS) & R.STATUS_LU, 0);
    assert.equal(a.phyRead(1) & 4, 0);
    assert.equal(a.phyRead(17) & 0xffff, 0);
    assert.equal(a.device.status().link, 'down');
    a.device.setLink(true);
    a.device.setLink(true);
    assert.equal(a.read(R.ICR), R.ICR_LSC);
    assert.equal(a.read(R.STATUS) & R.STATUS_LU, R.STATUS_LU);
    assert.deepEqual([a.phyRead(1) & 4, a.phyRead(1) & 4], [0, 4]);
  });

  test('restarting autonegotiation, power down and reset of the PHY are seen as link changes', () => {
    const a = rig.e1000('a');
    a.read(R.ICR);
    a.phyWrite(0, 0x1340);
    assert.equal(a.read(R.ICR), R.ICR_LSC);
    assert.equal(a.phyRead(0) & 0xffff, 0x1140);
    a.phyWrite(0, 0x1940);
    assert.equal(a.read(R.STATUS) & R.STATUS_LU, 0);
    assert.equal(a.device.status().link, 'down');
    a.phyWrite(0, 0x9140);
    assert.equal(a.phyRead(0) & 0xffff, 0x1140);
    assert.equal(a.read(R.STATUS) & R.STATUS_LU, R.STATUS_LU);
    a.write(R.CTRL, a.read(R.CTRL) | R.CTRL_PHY_RST);
    assert.equal(a.read(R.ICR) & R.ICR_LSC, R.ICR_LSC);
  });

  test('without CTRL.SLU there is no link', () => {
    const a = rig.e1000('a');
    a.write(R.CTRL, a.read(R.CTRL) & ~R.CTRL_SLU);
    assert.equal(a.read(R.STATUS) & R.STATUS_LU, 0);
  });

  test('MDIC interrupts when it is asked to', () => {
    const a = rig.e1000('a');
    a.read(R.ICR);
    a.write(R.MDIC, (1 << 21) | R.MDIC_OP_READ | R.MDIC_INT_EN);
    assert.equal(a.read(R.ICR), R.ICR_MDAC);
  });
});

describe('interrupts', () => {
  test('a masked cause is kept and interrupts when it is unmasked', () => {
    const a = rig.e1000('a');
    a.write(R.IMC, 0xffffffff);
    a.write(R.ICS, R.ICR_RXT0);
    assert.equal(a.pin, false);
    assert.equal(a.read(R.ICS), R.ICR_RXT0, 'reads as ICR does, and clears nothing');
    a.write(R.IMS, R.ICR_RXT0);
    assert.equal(a.pin, true);
    a.write(R.IMC, R.ICR_RXT0);
    assert.equal(a.pin, false);
    a.write(R.IMS, R.ICR_RXT0);
    a.write(R.ICR, R.ICR_RXT0);
    assert.equal(a.pin, false, 'cleared by writing 1');
    assert.equal(a.read(R.ICR), 0);
  });

  test('MSI: a message for each time that an unmasked cause appears, and the pin stays low', () => {
    const a = rig.e1000('a');
    const v = rig.virtio('v');
    a.configWrite(0xf0 + 2, 1);
    v.send(etherFrame(0xff, 1), etherFrame(0xff, 1));
    assert.deepEqual([a.messages, a.pin], [1, false]);
    v.send(etherFrame(0xff, 1));
    assert.equal(a.messages, 1);
    a.read(R.ICR);
    v.send(etherFrame(0xff, 1));
    assert.equal(a.messages, 2);
    a.write(R.IMC, 0xffffffff);
    a.write(R.IMS, R.ICR_RXT0);
    assert.equal(a.messages, 3);
  });

  /** Turns the event loop until something holds. */
  function until(what: () => boolean): void {
    for (let i = 0; i < 1000 && !what(); i++) rig.runtime.loop.step(10);
    assert.ok(what());
  }

  test('ITR: an interrupt that comes too early comes later, once, whether or not the NIC is polled', () => {
    const a = rig.e1000('a');
    const v = rig.virtio('v');
    // 16 ms
    a.write(R.ITR, 0xffff);
    v.send(etherFrame(0xff, 1));
    assert.equal(a.pinRises, 1);
    a.read(R.ICR);
    v.send(etherFrame(0xff, 1));
    v.send(etherFrame(0xff, 1));
    assert.equal(a.pinRises, 1);
    until(() => a.pinRises === 2);
    a.read(R.ICR);
    v.send(etherFrame(0xff, 1));
    assert.equal(a.pinRises, 2);
    a.read(R.ICR);
    assert.equal(rig.runtime.loop.step(30), 0);
    assert.equal(a.pinRises, 2, 'what was read meanwhile interrupts nobody');
  });

  test('ITR set to 0 lets a waiting interrupt go', () => {
    const a = rig.e1000('a');
    a.write(R.ITR, 0xffff);
    a.write(R.ICS, R.ICR_RXT0);
    a.read(R.ICR);
    a.write(R.ICS, R.ICR_RXT0);
    assert.equal(a.pin, false);
    a.write(R.ITR, 0);
    assert.equal(a.pin, true);
  });

  test('RDTR: RXT0 waits for silence, RADV bounds the wait, FPD ends it', () => {
    const a = rig.e1000('a');
    const v = rig.virtio('v');
    a.write(R.RDTR, 0xffff);
    v.send(etherFrame(0xff, 1));
    assert.equal(a.read(R.ICR), 0);
    assert.equal(a.receive().length, 1, 'the frame is there at once');
    a.write(R.RDTR, 0xffff | R.RDTR_FPD);
    assert.equal(a.read(R.ICR), R.ICR_RXT0);
    a.write(R.RDTR, 0xffff | R.RDTR_FPD);
    assert.equal(a.read(R.ICR), 0, 'nothing waited');
    a.write(R.RADV, 1000);
    v.send(etherFrame(0xff, 1));
    until(() => a.pin);
    assert.equal(a.read(R.ICR), R.ICR_RXT0);
    a.write(R.RADV, 0);
    a.write(R.RDTR, 1000);
    v.send(etherFrame(0xff, 1));
    until(() => a.pin);
  });

  test('RSRPD: a small packet is told at once', () => {
    const a = rig.e1000('a');
    const v = rig.virtio('v');
    a.write(R.RDTR, 0xffff);
    a.write(R.RSRPD, 100);
    v.send(etherFrame(0xff, 1, 97));
    assert.equal(a.read(R.ICR), 0);
    v.send(etherFrame(0xff, 1, 96));
    assert.equal(a.read(R.ICR), R.ICR_SRPD);
  });

  test('TIDV and TADV: TXDW waits where every descriptor has IDE, and is there at once where one has not', () => {
    const a = rig.e1000('a');
    rig.virtio('v');
    a.write(R.TIDV, 0xffff);
    a.queueFrame(etherFrame(0xff, 1), D.TXD_CMD_IDE);
    a.kick();
    assert.equal(a.read(R.ICR), R.ICR_TXQE);
    a.queueFrame(etherFrame(0xff, 1), D.TXD_CMD_IDE);
    a.queueFrame(etherFrame(0xff, 1));
    a.kick();
    assert.equal(a.read(R.ICR), R.ICR_TXQE | R.ICR_TXDW);
    a.write(R.TADV, 1000);
    a.queueFrame(etherFrame(0xff, 1), D.TXD_CMD_IDE);
    a.kick();
    until(() => a.pin);
    assert.equal(a.read(R.ICR) & R.ICR_TXDW, R.ICR_TXDW);
  });

  test('what waits is told along with the next interrupt for something else', () => {
    const a = rig.e1000('a');
    const v = rig.virtio('v');
    a.write(R.TIDV, 0xffff);
    a.queueFrame(etherFrame(0xff, 1), D.TXD_CMD_IDE);
    a.kick();
    a.read(R.ICR);
    v.send(etherFrame(0xff, 9));
    assert.equal(a.read(R.ICR), R.ICR_RXT0 | R.ICR_TXDW);
    assert.equal(rig.runtime.loop.step(80), 0);
    assert.equal(a.pin, false);
  });

  test('limits hold with ITR 0 and short delays: frames are there, the interrupt comes later', () => {
    const a = rig.e1000('a', { interruptLimits: { gapUs: 20_000, transmitUs: 20_000 } });
    const v = rig.virtio('v');
    v.send(etherFrame(0xff, 9));
    assert.equal(a.pinRises, 1);
    a.read(R.ICR);
    v.send(etherFrame(0xff, 9));
    assert.equal(a.receive().length, 2);
    assert.equal(a.pinRises, 1);
    until(() => a.pinRises === 2);
    a.read(R.ICR);
    a.write(R.TIDV, 1);
    a.write(R.TADV, 1);
    a.queueFrame(etherFrame(0xff, 1), D.TXD_CMD_IDE);
    a.kick();
    a.device.poll();
    assert.equal(a.read(R.ICR), R.ICR_TXQE);
    until(() => a.pin);
    assert.equal(a.read(R.ICR), R.ICR_TXDW);
  });
});
