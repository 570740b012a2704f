import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { NS_MOREFRAG, NS_TXMON } from '../../../src/netmap/abi.js';
import type { NetmapPort } from '../../../src/netmap/port.js';
import { frame, NetmapRig, put, send, take } from '../../support/netmap-ports.js';

let rig: NetmapRig;
const open: NetmapRig['open'] = (name, options) => rig.open(name, options);

beforeEach(() => {
  rig = new NetmapRig();
});
afterEach(() => rig.close());

/** What a monitor has seen: bytes, and whether its port sent them. */
function seen(monitor: NetmapPort, ring = 0): { bytes: Uint8Array; sent: boolean }[] {
  monitor.rxsync();
  const rx = monitor.rxRings[ring]!;
  const list = [];
  for (let at = rx.head; at !== rx.tail; at = rx.next(at)) {
    const off = rx.slotOff(at);
    list.push({ bytes: rx.window.u8.slice(off, off + rx.len(at)), sent: (rx.slotFlags(at) & NS_TXMON) !== 0 });
  }
  rx.advance(rx.space());
  monitor.rxsync();
  return list;
}

function count(monitor: NetmapPort, name: string): number {
  return rig.runtime.count(monitor.adapter.counters.subject, name);
}

/** All buffers in slots of ports of a region: none is in two places. */
function assertNoSharedBuffers(...ports: NetmapPort[]): void {
  const [{ memory } = assert.fail()] = ports;
  const all = ports.flatMap((port) => (port.memory === memory ? [...port.adapter.buffers()] : []));
  assert.equal(new Set(all).size, all.length, 'no buffer is in two slots');
}

for (const [z, how] of [
  ['', 'copying'],
  ['z', 'zero-copy'],
] as const)
  describe(`a ${how} monitor`, () => {
    test('of both directions sees what is sent, flagged, and what is received', () => {
      const [a, b] = [open('vale0:a'), open('vale0:b')];
      const monitor = open(`vale0:a/${z}tr`);
      send(a, frame(0xff, 1, 70));
      send(b, frame(1, 2, 80));
      assert.deepEqual(take(a), [frame(1, 2, 80)]);
      assert.deepEqual(take(b), [frame(0xff, 1, 70)]);
      assert.deepEqual(seen(monitor), [
        { bytes: frame(0xff, 1, 70), sent: true },
        { bytes: frame(1, 2, 80), sent: false },
      ]);
      assertNoSharedBuffers(a, monitor);
    });

    test('that has no room misses frames, which it counts, and nobody waits for it', () => {
      const [a, b] = [open('vale0:a'), open('vale0:b')];
      const monitor = open(`vale0:a/${z}t`, { rxSlots: 8 });
      for (let round = 0; round < 3; round++) {
        for (let i = 0; i < 20; i++) put(a.txRings[0]!, frame(0xff, 1, 60 + i));
        a.txsync();
        assert.equal(take(b).length, 20);
      }
      assert.deepEqual(
        seen(monitor).map(({ bytes }) => bytes.length),
        [60, 61, 62, 63, 64, 65, 66],
      );
      assert.equal(count(monitor, 'monitor_slots'), 7);
      assert.equal(count(monitor, 'monitor_drops'), 53);
    });

    test('of a pipe’s end sees frames of several slots', () => {
      const [master, slave] = [open('vale0:p{1', { txSlots: 8 }), open('vale0:p}1')];
      const monitor = open(`vale0:p{1/${z}tr`);
      for (let round = 0; round < 5; round++) {
        const bytes = frame(1, 2, 150, round);
        send(master, bytes, { piece: 100 });
        assert.deepEqual(take(slave), [bytes]);
        send(slave, frame(2, 1, 90, round));
        assert.deepEqual(take(master), [frame(2, 1, 90, round)]);
        master.txsync();
        const got = seen(monitor);
        assert.deepEqual(
          got.filter(({ sent }) => sent).map(({ bytes }) => bytes.length),
          [100, 50],
        );
        assert.deepEqual(
          got.filter(({ sent }) => !sent).map(({ bytes }) => bytes),
          [frame(2, 1, 90, round)],
        );
        assertNoSharedBuffers(master, slave, monitor);
      }
    });

    test('of one ring sees that ring, in its ring of the same number', () => {
      const a = open('vale0:a', { txRings: 2, rxRings: 2 });
      const monitor = open(`vale0:a-1/${z}t`);
      send(a, frame(0xff, 1), { ring: 0 });
      send(a, frame(0xff, 1, 61), { ring: 1 });
      assert.deepEqual([seen(monitor, 0).length, seen(monitor, 1).length], [0, 1]);
    });

    test('keeps its port; gone, it leaves the port as it was', () => {
      const b = open('vale0:b');
      const monitor = open(`vale0:a/${z}tr`);
      const a = open('vale0:a');
      a.close();
      assert.ok(rig.netmap.find('vale0:a'));
      monitor.close();
      assert.equal(rig.netmap.find('vale0:a'), undefined);
      const again = open('vale0:a');
      const second = open(`vale0:a/${z}tr`);
      send(again, frame(0xff, 1));
      second.close();
      for (let i = 0; i < 2000; i++) send(again, frame(0xff, 1));
      assert.equal(take(b).length, 1023);
    });
  });

test('several monitors of a port all see all; zero-copy ones one after the other', () => {
  const a = open('vale0:a', { txSlots: 16 });
  const [c1, c2, z1, z2] = [open('vale0:a/t'), open('vale0:a/tr'), open('vale0:a/z'), open('vale0:a/z')];
  for (let round = 0; round < 40; round++) {
    send(a, frame(0xff, 1, 60 + round));
    for (const monitor of [c1, c2, z1, z2])
      assert.deepEqual(seen(monitor), [{ bytes: frame(0xff, 1, 60 + round), sent: true }]);
    assertNoSharedBuffers(a, z1, z2);
  }
  z1.close();
  send(a, frame(0xff, 1));
  assert.equal(seen(z2).length, 1);
});

test('slots that name no buffer are not copied, nor into such', () => {
  const a = open('vale0:a');
  const monitor = open('vale0:a/t');
  const tx = a.txRings[0]!;
  put(tx, frame(0xff, 1), { flags: NS_MOREFRAG });
  const own = tx.bufIdx(tx.head);
  tx.setBufIdx(tx.head, 0x7fffffff);
  put(tx, new Uint8Array(0));
  tx.setLenAndFlags(tx.head, 10, 0);
  tx.advance(1);
  a.txsync();
  assert.equal(count(monitor, 'monitor_drops'), 1);
  tx.setBufIdx(1, own);
  monitor.rxsync();
  monitor.rxRings[0]!.setBufIdx(monitor.rxRings[0]!.tail, 0);
  send(a, frame(0xff, 1));
  assert.equal(count(monitor, 'monitor_drops'), 2);
});
