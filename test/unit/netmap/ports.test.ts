import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import {
  NETMAP_API,
  NI_FLAGS,
  NI_PRIV_MEM,
  NI_RING_OFS,
  NI_RX_RINGS,
  NI_TX_RINGS,
  NI_VERSION,
  NR_TIMESTAMP,
  NS_BUF_CHANGED,
  NS_INDIRECT,
  NS_MOREFRAG,
  NS_NO_LEARN,
  NS_PORT_SHIFT,
} from '../../../src/netmap/abi.js';
import { NetmapRing } from '../../../src/netmap/ring.js';
import { valeSwitches } from '../../../src/netmap/vale/switches.js';
import { eventfdRead } from '../../../src/sys/eventfd.js';
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

describe('a VALE port with rings', () => {
  test('floods what it does not know and sends the rest where it belongs', () => {
    const [a, b, c] = [open('vale0:a'), open('vale0:b'), open('vale0:c')];
    send(a, frame(2, 1));
    assert.deepEqual(take(b), [frame(2, 1)]);
    assert.deepEqual(take(c), [frame(2, 1)]);
    send(b, frame(1, 2));
    assert.deepEqual(take(a), [frame(1, 2)]);
    assert.deepEqual(take(c), []);
    for (let i = 0; i < 3; i++) send(a, frame(2, 1, 60 + i));
    assert.deepEqual(take(b), [frame(2, 1), frame(2, 1, 61), frame(2, 1, 62)]);
    assert.deepEqual(take(c), []);
    assert.equal(runtime.count('rings vale0:a', 'tx_frames'), 4);
    assert.equal(runtime.count('rings vale0:b', 'rx_frames'), 4);
  });

  test('transmit always completes; a receiver that is full drops, and counts', () => {
    const [a, b] = [open('vale0:a', { txSlots: 64 }), open('vale0:b', { rxSlots: 16 })];
    send(b, frame(1, 2));
    take(a);
    const tx = a.txRings[0]!;
    assert.equal(tx.space(), 63);
    for (let i = 0; i < 63; i++) put(tx, frame(2, 1, 60 + i));
    a.txsync();
    assert.equal(tx.space(), 63, 'all slots are the user’s again, but the one that never is');
    assert.equal(take(b).length, 15);
    assert.equal(runtime.count('rings vale0:b', 'rx_drop_full'), 48);
    send(a, frame(2, 1));
    assert.equal(take(b).length, 1);
  });

  test('frames of several slots arrive whole, in as few slots or as many', () => {
    const [a, b] = [open('vale0:a'), open('vale0:b')];
    send(b, frame(1, 2));
    take(a);
    const jumbo = frame(2, 1, 9000);
    for (let i = 20; i < 9000; i++) jumbo[i] = i;
    for (const piece of [2048, 1000, 200]) {
      send(a, jumbo, { piece });
      b.rxsync();
      const rx = b.rxRings[0]!;
      const slots = rx.space();
      assert.equal(rx.slotFlags(rx.head) >> 8, slots, 'the first slot says how many they are');
      assert.deepEqual(take(b), [jumbo]);
    }
    // a first slot too short for the kernel's way
    send(a, jumbo, { piece: 150 });
    send(a, frame(2, 1, 90), { piece: 10 });
    assert.deepEqual(take(b), [jumbo, frame(2, 1, 90)]);
  });

  test('a frame without an end is not sent until it has one', () => {
    const [a, b] = [open('vale0:a', { txSlots: 32 }), open('vale0:b')];
    const tx = a.txRings[0]!;
    put(tx, frame(0xff, 1, 100), { flags: NS_MOREFRAG });
    a.txsync();
    assert.equal(tx.space(), 30);
    assert.equal(take(b).length, 0);
    put(tx, new Uint8Array(50));
    a.txsync();
    assert.deepEqual(
      take(b).map((f) => f.length),
      [150],
    );
    // a chain that fills the ring never ends: it is dropped, and the ring is free again
    for (let i = 0; i < 31; i++) put(tx, frame(0xff, 1), { flags: NS_MOREFRAG });
    a.txsync();
    assert.equal(runtime.count('rings vale0:a', 'tx_drop_unfinished'), 1);
    assert.equal(tx.space(), 31);
  });

  test('unicast goes to the same ring modulo the receiver’s, a flooded frame to ring 0', () => {
    const a = open('vale0:a', { txRings: 4 });
    const b = open('vale0:b', { rxRings: 3 });
    send(a, frame(2, 1), { ring: 3 });
    assert.equal(take(b, 0).length, 1);
    send(b, frame(1, 2));
    for (let ring = 0; ring < 4; ring++) send(a, frame(2, 1, 60 + ring), { ring });
    assert.deepEqual(
      take(b, 0).map((f) => f.length),
      [60, 63],
    );
    assert.deepEqual(
      take(b, 1).map((f) => f.length),
      [61],
    );
    assert.deepEqual(
      take(b, 2).map((f) => f.length),
      [62],
    );
    // by the slow way too
    for (let ring = 0; ring < 4; ring++) send(a, frame(2, 1, 60 + ring), { ring, piece: 13 });
    assert.deepEqual(
      [0, 1, 2].map((ring) => take(b, ring).length),
      [2, 1, 1],
    );
  });

  test('NS_NO_LEARN, NS_PORT_MASK, NS_INDIRECT and NS_BUF_CHANGED are heeded', () => {
    const [a, b, c] = [open('vale0:a'), open('vale0:b'), open('vale0:c')];
    send(a, frame(0xff, 1), { flags: NS_NO_LEARN });
    assert.deepEqual(valeSwitches(runtime).list()[0]!.table, []);
    take(b);
    take(c);
    // port 2 is c: the table is not asked
    send(a, frame(2, 1), { flags: 2 << NS_PORT_SHIFT });
    assert.equal(take(b).length, 0);
    assert.equal(take(c).length, 1);
    send(a, frame(2, 1), { flags: 77 << NS_PORT_SHIFT });
    assert.equal(runtime.count('vale0:a', 'tx_drop_no_port'), 1);
    const tx = a.txRings[0]!;
    const memory = runtime.windows.mapAnonymous(4096);
    memory.window.u8.set(frame(0xff, 1, 100, 9), memory.off);
    tx.setPtr(tx.head, memory.addr);
    tx.setLenAndFlags(tx.head, 100, NS_INDIRECT | NS_BUF_CHANGED);
    const at = tx.head;
    tx.advance(1);
    a.txsync();
    assert.equal(tx.slotFlags(at) & NS_BUF_CHANGED, 0);
    assert.deepEqual(take(b), [frame(0xff, 1, 100, 9)]);
    tx.setPtr(tx.head, 4096);
    tx.setLenAndFlags(tx.head, 100, NS_INDIRECT);
    tx.advance(1);
    a.txsync();
    assert.equal(runtime.count('rings vale0:a', 'tx_drop_indirect'), 1);
    memory.close();
  });

  test('a header of 0, 10 or 12 bytes before each frame, for each port by itself', () => {
    const [a, b] = [open('vale0:a'), open('vale0:b')];
    send(b, frame(1, 2));
    send(a, frame(2, 1));
    take(a);
    take(b);
    assert.equal(a.vnetHdrLen, 0);
    for (const from of [0, 10, 12])
      for (const to of [0, 10, 12]) {
        a.vnetHdrLen = from;
        b.vnetHdrLen = to;
        send(a, Uint8Array.from([...new Uint8Array(from), ...frame(2, 1, 70)]));
        assert.deepEqual(take(b), [Uint8Array.from([...new Uint8Array(to), ...frame(2, 1, 70)])], `${from} to ${to}`);
        const jumbo = Uint8Array.from([...new Uint8Array(from), ...frame(2, 1, 4000)]);
        send(a, jumbo, { piece: 1000 });
        assert.deepEqual(take(b), [Uint8Array.from([...new Uint8Array(to), ...frame(2, 1, 4000)])], `${from} to ${to}`);
      }
    assert.throws(() => {
      a.vnetHdrLen = 11;
    }, /11 is none of 0, 10 and 12/);
  });

  test('a head or cur out of the user’s slots: the ring is set right, and counted', () => {
    const [a, b] = [open('vale0:a', { txSlots: 16 }), open('vale0:b', { rxSlots: 16 })];
    const tx = a.txRings[0]!;
    const rx = b.rxRings[0]!;
    for (const [head, cur] of [
      [16, 0],
      [15, 15 + 16],
      [0xffffffff, 0xffffffff],
      [3, 2],
    ] as const) {
      tx.head = head;
      tx.cur = cur;
      tx.setBufIdx(5, 0xffffffff);
      tx.setLen(6, 60000);
      a.txsync();
      assert.deepEqual([tx.head, tx.cur, tx.tail, tx.bufIdx(5), tx.len(6)], [0, 0, 15, 0, 0]);
    }
    rx.head = 1;
    rx.cur = 1;
    b.rxsync();
    assert.deepEqual([rx.head, rx.cur, rx.tail], [0, 0, 0]);
    assert.equal(runtime.count('rings vale0:a', 'ring_reinits'), 4);
    assert.equal(runtime.count('rings vale0:b', 'ring_reinits'), 1);
  });

  test('slots that name no buffer or too many bytes are dropped, and counted, at either side', () => {
    const [a, b] = [open('vale0:a'), open('vale0:b')];
    send(b, frame(1, 2));
    send(a, frame(2, 1));
    take(b);
    const tx = a.txRings[0]!;
    for (const [idx, len] of [
      [0, 60],
      [1, 60],
      [a.memory.bufTotal, 60],
      [0xffffffff, 60],
      [tx.bufIdx(tx.head), 2049],
    ] as const) {
      const at = tx.head;
      const own = tx.bufIdx(at);
      tx.setBufIdx(at, idx);
      tx.setLenAndFlags(at, len, 0);
      tx.advance(1);
      a.txsync();
      tx.setBufIdx(at, own);
    }
    assert.equal(runtime.count('rings vale0:a', 'tx_drop_bad_slot'), 5);
    const rx = b.rxRings[0]!;
    const next = rx.tail;
    const own = rx.bufIdx(next);
    rx.setBufIdx(next, 0xfffffff0);
    send(a, frame(2, 1));
    send(a, frame(0xff, 1));
    assert.equal(runtime.count('rings vale0:b', 'rx_drop_bad_slot'), 2);
    rx.setBufIdx(next, own);
    send(a, frame(2, 1));
    assert.equal(take(b).length, 1);
  });

  test('an eventfd is readable once frames have come, until it is read', () => {
    const [a, b] = [open('vale0:a'), open('vale0:b')];
    const fd = b.eventfd;
    assert.equal(eventfdRead(fd), 0);
    send(a, frame(0xff, 1));
    send(a, frame(0xff, 1));
    assert.notEqual(eventfdRead(fd), 0);
    assert.equal(eventfdRead(fd), 0);
    assert.equal(take(b).length, 2);
  });

  test('NR_TIMESTAMP has each sync leave the time in the ring', () => {
    const a = open('vale0:a');
    const tx = a.txRings[0]!;
    a.txsync();
    assert.equal(tx.tsUs, 0);
    tx.flags |= NR_TIMESTAMP;
    const before = Date.now() * 1000;
    a.txsync();
    assert.ok(tx.tsUs >= before && tx.tsUs <= Date.now() * 1000);
  });

  test('its netmap_if says where its rings are, and only its own', () => {
    const port = open('vale0:a-1', { txRings: 2, rxRings: 3 });
    const { window, off } = port.memory;
    const word = (at: number): number => window.u32[(off + port.nifpOff + at) >>> 2]!;
    const name = Buffer.from(window.u8.subarray(off + port.nifpOff, off + port.nifpOff + 16)).toString('latin1');
    assert.equal(name.replace(/\0+$/, ''), 'vale0:a');
    assert.deepEqual([word(NI_VERSION), word(NI_FLAGS)], [NETMAP_API, NI_PRIV_MEM]);
    assert.deepEqual([word(NI_TX_RINGS), word(NI_RX_RINGS)], [2, 3]);
    const offs = [0, 1, 2, 3, 4].map((i) => word(NI_RING_OFS + i * 8));
    assert.deepEqual(
      offs.map((ringOff) => ringOff !== 0),
      [false, true, false, true, false],
    );
    const [tx, rx] = [port.txRings[0]!, port.rxRings[0]!];
    assert.deepEqual([offs[1], offs[3]], [tx.off - off - port.nifpOff, rx.off - off - port.nifpOff]);
    const again = new NetmapRing(window, off + port.nifpOff + offs[3]!);
    assert.deepEqual([again.dir, again.ringId, again.numSlots, again.bufSize], [1, 1, 1024, 2048]);
    assert.equal(again.slotOff(7), port.memory.bufOff(again.bufIdx(7)));
  });
});
