import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { WindowPool } from '../../../src/memory/window.js';
import { ForwardingTable } from '../../../src/netmap/vale/table.js';

const pool = new WindowPool();

function portOf(table: ForwardingTable, hi: number, lo: number, now: number): number {
  return table.lookup(hi, lo, now);
}

test('an address that is unknown, or older than the age limit, has no port', () => {
  const table = new ForwardingTable(pool, 64, 10);
  assert.equal(portOf(table, 1, 2, 0), -1);
  table.learn(1, 2, 7, 100);
  assert.equal(portOf(table, 1, 2, 110), 7);
  assert.equal(portOf(table, 1, 2, 111), -1);
  assert.deepEqual(table.list(111), []);
});

test('an address that moves is relearned at once, also back and forth between two ports', () => {
  const table = new ForwardingTable(pool);
  table.learn(1, 2, 3, 0);
  table.learn(1, 2, 4, 0);
  assert.equal(portOf(table, 1, 2, 0), 4);
  table.learn(1, 2, 3, 0);
  assert.equal(portOf(table, 1, 2, 0), 3);
  assert.equal(table.moved, 2);
});

test('a port that detaches leaves nothing behind for the one that gets its number', () => {
  const table = new ForwardingTable(pool);
  table.learn(1, 2, 3, 0);
  table.learn(1, 3, 4, 0);
  table.flush(3);
  assert.equal(portOf(table, 1, 2, 0), -1);
  assert.equal(portOf(table, 1, 3, 0), 4);
});

test('a full bucket gives up its stalest address, and says so', () => {
  const table = new ForwardingTable(pool, 4);
  for (let i = 0; i < 4; i++) table.learn(i, i, i, 10 + i);
  table.learn(0, 0, 0, 20);
  table.learn(9, 9, 9, 21);
  assert.equal(portOf(table, 1, 1, 21), -1, 'the one seen longest ago went');
  assert.deepEqual(
    [0, 2, 3, 9].map((i) => portOf(table, i, i, 21)),
    [0, 2, 3, 9],
  );
  assert.equal(table.evicted, 1);
});

test('while it is not full it agrees with a plain map, over any sequence of frames, moves, ageing and detaching', () => {
  const step = fc.oneof(
    fc.record({ op: fc.constant('learn' as const), mac: fc.nat(15), port: fc.nat(5), wait: fc.nat(4) }),
    fc.record({ op: fc.constant('flush' as const), port: fc.nat(5) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const table = new ForwardingTable(pool, 1024, 10);
      const model = new Map<number, { port: number; seen: number }>();
      let now = 0;
      for (const s of steps) {
        if (s.op === 'flush') {
          table.flush(s.port);
          for (const [mac, e] of model) if (e.port === s.port) model.delete(mac);
        } else {
          now += s.wait;
          table.learn(s.mac, s.mac * 977, s.port, now);
          model.set(s.mac, { port: s.port, seen: now });
        }
        for (let mac = 0; mac < 16; mac++) {
          const e = model.get(mac);
          const expected = e !== undefined && now - e.seen <= 10 ? e.port : -1;
          assert.equal(portOf(table, mac, mac * 977, now), expected);
        }
      }
      table.close();
    }),
    { numRuns: 100 },
  );
});

test('lists addresses as people write them', () => {
  const table = new ForwardingTable(pool);
  // 02:00:de:ad:be:ef in memory order
  table.learn(0xefbe, 0xadde0002 | 0, 5, 3);
  assert.deepEqual(table.list(7), [{ mac: '02:00:de:ad:be:ef', port: 5, ageSec: 4 }]);
});
