import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { NS_BUF_CHANGED, NS_MOREFRAG } from '../../../src/netmap/abi.js';
import { frame, NetmapRig, put, send, take } from '../../support/netmap-ports.js';
import type { TestRuntime } from '../../support/runtime.js';

let rig: NetmapRig;
let runtime: TestRuntime;
const open: NetmapRig['open'] = (name, options) => rig.open(name, options);

beforeEach(() => {
  rig = new NetmapRig();
  ({ runtime } = rig);
});
afterEach(() => rig.close());

describe('a pipe', () => {
  test('carries frames both ways, in the buffers that they were written to', () => {
    const [master, slave] = [open('vale0:p{1'), open('vale0:p}1')];
    assert.equal(master.memory, slave.memory);
    const idx = master.txRings[0]!.bufIdx(0);
    send(master, frame(1, 2, 100));
    slave.rxsync();
    assert.equal(slave.rxRings[0]!.bufIdx(0), idx, 'the buffer has not been copied');
    assert.deepEqual(take(slave), [frame(1, 2, 100)]);
    send(slave, frame(2, 1));
    send(slave, frame(2, 1, 61));
    assert.deepEqual(take(master), [frame(2, 1), frame(2, 1, 61)]);
    assert.equal(runtime.count('rings vale0:p{1', 'tx_frames'), 1);
    assert.equal(runtime.count('rings vale0:p{1', 'rx_frames'), 2);
  });

  test('holds its sender up while the receiver keeps its slots; nothing is lost', () => {
    const [master, slave] = [open('vale0:p{1', { txSlots: 16 }), open('vale0:p}1')];
    const tx = master.txRings[0]!;
    for (let i = 0; i < 15; i++) put(tx, frame(1, 2, 60 + i));
    master.txsync();
    assert.equal(tx.space(), 0);
    master.txsync();
    assert.equal(tx.space(), 0);
    const rx = slave.rxRings[0]!;
    slave.rxsync();
    assert.equal(rx.space(), 15);
    rx.advance(4);
    slave.rxsync();
    master.txsync();
    assert.equal(tx.space(), 4);
    assert.deepEqual(
      take(slave).map((f) => f.length),
      [64, 65, 66, 67, 68, 69, 70, 71, 72, 73, 74],
    );
    master.txsync();
    assert.equal(tx.space(), 15);
  });

  test('shows only whole frames', () => {
    const [master, slave] = [open('vale0:p{x'), open('vale0:p}x')];
    send(master, frame(1, 2, 100), { flags: NS_MOREFRAG });
    assert.deepEqual(take(slave), []);
    put(master.txRings[0]!, new Uint8Array(30));
    put(master.txRings[0]!, frame(1, 2), { flags: NS_MOREFRAG });
    master.txsync();
    assert.deepEqual(
      take(slave).map((f) => f.length),
      [130],
    );
  });

  test('a buffer that the receiver puts in place of a frame’s comes back to the sender', () => {
    const [master, slave] = [open('vale0:p{1', { txSlots: 4 }), open('vale0:p}1', { extraBufs: 1 })];
    const tx = master.txRings[0]!;
    const rx = slave.rxRings[0]!;
    const sent = tx.bufIdx(0);
    send(master, frame(1, 2, 77));
    slave.rxsync();
    const spare = slave.bufsHead;
    rx.setBufIdx(0, spare);
    rx.setSlotFlags(0, NS_BUF_CHANGED);
    rx.advance(1);
    slave.rxsync();
    slave.bufsHead = sent;
    slave.memory.window.u32[slave.memory.bufOff(sent) >>> 2] = 0;
    for (let i = 0; i < 3; i++) send(master, frame(1, 2, 60));
    assert.equal(take(slave).length, 3);
    master.txsync();
    assert.equal(tx.bufIdx(0), spare);
    assert.notEqual(tx.slotFlags(0) & NS_BUF_CHANGED, 0, 'the sender is told');
  });

  test('slots that name no buffer arrive empty, and change nobody’s slots', () => {
    const [master, slave] = [open('vale0:p{1'), open('vale0:p}1')];
    const tx = master.txRings[0]!;
    const rx = slave.rxRings[0]!;
    const own = rx.bufIdx(0);
    put(tx, frame(1, 2));
    tx.setBufIdx(0, 0xffffffff);
    put(tx, frame(1, 2));
    tx.setLen(1, 3000);
    master.txsync();
    slave.rxsync();
    assert.deepEqual([rx.space(), rx.bufIdx(0), rx.len(0), rx.len(1)], [2, own, 0, 0]);
    rx.setBufIdx(0, 1);
    rx.setSlotFlags(0, NS_BUF_CHANGED);
    rx.advance(2);
    slave.rxsync();
    assert.equal(runtime.count('rings vale0:p{1', 'tx_drop_bad_slot'), 2);
    assert.equal(runtime.count('rings vale0:p}1', 'rx_drop_bad_slot'), 1);
  });

  test('ends open and close in any order; what is on its way stays while one of them is open', () => {
    const slave = open('vale0:p}1');
    send(slave, frame(1, 2, 99));
    const master = open('vale0:p{1');
    assert.deepEqual(take(master), [frame(1, 2, 99)]);
    send(master, frame(2, 1, 88));
    master.close();
    assert.deepEqual(take(slave), [frame(2, 1, 88)]);
    send(slave, frame(1, 2, 77));
    slave.close();
    assert.deepEqual(rig.netmap.list(), [], 'with both ends the pipe goes, and its port');
    const again = open('vale0:p{1');
    assert.deepEqual(take(again), [], 'a pipe made anew is empty');
  });

  test('its port stays as long as it, and others on the switch reach that', () => {
    const [master, other] = [open('vale0:p{1'), open('vale0:o')];
    send(other, frame(0xff, 3));
    const parent = open('vale0:p');
    assert.equal(parent.memory, master.memory);
    assert.deepEqual(take(parent), [], 'frames from before are not the new user’s');
    send(other, frame(0xff, 3));
    assert.equal(take(parent).length, 1);
    parent.close();
    assert.ok(rig.netmap.find('vale0:p'));
    master.close();
    assert.equal(rig.netmap.find('vale0:p'), undefined);
  });

  test('several rings, of which each is a pipe of its own; a port may have many pipes', () => {
    const options = { txRings: 3, rxRings: 2, txSlots: 8, rxSlots: 32 };
    const [master, slave] = [open('netmap:q{a', options), open('netmap:q}a')];
    assert.deepEqual([slave.txRings.length, slave.rxRings.length], [2, 3]);
    assert.deepEqual([slave.txRings[0]!.numSlots, slave.rxRings[0]!.numSlots], [32, 8]);
    for (let ring = 0; ring < 3; ring++) send(master, frame(1, 2, 60 + ring), { ring });
    for (let ring = 0; ring < 3; ring++) assert.deepEqual(take(slave, ring), [frame(1, 2, 60 + ring)]);
    for (let i = 0; i < 10; i++) {
      const [m, s] = [open(`netmap:q{${i}`), open(`netmap:q}${i}`)];
      send(m, frame(1, 2, 60 + i));
      assert.deepEqual(take(s), [frame(1, 2, 60 + i)]);
    }
  });

  test('users are told when frames come, and when there is room again', () => {
    let frames = 0;
    let room = 0;
    const master = open('vale0:p{1', { txSlots: 4, onReady: () => room++ });
    const slave = open('vale0:p}1', { onReady: () => frames++ });
    send(master, frame(1, 2));
    send(master, frame(1, 2));
    runtime.loop.step(0);
    assert.deepEqual([frames, room], [1, 0], 'once for all that has happened since');
    take(slave);
    runtime.loop.step(0);
    assert.deepEqual([frames, room], [1, 1]);
  });
});
