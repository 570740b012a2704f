import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { createFrameRing, FrameRingConsumer, FrameRingProducer } from '../../../src/engine/frame-ring.js';
import { Iovec } from '../../../src/memory/iovec.js';
import { WindowPool } from '../../../src/memory/window.js';

const pool = new WindowPool(1 << 20);
const { window, off: base } = pool.mapAnonymous(1 << 18);
window.u8.forEach((_, i, u8) => {
  u8[i] = (i * 7) & 0xff;
});

/** An iovec of pieces, given as [offset, length] in the window. */
function iovecOf(...pieces: readonly (readonly [number, number])[]): Iovec {
  const iov = new Iovec(Math.max(1, pieces.length));
  for (const [off, len] of pieces) iov.push(window.index, base + off, len);
  return iov;
}

function bytesOf(iov: Iovec): number[] {
  const out: number[] = [];
  for (let i = 0; i < iov.count; i++) {
    const off = iov.off[i] as number;
    out.push(...window.u8.subarray(off, off + (iov.len[i] as number)));
  }
  return out;
}

function recordBytes(ring: FrameRingConsumer): number[] {
  return [...ring.u8.subarray(ring.dataOff, ring.dataOff + ring.capturedLen)];
}

test('a frame comes out as it went in, without its header, cut at the length asked for', () => {
  const buffer = createFrameRing(4096);
  const producer = new FrameRingProducer(buffer);
  const consumer = new FrameRingConsumer(buffer);
  assert.equal(consumer.next(), false);
  const iov = iovecOf([100, 7], [300, 5], [900, 60]);
  assert.equal(producer.push(pool.windows, iov, 12, iov.total, 1000, 2, 1234.5), true);
  assert.equal(producer.push(pool.windows, iov, 10, 50, 20, 1, 1235), true);
  assert.equal(consumer.next(), true);
  assert.deepEqual(recordBytes(consumer), bytesOf(iov).slice(12));
  assert.deepEqual([consumer.originalLen, consumer.direction, consumer.timeMs], [60, 2, 1234.5]);
  assert.equal(consumer.next(), true);
  assert.deepEqual(recordBytes(consumer), bytesOf(iov).slice(10, 30));
  assert.deepEqual([consumer.originalLen, consumer.direction, consumer.timeMs], [40, 1, 1235]);
  assert.equal(consumer.next(), false);
  assert.equal(consumer.next(), false);
});

test('what finds no room is counted, and room comes back as records are read', () => {
  const buffer = createFrameRing(4096);
  const producer = new FrameRingProducer(buffer);
  const consumer = new FrameRingConsumer(buffer);
  const iov = iovecOf([0, 1000]);
  assert.equal(producer.push(pool.windows, iovecOf([0, 5000]), 0, 5000, 5000, 0, 0), false);
  let taken = 0;
  while (producer.push(pool.windows, iov, 0, 1000, 1000, 0, taken)) taken++;
  assert.equal(taken, 4);
  assert.equal(consumer.dropped, 2);
  assert.equal(consumer.next(), true);
  assert.equal(producer.push(pool.windows, iov, 0, 1000, 1000, 0, 0), false);
  assert.equal(consumer.next(), true);
  assert.equal(producer.push(pool.windows, iov, 0, 1000, 1000, 0, 4), true);
  assert.equal(consumer.timeMs, 1);
  for (const timeMs of [2, 3, 4]) {
    assert.equal(consumer.next(), true);
    assert.equal(consumer.timeMs, timeMs);
  }
  assert.equal(consumer.next(), false);
});

test('the reader learns of the end after it has read what is there', () => {
  const buffer = createFrameRing(4096);
  const producer = new FrameRingProducer(buffer);
  const consumer = new FrameRingConsumer(buffer);
  producer.push(pool.windows, iovecOf([0, 10]), 0, 10, 10, 0, 0);
  producer.close();
  assert.equal(consumer.closed, true);
  assert.equal(consumer.next(), true);
});

test('a size that is no power of two is refused', () => {
  for (const size of [0, 2048, 5000, 2 ** 31]) assert.throws(() => createFrameRing(size), { kind: 'usage' });
});

test('in any order of pushes and reads, frames are those of a queue that drops only when it is full', () => {
  const step = fc.oneof(
    fc.record({ off: fc.nat(1000), len: fc.nat(1600), skip: fc.constantFrom(0, 10, 12), snap: fc.nat(1600) }),
    fc.constant('read' as const),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const buffer = createFrameRing(4096);
      const producer = new FrameRingProducer(buffer);
      const consumer = new FrameRingConsumer(buffer);
      const queue: { bytes: number[]; originalLen: number }[] = [];
      let dropped = 0;
      const read = (): void => {
        const expected = queue.shift();
        assert.equal(consumer.next(), expected !== undefined);
        if (!expected) return;
        assert.deepEqual(recordBytes(consumer), expected.bytes);
        assert.equal(consumer.originalLen, expected.originalLen);
      };
      for (const s of steps) {
        if (s === 'read') {
          read();
          continue;
        }
        const iov = iovecOf([s.off, Math.floor(s.len / 3)], [s.off + 5000, s.len - Math.floor(s.len / 3)]);
        const bytes = bytesOf(iov).slice(s.skip, s.skip + s.snap);
        if (producer.push(pool.windows, iov, s.skip, iov.total, s.snap, 0, 0))
          queue.push({ bytes, originalLen: Math.max(0, iov.total - s.skip) });
        else dropped++;
      }
      assert.equal(consumer.dropped, dropped);
      while (queue.length > 0) read();
      read();
    }),
  );
});

test('a reader in another thread sees every frame whole and in order', async () => {
  const frames = 20_000;
  const buffer = createFrameRing(1 << 16);
  const producer = new FrameRingProducer(buffer);
  const url = new URL('../../../src/engine/frame-ring.js', import.meta.url).href;
  const code = `
    const { parentPort, workerData } = require('node:worker_threads');
    import(${JSON.stringify(url)}).then(({ FrameRingConsumer }) => {
      const ring = new FrameRingConsumer(workerData);
      let seen = 0;
      while (seen < ${frames}) {
        if (!ring.next()) continue;
        if (ring.timeMs !== seen) return parentPort.postMessage('frame ' + ring.timeMs + ' instead of ' + seen);
        for (let i = 1; i < ring.capturedLen; i++)
          if (ring.u8[ring.dataOff + i] !== ((ring.u8[ring.dataOff] + 7 * i) & 0xff))
            return parentPort.postMessage('frame ' + seen + ' is torn at byte ' + i);
        seen++;
      }
      parentPort.postMessage('ok');
    });`;
  const worker = new Worker(code, { eval: true, workerData: buffer });
  let verdict: unknown;
  worker.on('message', (message) => {
    verdict = message;
  });
  const gone = new Promise((resolve) => worker.on('exit', resolve));
  for (let sent = 0; sent < frames && verdict === undefined; ) {
    const iov = iovecOf([(sent * 13) % 5000, 1 + ((sent * 31) % 1500)]);
    if (producer.push(pool.windows, iov, 0, iov.total, 65536, 0, sent)) sent++;
    else await new Promise((resolve) => setImmediate(resolve));
  }
  await gone;
  assert.equal(verdict, 'ok');
});
