import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CounterPage, counterIndices, readCounters } from '../../../src/engine/counters.js';

test('a reader sees what the writer counted, by subject and name', () => {
  const page = new CounterPage(16);
  const set = page.create('vm1', ['tx_frames', 'rx_frames']);
  set.values[1] = (set.values[1] as number) + 3;
  assert.deepEqual(readCounters(page.buffer, page.directory()), { vm1: { tx_frames: 0, rx_frames: 3 } });
});

test('the room of a released subject is used again, zeroed', () => {
  const page = new CounterPage(4);
  page.create('a', ['x', 'y']).values[0] = 7;
  page.create('b', ['x', 'y']);
  assert.throws(() => page.create('c', ['x']), { code: 'ENOSPC' });
  page.release('a');
  assert.equal(page.create('c', ['x', 'y']).values[0], 0);
});

test('a second set of counters for one subject is refused', () => {
  const page = new CounterPage(4);
  page.create('a', ['x']);
  assert.throws(() => page.create('a', ['x']), { code: 'EEXIST' });
});

test('the index of a counter is where its name stands, behind those that come before', () => {
  assert.deepEqual(counterIndices(['rx', 'tx']), { rx: 0, tx: 1 });
  assert.deepEqual(counterIndices(['rx', 'tx'], 6), { rx: 6, tx: 7 });
});
