import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { crc32 } from 'node:zlib';
import * as R from '../../../../src/frontends/e1000/registers.js';
import { E1000Guest, type E1000GuestOptions } from '../../../support/e1000-driver.js';
import { type TestRuntime, testRuntime } from '../../../support/runtime.js';
import { etherFrame, TestGuest } from '../../../support/test-guest.js';

let runtime: TestRuntime;
let guests: { close(): void }[];

beforeEach(() => {
  runtime = testRuntime();
  guests = [];
});
afterEach(() => {
  for (const g of guests) g.close();
  assert.deepEqual(runtime.counters.directory(), [], 'counters were left behind');
  runtime.close();
});

function e1000(name: string, options: Partial<E1000GuestOptions> = {}): E1000Guest {
  const mac = Uint8Array.of(2, 0, 0, 0, 0, name.charCodeAt(0) - 96);
  const g = new E1000Guest(runtime, { backend: `vale0:${name}`, name, mac, ...options });
  guests.push(g);
  return g;
}

function virtio(name: string): TestGuest {
  const g = new TestGuest(runtime, { backend: `vale0:${name}`, name });
  guests.push(g);
  return g;
}

describe('two drivers on a VALE switch', () => {
  test('a broadcast reaches the other one whole, and its frame check sequence is right', () => {
    const a = e1000('a');
    const b = e1000('b');
    const frame = etherFrame(0xff, 1, 100, 7);
    assert.equal(a.send(frame), 1);
    const [got, ...more] = b.receive();
    assert.equal(more.length, 0);
    assert.deepEqual(Buffer.from(got!.frame), Buffer.from(frame));
    assert.equal(Buffer.from(got!.bytes).readUInt32LE(100), crc32(frame));
    assert.equal(a.receive().length, 0);
    assert.equal(runtime.count('a', 'tx_frames'), 1);
    assert.equal(runtime.count('b', 'rx_bytes'), 100);
  });

  test('a virtio guest and an e1000 guest talk to each other', () => {
    const a = e1000('a');
    const v = virtio('v');
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
    const a = e1000('a');
    const b = e1000('b');
    a.send(etherFrame(0xff, 1));
    assert.equal(b.pin, true);
    assert.equal(b.read(R.ICR), R.ICR_RXT0);
    assert.equal(b.pin, false);
    assert.equal(b.read(R.ICR), 0);
    assert.equal(a.read(R.ICR), R.ICR_TXDW | R.ICR_TXQE);
  });
});
